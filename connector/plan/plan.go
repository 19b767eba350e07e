// Package plan turns the difference between what is wanted and what was delivered into requests: as few as the budget
// and the measured times allow. It is pure: it knows the table, limits and facts, makes no call and waits for nothing.
//
// A contact's route is decided in route.go and nowhere else; requests.go fills the requests; pace.go measures imports.
// What never lives here: what an answer means, when to look at an import, why something is on hold.
package plan

import (
	"math"
	"time"

	"segsync/connector/state"
	"segsync/sink"
)

// Facts are what a plan depends on beside the table, as of one moment.
type Facts struct {
	Free     int           // idle senders
	Senders  int           // all of them
	CallTime time.Duration // how long a call takes, smoothed; 0: not known
	Leased   bool          // the ownership is proven
	Behind   bool          // there is much to read
	Imports  Imports
}

// Imports are the facts of imports.
type Imports struct {
	Open  int           // under way
	Ahead time.Duration // until those have ended, as measured
	Never bool          // none is begun: one does not end, or may come late
	Begin bool          // one may begin now
	After time.Time     // a look at the account may let one begin then, not before; zero: a look is wanted now
	Takes func(rows int) time.Duration
}

// Budget is the account's budget of calls.
type Budget interface {
	Reserve(calls int) (ok bool, again time.Time)
	Unreserve(calls int)
}

// Rows says how an import would carry a contact (see sink.Writer).
type Rows interface {
	Row(c *sink.Contact) (group string, size int, erase, ok bool)
}

// Waits behind a backlog of reading, so that calls are full.
const (
	behindBy     = 5000 // contacts that wait to be written
	holdRemovals = 5 * time.Second
	holdImports  = 30 * time.Second
	scanMost     = 200_000 // contacts looked at for one import
	importRows   = 1 << 17
)

// Planner plans the requests of one account. It is used under the table's lock.
type Planner struct {
	table     *state.Table
	limits    sink.Limits
	budget    Budget
	rows      Rows
	again     time.Time // when the budget has room again
	postponed time.Time // when something that was not planned will be due without an event; zero: nothing
	gathering time.Time // since when there is a backlog for imports
	look      bool      // an import waits for a look at the account
	liveLast  bool      // the last call was for a live change
	rowBytes  float64   // of a row of an import, smoothed
}

// New makes a planner.
func New(table *state.Table, limits sink.Limits, budget Budget, rows Rows) *Planner {
	return &Planner{table: table, limits: limits, budget: budget, rows: rows, rowBytes: 64}
}

// Plan takes dirty contacts into requests for the senders that are free, as far as the budget has room.
func (p *Planner) Plan(f Facts, now time.Time) []*state.Request {
	p.postponed, p.look = time.Time{}, false
	if now.Before(p.again) {
		return nil
	}
	if !f.Leased { // for a moment: its next proof tells nobody
		p.postpone(now.Add(time.Second))
		return nil
	}
	var all []*state.Request
	for len(all) < f.Free && !now.Before(p.again) {
		r := p.next(f, now)
		if r == nil {
			break
		}
		all = append(all, r)
		if r.Kind == sink.Import {
			f.Imports.Open, f.Imports.Begin = f.Imports.Open+1, false
			f.Imports.Ahead += f.Imports.Takes(len(r.Taken))
		}
	}
	return all
}

// Due is when to plan again though nothing happens: when the budget has room, or what was postponed is due; zero if
// nothing waits.
func (p *Planner) Due(now time.Time) (due time.Time) {
	for _, t := range []time.Time{p.again, p.postponed} {
		if t.After(now) && (due.IsZero() || t.Before(due)) {
			due = t
		}
	}
	return due
}

// Rest plans nothing before a time.
func (p *Planner) Rest(until time.Time) { p.again = until }

// Resting says whether the budget has no room now.
func (p *Planner) Resting(now time.Time) bool { return now.Before(p.again) }

// WantsLook says whether an import waits for a look at the account.
func (p *Planner) WantsLook() bool { return p.look }

// Drop gives back what a request that will not be sent has reserved.
func (p *Planner) Drop(r *state.Request) { p.budget.Unreserve(r.Send.Calls()) }

// postpone notes when something that is not planned now will be due.
func (p *Planner) postpone(until time.Time) {
	if p.postponed.IsZero() || until.Before(p.postponed) {
		p.postponed = until
	}
}

// reserve takes calls from the budget, or notes when to ask again.
func (p *Planner) reserve(calls int) bool {
	ok, again := p.budget.Reserve(calls)
	if !ok {
		p.again = again
	}
	return ok
}

// Bulk says whether an import, begun as soon as one may be, would be done before single calls were, for so many
// contacts that wait to be written.
func (p *Planner) Bulk(f Facts, backlog int) bool {
	if f.Imports.Never || backlog < 2 {
		return false
	}
	imports := int(math.Ceil(float64(backlog) / p.importHolds()))
	wait := time.Duration(imports)*f.Imports.Takes(backlog/imports) + f.Imports.Ahead
	rate := p.limits.PerSecond
	if f.CallTime > 0 {
		rate = min(rate, float64(f.Senders)/f.CallTime.Seconds())
	}
	return float64(backlog)/rate > wait.Seconds()
}

// importHolds is how many contacts an import holds, roughly.
func (p *Planner) importHolds() float64 {
	return min(importRows, float64(p.limits.ImportBytes)/p.rowBytes)
}
