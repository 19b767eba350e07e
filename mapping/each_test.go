package mapping

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/linkedin/goavro/v2"
)

const crowd = `{"type":"record","name":"Crowd","fields":[{"name":"at","type":"long"},{"name":"people","type":["null",{"type":"array","items":{"type":"record","name":"Person","fields":[
	{"name":"id","type":["null","string"]},{"name":"mail","type":["null","string"]},{"name":"first","type":["null","string"]},{"name":"joins","type":{"type":"array","items":"string"}},{"name":"until","type":["null","string"]}]}}]},
	{"name":"marks","type":{"type":"map","values":"boolean"}}]}`

func crowdWorker(t *testing.T, spec Spec) (*Mapper, func(people ...any) (*Result, error)) {
	t.Helper()
	m := texts{1: {crowd}}.mapper(t, spec)
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
		s := c.Person + "["
		for n, m := range c.Memberships {
			s += strings.Repeat(" ", min(n, 1)) + fmt.Sprintf("{%d %v %d}", m.Segment, m.In, m.Until)
		}
		s += "]"
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
		// Of one person twice the last say counts; what it lacks the earlier one has.
		{[]any{someone("a", "a@example.com", nil, "vip"), someone("a", "b@example.com", nil, "gold")}, "a[{0 true 0} {1 true 0}] b@example.com ", ""},
		{[]any{someone("a", "a@example.com", "ann", "vip"), someone("a", nil, "bob", "gold")}, "a[{0 true 0} {1 true 0}] a@example.com \"Bob\"", ""},
		{[]any{someone("a", "a@example.com", "ann", "vip"), someone("a", "none", nil, "gold")}, "a[{0 true 0} {1 true 0}] a@example.com \"Ann\"", ""},
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
	if n := len(r.Failures); err != nil || len(r.Changes) != 2000 || n < 1000 || n == 2000 || len(r.Costly) != 1 { // an export is held for records, not for items
		t.Errorf("%d people, of %d the attribute took too much work, and %v is costly: %v", len(r.Changes), n, r.Costly, err)
	}
	if r, err = say(many[:3]...); err != nil || len(r.Costly) != 0 {
		t.Errorf("the next record: %v, %v", r.Costly, err)
	}
}

// What does not name the item is evaluated once for a record, and its literal made once; what all people make together is
// bounded; a long list of a group costs what the group costs.
func TestTheWorkOfARecordDoesNotGrowWithItsItems(t *testing.T) {
	long := strings.Repeat("x", 30_000)
	var many []any
	for i := range 3000 {
		many = append(many, someone(fmt.Sprint(i), nil, nil, "vip"))
	}
	many[0] = someone("0", nil, long, "vip")
	for name, c := range map[string]struct {
		expr    string
		left    bool // for some it is left out
		tooMuch int  // attributes that took too much work
	}{
		"a text of the record":   {"people[0].first", false, 0},
		"a search of the record": {`string(len(filter(people, .mail == "a")))`, false, 0},
		"both":                   {`item.mail ?? people[0].first`, true, 0},
		"a function of both":     {`lower(item.mail ?? people[0].first) == "x"`, true, 1},
	} {
		spec := crowdSpec
		spec.Attributes = []Attribute{{Name: "A", Expr: c.expr, Type: TypeText}}
		_, say := crowdWorker(t, spec)
		r, err := say(many...)
		bytes, seen := 0, map[*byte]bool{}
		for _, p := range r.Profiles {
			for _, v := range p.Values {
				if len(v.JSON) > 0 && !seen[&v.JSON[0]] {
					seen[&v.JSON[0]] = true
					bytes += len(v.JSON)
				}
			}
		}
		if err != nil || len(r.Changes) != 3000 || bytes > literalsMost || (len(r.Failures) > 0) != c.left || len(r.Costly) != c.tooMuch {
			t.Errorf("%s: %d people, %d bytes, left out for %d, %v took too much work: %v", name, len(r.Changes), bytes, len(r.Failures), r.Costly, err)
		}
	}
	spec := crowdSpec // a closure
	spec.Attributes = []Attribute{{Name: "A", Expr: `keys(item.id == "" ? nil : marks)`, Type: TypeMultiple}}
	m, _ := crowdWorker(t, spec)
	if m.attributes[0].expr.quick == nil {
		t.Error("it takes the VM")
	}
	marks := map[string]any{}
	for i := range 5000 {
		marks[fmt.Sprint(i)] = true
	}
	r, err := m.NewWorker().Map(&Record{Value: crowdBytes(t, union("array", many[1:1200]), marks), Time: noon.UnixNano()})
	if err != nil || len(r.Changes) != 1199 || len(r.Costly) != 1 {
		t.Errorf("%d people, %v took too much work: %v", len(r.Changes), r.Costly, err)
	}
	spec = Spec{Segments: []string{"vip"}}
	group := []string{"vip"}
	for i := range 49 {
		spec.Segments, group = append(spec.Segments, fmt.Sprint(i)), append(group, fmt.Sprint(i))
	}
	spec.Events = []Event{{Person: `"p"`, Joins: "people[0].joins", Groups: [][]string{group}}}
	m, _ = crowdWorker(t, spec)
	w := m.NewWorker()
	var names []any
	for i := range 50_000 {
		names = append(names, fmt.Sprint(i%49))
	}
	r, err = w.Map(&Record{Value: crowdBytes(t, union("array", []any{someone("p", nil, nil, names...)}), map[string]any{}), Time: noon.UnixNano()})
	in := 0
	for _, x := range r.Changes[0].Memberships {
		in += bit(x.In)
	}
	if err != nil || in != 1 || len(r.Changes[0].Memberships) != 50 || cap(w.said) > 10_000 {
		t.Errorf("%d in, of %d, %d said: %v", in, len(r.Changes[0].Memberships), cap(w.said), err)
	}
}

// While there are items, what does not name them is evaluated once.
func TestWhatDoesNotNameTheItem(t *testing.T) {
	e, err := newExpression("a", true, nil)
	if err != nil {
		t.Fatal(err)
	}
	r := &runner{spent: make([]int, 1), once: make([]once, 1)}
	s := &scope{env: map[string]any{"a": 1}}
	s.at("x")
	for _, now := range []int{1, 2} {
		s.env["a"] = now
		if c, err := e.cell(r, s); err != nil || c.n != 1 {
			t.Errorf("it is %v, %v", c.value(), err)
		}
	}
	clear(r.once)
	if c, _ := e.cell(r, s); c.n != 2 {
		t.Errorf("of the next record it is %v", c.value())
	}
}

// Events about items, and one about the record: where the address is the item's, the record's own has none.
func TestARecordAndItsItems(t *testing.T) {
	spec := crowdSpec
	spec.Email = `find(item.joins, # == "vip") + "@example.com"` // fails where there is no item
	spec.Events = append([]Event{{Person: `"all"`, Segment: `"gold"`, Member: "true"}}, spec.Events...)
	_, say := crowdWorker(t, spec)
	r, err := say(someone("a", nil, nil, "vip"), someone("b", nil, nil, "vip"))
	if got := toldOf(r); err != nil || got != "all[{1 true 0}]; a[{0 true 0}] vip@example.com ; b[{0 true 0}] vip@example.com " {
		t.Errorf("%q, %v", got, err)
	}
}

// Of one person in two items each say keeps its own time, and the later one counts.
func TestItemsHaveTimesOfTheirOwn(t *testing.T) {
	spec := crowdSpec
	spec.Events = []Event{{Each: "people", Person: `"p"`, Joins: `item.id == "in" ? item.joins : []`, Leaves: `item.id == "out" ? item.joins : []`, Time: "item.mail"}}
	spec.Email, spec.Attributes = "", nil
	_, say := crowdWorker(t, spec)
	r, err := say(someone("in", "2026-01-01T00:00:00Z", nil, "vip"), someone("out", "2025-01-01T00:00:00Z", nil, "vip", "gold"))
	got := fmt.Sprint(r.Changes[0].Memberships)
	if want := fmt.Sprint([]Membership{{0, true, 0, 1767225600e9}, {1, false, 0, 1735689600e9}}); err != nil || got != want {
		t.Errorf("%s, %v, not %s", got, err, want)
	}
}

// Each item about another person, and one address for all: that is refused.
func TestOneAddressForAllItemsIsRefused(t *testing.T) {
	for person, refused := range map[string]bool{"item.id": true, "people[0].id": false} {
		_, err := NewMapper(Spec{Events: []Event{{Each: "people", Person: person, Joins: "item.joins"}}, Email: "people[0].mail"}, nil, nil)
		if (err != nil) != refused {
			t.Errorf("person %s: %v", person, err)
		}
	}
}

// A path through types that lie in each other in many ways is planned once for each of them.
func TestPlansDoNotGrowWithTheWays(t *testing.T) {
	field := func(names string) string {
		return `{"name":"a","type":["null",` + names + `]}`
	}
	var all, refs []string
	for i := range 8 {
		refs = append(refs, fmt.Sprintf(`"R%d"`, i))
	}
	for i := range 8 {
		all = append(all, fmt.Sprintf(`{"type":"record","name":"R%d","fields":[%s]}`, i, field(strings.Join(refs, ","))))
	}
	text := all[0]
	for i := 1; i < 8; i++ { // each is defined where it is named first
		text = strings.Replace(text, refs[i], all[i], 1)
	}
	s, _, err := parseSchema(text, nil)
	if err != nil {
		t.Fatal(err)
	}
	asked := &fields{}
	asked.add(strings.Split(strings.Repeat("a.", 40)+"a", "."))
	began := time.Now()
	planOf(s, asked)
	if took := time.Since(began); took > 5*time.Second {
		t.Errorf("it took %s", took)
	}
}
