package connector

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"time"

	"go.uber.org/zap"

	"segsync/connector/backoff"
	"segsync/connector/state"
	"segsync/sink"
)

// Audit is when lists are compared with what was delivered into them.
type Audit struct {
	AfterImports bool          // when a phase of imports has ended
	Every        time.Duration // on a schedule; 0: not
	Repair       bool          // who is missing is put back, and attributes that others have changed
}

const (
	auditEvery   = time.Second      // how often it is asked what is due
	auditRest    = 10 * time.Minute // between two audits of a list after imports
	auditSettles = 2 * time.Second  // after an import
	auditLate    = time.Hour        // after this an audit waits for no end of reading and of imports any more
	auditTries   = 3                // in a row, before doubtful removals go by calls
	auditPause   = time.Minute      // after a failure, at first
	auditMost    = 30 * time.Minute
	exportMost   = time.Hour // how long an export may take
	doubtCalls   = 24        // more calls than this to take out whom others may have put in, and the list is read instead
)

// auditor is what is known of audits in this epoch, by list. Under the lock.
type auditor struct {
	exporting *exporting               // for the audit under way
	reading   int64                    // the list that is audited, or asked for its length; 0: none is
	asked     map[int64]time.Time      // when it was asked whether it is empty
	failures  map[int64]auditFailure   // of auditing it, in a row
	byCalls   map[int64]bool           // it can only be read by pages: doubtful removals go by calls
	found     map[int64]state.Findings // by the last audit, with examples
}

func newAuditor() auditor {
	return auditor{asked: map[int64]time.Time{}, failures: map[int64]auditFailure{}, byCalls: map[int64]bool{}, found: map[int64]state.Findings{}}
}

// exporting is an export under way.
type exporting struct {
	process int64
	began   time.Time
	last    time.Time // the last look that did not find it ended
	ended   bool
	done    chan sink.Process
}

// due is when to look at an export.
func (x *exporting) due() time.Time {
	if x.last.IsZero() {
		return x.began.Add(firstLook)
	}
	return x.last.Add(rarer(x.last.Sub(x.began)))
}

// followExport takes up what a look says of the export under way.
func (e *engine) followExport(byID map[int64]sink.Process) {
	e.mu.Lock()
	x := e.auditor.exporting
	e.mu.Unlock()
	if x == nil {
		return
	}
	p, listed := byID[x.process]
	if !listed {
		var err error
		if p, err = e.lookAt(x.process); err != nil {
			p = sink.Process{}
		}
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	x.last = e.now()
	if p.Done && !x.ended {
		x.ended = true
		x.done <- p // there is room
	}
}

// audits is the auditor: one list at a time, live traffic first.
func (e *engine) audits() {
	t := time.NewTicker(auditEvery)
	defer t.Stop()
	for {
		select {
		case <-t.C:
		case <-e.ctx.Done():
			return
		}
		switch list, asks := e.dueAudit(); {
		case list == 0:
		case asks:
			e.askEmpty(list)
		default:
			e.mu.Lock()
			pages := e.auditor.failures[list].tries >= auditTries-1
			e.mu.Unlock()
			e.audited(list, e.audit(list, pages))
		}
	}
}

// auditFailure is how often in a row a list could not be audited, and when that is tried again.
type auditFailure struct {
	tries int
	again time.Time
}

// audited notes how an audit ended.
func (e *engine) audited(list int64, err error) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.ctx.Err() != nil {
		return
	}
	if err == nil {
		delete(e.auditor.failures, list)
		return
	}
	e.cfg.Metrics.Audits.WithLabelValues(e.cfg.Name, "failed").Inc()
	f := e.auditor.failures[list]
	f.again = e.now().Add(backoff.Pause(auditPause, auditMost, f.tries))
	f.tries++
	e.auditor.failures[list] = f // after some tries doubtful removals go by calls
	e.log.Warn("a list could not be audited", zap.Int64("list", list), zap.Int("tries", f.tries), zap.Error(err))
}

// dueAudit picks a list to audit, the one whose last audit is the oldest; 0: none is due. asks says that it should be asked first whether the list is empty.
func (e *engine) dueAudit() (list int64, asks bool) {
	e.mu.Lock()
	defer e.mu.Unlock()
	now := e.now()
	if e.draining.Load() || e.holds.at(place{}) {
		return 0, false
	}
	behind := e.behind()
	bulk := behind || len(e.imports) > 0 || now.Sub(e.imported) < auditSettles || e.bulkPays(e.table.Waiting(), now)
	var oldest time.Time
	for _, l := range e.table.Lists() {
		if e.holds.at(place{list: l}) {
			continue
		}
		if e.perhapsEmpty(l, now) {
			return l, true
		}
		if now.Before(e.auditor.failures[l].again) {
			continue
		}
		last := e.lastAudit(l, now)
		waited := now.Sub(last)
		if list != 0 && !last.Before(oldest) {
			continue
		}
		if e.doubtful(l) && (!behind || waited > auditRest) || (!bulk || waited > auditLate) && (e.importsUnseen(l, now) || e.scheduled(l, now)) {
			list, oldest = l, last
		}
	}
	return list, false
}

// lastAudit is when the last audit of a list began; without one, since when audits of it are known of. Under the lock.
func (e *engine) lastAudit(list int64, now time.Time) time.Time {
	a := e.table.AuditOf(list)
	if a.First.IsZero() {
		a.First = now
		e.table.SetAudit(list, a)
		e.changed(now)
		e.nudge()
	}
	if a.Began.IsZero() {
		return a.First
	}
	return a.Began
}

// importsUnseen says whether a list is to be audited for the imports that have ended. A bounded run does not rest: what
// they have lost is found before it ends. Under the lock.
func (e *engine) importsUnseen(list int64, now time.Time) bool {
	a := e.table.AuditOf(list)
	return e.cfg.Audit.AfterImports && a.Due && (a.Began.IsZero() || e.c.bounded || now.Sub(a.Began) >= auditRest)
}

// scheduled says whether a list of an export is to be audited because the last audit was long ago. Under the lock.
func (e *engine) scheduled(list int64, now time.Time) bool {
	fed := slices.ContainsFunc(e.cfg.Exports, func(x Export) bool { return x.List == list })
	return fed && e.cfg.Audit.Every > 0 && now.Sub(e.lastAudit(list, now)) >= e.cfg.Audit.Every
}

// auditOwed says whether a bounded run is not done before a list was audited. Under the lock.
func (e *engine) auditOwed(now time.Time) bool {
	return slices.ContainsFunc(e.table.Lists(), func(l int64) bool {
		held := e.table.DoubtsHeld(l) || e.perhapsEmpty(l, now)
		return !e.holds.at(place{list: l}) && (held || e.auditor.failures[l].tries < auditTries && (e.doubtful(l) || e.importsUnseen(l, now)))
	})
}

// doubtful says whether so many may have been put into a list by others, and are to leave it, that reading the list is
// cheaper than taking them out. Under the lock.
func (e *engine) doubtful(list int64) bool {
	return e.table.Doubts(list) > doubtCalls*e.limits.Batch && e.auditor.failures[list].tries < auditTries && !e.auditor.byCalls[list]
}

// perhapsEmpty says whether the account should be asked whether a list is empty before more than a few are taken out in
// case others have put them in. Under the lock.
func (e *engine) perhapsEmpty(list int64, now time.Time) bool {
	return e.table.Doubts(list) > e.limits.Batch && e.table.Empty(list) && now.Sub(e.auditor.asked[list]) > time.Minute && !e.behind()
}

// holdDoubts keeps such removals back until the list was read, or the account was asked. Under the lock, before anything
// is planned.
func (e *engine) holdDoubts(now time.Time) {
	for _, l := range e.table.Lists() {
		reads := e.auditor.reading == l && e.table.DoubtsHeld(l)
		e.table.HoldDoubts(l, reads || e.doubtful(l) || e.perhapsEmpty(l, now), now)
	}
}

// askEmpty asks whether a list is empty, into which nothing of ours is under way: then nobody is to be taken out of it.
func (e *engine) askEmpty(list int64) {
	asked := e.now()
	info, err := e.sender.List(e.ctx, list)
	e.mu.Lock()
	e.auditor.asked[list], e.auditor.reading = asked, list
	still := err == nil && info.Contacts == 0 && e.table.Empty(list)
	e.mu.Unlock()
	for from, more := uint32(0), still; more && e.ctx.Err() == nil; {
		e.mu.Lock()
		from = e.table.SettleEmpty(list, from, asked, e.now())
		more = from != 0
		e.changed(e.now())
		e.mu.Unlock()
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	e.auditor.reading = 0
	e.nudge()
}

// audit reads a list and settles what is found.
func (e *engine) audit(list int64, pages bool) error {
	now := e.now()
	e.mu.Lock()
	a := e.table.BeginAudit(list, e.cfg.Audit.Repair, now)
	e.auditor.reading = list
	attributes := e.auditable(list)
	e.mu.Unlock()
	defer func() {
		e.mu.Lock()
		defer e.mu.Unlock()
		e.auditor.exporting, e.auditor.reading = nil, 0
		e.table.EndAudit()
		e.nudge()
	}()
	c := comparison{a: a, mu: &e.mu, sender: e.sender, pages: pages, now: e.now, after: func() { e.changed(e.now()); e.nudge() }}
	if err := c.run(e.ctx, list, attributes, e.awaitExport); err != nil {
		e.auditGone(list, err)
		return err
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.ctx.Err() != nil {
		return e.ctx.Err()
	}
	a.Close()
	e.auditor.byCalls[list] = a.Paged()
	e.auditor.found[list] = a.Found
	e.changed(e.now())
	e.cfg.Metrics.Audits.WithLabelValues(e.cfg.Name, "finished").Inc()
	tell := e.log.Info
	if a.Found.Wrong() > 0 {
		tell = e.log.Warn
	}
	f := a.Found
	tell("a list was audited", zap.Int64("list", list), zap.Int("listed", f.Listed), zap.Int("lost", f.Lost), zap.Int("missing", f.Missing), zap.Int("changed", f.Changed), zap.Int("extra", f.Extra),
		zap.Int("unsubscribed", f.Unsubscribed), zap.Int("settled", f.Settled), zap.Int("skipped", f.Skipped), zap.Duration("took", e.now().Sub(a.Began).Round(time.Second)))
	return nil
}

// auditGone holds a list that does not exist any more.
func (e *engine) auditGone(list int64, err error) {
	var o *sink.OutcomeError
	if errors.As(err, &o) && o.Outcome.Absent {
		e.mu.Lock()
		defer e.mu.Unlock()
		e.halt(sink.Outcome{Verdict: sink.Halt, Code: codeListGone, List: list, Message: "the list does not exist"}, e.now())
	}
}

// auditable are the attributes of a list's exports whose form in an export is known. Under the lock.
func (e *engine) auditable(list int64) []string {
	return e.cfg.auditable(list, e.types)
}

func (c *Config) auditable(list int64, types map[string]sink.AttributeType) []string {
	all := map[string]bool{}
	for _, x := range c.Exports {
		if x.List != list {
			continue
		}
		for _, a := range x.Attributes {
			switch types[a] {
			case sink.Text, sink.Date, sink.Float, sink.Boolean:
				all[a] = true
			case sink.Category, sink.MultipleChoice:
			}
		}
	}
	return slices.Sorted(maps.Keys(all))
}

// awaitExport waits until the watcher sees that an export has ended.
func (e *engine) awaitExport(ctx context.Context, process int64) (sink.Process, error) {
	x := &exporting{process: process, began: e.now(), done: make(chan sink.Process, 1)}
	e.mu.Lock()
	e.auditor.exporting = x
	e.mu.Unlock()
	e.wakeWatcher()
	most := time.NewTimer(exportMost)
	defer most.Stop()
	select {
	case p := <-x.done:
		return p, nil
	case <-most.C:
		return sink.Process{}, fmt.Errorf("the export (process %d) has not ended within %s", process, exportMost)
	case <-ctx.Done():
		return sink.Process{}, ctx.Err()
	}
}
