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
	d.guards[42] = Guard{Share: 0.3, AtLeast: 1}
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
			d.guards[42] = Guard{Share: 0.3, AtLeast: 1}
			want := 20
			if !approved {
				want = 40
			}
			if d.rest(); d.In(42) != want || d.Withheld()+d.Counts.Pending != 0 {
				t.Fatalf("%d are in, %d withheld, %d pending", d.In(42), d.Withheld(), d.Counts.Pending)
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
		d.guards[42] = Guard{Share: 0.3, AtLeast: 1}
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
		d.MakeUnknown(42, d.now)
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
			d.guards[42] = Guard{Share: 0.3, AtLeast: 100}
			for i := range 200 {
				d.person(i, Change{Memberships: []Membership{{0, false}}, Profile: &Profile{Address: fmt.Sprintf("p%d@example.com", i)}})
			}
			if sent := d.send(applied); len(sent) != 0 {
				t.Fatalf("%d go before the list's size is known", len(sent))
			}
			d.Size(42, c.size, d.now)
			if d.rest(); d.Withheld() != c.withheld || d.Counts.Pending != c.withheld {
				t.Errorf("%d are withheld, %d pending", d.Withheld(), d.Counts.Pending)
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
	if sent := d.rest(); len(sent) != 40 || d.Counts.Contacts != 0 {
		t.Errorf("%d are sent, %d contacts are left", len(sent), d.Counts.Contacts)
	}
}
