package mapping

import (
	"fmt"
	"strings"
	"testing"

	"github.com/linkedin/goavro/v2"
)

const crowd = `{"type":"record","name":"Crowd","fields":[{"name":"at","type":"long"},{"name":"people","type":["null",{"type":"array","items":{"type":"record","name":"Person","fields":[
	{"name":"id","type":["null","string"]},{"name":"mail","type":["null","string"]},{"name":"first","type":["null","string"]},{"name":"joins","type":{"type":"array","items":"string"}},{"name":"until","type":["null","string"]}]}}]},
	{"name":"marks","type":{"type":"map","values":"boolean"}}]}`

func crowdWorker(t *testing.T, spec Spec) (*Mapper, func(people ...any) (*Result, error)) {
	t.Helper()
	schemas := texts{1: {crowd}}
	d, err := NewDecoder(Confluent, schemas)
	if err != nil {
		t.Fatal(err)
	}
	m, err := NewMapper(spec, d, d)
	if err != nil {
		t.Fatal(err)
	}
	w := m.NewWorker()
	return m, func(people ...any) (*Result, error) {
		var list any
		if people != nil {
			list = union("array", people)
		}
		return w.Map(&Record{Value: crowdBytes(t, list, map[string]any{"vip": true, "gold": false}), Time: noon.UnixNano()})
	}
}

func crowdBytes(t *testing.T, people any, marks map[string]any) []byte {
	t.Helper()
	c, err := goavro.NewCodec(crowd)
	if err != nil {
		t.Fatal(err)
	}
	b, err := c.BinaryFromNative(confluent(1, nil), map[string]any{"at": int64(1767225610500), "people": people, "marks": marks})
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func someone(id, mail, first any, joins ...any) map[string]any {
	if joins == nil {
		joins = []any{}
	}
	text := func(v any) any {
		if v == nil {
			return nil
		}
		return union("string", v)
	}
	return map[string]any{"id": text(id), "mail": text(mail), "first": text(first), "joins": joins, "until": nil}
}

var crowdSpec = Spec{
	Events:     []Event{{Each: "people", Person: "item.id", Joins: "item.joins", Time: "at", Until: "item.until"}},
	Email:      "item.mail",
	Segments:   []string{"vip", "gold"},
	Attributes: []Attribute{{Name: "FIRSTNAME", Expr: "title(item.first)", Type: TypeText}},
}

func toldOf(r *Result) string {
	var all []string
	for i := range r.Changes {
		c := &r.Changes[i]
		s := fmt.Sprint(c.Person, c.Memberships)
		if p := r.Profile(c); p != nil {
			s += " " + p.Address
			for _, v := range p.Values {
				s += " " + string(v.JSON)
			}
		}
		all = append(all, s)
	}
	return strings.Join(all, "; ")
}

// Each person has their own memberships, address and attributes; who cannot be mapped does not cost the others.
func TestSeveralPeopleInARecord(t *testing.T) {
	_, say := crowdWorker(t, crowdSpec)
	for _, c := range []struct {
		people       []any
		want, failed string
	}{
		{nil, "", ""},
		{[]any{someone("a", "a@example.com", "ann", "vip"), someone("b", nil, nil, "gold", "other"), someone("c", "c@example.com", "cy")},
			"a[{0 true 0}] a@example.com \"Ann\"; b[{1 true 0}]; c[] c@example.com \"Cy\"", ""},
		{[]any{someone("a", "a@example.com", nil, "vip"), someone(nil, "x@example.com", "x", "vip"), someone("b", "b@example.com", nil, "vip")},
			"a[{0 true 0}] a@example.com ; b[{0 true 0}] b@example.com ", "person: item 2: the record names no person"},
		{[]any{someone("a", "none", nil, "vip"), someone("b", "b@example.com", nil, "vip")}, "a[{0 true 0}]  ; b[{0 true 0}] b@example.com ", ""},
		// Of one person twice the last say counts.
		{[]any{someone("a", "a@example.com", nil, "vip"), someone("a", "b@example.com", nil, "gold")}, "a[{0 true 0} {1 true 0}] b@example.com ", ""},
	} {
		r, err := say(c.people...)
		if got := toldOf(r); got != c.want || fmt.Sprint(err) != fmt.Sprint(c.failed) && (err != nil || c.failed != "") {
			t.Errorf("%q and %v, not %q and %q", got, err, c.want, c.failed)
		}
	}
	var many []any
	for i := range 3000 {
		many = append(many, someone(fmt.Sprint(i/2), fmt.Sprintf("p%d@example.com", i/2), nil, []any{"vip", "gold"}[i%2]))
	}
	if r, err := say(many...); err != nil || len(r.Changes) != 1500 || len(r.Changes[1499].Memberships) != 2 || r.Profile(&r.Changes[1499]).Address != "p1499@example.com" {
		t.Errorf("of many: %d changes, %v", len(r.Changes), err)
	}
}

// A map's items are its entries, by their keys; what lapses rounds up to whole seconds; joining one of a group leaves the
// others, also one that nobody asks for.
func TestWhatAnEventSays(t *testing.T) {
	event := func(e Event) Spec {
		return Spec{Events: []Event{e}, Segments: []string{"vip", "gold", "news"}, Email: "people[0].mail"}
	}
	for _, c := range []struct {
		spec         Spec
		want, failed string
	}{
		{event(Event{Each: "marks", Person: `"p"`, Segment: "item.key", Member: "item.value"}), "p[{1 false 0} {0 true 0}] a@example.com", ""},
		{event(Event{Person: `"p"`, Joins: `["vip"]`, Until: `"2026-01-01T00:00:00.001Z"`}), "p[{0 true 1767225601}] a@example.com", ""},
		{event(Event{Person: `"p"`, Joins: `["vip"]`, Leaves: `["gold"]`, Until: "nil"}), "p[{1 false 0} {0 true 0}] a@example.com", ""},
		{event(Event{Person: `"p"`, Joins: `["vip"]`, Until: "0"}), "p[{0 true 0}] a@example.com", ""},
		{event(Event{Person: `"p"`, Joins: `["vip"]`, Until: "9223372036854775807"}), "p[{0 true 9200000000}] a@example.com", ""},
		{event(Event{Person: `"p"`, Joins: `["vip"]`, Until: `"soon"`}), "", "time: not a time"},
		{event(Event{Person: `"p"`, Joins: "3"}), "", "segment: the segments are"},
		{event(Event{Person: `"p"`, Segment: `"gold"`, Member: "true", Groups: [][]string{{"vip", "gold", "free"}}}), "p[{0 false 0} {1 true 0}] a@example.com", ""},
		{event(Event{Person: `"p"`, Segment: `"free"`, Member: "true", Groups: [][]string{{"vip", "gold", "free"}}}), "p[{0 false 0} {1 false 0}] a@example.com", ""},
		{event(Event{Person: `"p"`, Segment: `"gold"`, Member: "false", Groups: [][]string{{"vip", "gold"}}}), "p[{1 false 0}] a@example.com", ""},
		{event(Event{Person: `"p"`, Segment: `"news"`, Member: "true", Groups: [][]string{{"vip", "gold"}}}), "p[{2 true 0}] a@example.com", ""},
		{event(Event{Person: `"p"`}), "p[] a@example.com", ""},
		{event(Event{Each: "at", Person: `"p"`, Joins: "item"}), "", "each is neither a list nor a map"},
	} {
		_, say := crowdWorker(t, c.spec)
		r, err := say(someone("a", "a@example.com", nil))
		if got := toldOf(r); got != c.want || (err == nil) != (c.failed == "") || err != nil && !strings.Contains(err.Error(), c.failed) {
			t.Errorf("%+v says %q and %v, not %q and %q", c.spec.Events[0], got, err, c.want, c.failed)
		}
	}
}

// A sequence number is whole, from 0 to 2^63-1, also as a text or a decimal.
func TestSequences(t *testing.T) {
	for in, want := range map[any]string{
		7: "7", "24023128": "24023128", " 9223372036854775807 ": "9223372036854775807", 7.0: "7", -1: "!", "": "!", nil: "!", "x": "!", 7.5: "!", "9223372036854775808": "!", "-1": "!", true: "!", "1e3": "!",
	} {
		n, err := sequenceOf(in)
		got := fmt.Sprint(n)
		if err != nil {
			got = "!"
		}
		if got != want {
			t.Errorf("%#v is %s, not %s", in, got, want)
		}
	}
}

// check knows the items: a field that they lack, and a kind that will not do.
func TestCheckKnowsItems(t *testing.T) {
	for expr, want := range map[string]string{"item.mial": "unknown field mial", "item.joins": "it is a list", "item.mail": ""} {
		spec := crowdSpec
		spec.Email = expr
		m, _ := crowdWorker(t, spec)
		if err := m.Check(Version{Text: crowd}); (err == nil) != (want == "") || err != nil && !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v, not %q", expr, err, want)
		}
	}
	m, _ := crowdWorker(t, Spec{Events: []Event{{Each: "marks", Person: "item.key", Segment: "item.name", Member: "item.value"}}})
	if err := m.Check(Version{Text: crowd}); err == nil || !strings.Contains(err.Error(), "unknown field name") {
		t.Errorf("a map's items: %v", err)
	}
}

// The steps of an explanation are told item by item.
func TestAnExplanationOfItems(t *testing.T) {
	m, _ := crowdWorker(t, crowdSpec)
	var people []any
	for i := range 9 {
		people = append(people, someone(fmt.Sprint(i), nil, "x", "vip"))
	}
	x := m.Explain(&Record{Value: crowdBytes(t, union("array", people), map[string]any{}), Time: noon.UnixNano()})
	var places []string
	for _, s := range x.Steps {
		places = append(places, s.Place)
	}
	if got := strings.Join(places[:8], ", "); got != "event 1 each, item 1 event 1 person, item 1 event 1 time, item 1 event 1 until, item 1 event 1 joins, item 1 email, item 1 attribute FIRSTNAME, item 2 event 1 person" || len(places) != 1+6*explainedItems {
		t.Errorf("%d: %s", len(places), got)
	}
}

// All items of a record together have a bound of work, whatever one of them may cost; and a crowd costs what its people cost.
func TestTheWorkOfAllItemsIsBounded(t *testing.T) {
	spec := crowdSpec
	spec.Attributes = []Attribute{{Name: "A", Expr: `sum(map(1..20000, # + len(item.id)))`}}
	_, say := crowdWorker(t, spec)
	var many []any
	for i := range 2000 {
		many = append(many, someone(fmt.Sprint(i), nil, nil, "vip"))
	}
	r, err := say(many...)
	if n := len(r.Costly); err != nil || len(r.Changes) != 2000 || n < 1000 || n == 2000 {
		t.Errorf("%d people, of %d the attribute took too much work: %v", len(r.Changes), n, err)
	}
	if r, err = say(many[:3]...); err != nil || len(r.Costly) != 0 {
		t.Errorf("the next record: %v, %v", r.Costly, err)
	}
}
