package mapping

import (
	"encoding/binary"
	"errors"
	"fmt"
	"math"
	"math/big"
	"strings"
	"testing"
	"time"
)

// Each kind of value becomes the right thing, or fails by a name.
func TestEveryKindBecomesWhatIsAskedFor(t *testing.T) {
	day := Date{time.Date(1990, 2, 1, 0, 0, 0, 0, time.UTC)}
	at := time.Date(2026, 11, 1, 12, 0, 0, 0, time.UTC)
	for _, c := range []struct {
		v    any
		t    AttributeType
		want string // a JSON literal, "" null, or ! and a cause
	}{
		{nil, TypeText, ""}, {nil, TypeDate, ""}, {nil, TypeFloat, ""}, {nil, TypeBoolean, ""}, {nil, TypeMultiple, ""},
		{true, TypeText, `"true"`}, {true, TypeBoolean, "true"}, {true, TypeFloat, "!not a number"}, {true, TypeDate, "!not a date"}, {true, TypeMultiple, `["true"]`},
		{12, TypeText, `"12"`}, {12, TypeFloat, "12"}, {1, TypeBoolean, "true"}, {2, TypeBoolean, "!not a boolean"},
		{7336, TypeDate, `"1990-02-01"`}, {633830400, TypeDate, `"1990-02-01"`}, {633830400000, TypeDate, `"1990-02-01"`}, {633830400000000, TypeDate, `"1990-02-01"`},
		{2147483647, TypeDate, `"2038-01-19"`},
		{19.5, TypeText, `"19.5"`}, {19.99, TypeFloat, "19.99"}, {math.NaN(), TypeFloat, "!not a number"}, {math.Inf(1), TypeFloat, "!not a number"}, {1.0, TypeBoolean, "true"},
		{1.7e308, TypeDate, "!not a date"}, {633830400.5, TypeDate, `"1990-02-01"`},
		{Decimal{big.NewInt(1999), 2}, TypeFloat, "19.99"}, {Decimal{big.NewInt(1999), 2}, TypeText, `"19.99"`}, {Decimal{big.NewInt(1999), 2}, TypeBoolean, "!not a boolean"},
		{"Ann", TypeText, `"Ann"`}, {" 12.5 ", TypeFloat, "12.5"}, {"1.234,56", TypeFloat, "!not a number"}, {"", TypeFloat, ""}, {"Inf", TypeFloat, "!not a number"},
		{"Y", TypeBoolean, "true"}, {"no", TypeBoolean, "false"}, {"perhaps", TypeBoolean, "!not a boolean"},
		{"1990-02-01", TypeDate, `"1990-02-01"`}, {"1990-02-01T00:00:00.000+0000", TypeDate, `"1990-02-01"`}, {"1990-02-01 10:11:12.123456", TypeDate, `"1990-02-01"`}, {"02/01/1990", TypeDate, "!not a date"}, {" ", TypeDate, ""},
		{"a", TypeMultiple, `["a"]`},
		{strings.Repeat("x", 40<<10), TypeText, "!too long"},
		{[]byte("Ann"), TypeText, `"Ann"`}, {[]byte{0xff, 0}, TypeText, "!not a text"}, {[]byte("1"), TypeFloat, "!not a number"},
		{day, TypeDate, `"1990-02-01"`}, {day, TypeText, `"1990-02-01"`}, {Date{time.Unix(2147483647*86400, 0)}, TypeDate, "!not a date"},
		{at, TypeDate, `"2026-11-01"`}, {at, TypeText, `"2026-11-01T12:00:00Z"`},
		{[]any{"a", nil, 7}, TypeMultiple, `["a","7"]`}, {[]any{map[string]any{"label": "gold"}}, TypeMultiple, "!not a list"}, {[]any{"a"}, TypeText, "!not a text"},
		{map[string]any{"a": 1}, TypeText, "!not a text"}, {map[string]any{"a": 1}, TypeMultiple, "!not a list"},
	} {
		b, err := (&Attribute{Type: c.t}).literal(c.v)
		got := string(b)
		if err != nil {
			got = "!" + err.Error()
		}
		if got != c.want {
			t.Errorf("%v (%s) for a %s is %s, not %s", c.v, KindOf(c.v), c.t, got, c.want)
		}
	}
}

func TestTimesOfEveryForm(t *testing.T) {
	second := int64(1_767_225_610)
	for _, c := range []struct {
		v    any
		want int64 // nanoseconds; 0: none
		bad  bool
	}{
		{nil, 0, false}, {0, 0, false}, {"", 0, false}, {0.0, 0, false},
		{int(second), second * 1e9, false}, {int(second * 1e3), second * 1e9, false}, {int(second * 1e6), second * 1e9, false}, {int(second * 1e9), second * 1e9, false},
		{float64(second) + 0.75, second*1e9 + 750_000_000, false}, {float64(second) * 1e3, second * 1e9, false},
		{"2026-01-01T00:00:10Z", second * 1e9, false}, {"2026-01-01T00:00:10.000+0000", second * 1e9, false}, {"2026-01-01 00:00:10.000000", second * 1e9, false},
		{"2026-01-01T00:00:10", second * 1e9, false}, {fmt.Sprint(second * 1e3), second * 1e9, false}, {"2026-01-01", (second - 10) * 1e9, false},
		{"yesterday", 0, true}, {true, 0, true}, {math.NaN(), 0, true}, {[]any{}, 0, true},
	} {
		ns, ok, err := timeOf(c.v)
		if err == nil && !ok {
			ns = 0
		}
		if (err != nil) != c.bad || !c.bad && ns != c.want {
			t.Errorf("%v: %d, %v, %v; not %d", c.v, ns, ok, err, c.want)
		}
	}
}

func TestWhatExpressionsMakeIsOfTheKinds(t *testing.T) {
	env := func() map[string]any {
		return map[string]any{"x": "a,b", "n": nil, "json": `{"id":1234567,"long":12345678901234567890,"half":0.5,"list":[1,2]}`, "m": map[string]any{"vip": "realized"}, "l": []any{map[string]any{"id": "vip"}}}
	}
	for source, want := range map[string]any{
		`split(x, ",")`: []any{"a", "b"}, `join(split(x, ","), "-")`: "a-b", `len(x)`: 3, `1..3`: []any{1, 2, 3}, `fromJSON(json).id`: 1234567, `fromJSON(json).half`: 0.5,
		`fromJSON(json).list`: []any{1, 2}, `fromJSON(n)`: nil, `title("JOSE\u0301PHINE 3RD o'NEIL")`: "Jose\u0301phine 3rd O'neil", `trim("\u202a a \u200b")`: "a",
		`phone("0033639980001")`: "+33639980001", `phone("\u202a+33 6 39 98 00 01\u202c")`: "+33639980001", `phone("07700 900123", "UK")`: "+447700900123", `phone("06 39 98 00 01", n)`: "!",
		`phone("+33639980001")`: "+33639980001", `phone("+3363998000100")`: "!", `date(7336)`: "1990-02-01", `string(n)`: nil, `string(l)`: "!", `upper(12)`: "12", `map(l, .id)`: []any{"vip"}, `missing.field`: nil, `float("x")`: "!",
	} {
		e, err := newExpression(source, false, nil)
		if err != nil {
			t.Errorf("%s: %v", source, err)
			continue
		}
		got, err := e.eval(&runner{}, env())
		if err != nil {
			got = "!"
		}
		if !same(got, want) {
			t.Errorf("%s is %#v (%v), not %#v", source, got, err, want)
		}
	}
}

// S42-like addresses: nobody else's is ever made of one.
func TestAddressesOfTheWorld(t *testing.T) {
	for given, want := range map[string]string{
		" Ann@Example.COM ": "ann@example.com", "\u212Aate@example.com": "", "ann@\u212Aate.example": "", "ann@example.com\u200b": "ann@example.com",
		"ann@b\u00fccher.example": "ann@xn--bcher-kva.example", "j\u00fcrgen@example.com": "", "ann@example.com, bob@example.com": "",
	} {
		if got, _ := address(given); got != want {
			t.Errorf("%q is %q, not %q", given, got, want)
		}
	}
}

// Snapshots of a form that is not read are told; who is not spoken of stays.
func TestSnapshotsThatSayNothing(t *testing.T) {
	for name, c := range map[string]struct {
		v    any
		want string
	}{
		"a list": {[]any{"vip", 7, nil}, "[vip 7]"}, "a map": {map[string]any{"vip": true, "gold": false, "news": nil}, "[vip]"},
		"records": {[]any{map[string]any{"id": "vip"}}, "!"}, "states": {map[string]any{"vip": "realized"}, "!"}, "a text": {"vip", "!"}, "a number": {7, "!"},
	} {
		in, err := segmentsOf(c.v)
		got := fmt.Sprint(in)
		if err != nil {
			got = "!"
		}
		if got != c.want {
			t.Errorf("%s gives %s (%v), not %s", name, got, err, c.want)
		}
	}
}

// schemas of a registry, by id; the later ones name the earlier.
type texts map[int][]string

func (x texts) Schema(id int) (string, []string, error) {
	all, ok := x[id]
	if !ok {
		return "", nil, ErrNoSchema
	}
	return all[0], all[1:], nil
}

func confluent(id byte, b []byte) []byte { return append([]byte{0, 0, 0, 0, id}, b...) }

func word(b []byte, s string) []byte {
	return append(binary.AppendVarint(b, int64(len(s))), s...)
}

// mapper maps records with these schemas.
func (x texts) mapper(t *testing.T, spec Spec) *Mapper {
	t.Helper()
	d, err := NewDecoder(Confluent, x)
	if err != nil {
		t.Fatal(err)
	}
	m, err := NewMapper(spec, d, d)
	if err != nil {
		t.Fatal(err)
	}
	return m
}

func mapped(t *testing.T, schemas texts, spec Spec, records ...[]byte) (all []string) {
	t.Helper()
	w := schemas.mapper(t, spec).NewWorker()
	for _, b := range records {
		r, err := w.Map(&Record{Value: b, Time: noon.UnixNano()})
		switch {
		case err != nil:
			all = append(all, "!"+err.Error())
		case len(r.Changes) == 0:
			all = append(all, "-")
		default:
			address := profile(r).Address
			if r.BadAddress() {
				address = "a bad address"
			}
			all = append(all, fmt.Sprint(r.Changes[0].Person, " ", address, " ", values(spec, r)))
		}
	}
	return all
}

// E, Q, R, S, U: schemas in the plural.
func TestSchemasInThePlural(t *testing.T) {
	event := func(fields string) string {
		return `{"type":"record","name":"Ev","namespace":"t","fields":[{"name":"id","type":"string"},{"name":"seg","type":"string"},` + fields + `]}`
	}
	spec := Spec{Events: []Event{{Person: "id", Segment: "seg", Member: "true"}}, Segments: []string{"vip"}, Email: "email ?? mail"}
	for name, c := range map[string]struct {
		schemas texts
		spec    Spec
		records [][]byte
		want    string
	}{
		"a version that lacks a field": {texts{1: {event(`{"name":"mail","type":"string"}`)}, 2: {event(`{"name":"email","type":"string"}`)}}, spec,
			[][]byte{confluent(1, word(word(word(nil, "1"), "vip"), "a@example.com")), confluent(2, word(word(word(nil, "2"), "vip"), "b@example.com"))}, "1 a@example.com map[]|2 b@example.com map[]"},
		"another type of event": {texts{1: {`{"type":"record","name":"Beat","fields":[{"name":"n","type":"long"}]}`}}, Spec{Events: []Event{{When: "seg != nil", Person: "id", Segment: "seg", Member: "true"}}, Segments: []string{"vip"}},
			[][]byte{confluent(1, []byte{2})}, "-"},
		"a reference without a namespace, in a union": {texts{1: {event(`{"name":"p","type":["null","Profile"]}`), `{"type":"record","name":"Profile","fields":[{"name":"email","type":"string"}]}`}}, Spec{Events: spec.Events, Segments: spec.Segments, Email: "p.email"},
			[][]byte{confluent(1, word(append(word(word(nil, "1"), "vip"), 2), "a@example.com"))}, "1 a@example.com map[]"},
		"a type that a reference defines inside another": {texts{1: {event(`{"name":"c","type":"b.Country"},{"name":"p","type":"b.Profile"}`), `{"type":"record","name":"Profile","namespace":"b","fields":[{"name":"country","type":{"type":"enum","name":"Country","symbols":["FR","DE"]}}]}`}},
			Spec{Events: spec.Events, Segments: spec.Segments, Attributes: []Attribute{{Name: "C", Expr: "c"}, {Name: "D", Expr: "p.country"}}},
			[][]byte{confluent(1, append(word(word(nil, "1"), "vip"), 2, 0))}, `1  map[C:"DE" D:"FR"]`},
		"a namespace that goavro refuses": {texts{1: {strings.Replace(event(`{"name":"mail","type":"string"}`), `"t"`, `"com.my-company"`, 1)}}, spec,
			[][]byte{confluent(1, word(word(word(nil, "1"), "vip"), "a@example.com"))}, "1 a@example.com map[]"},
		"a date of Debezium, a decimal of Connect": {texts{1: {event(`{"name":"d","type":{"type":"int","connect.name":"io.debezium.time.Date"}},{"name":"m","type":{"type":"long","connect.name":"io.debezium.time.MicroTimestamp"}},{"name":"f","type":"float"},{"name":"n","type":{"type":"bytes","connect.name":"org.apache.kafka.connect.data.Decimal","connect.parameters":{"scale":"2"}}}`)}},
			Spec{Events: spec.Events, Segments: spec.Segments, Attributes: []Attribute{{Name: "D", Expr: "d", Type: TypeDate}, {Name: "M", Expr: "date(m)", Type: TypeDate}, {Name: "F", Expr: "f", Type: TypeFloat}, {Name: "N", Expr: "n", Type: TypeFloat}}},
			[][]byte{confluent(1, append(binary.LittleEndian.AppendUint32(binary.AppendVarint(binary.AppendVarint(word(word(nil, "1"), "vip"), 7336), 633830400000000), math.Float32bits(19.99)), 4, 0x07, 0xcf))}, `1  map[D:"1990-02-01" F:19.99 M:"1990-02-01" N:19.99]`},
		"a third value moves nothing": {texts{1: {event(`{"name":"a","type":"string"}`)}}, Spec{Events: []Event{{Person: "id", Segment: "seg", Member: `a == "add" ? true : a == "delete" ? false : nil`}}, Segments: spec.Segments},
			[][]byte{confluent(1, word(word(word(nil, "1"), "vip"), "update"))}, "1  map[]"},
		"an unchanged value that the database has not told": {texts{1: {event(`{"name":"a","type":"string"},{"name":"b","type":"string"}`)}}, Spec{Events: spec.Events, Segments: spec.Segments, Email: "a", Attributes: []Attribute{
			{Name: "A", Expr: "a", Clear: true}, {Name: "B", Expr: "title(a)"}, {Name: "C", Expr: `join([b, a], " ")`}, {Name: "D", Expr: "a", Type: TypeDate}, {Name: "E", Expr: "split(a, \",\")", Type: TypeMultiple}, {Name: "F", Expr: "b"}}},
			[][]byte{confluent(1, word(word(word(word(nil, "1"), "vip"), "__debezium_unavailable_value"), "Ann"))}, `1  map[F:"Ann"]`},
		"an id in JSON text": {texts{1: {event(`{"name":"j","type":"string"}`)}}, Spec{Events: []Event{{Person: "fromJSON(j).id", Segment: "seg", Member: "true"}}, Segments: spec.Segments},
			[][]byte{confluent(1, word(word(word(nil, "1"), "vip"), `{"id":1234567}`))}, "1234567  map[]"},
	} {
		t.Run(name, func(t *testing.T) {
			if got := strings.Join(mapped(t, c.schemas, c.spec, c.records...), "|"); got != c.want {
				t.Errorf("%s\nnot %s", got, c.want)
			}
		})
	}
}

// B: a recursive schema costs what its text costs.
func TestARecursiveSchemaIsNotUnfolded(t *testing.T) {
	var fields []string
	for i := range 8 {
		fields = append(fields, fmt.Sprintf(`{"name":"f%d","type":["null","Person"]}`, i))
	}
	text := `{"type":"record","name":"Person","fields":[{"name":"id","type":"string"},` + strings.Join(fields, ",") + `]}`
	began := time.Now()
	got := mapped(t, texts{1: {text}}, Spec{Events: []Event{{Person: "f0.id ?? id", Segment: `"vip"`, Member: "true"}}, Segments: []string{"vip"}}, confluent(1, append(word(nil, "1"), make([]byte, 8)...)))
	if got[0] != "1  map[]" || time.Since(began) > 2*time.Second {
		t.Errorf("%v after %s", got, time.Since(began))
	}
	d, _ := NewDecoder(Raw, nil)
	m, err := NewMapper(Spec{Events: []Event{{Person: "f0.f1.f2.id", Segment: "id", Member: "true"}}}, d, d)
	if err != nil {
		t.Fatal(err)
	}
	if err := m.Check(Version{Text: text}); err != nil || time.Since(began) > 5*time.Second {
		t.Errorf("checked after %s: %v", time.Since(began), err)
	}
}

// A number that is in E.164 already is taken as the telephone library would take it.
func TestNumbersInE164AreCheckedNotParsed(t *testing.T) {
	for _, s := range []string{"+33639980001", "+447700900123", "+14155550100", "+4915112345678", "+3933312345678", "+8613800138000", "+999123456", "+33", "+336399800010", "+1415555", "+0639980001", "33639980001", "+3306399800"} {
		if !e164(s) {
			continue
		}
		got, err := phone([]any{" " + s[:1] + " " + s[1:]}) // by the library
		if err != nil || got != s {
			t.Errorf("%s: the library says %v, %v", s, got, err)
		}
	}
}

// What is none of the account's options is left out and told; what is left of a list is sent.
func TestOptionsOfTheAccount(t *testing.T) {
	options := []string{"1", "2", "Man", "Woman"}
	for _, c := range []struct {
		of   Attribute
		v    any
		want string
		err  error
	}{
		{Attribute{Type: TypeCategory, Options: options}, "Man", `"Man"`, nil},
		{Attribute{Type: TypeCategory, Options: options}, 1, `"1"`, nil},
		{Attribute{Type: TypeCategory, Options: options}, "Femme", "", noOption},
		{Attribute{Type: TypeCategory, Options: options}, "", `""`, nil},
		{Attribute{Type: TypeCategory, Options: options}, nil, "", nil},
		{Attribute{Type: TypeCategory}, "Femme", `"Femme"`, nil}, // they were not told
		{Attribute{Type: TypeMultiple, Options: options}, []any{"Man", "ultraviolet"}, `["Man"]`, noOption},
		{Attribute{Type: TypeMultiple, Options: options}, []any{"ultraviolet"}, "", noOption},
		{Attribute{Type: TypeMultiple, Options: options}, []any{}, "[]", nil},
		{Attribute{Type: TypeCalculated}, 12, "", computed},
		{Attribute{Type: TypeGlobal}, nil, "", computed},
		{Attribute{Type: TypeTransactional, Clear: true}, nil, "", ofOrders},
	} {
		if b, err := c.of.literal(c.v); string(b) != c.want || !errors.Is(err, c.err) {
			t.Errorf("%v for %+v is %s, %v", c.v, c.of, b, err)
		}
	}
}
