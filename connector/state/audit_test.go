package state

import (
	"encoding/binary"
	"fmt"
	"slices"
	"testing"
	"time"

	"pgregory.net/rapid"

	"segsync/sink"
)

// account is what the destination holds: its contacts with their attribute A, and who is in list 42.
type account struct {
	*desk
	contacts map[string]string
	in       map[string]bool
}

func newAccount(t *testing.T) *account {
	return &account{desk: newDesk(t), contacts: map[string]string{}, in: map[string]bool{}}
}

// list is list 42, as an export tells of it.
func (a *account) list() map[string]string {
	all := map[string]string{}
	for address := range a.in {
		all[address] = a.contacts[address]
	}
	return all
}

func (a *account) person(i int, c Change) {
	a.n++
	c.Person, c.Stamp = KeyOf("s", fmt.Sprint(i)), Stamp{Topic: 9, Offset: a.n, Time: a.n}
	a.Fold(&c, a.now)
}

func (a *account) enter(i int, first string) {
	a.person(i, Change{Memberships: []Membership{{0, true, 0, 0}}, Profile: &Profile{Address: fmt.Sprintf("p%d@example.com", i), Values: []Value{{0, []byte(`"` + first + `"`)}}}})
}

func (a *account) exit(i int) { a.person(i, Change{Memberships: []Membership{{0, false, 0, 0}}}) }

// deliver carries everything out that may go, entries as an import that loses some, or singly.
func (a *account) deliver(imports bool, loses func() bool) (calls int) {
	a.now = a.now.Add(time.Second)
	a.Tick(a.now)
	for _, q := range a.Queues(a.now) {
		for n := a.Pop(q.Kind, q.List, a.now); n != nil; n = a.Pop(q.Kind, q.List, a.now) {
			kind := sink.Update
			lists, unlink := slices.Clone(n.Add), slices.Clone(n.Remove)
			if imports && n.Halves == 0 && len(n.Remove) == 0 && slices.Contains(n.Wanted, 42) {
				kind, lists = sink.Import, slices.Clone(n.Wanted)
			}
			c := n.Contact(n.Attributes || kind == sink.Import)
			r := a.NewRequest(kind, lists, unlink, a.now)
			a.Take(r, n, c, a.now)
			if kind != sink.Import || !loses() {
				a.carryOut(r, c)
			}
			a.Settle(r, 0, applied, true, a.now)
			a.Close(r)
			calls++
		}
	}
	return calls
}

func (a *account) carryOut(r *Request, c sink.Contact) {
	if slices.Contains(r.unlink, 42) {
		delete(a.in, c.Address)
	}
	if slices.Contains(r.Lists, 42) {
		a.in[c.Address] = true
	}
	for _, at := range c.Attributes {
		if at.Name == "A" {
			a.contacts[c.Address] = string(at.Value)
		}
	}
}

// finish ends an audit with the list as an export told it.
func (a *account) finish(audit *Audit, export map[string]string) {
	carries := func(sent sink.Attribute, told string) bool { return string(sent.Value) == told }
	for address, first := range export {
		audit.See(&sink.Listed{Address: address, Attributes: map[string]string{"A": first}}, carries, a.now)
	}
	for from, more := uint32(0), true; more; more = from != 0 {
		from = audit.Finish(from, a.now)
	}
	for {
		address, ok := audit.Gone()
		if !ok {
			break
		}
		lists := []int64{}
		if a.in[address] {
			lists = append(lists, 42)
		}
		audit.Looked(false, lists, a.now)
	}
	audit.Close()
}

// wrong says whom the list holds otherwise than it must.
func (a *account) wrong() (all []string) {
	want := map[string]bool{}
	a.Walk(42, a.now, func(address string, wanted, _ bool) { want[address] = wanted })
	for address, wanted := range want {
		if a.in[address] != wanted {
			all = append(all, fmt.Sprintf("%s is in: %v", address, !wanted))
		}
	}
	return all
}

// S55: whatever happens while a list is read, and whenever the export was taken of it: what imports have lost is found,
// nobody is put back who left, nobody taken out who entered, and nothing is found where nothing is wrong.
func TestS55AnAuditFindsWhatImportsLostAndNothingElse(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		a := newAccount(t)
		loses := rapid.Bool().Draw(rt, "imports lose rows")
		lose := func() bool { return loses && rapid.IntRange(0, 3).Draw(rt, "lost") == 0 }
		var audit *Audit
		var export map[string]string
		for range rapid.IntRange(5, 60).Draw(rt, "steps") {
			i := rapid.IntRange(0, 7).Draw(rt, "person")
			a.now = a.now.Add(time.Duration(rapid.IntRange(0, 2000).Draw(rt, "passes")) * time.Millisecond)
			switch rapid.IntRange(0, 7).Draw(rt, "step") {
			case 0, 1:
				a.enter(i, rapid.SampledFrom([]string{"Ann", "Bob"}).Draw(rt, "name"))
			case 2:
				a.exit(i)
			case 3:
				a.deliver(true, lose)
			case 4:
				a.deliver(false, nil)
			case 5:
				if audit == nil {
					a.now = a.now.Add(time.Millisecond)
					audit, export = a.BeginAudit(42, Repair{PutBack: true}, a.now), nil
				}
			case 6:
				if audit != nil {
					export = a.list()
				}
			case 7:
				if audit == nil || export == nil {
					continue
				}
				a.finish(audit, export)
				if f := audit.Found; f.Missing+f.Changed+f.Extra > 0 || !loses && f.Lost > 0 {
					rt.Fatalf("nobody has done anything, and an audit found %+v", f)
				}
				audit = nil
			}
			a.Refresh(a.now)
		}
		a.EndAudit()
		for range 3 {
			a.deliver(false, nil)
			a.now = a.now.Add(time.Minute)
			audit = a.BeginAudit(42, Repair{PutBack: true}, a.now)
			a.finish(audit, a.list())
		}
		a.deliver(false, nil)
		if wrong := a.wrong(); len(wrong) > 0 {
			rt.Fatal(wrong)
		}
		a.now = a.now.Add(time.Minute)
		audit = a.BeginAudit(42, Repair{PutBack: true}, a.now)
		a.finish(audit, a.list())
		if f := audit.Found; f.Wrong()+f.Skipped > 0 {
			rt.Fatalf("nothing is wrong, and an audit found %+v", f)
		}
		if n := a.deliver(false, nil); n > 0 {
			rt.Fatalf("%d calls for whom nothing is wrong", n)
		}
		if a.AuditOf(42).Due {
			rt.Fatal("another audit is due")
		}
	})
}

// Somebody leaves after the list was read, and others had put them in meanwhile: what the list said is too old.
func TestADoubtThatIsNewerThanTheList(t *testing.T) {
	a := newAccount(t)
	a.enter(1, "Ann")
	a.exit(1) // before: it is settled
	audit := a.BeginAudit(42, Repair{}, a.now)
	a.now = a.now.Add(time.Second)
	a.enter(2, "Bob")
	a.exit(2)
	a.in["p2@example.com"] = true
	a.finish(audit, nil)
	if audit.Found.Settled != 1 || a.Doubts(42) != 1 {
		t.Errorf("%+v; %d are doubtful", audit.Found, a.Doubts(42))
	}
	a.deliver(false, nil)
	if len(a.in) > 0 {
		t.Errorf("the list holds %v", a.in)
	}
}

// While a list is to be read, nobody is taken out of it in case others have put them in; afterwards they are.
func TestDoubtsAreHeld(t *testing.T) {
	a := newAccount(t)
	a.enter(1, "Ann")
	a.exit(1)
	a.HoldDoubts(42, true, a.now)
	if n := a.deliver(false, nil); n > 0 || a.Held() != 1 {
		t.Errorf("%d calls, %d held", n, a.Held())
	}
	a.HoldDoubts(42, false, a.now)
	if n := a.deliver(false, nil); n != 1 || a.Doubts(42) != 0 {
		t.Errorf("%d calls, %d doubtful", n, a.Doubts(42))
	}
}

// The account has said that the list is empty: whoever left before that is out.
func TestAListThatIsEmptyHoldsNobody(t *testing.T) {
	a := newAccount(t)
	a.enter(1, "Ann")
	a.exit(1)
	a.now = a.now.Add(time.Second)
	said := a.now
	a.now = a.now.Add(time.Second)
	a.enter(2, "Bob")
	a.exit(2)
	if !a.Empty(42) {
		t.Fatal("something is under way into it")
	}
	a.SettleEmpty(42, 0, said, a.now)
	if n := a.deliver(false, nil); n != 1 {
		t.Errorf("%d calls", n)
	}
}

// Rows of versions 2 and 3 are read: they know of no import.
func TestContactsOfOlderVersionsAreRead(t *testing.T) {
	row := func(version, state byte, more ...int64) []byte {
		b := []byte{version, 1, state}
		b = binary.AppendVarint(b, 42)
		b = binary.AppendVarint(b, 1234)
		for _, m := range more {
			b = binary.AppendVarint(b, m)
		}
		return append(binary.LittleEndian.AppendUint64(b, 7), 0)
	}
	for name, c := range map[string]struct {
		row  []byte
		want listed
	}{
		"2":           {row(2, byte(in)<<1), listed{list: 42, state: in, at: 1234}},
		"2, withheld": {row(2, byte(in)<<1|1, 99), listed{list: 42, state: in, at: 1234}},
		"3":           {row(3, byte(doubtful)<<2|byte(passed)), listed{list: 42, state: doubtful, at: 1234, passage: passed}},
		"4":           {row(4, byte(in)<<3|4), listed{list: 42, state: in, at: 1234, imported: true}},
	} {
		var r contactRow
		if err := r.decode(c.row); err != nil || len(r.lists) != 1 || r.lists[0] != c.want || r.hash != 7 {
			t.Errorf("version %s: %+v, %v", name, r, err)
		}
	}
	tab := newTable(t)
	for key, v := range map[string][]byte{
		"r/0000000000000001.0":       append([]byte{2, byte(sink.Import), 0, 1, 84, 0, 13}, "x@example.comaaaaaaaa"...),
		"r/0000000000000001.process": {3, 18, 6, 1}, // with the counts of others
	} {
		if err := tab.Apply([]byte(key), v); err != nil {
			t.Fatal(err)
		}
	}
	imports, err := tab.Ready(time.Unix(1e9, 0))
	if err != nil || len(imports) != 1 || imports[0].Process != 9 || len(imports[0].Taken) != 1 {
		t.Errorf("%+v, %v", imports, err)
	}
}

// A contact whose attributes an import has lost is sent to another list while its list is audited: that audit tells nothing
// of it, and the next one finds what the import has lost.
func TestAnAuditLeavesToTheNextWhomAnotherListHasMoved(t *testing.T) {
	a := newAccount(t)
	a.Table = New(Config{
		Sources: []Source{{Name: "s", Segments: []string{"vip", "news"}, Attributes: []string{"A"}}},
		Exports: []Export{
			{Name: "e", Segments: []string{"vip"}, List: 42, Attributes: []string{"A"}},
			{Name: "f", Segments: []string{"news"}, List: 43, Attributes: []string{"A"}},
		},
		Rest: time.Second, LateApply: time.Minute, RetryRefused: time.Hour,
	})
	if _, err := a.Ready(a.now); err != nil {
		t.Fatal(err)
	}
	a.enter(1, "Ann")
	a.deliver(true, func() bool { return true })
	a.in["p1@example.com"], a.contacts["p1@example.com"] = true, `"old"` // the import has put it in, and lost its attributes
	a.now = a.now.Add(time.Minute)
	audit := a.BeginAudit(42, Repair{}, a.now)
	export := a.list()
	a.person(1, Change{Memberships: []Membership{{1, true, 0, 0}}})
	if calls := a.deliver(false, nil); calls != 1 {
		t.Fatalf("%d calls for the other list", calls)
	}
	a.finish(audit, export)
	if audit.Found.Skipped != 1 || a.contacts["p1@example.com"] != `"old"` {
		t.Fatalf("%+v, attributes %s", audit.Found, a.contacts["p1@example.com"])
	}
	a.now = a.now.Add(time.Hour)
	audit = a.BeginAudit(42, Repair{}, a.now)
	a.finish(audit, a.list())
	a.deliver(false, nil)
	if audit.Found.Lost != 1 || a.contacts["p1@example.com"] != `"Ann"` {
		t.Errorf("%+v, attributes %s", audit.Found, a.contacts["p1@example.com"])
	}
}
