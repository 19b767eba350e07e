package state

import (
	"fmt"
	"slices"
	"testing"
	"time"

	"segsync/sink"
)

// person folds a change of one of several people.
func (d *desk) person(i int, c Change) {
	d.n++
	c.Person, c.Stamp = KeyOf("s", fmt.Sprint(i)), Stamp{Topic: 9, Offset: d.n, Time: d.n}
	d.Fold(&c, d.now)
	d.Refresh(d.now)
}

func (d *desk) member(i int, in bool) { d.person(i, Change{Memberships: []Membership{{0, in, 0, 0}}}) }

// crowd lets n people in.
func (d *desk) crowd(n int, values ...Value) {
	for i := range n {
		d.person(i, Change{Memberships: []Membership{{0, true, 0, 0}}, Profile: &Profile{Address: fmt.Sprintf("p%d@example.com", i), Values: values}})
	}
}

// rest lets half an hour pass in which everything is answered. It returns what was sent.
func (d *desk) rest() (sent []*sink.Request) {
	for range 60 {
		d.now = d.now.Add(30 * time.Second)
		sent = append(sent, d.send(applied)...)
	}
	return sent
}

// reread gives the desk a table that was read back from rows.
func (d *desk) reread(rows []Row) {
	d.Helper()
	d.Table = New(d.cfg)
	for _, r := range rows {
		if err := d.Apply(r.Key, r.Value); err != nil {
			d.Fatal(err)
		}
	}
}

// rows are all of the desk's, as if they had been read back.
func (d *desk) rows() (all []Row) {
	for pi := range d.store.people.Len() {
		s := d.store.people.At(pi)
		all = append(all, Row{append([]byte("p/"), s.key[:]...), slices.Clone(d.store.blobs.Get(s.row))})
	}
	for ci := range d.store.contacts.Len() {
		if c := d.store.contacts.At(ci); c.flags&flagLive != 0 && c.row != 0 {
			all = append(all, Row{append([]byte("c/"), d.store.addressOf(ci)...), slices.Clone(d.store.blobs.Get(c.row))})
		}
	}
	for k, v := range d.journal.meta {
		all = append(all, Row{[]byte("k/" + k), v})
	}
	return append(all, d.imports...)
}

// freed is a desk with the import of n people that has not ended for three hours and was freed, in the third life.
func freed(t *testing.T, n int, values ...Value) (*desk, *Request) {
	t.Helper()
	d := newDesk(t)
	d.crowd(n, values...)
	r := d.NewRequest(sink.Import, []int64{42}, nil, d.now)
	for need := d.Pop(QueueWrite, 42, d.now); need != nil; need = d.Pop(QueueWrite, 42, d.now) {
		d.Take(r, need, need.Contact(true), d.now)
	}
	rows := d.Cut([]*Request{r}).Rows
	d.Accepted(r, 77)
	rows = append(rows, d.Cut(nil).Rows...)
	d.now = d.now.Add(3 * time.Hour)

	d.reread(rows)
	if err := d.Peek(d.now); err != nil {
		t.Fatal(err)
	}
	if imports, contacts := d.ToFree(42, d.now.Add(-2*time.Hour)); imports != 1 || contacts != n {
		t.Fatalf("%d imports of %d contacts are to be freed", imports, contacts)
	}
	rows = append(rows, d.Cut(nil).Rows...)
	for range 2 { // and another life after that
		d.reread(rows)
		imports, err := d.Ready(d.now)
		if err != nil || len(imports) != 1 {
			t.Fatal(imports, err)
		}
		r = imports[0]
		if d.Free(r, d.now) {
			rows = append(rows, d.Cut(nil).Rows...)
		}
	}
	for _, row := range rows {
		if row.Key[0] == 'r' {
			d.imports = append(d.imports, row)
		}
	}
	if !r.Freed() || d.Counts().InFlight != 0 {
		t.Fatalf("it was not freed: %+v", d.Counts())
	}
	return d, r
}

func TestAFreedImportMayUndoWhatWasSent(t *testing.T) {
	d, r := freed(t, 3)
	d.rest()
	d.member(0, false)
	d.rest()
	if d.In(42) != 2 {
		t.Fatalf("%d are in", d.In(42))
	}
	d.Abandon(r, d.now)
	if sent := d.rest(); len(sent) < 3 || d.In(42) != 2 {
		t.Errorf("%d requests were sent, %d are in", len(sent), d.In(42))
	}
	if left := d.MetaKeys("free"); len(left) > 0 {
		t.Errorf("rows are left: %v", left)
	}
}

// What the guard withholds is withheld, whatever becomes unknown of the contact meanwhile.
func TestWhatIsWithheldStaysSo(t *testing.T) {
	guard := Guard{Share: 0.3, AtLeast: 1}
	exodus := func(d *desk) {
		d.compiled.guards[42] = guard
		d.Size(42, 40, d.now)
		for i := range 40 {
			d.member(i, false)
		}
		d.send(applied)
	}
	left := func(t *testing.T, d *desk) {
		d.Hold(7, "list_gone", d.now) // another list's halt files everything anew
		d.rest()
		d.Release(7, "list_gone", d.now)
		d.rest()
		if d.Withheld() != 40 {
			t.Errorf("%d removals are withheld, not 40", d.Withheld())
		}
	}
	t.Run("an import that was freed ends", func(t *testing.T) {
		d, r := freed(t, 40)
		d.rest()
		exodus(d)
		d.Abandon(r, d.now)
		left(t, d)
	})
	t.Run("a late re-send", func(t *testing.T) {
		d := newDesk(t)
		d.crowd(40)
		d.send(sink.Outcome{Verdict: sink.Retry})
		d.now = d.now.Add(10 * time.Second)
		d.send(applied)
		exodus(d)
		left(t, d)
	})
}

// Removals under way are counted back, though their contacts become unknown meanwhile.
func TestRemovalsUnderWayAreCountedBack(t *testing.T) {
	d, r := freed(t, 40)
	d.rest()
	d.compiled.guards[42] = Guard{Share: 0.3, AtLeast: 1}
	d.Size(42, 40, d.now)
	for i := range 10 {
		d.member(i, false)
	}
	q := d.NewRequest(sink.Remove, nil, []int64{42}, d.now)
	for n := d.Pop(QueueRemove, 42, d.now); n != nil; n = d.Pop(QueueRemove, 42, d.now) {
		d.Take(q, n, n.Contact(false), d.now)
	}
	d.Drop(q, d.now) // its checkpoint was not committed
	if n := d.guards.of(42).flying; n != 0 {
		t.Errorf("%d removals are under way that never were", n)
	}
	q = d.NewRequest(sink.Remove, nil, []int64{42}, d.now)
	for n := d.Pop(QueueRemove, 42, d.now); n != nil; n = d.Pop(QueueRemove, 42, d.now) {
		d.Take(q, n, n.Contact(false), d.now)
	}
	d.Abandon(r, d.now)
	for i := range q.Taken {
		d.Settle(q, i, applied, true, d.now)
	}
	d.Close(q)
	d.rest()
	if n := d.guards.of(42).flying; n != 0 || d.Counts().InFlight != 0 {
		t.Errorf("%d removals are under way, %d contacts in flight", n, d.Counts().InFlight)
	}
}

// Who was erased while an import that was freed hangs is removed, or deleted, once it has ended, or it would bring them
// back.
func TestAFreedImportDoesNotBringAnErasedPersonBack(t *testing.T) {
	for wanted, erasure := range map[sink.Kind]Change{sink.Delete: {Erase: true, Delete: true}, sink.Update: {Erase: true}} {
		d, r := freed(t, 1, Value{0, []byte(`"Ann"`)})
		d.rest()
		d.person(0, erasure)
		d.rest()
		if d.In(42) != 0 {
			t.Fatal("the erased person is in the list")
		}
		d.enter("other@example.com")
		d.rest()
		d.Abandon(r, d.now)
		if sent := d.rest(); !slices.ContainsFunc(sent, func(r *sink.Request) bool {
			return r.Kind == wanted && r.Contacts[0].Address == "p0@example.com" && slices.Equal(r.Unlink, []int64{42})
		}) {
			t.Errorf("no %s follows", wanted)
		}
		if d.Counts().Contacts != 1 {
			t.Errorf("%d contacts are left", d.Counts().Contacts)
		}
	}
}

// A request beside the import that was freed, and open when the process ends, does not let its contact go.
func TestAFreedImportKeepsItsContactsThroughARestart(t *testing.T) {
	d, _ := freed(t, 1)
	d.now = d.now.Add(10 * time.Second)
	d.Tick(d.now)
	q := d.NewRequest(sink.Upsert, []int64{42}, nil, d.now)
	d.Take(q, d.Pop(QueueWrite, 42, d.now), sink.Contact{Address: "p0@example.com"}, d.now)
	rows := d.rows()
	rows = append(rows, d.Cut([]*Request{q}).Rows...)
	d.reread(rows)
	imports, err := d.Ready(d.now)
	if err != nil || len(imports) != 1 {
		t.Fatal(imports, err)
	}
	d.rest()
	d.person(0, Change{Erase: true})
	d.rest()
	d.enter("other@example.com")
	d.rest()
	d.Abandon(imports[0], d.now)
	if sent := d.rest(); !slices.ContainsFunc(sent, func(r *sink.Request) bool { return r.Contacts[0].Address == "p0@example.com" }) {
		t.Error("what the import does to the erased person's contact stands")
	}
	if d.Counts().Contacts != 1 || d.Counts().Pending != 0 || d.Counts().Unknown != 0 {
		t.Errorf("in the end: %+v", d.Counts())
	}
}

// A number that an import, freed and run at last, puts back at an address that its person has left is taken from there.
func TestAFreedImportLeavesNoNumberBehind(t *testing.T) {
	number := Value{1, []byte(`"+33639980001"`)}
	d, r := freed(t, 1, number)
	d.rest()
	d.person(0, Change{Profile: &Profile{Address: "new@example.com", Values: []Value{number}}})
	d.rest()
	d.Abandon(r, d.now)
	emptied := false
	for _, r := range d.rest() {
		for _, a := range r.Contacts[0].Attributes {
			emptied = emptied || r.Contacts[0].Address == "p0@example.com" && a.Name == "SMS" && a.Empties()
		}
	}
	if !emptied {
		t.Error("the number is left at the old address")
	}
	if d.rest(); d.Counts().Contacts != 1 || d.In(42) != 1 {
		t.Errorf("%d contacts are left, %d in the list", d.Counts().Contacts, d.In(42))
	}
}

// A contact that waits for one list goes into another at once.
func TestAHeldContactGoesElsewhere(t *testing.T) {
	d := newDesk(t)
	d.Table = New(Config{
		Sources: []Source{{Name: "s", Segments: []string{"vip", "news"}}},
		Exports: []Export{{Name: "e", Segments: []string{"vip"}, List: 42}, {Name: "f", Segments: []string{"news"}, List: 43}},
		Rest:    time.Second, LateApply: time.Minute, RetryRefused: time.Hour,
	})
	if _, err := d.Ready(d.now); err != nil {
		t.Fatal(err)
	}
	d.Hold(42, "list_gone", d.now)
	d.enter("x@example.com")
	if sent := d.send(applied); len(sent) != 0 || d.Held() != 1 {
		t.Fatalf("%d requests were sent, %d contacts are held", len(sent), d.Held())
	}
	d.fold(Change{Memberships: []Membership{{1, true, 0, 0}}})
	if d.send(applied); d.In(43) != 1 || d.Held() != 1 {
		t.Errorf("%d are in the other list, %d held", d.In(43), d.Held())
	}
	d.Release(42, "list_gone", d.now)
	if d.send(applied); d.In(42) != 1 || d.Counts().Pending != 0 {
		t.Errorf("%d are in the list, %d pending", d.In(42), d.Counts().Pending)
	}
}

// Who was withheld, came back and leaves later is removed then.
func TestWhoWasWithheldLeavesLater(t *testing.T) {
	d := newDesk(t)
	d.crowd(40)
	d.send(applied)
	d.compiled.guards[42] = Guard{Share: 0.3, AtLeast: 1}
	d.Size(42, 40, d.now)
	for _, in := range []bool{false, true} {
		for i := range 40 {
			d.member(i, in)
		}
		d.rest()
	}
	d.now = d.now.Add(3 * time.Hour)
	for i := 30; i < 33; i++ {
		d.member(i, false)
	}
	if d.rest(); d.In(42) != 37 || d.Counts().Pending != 0 {
		t.Errorf("%d are in, %d pending", d.In(42), d.Counts().Pending)
	}
}

// The places of held contacts are given up with the contacts: people who come while a list is halted, and are erased,
// leave none behind.
func TestPlacesOfHeldContactsDoNotAddUp(t *testing.T) {
	d := newDesk(t)
	d.Hold(42, "list_gone", d.now)
	d.crowd(1)
	for range 10_000 {
		d.person(1, Change{Memberships: []Membership{{0, true, 0, 0}}, Profile: &Profile{Address: "x@example.com"}})
		d.person(1, Change{Erase: true})
	}
	if d.Held() != 1 || d.agenda.held.len() > 2048 || d.Counts().Contacts != 1 {
		t.Errorf("%d held, %d places, %d contacts", d.Held(), d.agenda.held.len(), d.Counts().Contacts)
	}
	d.Release(42, "list_gone", d.now)
	if d.send(applied); d.In(42) != 1 || d.Held() != 0 {
		t.Errorf("%d are in, %d held", d.In(42), d.Held())
	}
}
