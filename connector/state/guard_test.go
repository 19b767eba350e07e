package state

import (
	"fmt"
	"testing"
	"time"

	"segsync/sink"
)

// guarded is a desk with 40 people in a list, more than three tenths of whom may not leave it within an hour.
func guarded(t *testing.T) *desk {
	t.Helper()
	d := newDesk(t)
	d.compiled.guards[42] = Guard{Share: 0.3, AtLeast: 1}
	d.crowd(40)
	d.send(applied)
	d.Size(42, 40, d.now)
	return d
}

func (d *desk) leave(from, to int) {
	for i := from; i < to; i++ {
		d.member(i, false)
	}
}

// S63: the removals of the hour and those pending count together: of 40, twelve may leave; of thirteen none goes.
func TestS63AMassExitIsWithheldWhole(t *testing.T) {
	for _, c := range []struct{ first, then, in, withheld int }{{12, 0, 28, 0}, {13, 0, 40, 13}, {40, 0, 40, 40}, {10, 2, 28, 0}, {10, 20, 30, 20}} {
		t.Run(fmt.Sprint(c), func(t *testing.T) {
			d := guarded(t)
			d.leave(0, c.first)
			d.send(applied)
			d.leave(c.first, c.first+c.then)
			d.rest()
			if d.In(42) != c.in || d.Withheld() != c.withheld {
				t.Errorf("%d are in, %d withheld", d.In(42), d.Withheld())
			}
		})
	}
}

// S63: an approval lets those go who are withheld then, and nobody who leaves later; a refusal keeps them until a newer
// event says otherwise. Both stand through a restart.
func TestS63ADecisionCoversWhatIsWithheld(t *testing.T) {
	for _, approved := range []bool{true, false} {
		t.Run(fmt.Sprint("approved=", approved), func(t *testing.T) {
			d := guarded(t)
			d.leave(0, 20)
			d.rest()
			if n := d.Decide(42, approved, d.now); n != 20 {
				t.Errorf("%d are decided", n)
			}
			d.reread(d.rows())
			if _, err := d.Ready(d.now); err != nil {
				t.Fatal(err)
			}
			d.compiled.guards[42] = Guard{Share: 0.3, AtLeast: 1}
			want := 20
			if !approved {
				want = 40
			}
			if d.rest(); d.In(42) != want || d.Withheld()+d.Counts().Pending != 0 {
				t.Fatalf("%d are in, %d withheld, %d pending", d.In(42), d.Withheld(), d.Counts().Pending)
			}
			d.leave(20, 34) // more than three tenths of 40, and of 20
			if d.rest(); d.In(42) != want || d.Withheld() != 14 {
				t.Errorf("later ones: %d are in, %d withheld", d.In(42), d.Withheld())
			}
			if approved {
				return
			}
			d.Decide(42, false, d.now)
			d.now = d.now.Add(2 * time.Hour)
			d.leave(3, 5) // said once more, by newer events
			if d.rest(); d.In(42) != 38 {
				t.Errorf("after newer events %d are in", d.In(42))
			}
		})
	}
}

// S64: whom an unanswered call, or a re-send, leaves unknown counts as in: nobody slips past the guard so.
func TestS64UnknownOnesCountAsIn(t *testing.T) {
	t.Run("the entry had no answer", func(t *testing.T) {
		d := newDesk(t)
		d.compiled.guards[42] = Guard{Share: 0.3, AtLeast: 1}
		d.crowd(40)
		d.send(sink.Outcome{Verdict: sink.Retry})
		d.Size(42, 40, d.now)
		d.leave(0, 40)
		if d.rest(); d.Withheld() != 40 {
			t.Errorf("%d are withheld", d.Withheld())
		}
	})
	t.Run("everything is sent again", func(t *testing.T) {
		d := guarded(t)
		d.MakeUnknown(42, 0, d.now)
		d.leave(0, 40)
		if d.rest(); d.Withheld() != 40 {
			t.Errorf("%d are withheld", d.Withheld())
		}
	})
	t.Run("a removal that had no answer is one", func(t *testing.T) {
		d := guarded(t)
		d.leave(0, 12)
		d.send(sink.Outcome{Verdict: sink.Retry})
		if d.rest(); d.In(42) != 28 || d.Withheld() != 0 {
			t.Errorf("%d are in, %d withheld", d.In(42), d.Withheld())
		}
	})
}

// S62: whom others put into the list counts, too; where nobody can be there whom we did not put in, nobody is counted.
func TestS62WhoeverPutThemIn(t *testing.T) {
	for _, c := range []struct {
		size     int64
		withheld int
	}{{300, 200}, {0, 0}, {10_000, 0}} {
		t.Run(fmt.Sprint(c.size, " in the list"), func(t *testing.T) {
			d := newDesk(t)
			d.compiled.guards[42] = Guard{Share: 0.3, AtLeast: 100}
			for i := range 200 {
				d.person(i, Change{Memberships: []Membership{{0, false, 0, 0}}, Profile: &Profile{Address: fmt.Sprintf("p%d@example.com", i)}})
			}
			if sent := d.send(applied); len(sent) != 0 {
				t.Fatalf("%d go before the list's size is known", len(sent))
			}
			d.Size(42, c.size, d.now)
			if d.rest(); d.Withheld() != c.withheld || d.Counts().Pending != c.withheld {
				t.Errorf("%d are withheld, %d pending", d.Withheld(), d.Counts().Pending)
			}
		})
	}
}

// An erasure, too, waits where a mass of people would leave a list by it.
func TestAMassErasureWaits(t *testing.T) {
	d := guarded(t)
	for i := range 40 {
		d.person(i, Change{Erase: true, Delete: true})
	}
	if sent := d.rest(); len(sent) != 0 || d.Withheld() != 40 {
		t.Errorf("%d are sent, %d withheld", len(sent), d.Withheld())
	}
	d.Decide(42, true, d.now)
	if sent := d.rest(); len(sent) != 40 || d.Counts().Contacts != 0 {
		t.Errorf("%d are sent, %d contacts are left", len(sent), d.Counts().Contacts)
	}
}

// A refusal keeps people in, whatever else happens to them, until an event that is newer.
func TestS63ARefusalStands(t *testing.T) {
	for name, c := range map[string]struct {
		before, after func(d *desk)
		in            int
	}{
		"an erasure with its contacts": {func(d *desk) { d.eraseAll(40, true) }, nil, 40},
		"while they are unknown":       {func(d *desk) { d.MakeUnknown(42, 0, d.now); d.leave(0, 20) }, nil, 40},
		"everything is sent again":     {func(d *desk) { d.leave(0, 20) }, func(d *desk) { d.MakeUnknown(42, 0, d.now) }, 40},
		"a late re-send": {func(d *desk) { d.leave(0, 20) }, func(d *desk) {
			for i := 20; i < 40; i++ {
				d.person(i, Change{Profile: &Profile{Address: fmt.Sprintf("p%d@example.com", i), Values: []Value{{0, []byte(`"new"`)}}}})
			}
			d.send(sink.Outcome{Verdict: sink.Retry})
		}, 40},
		"mapped anew": {func(d *desk) { d.leave(0, 20) }, func(d *desk) {
			for i := range 20 {
				d.Fold(&Change{Person: KeyOf("s", fmt.Sprint(i)), Stamp: Stamp{Topic: 9, Offset: d.n - 19 + int64(i), Time: d.n - 19 + int64(i)}, Memberships: []Membership{{0, false, 0, 0}}, Remap: true}, d.now)
			}
		}, 40},
		"an erasure that is newer": {func(d *desk) { d.leave(0, 20) }, func(d *desk) { d.now = d.now.Add(2 * time.Hour); d.eraseAll(3, false) }, 37},
		"a new address, then an exit": {func(d *desk) { d.leave(0, 20) }, func(d *desk) {
			d.now = d.now.Add(2 * time.Hour)
			d.person(3, Change{Profile: &Profile{Address: "new@example.com"}})
		}, 39},
	} {
		t.Run(name, func(t *testing.T) {
			d := guarded(t)
			c.before(d)
			d.rest()
			d.Decide(42, false, d.now)
			if sent := d.rest(); len(sent) > 0 {
				t.Errorf("%d calls for whom was refused, the first a %s", len(sent), sent[0].Kind)
			}
			if c.after != nil {
				c.after(d)
			}
			if d.rest(); d.In(42)+d.Counts().Unknown != c.in || d.Counts().Pending != 0 || d.Counts().Unknown > 0 && name != "while they are unknown" {
				t.Errorf("%d are in, %d pending, %d unknown, %d withheld", d.In(42), d.Counts().Pending, d.Counts().Unknown, d.Withheld())
			}
		})
	}
}

func (d *desk) eraseAll(n int, deletes bool) {
	for i := range n {
		d.person(i, Change{Erase: true, Delete: deletes})
	}
}

// What fails, is refused or has no answer takes nobody out, and nobody counts twice.
func TestS63NobodyIsCountedTwice(t *testing.T) {
	t.Run("a call that is refused as a whole", func(t *testing.T) {
		d := guarded(t)
		d.leave(0, 10)
		for range 3 {
			r := d.NewRequest(sink.Remove, nil, []int64{42}, d.now)
			for n := d.Pop(QueueRemove, 42, d.now); n != nil; n = d.Pop(QueueRemove, 42, d.now) {
				d.Take(r, n, n.Contact(false), d.now)
			}
			for i := range r.Taken {
				d.Settle(r, i, sink.Outcome{Verdict: sink.Reject, Split: true}, true, d.now)
			}
			d.Close(r)
			d.Weigh(d.now)
		}
		if d.rest(); d.In(42) != 30 || d.Withheld() != 0 {
			t.Errorf("%d are in, %d withheld", d.In(42), d.Withheld())
		}
	})
	t.Run("removals without an answer are no people of the list", func(t *testing.T) {
		d := guarded(t)
		d.leave(0, 12)
		d.send(sink.Outcome{Verdict: sink.Retry})
		d.leave(12, 16)
		if d.rest(); d.In(42) != 28 || d.Withheld() != 4 {
			t.Errorf("%d are in, %d withheld", d.In(42), d.Withheld())
		}
	})
	t.Run("a doubtful one in an outage", func(t *testing.T) {
		d := newDesk(t)
		d.compiled.guards[42] = Guard{Share: 0.3, AtLeast: 5}
		d.Size(42, 100, d.now)
		d.person(1, Change{Memberships: []Membership{{0, false, 0, 0}}, Profile: &Profile{Address: "x@example.com"}})
		for range 60 {
			d.now = d.now.Add(time.Minute / 2)
			d.send(sink.Outcome{Verdict: sink.Retry, Certain: true})
		}
		if d.rest(); d.Withheld() != 0 || d.Counts().Pending != 0 {
			t.Errorf("%d withheld, %d pending", d.Withheld(), d.Counts().Pending)
		}
	})
	t.Run("doubtful ones do not use up whom others put in", func(t *testing.T) {
		d := newDesk(t)
		d.compiled.guards[42] = Guard{Share: 0.3, AtLeast: 5}
		d.Size(42, 100, d.now)
		exits := func(from, to int) {
			for i := from; i < to; i++ {
				d.person(i, Change{Memberships: []Membership{{0, false, 0, 0}}, Profile: &Profile{Address: fmt.Sprintf("p%d@example.com", i)}})
			}
		}
		for round := range 20 {
			exits(1000+5*round, 1005+5*round)
			d.rest()
			d.now = d.now.Add(2 * time.Hour)
		}
		exits(0, 100)
		if d.rest(); d.Withheld() != 100 {
			t.Errorf("%d are withheld", d.Withheld())
		}
	})
	t.Run("whom an import brings while the list's size is asked for", func(t *testing.T) {
		d := newDesk(t)
		d.compiled.guards[42] = Guard{Share: 0.3, AtLeast: 1}
		d.crowd(40)
		r := d.NewRequest(sink.Import, []int64{42}, nil, d.now)
		for n := d.Pop(QueueWrite, 42, d.now); n != nil; n = d.Pop(QueueWrite, 42, d.now) {
			d.Take(r, n, n.Contact(true), d.now)
		}
		d.Size(42, 40, d.now)
		for i := range r.Taken {
			d.Settle(r, i, applied, true, d.now)
		}
		d.Close(r)
		d.leave(0, 24)
		if d.rest(); d.In(42) != 40 || d.Withheld() != 24 {
			t.Errorf("%d are in, %d withheld", d.In(42), d.Withheld())
		}
	})
}
