package plan

import (
	"fmt"
	"testing"
	"time"

	"pgregory.net/rapid"

	"segsync/connector/state"
	"segsync/sink"
)

// account is a budget, and what an import can carry.
type account struct {
	room, reserved int
}

func (a *account) Reserve(calls int) (bool, time.Time) {
	if a.reserved+calls > a.room {
		return false, epoch.Add(time.Minute)
	}
	a.reserved += calls
	return true, time.Time{}
}
func (a *account) Unreserve(calls int) { a.reserved -= calls }
func (a *account) Row(c *sink.Contact) (string, int, bool, bool) {
	return "", 100, false, len(c.Attributes) < 3
}

var epoch = time.Unix(1e9, 0)

var limits = sink.Limits{Batch: 150, ImportBytes: 8 << 20, PerSecond: 10, Looks: 9, Unique: []string{"SMS"}}

// place is a planner of a table of one list.
type place struct {
	*Planner
	account *account
	table   *state.Table
	facts   Facts
	now     time.Time
	n       int64
}

func newPlace(tb interface{ Fatal(...any) }) *place {
	t := state.New(state.Config{
		Sources: []state.Source{{Name: "s", Segments: []string{"vip"}, Attributes: []string{"A", "SMS"}}},
		Exports: []state.Export{{Name: "x", Segments: []string{"vip"}, List: 42, Attributes: []string{"A", "SMS"}}},
		Unique:  func(a string) bool { return a == "SMS" }, Rest: time.Second, LateApply: time.Minute, RetryRefused: time.Hour,
	})
	if _, err := t.Ready(epoch); err != nil {
		tb.Fatal(err)
	}
	a := &account{room: 1 << 30}
	return &place{
		Planner: New(t, limits, a, a), account: a, table: t, now: epoch,
		facts: Facts{Free: 1, Senders: 16, CallTime: 100 * time.Millisecond, Leased: true, Imports: Imports{Begin: true, Takes: func(int) time.Duration { return 10 * time.Second }}},
	}
}

func (p *place) fold(person int, in, live bool) {
	p.n++
	p.table.Fold(&state.Change{
		Person: state.KeyOf("s", fmt.Sprint(person)), Stamp: state.Stamp{Topic: 9, Offset: p.n, Time: p.n}, Live: live,
		Memberships: []state.Membership{{Segment: 0, In: in}},
		Profile:     &state.Profile{Address: fmt.Sprintf("p%d@example.com", person), Values: []state.Value{{Attribute: 0, JSON: fmt.Appendf(nil, `"%d"`, p.n)}}},
	}, p.now)
	p.table.Refresh(p.now)
}

func (p *place) crowd(n int, in bool) {
	for i := range n {
		p.fold(i, in, false)
	}
}

// settle plans and settles until nothing is left.
func (p *place) settle() {
	for all := p.Plan(p.facts, p.now); len(all) > 0; all = p.Plan(p.facts, p.now) {
		for _, r := range all {
			for i := range r.Taken {
				p.table.Settle(r, i, sink.Outcome{Verdict: sink.Applied}, true, p.now)
			}
			p.table.Close(r)
			p.account.reserved -= r.Send.Calls()
		}
	}
}

func TestWhatIsPlanned(t *testing.T) {
	day := func(p *place) { p.now = p.now.Add(24 * time.Hour) }
	for name, c := range map[string]struct {
		begin func(p *place)
		kind  sink.Kind // of the first request; 0: none
		taken int
		due   time.Duration // until it is planned again; 0: not by itself
		look  bool
	}{
		"nothing":                                    {func(*place) {}, 0, 0, 0, false},
		"one at once":                                {func(p *place) { p.fold(1, true, false) }, sink.Upsert, 1, 0, false},
		"no sender is free":                          {func(p *place) { p.fold(1, true, false); p.facts.Free = 0 }, 0, 0, 0, false},
		"without the lease in a second":              {func(p *place) { p.fold(1, true, false); p.facts.Leased = false }, 0, 0, time.Second, false},
		"without a budget when there is room":        {func(p *place) { p.fold(1, true, false); p.account.room = 0 }, 0, 0, time.Minute, false},
		"behind a backlog of reading it waits":       {func(p *place) { p.fold(1, true, false); p.facts.Behind = true }, 0, 0, holdImports, false},
		"thousands by an import":                     {func(p *place) { p.crowd(5000, true); p.Plan(p.facts, p.now); day(p) }, sink.Import, 5000, 0, false},
		"which gathers a little at first":            {func(p *place) { p.crowd(5000, true) }, 0, 0, passPause, false},
		"not while one is under way":                 {func(p *place) { p.crowd(5000, true); day(p); p.facts.Imports.Begin, p.facts.Imports.Open = false, 1 }, 0, 0, passPause, false},
		"a look is asked for where only it lets one": {func(p *place) { p.crowd(5000, true); p.Plan(p.facts, p.now); day(p); p.facts.Imports.Begin = false }, 0, 0, passPause, true},
		"by single calls where one may never end":    {func(p *place) { p.crowd(5000, true); p.facts.Imports.Never = true }, sink.Upsert, 1, 0, false},
		"a live change before them": {func(p *place) {
			p.crowd(5000, true)
			p.Plan(p.facts, p.now)
			day(p)
			p.fold(7, true, true)
		}, sink.Upsert, 1, 0, false},
		"who leaves by 150":               {func(p *place) { p.crowd(400, true); p.settle(); p.crowd(400, false) }, sink.Remove, 150, 0, false},
		"fewer wait behind a backlog":     {func(p *place) { p.crowd(40, true); p.settle(); day(p); p.crowd(40, false); p.facts.Behind = true }, 0, 0, holdRemovals, false},
		"and go when they have waited":    {func(p *place) { p.crowd(40, true); p.settle(); p.crowd(40, false); p.facts.Behind = true; day(p) }, sink.Remove, 40, 0, false},
		"who comes back with others":      {func(p *place) { p.crowd(40, true); p.settle(); p.crowd(40, false); p.settle(); p.crowd(40, true) }, sink.Upsert, 1, 0, false},
		"one who leaves goes at once":     {func(p *place) { p.crowd(1, true); p.settle(); p.crowd(1, false) }, sink.Remove, 1, 0, false},
		"changed attributes by an upsert": {func(p *place) { p.crowd(1, true); p.settle(); p.crowd(1, true) }, sink.Upsert, 1, 0, false},
	} {
		t.Run(name, func(t *testing.T) {
			p := newPlace(t)
			c.begin(p)
			all := p.Plan(p.facts, p.now)
			var kind sink.Kind
			taken := 0
			if len(all) > 0 {
				kind, taken = all[0].Kind, len(all[0].Taken)
			}
			if kind != c.kind || taken != c.taken {
				t.Errorf("%s of %d, not %s of %d", kind, taken, c.kind, c.taken)
			}
			due := time.Duration(0)
			if at := p.Due(p.now); !at.IsZero() {
				due = at.Sub(p.now)
			}
			if due != c.due || p.WantsLook() != c.look {
				t.Errorf("due in %s, not %s; it wants a look: %v", due, c.due, p.WantsLook())
			}
		})
	}
}

// Whatever is planned, the budget holds just the calls of what was planned, and nobody is in two requests.
func TestThePlanKeepsToItsBudget(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		p := newPlace(t)
		p.account.room = rapid.IntRange(0, 40).Draw(t, "room")
		for range rapid.IntRange(0, 60).Draw(t, "changes") {
			p.fold(rapid.IntRange(0, 20).Draw(t, "person"), rapid.Bool().Draw(t, "in"), rapid.Bool().Draw(t, "live"))
			if rapid.IntRange(0, 9).Draw(t, "settle") == 0 {
				p.settle()
			}
		}
		p.facts.Free = rapid.IntRange(0, 8).Draw(t, "free")
		p.facts.Behind = rapid.Bool().Draw(t, "behind")
		p.facts.Imports.Begin = rapid.Bool().Draw(t, "begin")
		p.facts.Imports.Takes = func(int) time.Duration { return time.Duration(rapid.IntRange(0, 2).Draw(t, "takes")) * time.Second }
		p.now = p.now.Add(time.Duration(rapid.IntRange(0, 60).Draw(t, "later")) * time.Second)
		before := p.account.reserved
		all := p.Plan(p.facts, p.now)
		calls, taken := 0, map[uint32]bool{}
		for _, r := range all {
			calls += r.Send.Calls()
			for _, x := range r.Taken {
				if taken[x.Contact] {
					t.Fatalf("contact %d is in two requests", x.Contact)
				}
				taken[x.Contact] = true
			}
		}
		if got := p.account.reserved - before; got != calls || len(all) > p.facts.Free {
			t.Fatalf("%d calls are reserved for %d of %d requests", got, calls, len(all))
		}
		for _, r := range all {
			p.Drop(r)
			p.table.Drop(r, p.now)
		}
		if p.account.reserved != before {
			t.Fatalf("%d calls stay reserved", p.account.reserved-before)
		}
	})
}
