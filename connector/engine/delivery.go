package engine

import (
	"slices"
	"time"

	"segsync/connector/deadletter"
	"segsync/connector/ownership"
	"segsync/connector/state"
	"segsync/sink"
)

// delivery has the senders: each makes one call at a time, never repeats one, and settles what became of it.
//
// Races: a call is made, the epoch ends, the answer comes: it is dropped, for the successor has found the request open, and
// its contacts unknown. A request is announced, the lease ends, a sender takes it: nothing is sent, and it is certain.
//
// +checklocksalias:holds.mu=mu
// +checklocksalias:letters.mu=mu
// +checklocksalias:breaker.mu=mu
// +checklocksalias:troubles.mu=mu
// +checklocksalias:imports.mu=mu
type delivery struct {
	*core
	lease    *ownership.Lease
	holds    *holds
	letters  *letters
	breaker  *breaker
	troubles *troubles
	imports  *imports
	requests chan *state.Request

	// +checklocks:mu
	free int // idle senders
	// +checklocks:mu
	callTime time.Duration // smoothed
	// +checklocks:mu
	lastApplied time.Time
	// +checklocks:mu
	fresh freshness
}

// announcedLocked hands a request to the senders whose announcement is committed.
//
// +checklocks:d.mu
func (d *delivery) announcedLocked(r *state.Request, now time.Time) {
	d.imports.announcedLocked(r, now)
	d.requests <- r // there is room: each took a free sender
}

// send is a sender.
func (d *delivery) send() {
	for {
		select {
		case <-d.ctx.Done():
			return
		case r := <-d.requests:
			began := time.Now()
			if r.Kind != sink.Import {
				d.troubles.call(r)
			}
			if d.lease.Valid() {
				// In an orderly end the call goes on to its answer; in a sudden one it is cut.
				d.settle(r, d.sender.Send(d.ctx, r.Send), time.Since(began))
				continue
			}
			d.sender.Unreserve(r.Send.Calls())
			d.unsent(r)
		}
	}
}

// unsent settles a request that was not sent, for the ownership is not proven.
func (d *delivery) unsent(r *state.Request) {
	defer d.nudge()
	d.mu.Lock()
	defer d.mu.Unlock()
	if !d.ended() {
		d.settleLocked(r, sink.All(sink.Outcome{Verdict: sink.Retry, Certain: true, Code: "no_lease"}), d.now())
	}
}

// settle records the outcomes of a request. After the epoch's end nothing is recorded: the successor has found the
// request open, and its contacts unknown.
func (d *delivery) settle(r *state.Request, a sink.Answer, took time.Duration) {
	defer d.nudge()
	now := d.now()
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.ended() {
		return
	}
	first := a.Of(0)
	d.troubles.answeredLocked(first, now)
	if first.Verdict != sink.Retry {
		d.callTime += (took/time.Duration(r.Send.Calls()) - d.callTime) / 8
	}
	d.settleLocked(r, a, now)
}

// settleLocked frees the sender, and settles each contact; an import's are settled when it ends.
//
// +checklocks:d.mu
func (d *delivery) settleLocked(r *state.Request, a sink.Answer, now time.Time) {
	d.free++
	delete(d.troubles.calling, r)
	if r.Kind == sink.Import && d.imports.sentLocked(r, a, now) {
		return
	}
	d.outcomesLocked(r, a.Of, now)
	d.table.Close(r)
	d.changedLocked(now)
}

// healthyFor is how long after a success a failure may be a contact's own. In an outage nobody succeeds any more, and
// nobody has failed alone for state.AloneFor by then.
const healthyFor = state.AloneFor / 3

// outcomesLocked settles every contact of a request and draws the consequences.
//
// +checklocks:d.mu
func (d *delivery) outcomesLocked(r *state.Request, of func(i int) sink.Outcome, now time.Time) {
	for i := range r.Taken {
		o := of(i)
		d.meters.outcomes[o.Verdict].Inc()
		switch o.Verdict {
		case sink.Applied:
			d.lastApplied = now
		case sink.Halt:
			d.holds.haltLocked(o, now)
		default:
		}
		s := d.table.Settle(r, i, o, now.Sub(d.lastApplied) < healthyFor, now)
		switch {
		case s.Delivered:
			d.deliveredLocked(r, s, now)
		case s.Rejected:
			d.rejectedLocked(r, s, now)
		}
	}
}

// deliveredLocked counts a contact that was delivered.
//
// +checklocks:d.mu
func (d *delivery) deliveredLocked(r *state.Request, s state.Settlement, now time.Time) {
	d.breaker.deliveredLocked()
	switch r.Kind {
	case sink.Remove, sink.Delete:
		d.counts.Removed++
	case sink.Update:
		d.counts.Updated++
	default:
		d.counts.Upserted++
	}
	if s.Taken.Since > 0 {
		took := now.Sub(time.UnixMilli(s.Taken.Since))
		d.meters.freshness.Observe(took.Seconds())
		for _, list := range r.Lists {
			d.fresh.note(list, took)
		}
		if r.Send != nil { // else it is an import that was taken over
			for _, list := range r.Send.Unlink {
				d.fresh.note(list, took)
			}
		}
	}
}

// rejectedLocked makes the dead letter of a contact that the destination refused.
//
// +checklocks:d.mu
func (d *delivery) rejectedLocked(r *state.Request, s state.Settlement, now time.Time) {
	d.counts.Rejected++
	topic := d.table.TopicName(s.Position.Topic)
	d.letters.addLocked(deadletter.At(d.cfg.DeadLetters, topic, s.Position.Partition, s.Position.Offset, deadletter.Reason{
		Connection: d.cfg.Name, Export: d.exportsOf(r), Class: deadletter.Rejected, Code: s.Code, Message: s.Outcome.Message, Masked: s.Mask,
	}), deadletter.Rejected, deadletter.Rejected.Fault(), now)
}

// exportsOf names the exports whose lists a request was for.
func (d *delivery) exportsOf(r *state.Request) string {
	for _, x := range d.cfg.Exports {
		if slices.Contains(r.Lists, x.List) {
			return x.Name
		}
	}
	return ""
}
