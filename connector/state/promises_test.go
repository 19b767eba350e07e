package state

import (
	"fmt"
	"maps"
	"slices"
	"testing"
	"time"

	"segsync/sink"
)

// desk is a table with one person, for a sequence.
type desk struct {
	*testing.T
	*Table
	now time.Time
	n   int64

	imports []Row // of open ones
}

func newDesk(t *testing.T) *desk {
	t.Helper()
	return &desk{T: t, Table: newTable(t), now: time.Unix(1e9, 0)}
}

func (d *desk) fold(c Change) {
	d.n++
	c.Person = KeyOf("s", "p")
	if c.Stamp == (Stamp{}) {
		c.Stamp = Stamp{Topic: 9, Offset: d.n, Time: d.n}
	}
	d.Fold(&c, d.now)
	d.Refresh(d.now)
}

func (d *desk) enter(address string, values ...Value) {
	d.fold(Change{Memberships: []Membership{{0, true, 0, 0}}, Profile: &Profile{Address: address, Values: values}})
}

// send takes whatever may go, as single calls, and settles it with an outcome. It returns what was sent.
func (d *desk) send(o sink.Outcome) (sent []*sink.Request) {
	d.Tick(d.now)
	d.Weigh(d.now)
	for _, q := range d.Queues(d.now) {
		for n := d.Pop(q.Kind, q.List, d.now); n != nil; n = d.Pop(q.Kind, q.List, d.now) {
			kind := sink.Update
			if n.Delete {
				kind = sink.Delete
			}
			r := d.NewRequest(kind, slices.Clone(n.Add), slices.Clone(n.Remove), d.now)
			r.Send.Look = slices.Clone(n.Look)
			d.Take(r, n, n.Contact(n.Attributes), d.now)
			d.Settle(r, 0, o, true, d.now)
			d.Close(r)
			sent = append(sent, r.Send)
		}
	}
	return sent
}

var applied = sink.Outcome{Verdict: sink.Applied}

// A number that the account's people entered themselves is not ours to empty, whatever was unknown.
func TestANumberThatWeNeverBroughtIsLeftAlone(t *testing.T) {
	d := newDesk(t)
	d.enter("x@example.com", Value{0, []byte(`"v"`)})
	d.send(sink.Outcome{Verdict: sink.Retry})
	for range 3 {
		d.now = d.now.Add(2 * time.Minute)
		for _, r := range d.send(applied) {
			for _, a := range r.Contacts[0].Attributes {
				if a.Name == "SMS" {
					t.Errorf("SMS is sent as %s", a.Value)
				}
			}
		}
	}
}

// An erasure takes what is not newer, in either order, and deletes the contact where it is told to.
func TestAnErasureTakesWhatIsNotNewer(t *testing.T) {
	d := newDesk(t)
	entry := Change{Stamp: Stamp{Topic: 9, Partition: 0, Offset: 5, Time: 10}, Memberships: []Membership{{0, true, 0, 0}}, Profile: &Profile{Address: "x@example.com"}}
	older := Change{Stamp: Stamp{Topic: 9, Partition: 1, Offset: 5, Time: 5}, Erase: true, Delete: true}
	d.fold(entry)
	d.fold(older)
	if sent := d.send(applied); len(sent) != 1 || len(sent[0].Lists) != 1 {
		t.Fatalf("an older erasure undid the entry: %+v", sent)
	}
	d.fold(Change{Stamp: Stamp{Topic: 9, Partition: 1, Offset: 6, Time: 20}, Erase: true, Delete: true})
	if sent := d.send(applied); len(sent) != 1 || sent[0].Kind != sink.Delete {
		t.Fatalf("the erased person's contact is not deleted: %+v", sent)
	}
	d.fold(entry) // S15: a replay from before it
	if sent := d.send(applied); len(sent) != 0 || d.Counts().Contacts != 0 {
		t.Errorf("a replay brought the person back: %+v, %d contacts", sent, d.Counts().Contacts)
	}
}

// The guard counts each removal once, however often it is tried.
func TestTheGuardCountsARemovalOnce(t *testing.T) {
	d := newDesk(t)
	d.enter("x@example.com")
	d.send(applied)
	d.compiled.guards[42] = Guard{Share: 0.1, AtLeast: 5}
	d.Size(42, 1, d.now)
	d.fold(Change{Memberships: []Membership{{0, false, 0, 0}}})
	for range 30 {
		d.now = d.now.Add(time.Second)
		d.send(sink.Outcome{Verdict: sink.Retry, Certain: true, Code: "no_connection"})
	}
	d.now = d.now.Add(2 * time.Minute)
	if sent := d.send(applied); len(sent) != 1 || d.Withheld() != 0 {
		t.Errorf("after thirty tries it is withheld by itself: %+v, %d withheld", sent, d.Withheld())
	}
}

// What failed while everybody failed is not held against a contact that fails once more.
func TestAnOutageDoesNotRejectAnybody(t *testing.T) {
	d := newDesk(t)
	d.enter("x@example.com")
	for range 40 {
		d.now = d.now.Add(time.Minute)
		d.Tick(d.now)
		for _, q := range d.Queues(d.now) {
			if n := d.Pop(q.Kind, q.List, d.now); n != nil {
				r := d.NewRequest(sink.Upsert, slices.Clone(n.Add), nil, d.now)
				d.Take(r, n, n.Contact(true), d.now)
				if s := d.Settle(r, 0, sink.Outcome{Verdict: sink.Retry, Certain: true, Code: "no_connection"}, false, d.now); s.Rejected {
					t.Fatal("rejected in an outage")
				}
				d.Close(r)
			}
		}
	}
	d.now = d.now.Add(2 * time.Minute)
	d.send(sink.Outcome{Verdict: sink.Retry, Alone: true, Code: "500"})
	if d.Counts().Rejected != 0 {
		t.Error("the first failure of its own rejects it")
	}
}

// Who was refused a number tries again soon after somebody has let go of one that is not known: once, and the more they
// are, the later, or the tries of many would take the budget.
func TestRefusedNumbersAreTriedAgainTogether(t *testing.T) {
	for _, people := range []int{1, 200} {
		d := newDesk(t)
		for i := range people {
			number := fmt.Appendf(nil, `"+336399%05d"`, i)
			d.Fold(&Change{
				Person: KeyOf("s", fmt.Sprint(i)), Stamp: Stamp{Topic: 9, Offset: int64(i), Time: 1}, Memberships: []Membership{{0, true, 0, 0}},
				Profile: &Profile{Address: fmt.Sprintf("p%d@example.com", i), Values: []Value{{1, number}}},
			}, d.now)
		}
		tries := func(after time.Duration) (n int) { // the number is always refused
			d.now = d.now.Add(after)
			d.Tick(d.now)
			for need := d.Pop(QueueWrite, 42, d.now); need != nil; need = d.Pop(QueueWrite, 42, d.now) {
				r := d.NewRequest(sink.Upsert, slices.Clone(need.Add), nil, d.now)
				d.Take(r, need, need.Contact(true), d.now)
				o := applied
				if !r.Send.Contacts[0].Attributes[0].Empties() {
					n++
					o = sink.Outcome{Verdict: sink.Reject, Attribute: "SMS"}
				}
				d.Settle(r, 0, o, true, d.now)
				d.Close(r)
			}
			return n
		}
		tries(0)
		d.now = d.now.Add(time.Second)
		d.refusals.letGoAny(d.names.number("attribute", "SMS"), d.now)
		rest := max(time.Minute, time.Duration(people)*time.Second)
		early, due, late := tries(rest-time.Second), tries(time.Second), tries(30*time.Minute)
		if early != 0 || due != people || late != 0 || d.Counts().Pending != 0 {
			t.Errorf("%d people: %d tries before the rest is over, %d then, %d later", people, early, due, late)
		}
	}
}

// That somebody has let go of a number which is not known is not forgotten by a restart before the others tried again.
func TestALettingGoOutlivesItsOwner(t *testing.T) {
	d := newDesk(t)
	var rows []Row
	d.enter("x@example.com", Value{1, []byte(`"+33639980001"`)})
	try := func(tab *Table) (tries int) {
		tab.Tick(d.now)
		for need := tab.Pop(QueueWrite, 42, d.now); need != nil; need = tab.Pop(QueueWrite, 42, d.now) {
			r := tab.NewRequest(sink.Upsert, slices.Clone(need.Add), nil, d.now)
			tab.Take(r, need, need.Contact(true), d.now)
			o := applied
			if !r.Send.Contacts[0].Attributes[0].Empties() {
				tries++
				o = sink.Outcome{Verdict: sink.Reject, Attribute: "SMS"}
			}
			tab.Settle(r, 0, o, true, d.now)
			tab.Close(r)
		}
		return tries
	}
	try(d.Table)
	d.now = d.now.Add(time.Second)
	d.refusals.letGoAny(d.names.number("attribute", "SMS"), d.now)
	for restart := range 2 { // the second finds nothing to take up any more
		rows = append(rows, d.Cut(nil).Rows...)
		back := New(d.cfg)
		for _, r := range rows {
			if err := back.Apply(r.Key, r.Value); err != nil {
				t.Fatal(err)
			}
		}
		if _, err := back.Ready(d.now); err != nil {
			t.Fatal(err)
		}
		d.Table, d.now = back, d.now.Add(2*time.Minute)
		if tries := try(back); tries != 1-restart {
			t.Errorf("after restart %d: %d tries", restart+1, tries)
		}
	}
}

// A queue's age is how long nothing was taken from it: a contact that was dirty before it got there does not count, nor
// does one that was looked at and put back.
func TestTheAgeOfAQueue(t *testing.T) {
	d := newDesk(t)
	d.enter("x@example.com")
	age := func() int64 { return d.Queues(d.now)[0].Age }
	d.now = d.now.Add(6 * time.Second)
	if age() != 6000 {
		t.Errorf("%d ms, not 6000", age())
	}
	d.Return(d.Pop(QueueWrite, 42, d.now))
	if age() != 6000 {
		t.Errorf("%d ms after one was put back", age())
	}
	d.Fold(&Change{Person: KeyOf("s", "q"), Stamp: Stamp{Topic: 9, Offset: 9, Time: 9}, Memberships: []Membership{{0, true, 0, 0}}, Profile: &Profile{Address: "y@example.com"}}, d.now)
	n := d.Pop(QueueWrite, 42, d.now)
	d.Take(d.NewRequest(sink.Upsert, n.Add, nil, d.now), n, n.Contact(true), d.now)
	if age() != 0 {
		t.Errorf("%d ms after one was taken", age())
	}
}

// What was popped stays as it is, whatever is popped behind it: one person's attributes never go to another's address.
func TestWhatWasPoppedIsItsOwn(t *testing.T) {
	d := newDesk(t)
	for i := range 2 {
		d.person(i, Change{Memberships: []Membership{{0, true, 0, 0}}, Profile: &Profile{Address: fmt.Sprintf("p%d@example.com", i), Values: []Value{{0, fmt.Appendf(nil, `"v%d"`, i)}}}})
	}
	first := d.Pop(QueueWrite, 42, d.now)
	second := d.Pop(QueueWrite, 42, d.now)
	for i, n := range []*Need{first, second} {
		c := n.Contact(true)
		if want := fmt.Sprintf(`"v%d"`, i); n.Address != fmt.Sprintf("p%d@example.com", i) || len(c.Attributes) != 1 || string(c.Attributes[0].Value) != want {
			t.Errorf("%s is given %s, not %s", c.Address, c.Attributes, want)
		}
	}
	d.Return(first)
	r := d.NewRequest(sink.Upsert, second.Add, nil, d.now)
	d.Take(r, second, second.Contact(true), d.now)
	d.Settle(r, 0, applied, true, d.now)
	if n := d.Pop(QueueWrite, 42, d.now); n == nil || n.Address != "p0@example.com" {
		t.Errorf("%+v is left", n)
	}
}

// An exit does not wait where its entry did, which may be behind an import. Its old place is void then, and serves
// again when the contact enters once more.
func TestNoExitWaitsBehindEntries(t *testing.T) {
	d := newDesk(t)
	d.crowd(3)
	d.member(1, false)
	if n := d.Pop(QueueRemove, 42, d.now); n == nil || n.Address != "p1@example.com" {
		t.Fatalf("%+v is to be removed, not p1", n)
	} else {
		d.Return(n)
	}
	d.member(1, true)
	if n := d.Pop(QueueRemove, 42, d.now); n != nil {
		t.Errorf("%s is to be removed", n.Address)
	}
	var entered []string
	for n := d.Pop(QueueWrite, 42, d.now); n != nil; n = d.Pop(QueueWrite, 42, d.now) {
		entered = append(entered, n.Address)
	}
	if !slices.Equal(entered, []string{"p0@example.com", "p1@example.com", "p2@example.com"}) {
		t.Errorf("%v enter", entered)
	}
}

// A deletion that comes while the account is halted is carried out when it is not any more.
func TestAnErasureInAHalt(t *testing.T) {
	d := newDesk(t)
	d.enter("x@example.com")
	d.send(applied)
	d.fold(Change{Memberships: []Membership{{0, false, 0, 0}}})
	d.send(applied)
	d.Hold(0, "halted", d.now)
	d.fold(Change{Erase: true, Delete: true})
	d.Release(0, "halted", d.now)
	if sent := d.rest(); len(sent) != 1 || sent[0].Kind != sink.Delete || d.Counts().Contacts != 0 {
		t.Errorf("%+v is sent; %d contacts are left", sent, d.Counts().Contacts)
	}
}

// What is handed out to be sent shares nothing with the table: looking at another contact, or folding, changes nothing of it.
func TestANeedIsAValueOfItsOwn(t *testing.T) {
	d := newDesk(t)
	say := func(i int, address, value string) {
		d.person(i, Change{Memberships: []Membership{{0, true, 0, 0}}, Profile: &Profile{Address: address, Values: []Value{{0, []byte(value)}}}})
	}
	say(1, "ann@example.com", `"ann"`)
	say(2, "bob@example.com", `"bob"`)
	q := d.Queues(d.now)[0]
	ann := d.Pop(q.Kind, q.List, d.now)
	was := fmt.Sprintf("%s %q %v %v", ann.Address, ann.Contact(true), ann.Wanted, ann.Add)
	bob := d.Pop(q.Kind, q.List, d.now)
	say(1, "ann@example.com", `"xxx"`) // in the place of what was
	say(2, "bob@example.com", `"yyy"`)
	if is := fmt.Sprintf("%s %q %v %v", ann.Address, ann.Contact(true), ann.Wanted, ann.Add); is != was {
		t.Errorf("it was %s, and is %s", was, is)
	}
	if a, b := ann.Contact(true).Attributes[0].Value, bob.Contact(true).Attributes[0].Value; string(a) == string(b) {
		t.Errorf("two contacts are one: %s, %s", a, b)
	}
}

// A request that was announced holds the addresses of its contacts, and nobody else's.
func TestAnnouncedRequestsAreLookedThrough(t *testing.T) {
	d := newDesk(t)
	d.crowd(2)
	r := d.NewRequest(sink.Import, []int64{42}, nil, d.now)
	for _, q := range d.Queues(d.now) {
		for n := d.Pop(q.Kind, q.List, d.now); n != nil; n = d.Pop(q.Kind, q.List, d.now) {
			d.Take(r, n, n.Contact(true), d.now)
		}
	}
	found := map[string]int{}
	for _, row := range d.Cut([]*Request{r}).Rows {
		for _, a := range []string{"p0@example.com", "p1@example.com", "p2@example.com"} {
			about, holds := Holds(row.Key, row.Value, KeyOf("s", "nobody"), func(address string) bool { return address == a })
			if about != holds {
				t.Errorf("%q", row.Key)
			}
			if holds {
				found[a+" "+string(row.Key[:2])]++
			}
		}
	}
	if want := map[string]int{"p0@example.com r/": 1, "p1@example.com r/": 1}; !maps.Equal(found, want) {
		t.Errorf("%v", found)
	}
}
