package state

import (
	"fmt"
	"testing"
	"time"

	"segsync/sink"
)

// enterLive lets somebody enter now.
func enterLive(d *desk, i int) {
	d.n++
	d.Fold(&Change{Person: KeyOf("s", fmt.Sprint(i)), Stamp: Stamp{Topic: 9, Offset: d.n, Time: d.n}, Live: true, Memberships: []Membership{{0, true, 0, 0}}, Profile: &Profile{Address: fmt.Sprintf("p%d@example.com", i)}}, d.now)
	d.Refresh(d.now)
}

// What is live is bounded by a minute's changes, and by a number, though nobody asks for it.
func TestLiveChangesTakeNoMemory(t *testing.T) {
	d := newDesk(t)
	for i := range 50_000 {
		d.now = d.now.Add(20 * time.Millisecond)
		enterLive(d, i)
	}
	if n := len(d.agenda.live.items); n > 75*50 {
		t.Errorf("%d are live of 50 a second", n)
	}
	var l live
	l.at = map[uint32]int64{}
	for i := range 3 * liveMost {
		l.push(uint32(i), 1)
	}
	if len(l.items) > liveMost || len(l.at) > liveMost {
		t.Errorf("%d are live at once", len(l.items))
	}
}

// The newest goes first; one that was in flight meanwhile, and is older, hides nobody.
func TestTheNewestLiveChangeGoesFirst(t *testing.T) {
	d := newDesk(t)
	enterLive(d, 1)
	n := d.PopLive(d.now)
	r := d.NewRequest(sink.Upsert, n.Add, nil, d.now)
	d.Take(r, n, n.Contact(true), d.now)
	d.now = d.now.Add(45 * time.Second)
	enterLive(d, 2)
	enterLive(d, 3)
	d.now = d.now.Add(20 * time.Second)
	d.Settle(r, 0, sink.Outcome{Verdict: sink.Retry, Certain: true}, true, d.now)
	d.now = d.now.Add(30 * time.Second) // the first has rested, and is live no more
	d.Tick(d.now)
	for _, want := range []string{"p3@example.com", "p2@example.com"} {
		if n := d.PopLive(d.now); n == nil || n.Address != want {
			t.Fatalf("%+v, not %s", n, want)
		}
	}
	if n := d.PopLive(d.now); n != nil {
		t.Errorf("%s is live", n.Address)
	}
}
