package connector

import (
	"errors"
	"time"

	"go.uber.org/zap"

	"segsync/connector/backoff"
	"segsync/sink"
)

// sight is what looks at the account's processes have shown, and when to look. Under the lock.
type sight struct {
	pace     pace
	looks    looks
	wanted   bool      // a look, before an import can begin
	suspect  time.Time // until when an import that was lost may come all the same
	clear    time.Time // the last look that showed no unfinished process but our own
	notClear time.Time // after one that did: when the next makes sense
	strange  int       // such looks in a row
}

// watch follows the imports and the export under way: one look serves them all. It is made when something should have
// ended, and in the long run never more often than the account allows.
func (e *engine) watch() {
	timer := time.NewTimer(0)
	defer timer.Stop()
	failures := 0
	var again time.Time // not before: the last look failed
	for e.ctx.Err() == nil {
		now := e.now()
		at := e.nextLook(now)
		if at.Before(again) {
			at = again
		}
		if pause := at.Sub(now); pause > 0 {
			timer.Reset(min(pause, time.Hour))
			select {
			case <-timer.C:
			case <-e.look:
			case <-e.ctx.Done():
			}
			continue
		}
		if e.lookAround() {
			failures, again = 0, time.Time{}
			continue
		}
		failures++
		again = e.now().Add(backoff.Pause(firstLook, e.limits.LookEvery, failures))
	}
}

// nextLook is when to look; a day from now if there is nothing to look at.
func (e *engine) nextLook(now time.Time) time.Time {
	e.mu.Lock()
	defer e.mu.Unlock()
	at := now.Add(24 * time.Hour)
	sooner := func(t time.Time) {
		if t.Before(at) {
			at = t
		}
	}
	for _, i := range e.imports {
		if !i.since.IsZero() {
			sooner(i.due(&e.sight.pace))
		}
	}
	left := e.sight.looks.next(now, &e.limits)
	if x := e.auditor.exporting; x != nil && !x.ended && (len(e.imports) == 0 || e.sight.looks.Left > float64(e.limits.LooksMost)/2) { // the imports' looks serve it, too
		sooner(x.due())
	}
	if e.sight.wanted {
		sooner(now)
	}
	if at.Before(left) {
		return left
	}
	return at
}

// lookAround makes one look and settles what has ended. It returns false if the look failed.
func (e *engine) lookAround() bool {
	asked := e.now()
	e.mu.Lock()
	e.sight.looks.Left--
	e.storePace(asked)
	e.mu.Unlock()
	all, err := e.sender.Processes(e.ctx)
	if err != nil {
		if !errors.Is(err, sink.ErrNoRoom) && e.ctx.Err() == nil {
			e.log.Warn("looking at the imports failed", zap.Error(err))
		}
		return false
	}
	byID := make(map[int64]sink.Process, len(all))
	for _, p := range all {
		byID[p.ID] = p
	}
	strangers := e.strangers(all, asked)
	e.follow(byID, strangers, asked)
	e.followExport(byID)
	return true
}

// lookAt looks at one process, which is not among the newest.
func (e *engine) lookAt(process int64) (sink.Process, error) {
	e.mu.Lock()
	e.sight.looks.Left--
	e.mu.Unlock()
	return e.sender.Process(e.ctx, process)
}

// strangers are the unfinished processes that are none of ours. A look that shows none lets an import begin.
func (e *engine) strangers(all []sink.Process, asked time.Time) (strangers []int64) {
	e.mu.Lock()
	defer e.mu.Unlock()
	ours := map[int64]bool{}
	for _, i := range e.imports {
		ours[i.r.Process] = true
	}
	if x := e.auditor.exporting; x != nil {
		ours[x.process] = true
	}
	for _, p := range all {
		if !p.Done && !ours[p.ID] && !p.Export {
			strangers = append(strangers, p.ID)
		}
	}
	e.sight.wanted = false
	if len(strangers) == 0 {
		e.sight.clear, e.sight.strange = asked, 0
		e.nudge()
		return nil
	}
	e.sight.notClear = asked.Add(backoff.Pause(firstLook, e.limits.LookEvery, e.sight.strange))
	e.sight.strange++
	return strangers
}

// wakeWatcher lets the watcher ask anew when to look.
func (e *engine) wakeWatcher() {
	select {
	case e.look <- struct{}{}:
	default:
	}
}
