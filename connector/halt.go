package connector

import (
	"context"
	"errors"
	"time"

	"segsync/connector/backoff"
	"segsync/connector/changelog"
	"segsync/sink"

	"github.com/twmb/franz-go/pkg/kadm"
)

// mends says what to do about an answer that holds a list or the account, by its code.
func mends(o sink.Outcome) string {
	switch o.Code {
	case "blocked_ip":
		return o.Message + ": authorise this IP address in the account's security settings, or send through a fixed address with HTTPS_PROXY"
	case codeListGone:
		return "the list does not exist any more: make it again, or point the export at another list"
	case "not_enough_credits":
		return "the account's contract is used up: extend it"
	case "redirect":
		return o.Message
	}
	return "the account refuses the key: check that it is valid and may write contacts and lists (" + o.Message + ")"
}

// halt holds a list or the account because of an answer. Under the lock.
func (e *engine) halt(o sink.Outcome, now time.Time) {
	e.holds.add(holdKey{place{list: o.List}, o.Code}, hold{mend: mends(o), probes: true, next: now.Add(e.cfg.Times.Probe)}, now)
}

// haltSource stops reading a source. Under the lock.
func (e *engine) haltSource(source int, what, mend string) {
	e.holds.add(holdKey{place{source: e.cfg.Sources[source].Name}, what}, hold{mend: mend}, e.now())
	all := map[string][]int32{}
	for p, c := range e.cursors {
		if c.source == source {
			c.stopped = true
			all[p.topic] = append(all[p.topic], p.n)
		}
	}
	if e.reader != nil {
		e.reader.PauseFetchPartitions(all)
	}
}

// sourceHeld says whether reading of a source is stopped. Under the lock.
func (e *engine) sourceHeld(source int) bool {
	return e.holds.at(place{source: e.cfg.Sources[source].Name})
}

// probe tries again, slowly, what is held, and checks a key that has changed.
func (e *engine) probe() {
	t := time.NewTicker(time.Second)
	defer t.Stop()
	topic := e.now().Add(topicEvery)
	for {
		select {
		case <-e.ctx.Done():
			return
		case <-t.C:
		}
		if now := e.now(); !now.Before(topic) {
			topic = now.Add(topicEvery)
			e.watchTopic()
		}
		e.watchKey()
		e.claimAccount()
		e.tellTroubles()
		if list, ok := e.dueProbe(e.now()); ok {
			e.probeList(list)
		}
	}
}

// topicEvery is how often the table's topic is looked at.
const topicEvery = 5 * time.Minute

// watchTopic tells of settings of the table's topic that will lose its rows. What is in memory is whole still.
func (e *engine) watchTopic() {
	ctx, cancel := context.WithTimeout(e.ctx, askCall)
	defer cancel()
	err := changelog.Check(ctx, kadm.NewClient(e.cl), e.changes.Topic())
	var wrong *changelog.TopicError
	k := holdKey{code: "table_topic"}
	e.mu.Lock()
	defer e.mu.Unlock()
	switch {
	case err == nil:
		e.holds.release(k, e.now())
	case errors.As(err, &wrong):
		e.holds.add(k, hold{mend: err.Error(), partial: true}, e.now())
	}
}

// dueProbe picks a list to ask for (0: the account), and lets a tripped breaker go again.
func (e *engine) dueProbe(now time.Time) (int64, bool) {
	e.mu.Lock()
	defer e.mu.Unlock()
	for k, h := e.holds.dueProbe(now); h != nil; k, h = e.holds.dueProbe(now) {
		if !h.probes {
			e.release(k, now)
			continue
		}
		h.tries++
		h.next = now.Add(backoff.Pause(e.cfg.Times.Probe, e.cfg.Times.ProbeMost, h.tries))
		return k.list, true
	}
	return 0, false
}

// release ends a reason, and what depends on it. Under the lock.
func (e *engine) release(k holdKey, now time.Time) {
	if !e.holds.release(k, now) {
		return
	}
	if k.code == codeBreaker {
		e.breaker.reset()
	}
	e.nudge() // the checkpointer lets reading go on
}

// probeList asks for a list, which also proves the key and the address; what the answer disproves is released.
func (e *engine) probeList(list int64) {
	ask := list
	if ask == 0 && len(e.cfg.Exports) > 0 {
		ask = e.cfg.Exports[0].List
	}
	ctx, cancel := context.WithTimeout(e.ctx, time.Minute)
	defer cancel()
	_, err := e.sender.List(ctx, ask)
	var o *sink.OutcomeError
	gone := errors.As(err, &o) && o.Outcome.Absent
	if err == nil || list == 0 && gone { // the account is well if it says that a list is gone
		e.mu.Lock()
		defer e.mu.Unlock()
		for k, h := range e.holds.all {
			if h.probes && k.list == list {
				e.release(k, e.now())
			}
		}
	}
}
