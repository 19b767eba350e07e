package connector

import (
	"fmt"
	"slices"
	"time"

	"segsync/connector/deadletter"
	"segsync/connector/state"
	"segsync/sink"
)

// announced notes that a request's announcement is committed: it may be sent. Under the lock.
func (e *engine) announced(r *state.Request, now time.Time) {
	if i, ok := e.imports[r.Number]; ok {
		i.began = now
	}
}

// send is a sender: it makes one call at a time, never repeats one, and settles what became of it.
func (e *engine) send() {
	for {
		select {
		case <-e.ctx.Done():
			return
		case r := <-e.requests:
			began := time.Now()
			if r.Kind != sink.Import {
				e.mu.Lock()
				e.calling[r] = e.now()
				e.mu.Unlock()
			}
			answer := sink.All(sink.Outcome{Verdict: sink.Retry, Certain: true, Code: "no_lease"})
			if e.lease.Valid() {
				// In an orderly end the call goes on to its answer; in a sudden one it is cut.
				answer = e.sender.Send(e.ctx, r.Send)
			} else {
				e.sender.Unreserve(r.Send.Calls())
			}
			e.settle(r, answer, time.Since(began))
		}
	}
}

// settle records the outcomes of a request. After the epoch's end nothing is recorded: the successor has found the
// request open, and its contacts unknown.
func (e *engine) settle(r *state.Request, a sink.Answer, took time.Duration) {
	defer e.nudge()
	now := e.now()
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.ctx.Err() != nil {
		return
	}
	e.free++
	delete(e.calling, r)
	first := a.Of(0)
	if first.Code != "no_lease" {
		e.answered(first, now)
	}
	if first.Verdict != sink.Retry {
		e.callTime += (took/time.Duration(r.Send.Calls()) - e.callTime) / 8
	}
	if r.Kind == sink.Import && (first.Verdict == sink.Accepted || first.Verdict == sink.Retry && !first.Certain) {
		e.accepted(r, a, now)
		return
	}
	delete(e.imports, r.Number)
	e.outcomes(r, a.Of, now)
	e.table.Close(r)
	e.changed(now)
}

// healthyFor is how long after a success a failure may be a contact's own. In an outage nobody succeeds any more, and
// nobody has failed alone for state.AloneFor by then.
const healthyFor = state.AloneFor / 3

// outcomes settles every contact of a request and draws the consequences. Under the lock.
func (e *engine) outcomes(r *state.Request, of func(i int) sink.Outcome, now time.Time) {
	for i := range r.Taken {
		o := of(i)
		e.cfg.Metrics.Outcomes.WithLabelValues(e.cfg.Name, o.Verdict.String()).Inc()
		switch o.Verdict {
		case sink.Applied:
			e.lastApplied = now
		case sink.Halt:
			e.halt(o, now)
		default:
		}
		s := e.table.Settle(r, i, o, now.Sub(e.lastApplied) < healthyFor, now)
		switch {
		case s.Delivered:
			e.delivered(r, s, now)
		case s.Rejected:
			e.rejected(r, s, now)
		}
	}
}

func (e *engine) delivered(r *state.Request, s state.Settlement, now time.Time) {
	e.breaker.note(false)
	switch r.Kind {
	case sink.Remove, sink.Delete:
		e.counts.Removed++
	case sink.Update:
		e.counts.Updated++
	default:
		e.counts.Upserted++
	}
	if s.Taken.Since > 0 {
		e.cfg.Metrics.Freshness.WithLabelValues(e.cfg.Name).Observe(now.Sub(time.UnixMilli(s.Taken.Since)).Seconds())
	}
}

// rejected writes the dead letter of a contact that the destination refused.
func (e *engine) rejected(r *state.Request, s state.Settlement, now time.Time) {
	e.counts.Rejected++
	topic := e.table.TopicName(s.Position.Topic)
	e.keepDead(deadletter.At(e.cfg.DeadLetters, topic, s.Position.Partition, s.Position.Offset, deadletter.Reason{
		Connection: e.cfg.Name, Export: e.exportsOf(r), Class: deadletter.Rejected, Code: s.Code, Message: s.Outcome.Message, Masked: s.Mask,
	}), deadletter.Rejected)
	e.reject(now)
}

// exportsOf names the exports whose lists a request was for.
func (e *engine) exportsOf(r *state.Request) string {
	for _, x := range e.cfg.Exports {
		if slices.Contains(r.Lists, x.List) {
			return x.Name
		}
	}
	return ""
}

// reject counts a reject of any stage; too many halt the connection. Under the lock.
func (e *engine) reject(now time.Time) {
	if e.breaker.note(true) {
		e.holds.add(holdKey{code: codeBreaker}, hold{mend: fmt.Sprintf("%d of the last %d records or contacts were rejected: look at the dead letters' reasons, mend the mapping or the source; it goes on by itself after %s", e.cfg.Breaker.Rejects, e.cfg.Breaker.OfLast, e.cfg.Times.BreakerRest), next: now.Add(e.cfg.Times.BreakerRest)}, now)
	}
}

// breaker counts rejects among the last outcomes.
type breaker struct {
	cfg     Breaker
	ring    []bool
	at      int
	rejects int
	open    bool
}

func newBreaker(cfg Breaker) breaker { return breaker{cfg: cfg, ring: make([]bool, cfg.OfLast)} }

// note counts an outcome and says whether it trips the breaker.
func (b *breaker) note(rejected bool) (trips bool) {
	if b.ring[b.at] {
		b.rejects--
	}
	b.ring[b.at] = rejected
	b.at = (b.at + 1) % len(b.ring)
	if rejected {
		b.rejects++
	}
	if b.open || b.rejects < b.cfg.Rejects {
		return false
	}
	b.open = true
	return true
}

func (b *breaker) reset() {
	clear(b.ring)
	b.rejects, b.at, b.open = 0, 0, false
}
