package mapping

import (
	"errors"
	"math/big"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/linkedin/goavro/v2"
)

// shape is a decoder of bare Avro with the encoder beside it.
type shape struct {
	t       testing.TB
	codec   *goavro.Codec
	decoder *Decoder
}

func newShape(t testing.TB, file string) *shape {
	t.Helper()
	b, err := os.ReadFile("testdata/" + file)
	if err != nil {
		t.Fatal(err)
	}
	c, err := goavro.NewCodec(string(b))
	if err != nil {
		t.Fatal(err)
	}
	d, err := NewDecoder(Bare, nil, string(b))
	if err != nil {
		t.Fatal(err)
	}
	return &shape{t, c, d}
}

func (s *shape) encode(v map[string]any) []byte {
	s.t.Helper()
	b, err := s.codec.BinaryFromNative(nil, v)
	if err != nil {
		s.t.Fatal(err)
	}
	return b
}

func (s *shape) worker(spec Spec) *Worker {
	s.t.Helper()
	key, err := NewDecoder(Raw, nil)
	if err != nil {
		s.t.Fatal(err)
	}
	m, err := NewMapper(spec, s.decoder, key)
	if err != nil {
		s.t.Fatal(err)
	}
	return m.NewWorker()
}

func union(name string, v any) any { return goavro.Union(name, v) }

var noon = time.Date(2026, 11, 1, 12, 0, 0, 0, time.UTC)

// profile is the first of a result; an empty one if it has none.
func profile(r *Result) *Profile {
	if len(r.Profiles) == 0 {
		return &Profile{}
	}
	return &r.Profiles[0]
}

func values(spec Spec, r *Result) map[string]string {
	m := map[string]string{}
	for _, v := range profile(r).Values {
		if v.JSON != nil {
			m[spec.Attributes[v.Attribute].Name] = string(v.JSON)
		}
	}
	return m
}

func TestSingleChangesMapByConfigurationAlone(t *testing.T) {
	s := newShape(t, "membership-changed.avsc")
	spec := Spec{
		Events:   []Event{{Person: "profile_id", Segment: "segment_id", Member: `change == "ENTERED"`, Time: "occurred_at"}},
		Email:    "profile.email",
		Segments: []string{"gold", "vip"},
		Attributes: []Attribute{
			{Name: "FIRSTNAME", Expr: "title(profile.first_name)", Type: TypeText},
			{Name: "SMS", Expr: `phone(profile.phone, "FR")`, Type: TypeText},
			{Name: "BIRTHDAY", Expr: "date(profile.birthday)", Type: TypeDate},
			{Name: "LTV", Expr: "profile.lifetime_value", Type: TypeFloat},
			{Name: "NEWSLETTER", Expr: "profile.newsletter", Type: TypeBoolean},
			{Name: "TAGS", Expr: "profile.tags", Type: TypeMultiple},
		},
	}
	w := s.worker(spec)
	value := s.encode(map[string]any{
		"event_id": "e", "segment_id": "vip", "profile_id": "p1", "change": "ENTERED", "occurred_at": noon,
		"profile": union("cdp.segments.Profile", map[string]any{
			"email": union("string", " Ann@Example.COM "), "first_name": union("string", "ANN marie"), "last_name": nil,
			"phone": union("string", "06 39 98 00 01"), "country": nil, "birthday": union("int.date", time.Date(1990, 2, 3, 0, 0, 0, 0, time.UTC)),
			"lifetime_value": union("bytes.decimal", big.NewRat(123450, 1000)), "newsletter": union("boolean", false), "tags": []any{"a", "b"},
		}),
	})
	r, err := w.Map(&Record{Value: value, Time: noon.UnixNano()})
	if err != nil {
		t.Fatal(err)
	}
	if len(r.Changes) != 1 || r.Changes[0].Person != "p1" || r.Changes[0].Time != noon.UnixNano() || len(r.Changes[0].Memberships) != 1 || r.Changes[0].Memberships[0] != (Membership{1, true, 0, noon.UnixNano()}) {
		t.Errorf("changes: %+v", r.Changes)
	}
	if profile(r).Address != "ann@example.com" {
		t.Errorf("address %q is not trimmed and in lower case", profile(r).Address)
	}
	want := map[string]string{
		"FIRSTNAME": `"Ann Marie"`, "SMS": `"+33639980001"`, "BIRTHDAY": `"1990-02-03"`, "LTV": "123.45", "NEWSLETTER": "false", "TAGS": `["a","b"]`,
	}
	got := values(spec, r)
	for name, v := range want {
		if got[name] != v {
			t.Errorf("%s is %s, not %s", name, got[name], v)
		}
	}
	// An exit without a profile is an exit all the same, and carries none.
	value = s.encode(map[string]any{"event_id": "e", "segment_id": "vip", "profile_id": "p1", "change": "EXITED", "occurred_at": noon, "profile": nil})
	r, err = w.Map(&Record{Value: value, Time: noon.UnixNano()})
	if err != nil || len(r.Changes) != 1 || r.Changes[0].Memberships[0].In || r.Changes[0].Profile >= 0 {
		t.Errorf("exit: %+v, %v", r.Changes, err)
	}
}

func TestSnapshotsMapByConfigurationAlone(t *testing.T) {
	s := newShape(t, "profile-snapshot.avsc")
	spec := Spec{
		Events:     []Event{{Person: "identity", Time: "timestamp", Memberships: `keysWhere(segmentMembership.ups, "status", ["realized", "existing"])`}},
		Email:      "personalEmail.address",
		Segments:   []string{"vip", "gold", "lost"},
		Attributes: []Attribute{{Name: "FIRSTNAME", Expr: "person.name.firstName"}, {Name: "SMS", Expr: `phone(mobilePhone.number)`}},
	}
	w := s.worker(spec)
	state := func(status string) map[string]any {
		return map[string]any{"status": status, "lastQualificationTime": nil}
	}
	value := s.encode(map[string]any{
		"identity": "p1", "timestamp": noon, "personalEmail": union("cdp.profiles.Email", map[string]any{"address": "bob@example.com"}),
		"person": nil, "mobilePhone": nil,
		"segmentMembership": map[string]any{"ups": map[string]any{"vip": state("realized"), "gold": state("existing"), "lost": state("exited"), "other": state("realized")}},
	})
	r, err := w.Map(&Record{Value: value, Time: noon.UnixNano()})
	if err != nil {
		t.Fatal(err)
	}
	c := r.Changes[0]
	if !c.Whole || len(c.Memberships) != 2 || !c.Memberships[0].In || !c.Memberships[1].In || c.Time != noon.UnixNano() {
		t.Errorf("change: %+v", c)
	}
	if len(values(spec, r)) != 0 || profile(r).Address != "bob@example.com" || len(r.Failures) != 0 {
		t.Errorf("profile: %+v", r)
	}
}

// cdc is the mapping of the change-data-capture shape: the image before an update is an exit where it names another
// person or segment.
var cdc = Spec{
	Events: []Event{
		{When: `op in ["c", "u", "r"]`, Person: "after.customer_id", Segment: "after.segment", Member: "true", Time: "ts_ms"},
		{When: `op == "u" && before != nil && (before.segment != after.segment || before.customer_id != after.customer_id)`, Person: "before.customer_id", Segment: "before.segment", Member: "false", Time: "ts_ms"},
		{When: `op == "d"`, Person: "before.customer_id", Segment: "before.segment", Member: "false", Time: "ts_ms"},
	},
	Email:      "after.email ?? before.email",
	HaltWhen:   `op == "t"`,
	Segments:   []string{"vip", "gold"},
	Attributes: []Attribute{{Name: "FIRSTNAME", Expr: "after.given_name ?? before.given_name"}},
}

func TestChangeDataCaptureMapsByConfigurationAlone(t *testing.T) {
	s := newShape(t, "segment-members-cdc.avsc")
	w := s.worker(cdc)
	image := func(segment string, id int64) any {
		return union("crm.public.segment_members.Value", map[string]any{
			"segment": segment, "customer_id": id, "email": union("string", "c@example.com"), "given_name": union("string", "Cy"), "family_name": nil, "msisdn": nil,
		})
	}
	// S25: an update that moves a person from vip to gold is an exit from vip.
	r, err := w.Map(&Record{Time: noon.UnixNano(), Value: s.encode(map[string]any{"before": image("vip", 7), "after": image("gold", 7), "op": "u", "ts_ms": union("long", noon.UnixMilli())})})
	if err != nil {
		t.Fatal(err)
	}
	if len(r.Changes) != 1 || r.Changes[0].Person != "7" || len(r.Changes[0].Memberships) != 2 || !r.Changes[0].Memberships[0].In || r.Changes[0].Memberships[1].In {
		t.Errorf("moved: %+v", r.Changes)
	}
	// An update that gives the row to another person: the first leaves, and the profile is not theirs.
	r, err = w.Map(&Record{Time: noon.UnixNano(), Value: s.encode(map[string]any{"before": image("vip", 7), "after": image("vip", 8), "op": "u", "ts_ms": nil})})
	if err != nil || len(r.Changes) != 2 || r.Changes[0].Profile != 0 || r.Changes[1].Profile >= 0 || r.Changes[1].Person != "7" {
		t.Errorf("given away: %+v, %v", r.Changes, err)
	}
	r, err = w.Map(&Record{Time: noon.UnixNano(), Value: s.encode(map[string]any{"before": image("vip", 7), "after": nil, "op": "d", "ts_ms": nil})})
	if err != nil || len(r.Changes) != 1 || r.Changes[0].Memberships[0].In || profile(r).Address != "c@example.com" {
		t.Errorf("deleted: %+v, %v", r.Changes, err)
	}
	if _, err = w.Map(&Record{Value: s.encode(map[string]any{"before": nil, "after": nil, "op": "t", "ts_ms": nil})}); !errors.Is(err, ErrHalt) {
		t.Errorf("a truncate answers %v, not the halt", err)
	}
	r, err = w.Map(&Record{Key: []byte("k")})
	if err != nil || !r.Tombstone {
		t.Errorf("the tombstone after a delete: %+v, %v", r, err)
	}
}

// S27: an event dated 2099 is capped five minutes after its record.
func TestTimesFarAheadAreCapped(t *testing.T) {
	s := newShape(t, "membership-changed.avsc")
	w := s.worker(Spec{Events: []Event{{Person: "profile_id", Segment: "segment_id", Member: "true", Time: "occurred_at"}}, Segments: []string{"vip"}})
	value := s.encode(map[string]any{"event_id": "e", "segment_id": "vip", "profile_id": "p", "change": "ENTERED", "occurred_at": noon.AddDate(73, 0, 0), "profile": nil})
	r, err := w.Map(&Record{Value: value, Time: noon.UnixNano()})
	if err != nil || r.Changes[0].Time != noon.Add(5*time.Minute).UnixNano() {
		t.Errorf("%+v, %v", r.Changes, err)
	}
}

func TestATypoIsFoundWhenTheSchemaIsKnown(t *testing.T) {
	b, err := os.ReadFile("testdata/membership-changed.avsc")
	if err != nil {
		t.Fatal(err)
	}
	raw, _ := NewDecoder(Raw, nil)
	m, err := NewMapper(Spec{Events: []Event{{Person: "profil_id", Segment: "segment_id", Member: "true"}}, Email: "profile.emial"}, raw, raw)
	if err != nil {
		t.Fatal(err)
	}
	err = m.Check(Version{Text: string(b)})
	if err == nil || !strings.Contains(err.Error(), "profil_id") || !strings.Contains(err.Error(), "emial") {
		t.Errorf("check says %v", err)
	}
}

func TestReferencesAreInlined(t *testing.T) {
	text := `{"type":"record","name":"a.R","fields":[{"name":"x","type":"b.E"},{"name":"y","type":["null","b.E"]}]}`
	c, err := newCodec(text, []string{`{"type":"record","name":"E","namespace":"b","fields":[{"name":"s","type":"string"}]}`})
	if err != nil {
		t.Fatal(err)
	}
	v, err := c.decode([]byte{2, 'q', 2, 2, 'z'}, everything)
	if err != nil {
		t.Fatal(err)
	}
	m, _ := v.(map[string]any)
	y, _ := m["y"].(map[string]any)
	if y["s"] != "z" {
		t.Errorf("%v", v)
	}
}

func TestHostileBytesCostOneError(t *testing.T) {
	for name, c := range map[string]struct {
		schema string
		bytes  []byte
	}{
		"an array of gigabytes":  {`{"type":"array","items":"long"}`, []byte{0x80, 0x80, 0x80, 0x80, 0x80, 0x01}},
		"items without bytes":    {`{"type":"array","items":"null"}`, []byte{0x80, 0x80, 0x80, 0x80, 0x10, 0}},
		"nesting without end":    {`{"type":"record","name":"R","fields":[{"name":"r","type":["null","R"]}]}`, []byte(strings.Repeat("\x02", 5000))},
		"a union without branch": {`["null","string"]`, []byte{8}},
		"an enum without symbol": {`{"type":"enum","name":"E","symbols":["A"]}`, []byte{8}},
		"text longer than all":   {`"string"`, []byte{0xfe, 0xff, 0xff, 0xff, 0x0f}},
		"what is left over":      {`"string"`, []byte{2, 'a', 'b'}},
		"a negative count":       {`{"type":"map","values":"string"}`, []byte{0x01, 0x01}},
	} {
		t.Run(name, func(t *testing.T) {
			codec, err := newCodec(c.schema, nil)
			if err != nil {
				t.Fatal(err)
			}
			if _, err := codec.decode(c.bytes, everything); err == nil {
				t.Error("no error")
			}
		})
	}
}

func TestADecimalWithoutScaleIsNoPanic(t *testing.T) {
	text := `{"type":"record","name":"R","fields":[{"name":"a","type":{"type":"bytes","logicalType":"decimal","precision":4}},{"name":"b","type":{"type":"bytes","logicalType":"decimal","precision":6}}]}`
	c, err := newCodec(text, nil)
	if err != nil {
		t.Fatal(err)
	}
	v, err := c.decode([]byte{2, 0xff, 4, 1, 0}, everything)
	m, _ := v.(map[string]any)
	if err != nil || m["a"].(Decimal).String() != "-1" || m["b"].(Decimal).String() != "256" {
		t.Errorf("%v, %v", v, err)
	}
}

func TestAddresses(t *testing.T) {
	for in, want := range map[string]string{
		" Ann.Lee+x@Example.com ": "ann.lee+x@example.com", "a@b.co": "a@b.co", "o'neil@example.com": "o'neil@example.com",
		"no": "", "a@b": "", "@example.com": "", "a@": "", "a b@example.com": "", "a..b@example.com": "", "a@-x.com": "", "a@x..com": "", "ü@example.com": "", "a@b@example.com": "",
	} {
		got, ok := address(in)
		if got != want && ok || ok != (want != "") {
			t.Errorf("%q gives %q, %v; want %q", in, got, ok, want)
		}
	}
}

func TestValuesTakeTheAccountsForm(t *testing.T) {
	for name, c := range map[string]struct {
		v    any
		t    AttributeType
		want string // "error" for one
	}{
		"text of a number":    {12, TypeText, `"12"`},
		"text is not escaped": {"M&S <x>", TypeText, `"M&S <x>"`},
		"a record is no text": {map[string]any{}, TypeText, "error"},
		"a date of a time":    {noon, TypeDate, `"2026-11-01"`},
		"no date":             {"soon", TypeDate, "error"},
		"a number of text":    {" 3.50 ", TypeFloat, "3.5"},
		"no number":           {"x", TypeFloat, "error"},
		"a boolean of text":   {"Yes", TypeBoolean, "true"},
		"no boolean":          {"maybe", TypeBoolean, "error"},
		"one choice":          {"a", TypeMultiple, `["a"]`},
		"a null":              {nil, TypeText, ""},
	} {
		t.Run(name, func(t *testing.T) {
			got, err := (&Attribute{Type: c.t}).literal(c.v)
			if (err != nil) != (c.want == "error") || err == nil && string(got) != c.want {
				t.Errorf("%s, %v; want %s", got, err, c.want)
			}
		})
	}
}

// registered is a registry of one schema.
type registered string

func (r registered) Schema(id int) (string, []string, error) {
	if id != 7 {
		return "", nil, ErrNoSchema
	}
	return string(r), nil, nil
}

func TestTheWireFormatsOfValuesAndKeys(t *testing.T) {
	const text = `{"type":"record","name":"K","fields":[{"name":"id","type":"string"}]}`
	c, err := goavro.NewCodec(text)
	if err != nil {
		t.Fatal(err)
	}
	datum := map[string]any{"id": "p1"}
	bare, _ := c.BinaryFromNative(nil, datum)
	single, _ := c.SingleFromNative(nil, datum)
	confluent := append([]byte{0, 0, 0, 0, 7}, bare...)
	for name, f := range map[string]struct {
		format Format
		bytes  []byte
	}{"Confluent's": {Confluent, confluent}, "single objects": {SingleObject, single}, "bare Avro": {Bare, bare}} {
		t.Run(name, func(t *testing.T) {
			value, err := NewDecoder(f.format, registered(text), text)
			if err != nil {
				t.Fatal(err)
			}
			m, err := NewMapper(Spec{Events: []Event{{Person: "kafka.key.id", Segment: `"vip"`, Member: "id == kafka.key.id"}}, Segments: []string{"vip"}}, value, value)
			if err != nil {
				t.Fatal(err)
			}
			r, err := m.NewWorker().Map(&Record{Key: f.bytes, Value: f.bytes})
			if err != nil || len(r.Changes) != 1 || r.Changes[0].Person != "p1" || !r.Changes[0].Memberships[0].In {
				t.Errorf("%+v, %v", r.Changes, err)
			}
			if _, err := m.NewWorker().Map(&Record{Key: f.bytes, Value: []byte{9, 9, 9}}); err == nil {
				t.Error("bytes of no format are taken")
			}
		})
	}
	d, _ := NewDecoder(Confluent, registered(text))
	if _, _, err := d.decode([]byte{0, 0, 0, 0, 8, 2}, everything); !errors.Is(err, ErrNoSchema) {
		t.Errorf("an unknown id answers %v", err)
	}
}

// A record whose memberships are no list puts nobody out.
func TestARejectedSnapshotChangesNothing(t *testing.T) {
	s := newShape(t, "profile-snapshot.avsc")
	w := s.worker(Spec{Events: []Event{{Person: "identity", Memberships: "identity"}}, Segments: []string{"vip"}})
	value := s.encode(map[string]any{"identity": "p1", "timestamp": noon, "personalEmail": nil, "person": nil, "mobilePhone": nil, "segmentMembership": map[string]any{}})
	r, err := w.Map(&Record{Value: value})
	if err == nil || len(r.Changes) != 0 {
		t.Errorf("%+v, %v", r.Changes, err)
	}
}

// S62: what check can tell of results from the schema: symbols of enums, and kinds that will not do.
func TestS62CheckKnowsWhatCannotBeRight(t *testing.T) {
	b, err := os.ReadFile("testdata/membership-changed.avsc")
	if err != nil {
		t.Fatal(err)
	}
	for name, c := range map[string]struct {
		spec Spec
		want string
	}{
		"right":             {Spec{}, ""},
		"a symbol in lower": {Spec{Events: []Event{{Person: "profile_id", Segment: "segment_id", Member: `change == "entered"`}}}, `change is never "entered": it is one of ENTERED, EXITED (did you mean "ENTERED"?)`},
		"in a list":         {Spec{Events: []Event{{Person: "profile_id", Segment: "segment_id", Member: `change in ["ENTERED", "JOINED"]`}}}, `change is never "JOINED"`},
		"a text as member":  {Spec{Events: []Event{{Person: "profile_id", Segment: "segment_id", Member: "change"}}}, "event 1 member: it is a text, and must be a boolean"},
		"a record as email": {Spec{Email: "profile"}, "email: it is a record, and must be a text"},
		"a field's typo":    {Spec{Email: "profile.emial"}, "email: unknown field emial"},
		"a list as person":  {Spec{Events: []Event{{Person: "[profile_id]", Segment: "segment_id", Member: "true"}}}, "event 1 person: it is a list"},
	} {
		t.Run(name, func(t *testing.T) {
			if c.spec.Events == nil {
				c.spec.Events = []Event{{Person: "profile_id", Segment: "segment_id", Member: `change == "ENTERED"`, Time: "occurred_at"}}
			}
			if c.spec.Email == "" {
				c.spec.Email = "profile.email"
			}
			m, err := NewMapper(c.spec, nil, nil)
			if err != nil {
				t.Fatal(err)
			}
			switch err := m.Check(Version{Text: string(b)}); {
			case c.want == "" && err != nil:
				t.Error(err)
			case c.want != "" && (err == nil || !strings.Contains(err.Error(), c.want)):
				t.Errorf("%v", err)
			}
		})
	}
}

// Functions and their arity are known without a schema.
func TestUnknownFunctionsAreTold(t *testing.T) {
	for source, want := range map[string]string{
		`phon(x, "FR")`: `unknown function phon (did you mean "phone"?)`, `phone(x, "XX")`: "is no country", `lower()`: "not enough arguments", `phone(x, "FR"`: "unexpected token EOF", `change = "A"`: "", `mpa(x, .y)`: "",
	} {
		_, err := NewMapper(Spec{Email: source}, nil, nil)
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v", source, err)
		}
	}
}
