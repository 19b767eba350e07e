package engine

import (
	"time"

	"segsync/connector/ownership"
	"segsync/connector/plan"
	"segsync/connector/state"
	"segsync/sink"
)

// planning gathers what the planner must know, and plans at the cut of a checkpoint.
//
// +checklocksalias:guard.mu=mu
// +checklocksalias:reader.mu=mu
// +checklocksalias:history.mu=mu
// +checklocksalias:imports.mu=mu
// +checklocksalias:audits.mu=mu
// +checklocksalias:delivery.mu=mu
// +checklocksalias:imports.watcher.mu=mu
type planning struct {
	*core
	lease    *ownership.Lease
	guard    *guard
	reader   *reader
	history  *history
	imports  *imports
	audits   *audits
	delivery *delivery

	// +checklocks:mu
	planner *plan.Planner // made by the take-over
}

// planLocked takes dirty contacts into requests, after what may not go is weighed and kept back.
//
// +checklocks:p.mu
func (p *planning) planLocked(now time.Time) []*state.Request {
	p.audits.holdDoubtsLocked(now)
	p.guard.weighLocked(now)
	all := p.planner.Plan(p.factsLocked(now), now)
	for _, r := range all {
		p.delivery.free--
		if r.Kind == sink.Import {
			p.imports.plannedLocked(r, now)
		}
	}
	if p.planner.WantsLook() {
		p.imports.watcher.wantLocked()
	}
	return all
}

// dropLocked forgets the requests of a plan that was not committed: their contacts are dirty again, they never were.
//
// +checklocks:p.mu
func (p *planning) dropLocked(all []*state.Request, now time.Time) {
	for _, r := range all {
		p.delivery.free++
		p.planner.Drop(r)
		p.imports.droppedLocked(r)
		p.table.Drop(r, now)
	}
}

// factsLocked are what a plan depends on beside the table.
//
// +checklocks:p.mu
func (p *planning) factsLocked(now time.Time) plan.Facts {
	return plan.Facts{
		Free: p.delivery.free, Senders: p.cfg.Senders, CallTime: p.delivery.callTime, Leased: p.lease.Valid(),
		Behind: p.reader.behindLocked() || p.history.leftLocked(-1) > behindBy, Imports: p.imports.factsLocked(now),
	}
}

// bulkLocked says whether a backlog is worked off by imports.
//
// +checklocks:p.mu
func (p *planning) bulkLocked(now time.Time) bool {
	return p.planner.Bulk(p.factsLocked(now), p.table.Waiting())
}
