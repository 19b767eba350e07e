package connector

import (
	"context"
	"errors"
	"time"

	"go.uber.org/zap"

	"segsync/sink"
)

// Reasons of a halt: too many rejects; a list that does not exist any more.
const (
	codeBreaker  = "breaker"
	codeListGone = "list_gone"
)

// halt is why nothing is sent for a list (or the account), and how to mend it.
type halt struct {
	code, mend string
	next       time.Time // when it is tried again
	tries      int
	manual     bool // only a command or a restart ends it
}

// mends says what to do about a halt, by its code.
func mends(o sink.Outcome) string {
	switch o.Code {
	case "blocked_ip":
		return "the account blocks this IP address: authorise it in the account's security settings, or send through a fixed address with HTTPS_PROXY"
	case codeListGone:
		return "the list does not exist any more: make it again, or point the export at another list"
	case "not_enough_credits":
		return "the account's contract is used up: extend it"
	case "redirect":
		return o.Message
	}
	return "the account refuses the key: check that it is valid and may write contacts and lists (" + o.Message + ")"
}

// halt stops what is sent for a list or the account. Under the lock.
func (e *engine) halt(o sink.Outcome, now time.Time) {
	if _, ok := e.halts[o.List]; ok {
		return
	}
	h := &halt{code: o.Code, mend: mends(o), next: now.Add(e.cfg.Times.Probe)}
	e.halts[o.List] = h
	e.table.Hold(o.List, o.Code, now)
	e.haltGauge(o.List, o.Code, 1)
	e.log.Error("halted", zap.Int64("list", o.List), zap.String("code", o.Code), zap.String("mend", h.mend))
}

func (e *engine) haltGauge(list int64, code string, v float64) {
	e.cfg.Metrics.Halted.WithLabelValues(e.cfg.Name, listLabel(list), code).Set(v)
}

// haltAll halts the connection until it is restarted. Under the lock.
func (e *engine) haltAll(code, mend string, now time.Time) {
	e.halts[0] = &halt{code: code, mend: mend, manual: true}
	e.table.Hold(0, code, now)
	e.haltGauge(0, code, 1)
	e.log.Error("halted", zap.String("code", code), zap.String("mend", mend))
}

// haltSource stops reading a source. Under the lock.
func (e *engine) haltSource(source int, mend string) {
	if e.sourceHalts[source] != "" {
		return
	}
	e.sourceHalts[source] = mend
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
	e.log.Error("reading a source is halted", zap.String("source", e.cfg.Sources[source].Name), zap.String("mend", mend))
}

// probe tries halted lists again, slowly.
func (e *engine) probe() {
	t := time.NewTicker(time.Second)
	defer t.Stop()
	for {
		select {
		case <-e.ctx.Done():
			return
		case <-t.C:
		}
		if e.keyChanged() {
			e.checkAccount()
		}
		if list, ok := e.dueProbe(time.Now()); ok {
			e.probeList(list)
		}
	}
}

// dueProbe picks a halt to try, and lets a tripped breaker go again.
func (e *engine) dueProbe(now time.Time) (int64, bool) {
	e.mu.Lock()
	defer e.mu.Unlock()
	for list, h := range e.halts {
		if h.manual || now.Before(h.next) {
			continue
		}
		if h.code == codeBreaker {
			e.breaker.reset()
			e.unhalt(list, now)
			continue
		}
		h.tries++
		h.next = now.Add(min(e.cfg.Times.Probe<<min(h.tries, 10), e.cfg.Times.ProbeMost))
		return list, true
	}
	return 0, false
}

// unhalt lets a list or the account go again. Under the lock.
func (e *engine) unhalt(list int64, now time.Time) {
	h, ok := e.halts[list]
	if !ok {
		return
	}
	delete(e.halts, list)
	e.table.Hold(list, "", now)
	e.haltGauge(list, h.code, 0)
	e.log.Info("resumed", zap.Int64("list", list), zap.String("code", h.code))
	e.nudge()
	go e.throttle()
}

// probeList asks for a list, which also proves the key and the address.
func (e *engine) probeList(list int64) {
	e.mu.Lock()
	h := e.halts[list]
	e.mu.Unlock()
	if h != nil && h.code == codeAccountUnchecked {
		e.checkAccount()
		return
	}
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
		e.unhalt(list, time.Now())
	}
}
