package engine

import (
	"time"

	"segsync/connector/plan"
	"segsync/connector/state"
	"segsync/sink"
)

// How a dry run plays the sending through.

// allowance is a budget of calls that time fills.
type allowance struct {
	rate float64 // a second
	used float64
	now  time.Duration // since the beginning
}

// Reserve implements plan.Budget.
func (a *allowance) Reserve(calls int) (bool, time.Time) {
	if a.used+float64(calls) > a.rate*(a.now.Seconds()+1) {
		return false, time.Time{}
	}
	a.used += float64(calls)
	return true, time.Time{}
}

// Unreserve implements plan.Budget.
func (a *allowance) Unreserve(calls int) { a.used -= float64(calls) }

// sendingMost bounds how long a sending is played through.
const sendingMost = 30 * 24 * time.Hour

// sendLocked plays the sending through: calls at the account's rate, imports one after another, all of them successful.
//
// +checklocks:d.mu
func (d *dryRun) sendLocked(p *Planned, now time.Time) {
	budget := &allowance{rate: max(d.cfg.Limits.PerSecond, 0.1)}
	planner := plan.New(d.table, d.cfg.Limits, budget, d.sender)
	type flight struct {
		r    *state.Request
		ends time.Duration
	}
	var flying []flight
	idle := 0
	pace := d.imports.watcher.pace
	for budget.now = 0; budget.now < sendingMost && idle < 120; budget.now += time.Second {
		at := now.Add(budget.now)
		for len(flying) > 0 && flying[0].ends <= budget.now {
			d.appliedLocked(flying[0].r, at)
			flying = flying[1:]
		}
		facts := plan.Facts{Free: 1 << 10, Senders: d.cfg.Senders, CallTime: 200 * time.Millisecond, Leased: true, Imports: plan.Imports{Open: len(flying), Begin: len(flying) == 0, Takes: pace.Of}}
		planner.Rest(time.Time{})
		all := planner.Plan(facts, at)
		for _, r := range all {
			p.Calls[r.Kind.String()] += r.Send.Calls()
			if r.Kind == sink.Import {
				flying = append(flying, flight{r, budget.now + pace.Of(len(r.Taken))})
				continue
			}
			d.appliedLocked(r, at)
		}
		if len(all) == 0 && len(flying) == 0 {
			idle++ // something may be gathered still
		} else {
			idle, p.Sending = 0, budget.now+time.Second
		}
	}
}

// appliedLocked settles a request as wholly successful.
//
// +checklocks:d.mu
func (d *dryRun) appliedLocked(r *state.Request, at time.Time) {
	for i := range r.Taken {
		d.table.Settle(r, i, sink.Outcome{Verdict: sink.Applied}, true, at)
	}
	d.table.Close(r)
}
