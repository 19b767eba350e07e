package state

import (
	"fmt"
	"slices"
	"testing"
	"time"

	"pgregory.net/rapid"

	"segsync/sink"
)

// invariant is what is true of a table at any time: a dirty contact lies in a queue of its kind, waits until a time, or
// is in flight; it lies nowhere twice, and what is free lies nowhere; every figure is what a recount gives.
func invariant(t *rapid.T, tab *Table, now time.Time) {
	tab.Tick(now)
	places := map[queueKind]map[uint32]int{QueueRemove: {}, QueueWrite: {}, queueHeld: {}}
	for k, q := range tab.agenda.queues {
		for _, ci := range q.items[q.head:] {
			places[k.kind][ci]++
		}
	}
	for _, ci := range tab.agenda.held.items[tab.agenda.held.head:] {
		places[queueHeld][ci]++
	}
	var counts Counts
	ins, unknowns, doubts, held := map[int64]int{}, map[int64]int{}, map[int64]int{}, 0
	for ci := range tab.store.contacts.Len() {
		c := tab.store.contacts.At(ci)
		for kind, flag := range map[queueKind]contactFlag{QueueRemove: flagRemoval, QueueWrite: flagWrite, queueHeld: flagHeld} {
			if has := places[kind][ci]; has > 1 || has == 1 && c.flags&flag == 0 && c.flags&flagLive != 0 || has == 0 && c.flags&flag != 0 {
				t.Fatalf("contact %d (flags %b) has %d places of kind %d", ci, c.flags, has, kind)
			}
		}
		if c.flags&flagLive == 0 {
			if n := places[QueueRemove][ci] + places[QueueWrite][ci]; n > 0 {
				t.Fatalf("slot %d is free and lies in %d queues", ci, n)
			}
			continue
		}
		counts.Contacts++
		counts.Pending += int(bit(c.queue != queueNone))
		counts.InFlight += int(bit(c.flags&flagInFlight != 0))
		held += int(bit(c.queue == queueHeld))
		if c.queue != queueNone && places[c.queue][ci] == 0 && c.flags&(flagWaiting|flagInFlight) == 0 {
			t.Fatalf("%s is dirty and forgotten", tab.store.addressOf(ci))
		}
		var r contactRow
		tab.store.loadContact(ci, &r)
		counts.Rejected += int(bit(r.rejected != ""))
		for _, l := range r.lists {
			ins[l.list] += int(bit(l.state == in))
			unknowns[l.list] += int(bit(l.state == unknown))
			doubts[l.list] += int(bit(l.state == doubtful))
			counts.Unknown += int(bit(l.state.unsure()))
		}
	}
	for pi := range tab.store.people.Len() {
		p := tab.person(pi)
		counts.WithoutAddress += int(bit(p.inAny() && len(p.address) == 0))
		tab.endPerson(p)
	}
	c := tab.Counts()
	counts.People, counts.Folded, counts.Stale, counts.Ignored, counts.Needed = c.People, c.Folded, c.Stale, c.Ignored, c.Needed
	if counts != tab.Counts() || held != tab.Held() {
		t.Fatalf("%+v and %d held are counted; they are %+v and %d", tab.Counts(), tab.Held(), counts, held)
	}
	for _, l := range tab.compiled.lists {
		if tab.compiled.guarded(l) {
			weighed(t, tab, l, now)
		}
		have, are := [3]int{tab.tally.of(l).in, tab.tally.of(l).unknown, tab.tally.of(l).doubtful}, [3]int{ins[l], unknowns[l], doubts[l]}
		if have != are {
			t.Fatalf("of list %d %v in, unknown and doubtful are counted; they are %v", l, have, are)
		}
	}
}

// weighed is true of what the guard of a list weighs: the removals that are pending and not decided, each once.
func weighed(t *rapid.T, tab *Table, list int64, now time.Time) {
	g, doubts := tab.guards.of(list), 0
	for ci := range tab.store.contacts.Len() {
		c := tab.store.contacts.At(ci)
		doubt, is := g.pending[ci]
		doubts += int(bit(is && doubt))
		if is && c.flags&(flagLive|flagLeaving) != flagLive|flagLeaving {
			t.Fatalf("contact %d (flags %b) is weighed", ci, c.flags)
		}
		if c.flags&flagLive == 0 || c.flags&flagInFlight != 0 {
			continue
		}
		v := tab.view(ci)
		n := v.evaluate(now)
		if at := v.w.lapses; at != 0 && (c.lapse == 0 || int64(c.lapse) > at) {
			t.Fatalf("a membership at %s lapses at %d, and is looked at at %d", tab.store.addressOf(ci), at, c.lapse)
		}
		if v.end(); v.row.rejected != "" {
			continue // what another contact holds back may have changed what is wanted of it
		}
		if at := slices.IndexFunc(n.leaving, func(l leave) bool { return l.list == list }); (at >= 0) != is || is && n.leaving[at].doubt != doubt {
			t.Fatalf("%s leaves %+v, and is weighed for list %d: %v %v", tab.store.addressOf(ci), n.leaving, list, is, doubt)
		}
	}
	if doubts != g.doubts || g.flying < 0 {
		t.Fatalf("list %d has %d doubts (%d), %d flying", list, g.doubts, doubts, g.flying)
	}
}

// crossed is a table of two lists with a segment in common, and what is in flight.
type crossed struct {
	*Table
	t    *rapid.T
	now  time.Time
	n    int64
	open []*Request
}

func newCrossed(t *rapid.T) *crossed {
	tab := New(Config{
		Sources: []Source{{Name: "s", Segments: []string{"vip", "gold", "news"}, Attributes: []string{"A", "SMS"}}},
		Exports: []Export{
			{Name: "e", Segments: []string{"vip", "gold"}, List: 42, Attributes: []string{"A", "SMS"}, Guard: Guard{Share: 0.3, AtLeast: 2}},
			{Name: "f", Segments: []string{"gold", "news"}, List: 43, Attributes: []string{"A"}, Delete: true, Guard: Guard{Share: 0.5, AtLeast: 3}},
		},
		Unique: func(a string) bool { return a == "SMS" }, Rest: time.Second, LateApply: time.Minute, RetryRefused: time.Hour,
	})
	c := &crossed{Table: tab, t: t, now: time.Unix(1e9, 0)}
	if _, err := tab.Ready(c.now); err != nil {
		t.Fatal(err)
	}
	return c
}

func (c *crossed) draw(what string, n int) int { return rapid.IntRange(0, n-1).Draw(c.t, what) }

// say folds a change of somebody.
func (c *crossed) say() {
	c.n++
	p := c.draw("person", 6)
	change := Change{
		Person: KeyOf("s", fmt.Sprint(p)), Stamp: Stamp{Topic: 9, Offset: c.n, Time: c.n},
		Memberships: []Membership{{c.draw("segment", 3), rapid.Bool().Draw(c.t, "in"), 0, 0}},
	}
	if c.draw("until", 3) == 0 {
		change.Memberships[0].Until = c.now.Unix() + int64(c.draw("lapses", 60))
	}
	if rapid.Bool().Draw(c.t, "profile") {
		change.Profile = &Profile{Address: fmt.Sprintf("a%d@example.com", c.draw("address", 8)), Values: []Value{{0, []byte(`"v"`)}, {1, fmt.Appendf(nil, `"%d"`, p)}}}
	}
	if c.draw("erase", 12) == 0 {
		change.Erase, change.Delete = true, rapid.Bool().Draw(c.t, "delete")
	}
	c.Fold(&change, c.now)
}

// take takes a contact of some queue into a request, or puts it back.
func (c *crossed) take() {
	queues := c.Queues(c.now)
	if len(queues) == 0 {
		return
	}
	q := queues[c.draw("queue", len(queues))]
	n := c.Pop(q.Kind, q.List, c.now)
	switch {
	case n == nil:
	case c.draw("return", 5) == 0:
		c.Return(n)
	default:
		c.begin(q, n)
	}
}

func (c *crossed) begin(q Queue, n *Need) {
	kind, add, remove := sink.Update, slices.Clone(n.Add), slices.Clone(n.Remove)
	switch {
	case n.Delete:
		kind = sink.Delete
	case q.Kind == QueueRemove && rapid.Bool().Draw(c.t, "only out"):
		kind, add, remove = sink.Remove, nil, []int64{q.List}
	case len(n.Look) == 0 && len(n.Wanted) > 0 && rapid.Bool().Draw(c.t, "import"):
		kind, add, remove = sink.Import, slices.Clone(n.Wanted), nil
	}
	r := c.NewRequest(kind, add, remove, c.now)
	if kind == sink.Update {
		r.Send.Look = slices.Clone(n.Look)
	}
	c.Take(r, n, n.Contact(kind != sink.Remove && n.Attributes), c.now)
	c.open = append(c.open, r)
}

// end ends a request.
func (c *crossed) end() {
	if len(c.open) == 0 {
		return
	}
	i := c.draw("request", len(c.open))
	r := c.open[i]
	c.open = slices.Delete(c.open, i, i+1)
	switch how := c.draw("end", 8); {
	case how == 0 || r.Freed():
		c.Abandon(r, c.now)
	case how == 1:
		c.Drop(r, c.now)
	default:
		c.Settle(r, 0, rapid.SampledFrom([]sink.Outcome{
			{Verdict: sink.Applied}, {Verdict: sink.Applied, Absent: true}, {Verdict: sink.Retry}, {Verdict: sink.Retry, Certain: true},
			{Verdict: sink.Retry, Split: true}, {Verdict: sink.Reject, Code: "bad"}, {Verdict: sink.Reject, Attribute: "SMS", Code: "taken"}, {Verdict: sink.Halt},
		}).Draw(c.t, "outcome"), true, c.now)
		c.Close(r)
	}
}

// rare does what operators do, and halts.
func (c *crossed) rare() {
	list := rapid.SampledFrom([]int64{0, 42, 43}).Draw(c.t, "list")
	switch c.draw("rare", 7) {
	case 0:
		c.Hold(list, rapid.SampledFrom([]string{"halted", "disabled"}).Draw(c.t, "why"), c.now)
	case 1:
		c.Release(list, rapid.SampledFrom([]string{"halted", "disabled"}).Draw(c.t, "why"), c.now)
	case 5:
		c.Size(max(list, 42), int64(c.draw("size", 9)), c.now)
	case 6:
		c.Decide(max(list, 42), rapid.Bool().Draw(c.t, "approved"), c.now)
	case 2:
		c.MakeUnknown(42, 0, c.now)
	case 3:
		c.RetryRejected(0, c.now)
	case 4:
		for _, r := range c.open {
			if r.Kind == sink.Import {
				c.SetMeta(freeKey(r.Number), EncodeTime(c.now))
				c.Free(r, c.now)
			}
		}
	}
}

// Whatever happens to a table, nothing of it is forgotten, and it comes to rest with nothing left to do.
func TestNothingOfATableIsForgotten(t *testing.T) {
	for range 5 { // of rapid's hundred
		rapid.Check(t, forgetsNothing)
	}
}

func forgetsNothing(t *rapid.T) {
	c := newCrossed(t)
	for range rapid.IntRange(1, 100).Draw(t, "steps") {
		c.now = c.now.Add(time.Duration(c.draw("rest", 5000)) * time.Millisecond)
		c.Tick(c.now)
		c.Weigh(c.now)
		switch step := c.draw("step", 12); {
		case step < 4:
			c.say()
		case step < 7:
			c.take()
		case step < 10:
			c.end()
		case step < 11:
			c.Cut(nil)
		default:
			c.rare()
		}
		invariant(t, c.Table, c.now)
	}
	for _, l := range []int64{0, 42, 43} {
		for _, why := range []string{"halted", "disabled"} {
			c.Release(l, why, c.now)
		}
		if l != 0 {
			c.Size(l, 8, c.now)
		}
	}
	for _, r := range c.open {
		c.Abandon(r, c.now)
	}
	c.RetryRejected(0, c.now)
	for range 300 {
		c.now = c.now.Add(20 * time.Second)
		c.Tick(c.now)
		c.Weigh(c.now)
		for _, l := range c.Lists() {
			if c.WithheldOf(l, c.now).Removals > 0 {
				c.Decide(l, true, c.now)
			}
		}
		for _, q := range c.Queues(c.now) {
			for n := c.Pop(q.Kind, q.List, c.now); n != nil; n = c.Pop(q.Kind, q.List, c.now) {
				kind := sink.Update
				if n.Delete {
					kind = sink.Delete
				}
				r := c.NewRequest(kind, slices.Clone(n.Add), slices.Clone(n.Remove), c.now)
				r.Send.Look = slices.Clone(n.Look)
				c.Take(r, n, n.Contact(n.Attributes), c.now)
				c.Settle(r, 0, sink.Outcome{Verdict: sink.Applied}, true, c.now)
				c.Close(r)
			}
		}
		if c.Counts().Pending+c.Counts().Unknown+owing(c.Table)+len(c.Queues(c.now)) == 0 {
			break
		}
	}
	invariant(t, c.Table, c.now)
	kept := 0 // unknown ones whose removal somebody refused: no call is made to find out
	c.all(c.now, func(v *view) {
		for _, l := range v.row.lists {
			kept += int(bit(l.passage == refused && l.state.unsure()))
		}
	})
	if n := c.Counts(); n.Pending+n.Unknown-kept+n.InFlight > 0 || len(c.Queues(c.now)) > 0 {
		t.Fatalf("it does not come to rest: %+v %+v", n, c.Queues(c.now))
	}
	c.all(c.now, func(v *view) {
		if slices.ContainsFunc(v.row.lists, func(l listed) bool { return l.passage == refused }) {
			return // somebody wants it to stay
		}
		if v.slot().carriers == 0 && !c.store.givenUp(v.ci) {
			t.Fatalf("nobody carries %s, and it is kept", c.store.addressOf(v.ci))
		}
	})
}

// owing is how many contacts are to be sent once more.
func owing(t *Table) (n int) {
	t.all(time.Time{}, func(v *view) { n += int(bit(v.row.unknownSince != 0)) })
	return n
}
