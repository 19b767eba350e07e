package engine

import (
	"encoding/json"
	"errors"
	"time"

	"go.uber.org/zap"

	"segsync/connector/backoff"
	"segsync/connector/plan"
	"segsync/sink"
)

// watcher looks at the imports and the export under way: one look serves them all. It is made when something should have
// ended, and in the long run never more often than the account allows.
//
// +checklocksalias:imports.mu=mu
// +checklocksalias:audits.mu=mu
type watcher struct {
	*core
	imports *imports
	audits  *audits
	woken   chan struct{}

	// +checklocks:mu
	pace plan.Pace
	// +checklocks:mu
	looks looks
	// +checklocks:mu
	wanted bool // a look, before an import can begin
	// +checklocks:mu
	suspect time.Time // until when an import that was lost may come all the same
	// +checklocks:mu
	clear time.Time // the last look that showed no unfinished process but our own
	// +checklocks:mu
	notClear time.Time // after one that did: when the next makes sense
	// +checklocks:mu
	strange int // such looks in a row
}

const (
	firstLook = time.Second     // how soon after its beginning something is looked at first
	clearFor  = 2 * time.Second // how long a look that shows no unfinished process of unknown making holds good
)

// rarer is how long after a look at something of unknown length that has run for so long the next one comes.
func rarer(ran time.Duration) time.Duration {
	if ran < 16*time.Second {
		return max(firstLook, ran)
	}
	return ran / 3
}

// looks is a bucket of looks at what is under way: so many may be made in a row before they are spaced as the account
// allows in the long run.
type looks struct {
	Left   float64   `json:"left"`
	Filled time.Time `json:"filled"`
}

// next is when there is a look.
func (l *looks) next(now time.Time, limits *sink.Limits) time.Time {
	most, every := float64(limits.LooksMost), limits.LookEvery
	if l.Filled.IsZero() || l.Filled.After(now) {
		*l = looks{most, now}
	}
	l.Left = min(most, l.Left+now.Sub(l.Filled).Seconds()/every.Seconds())
	l.Filled = now
	if l.Left >= 1 {
		return now
	}
	return now.Add(time.Duration((1 - l.Left) * float64(every)))
}

// watch looks as long as the epoch lasts.
func (w *watcher) watch() {
	timer := time.NewTimer(0)
	defer timer.Stop()
	failures := 0
	var again time.Time // not before: the last look failed
	for !w.ended() {
		now := w.now()
		at := w.next(now)
		if at.Before(again) {
			at = again
		}
		if pause := at.Sub(now); pause > 0 {
			timer.Reset(min(pause, time.Hour))
			select {
			case <-timer.C:
			case <-w.woken:
			case <-w.ctx.Done():
			}
			continue
		}
		if w.look() {
			failures, again = 0, time.Time{}
			continue
		}
		failures++
		again = w.now().Add(backoff.Pause(firstLook, w.cfg.Limits.LookEvery, failures))
	}
}

// wake lets the watcher ask anew when to look.
func (w *watcher) wake() {
	select {
	case w.woken <- struct{}{}:
	default:
	}
}

// wantLocked asks for a look, so that an import can begin.
//
// +checklocks:w.mu
func (w *watcher) wantLocked() {
	w.wanted = true
	w.wake()
}

// next is when to look; a day from now if there is nothing to look at.
func (w *watcher) next(now time.Time) time.Time {
	w.mu.Lock()
	defer w.mu.Unlock()
	at := now.Add(24 * time.Hour)
	for _, x := range w.imports.open {
		if due := x.due(&w.pace); !x.since.IsZero() && due.Before(at) {
			at = due
		}
	}
	left := w.looks.next(now, &w.cfg.Limits)
	spare := len(w.imports.open) == 0 || w.looks.Left > float64(w.cfg.Limits.LooksMost)/2 // the imports' looks serve it, too
	if x := w.audits.exporting; x != nil && !x.ended && spare && x.due().Before(at) {
		at = x.due()
	}
	if w.wanted && now.Before(at) {
		at = now
	}
	if at.Before(left) {
		return left
	}
	return at
}

// look makes one look and lets settle what has ended. It returns false if the look failed.
func (w *watcher) look() bool {
	asked := w.now()
	w.takeLook(asked)
	all, err := w.sender.Processes(w.ctx)
	if err != nil {
		if !errors.Is(err, sink.ErrNoRoom) && !w.ended() {
			w.log.Warn("looking at the imports failed", zap.Error(err))
		}
		return false
	}
	byID := make(map[int64]sink.Process, len(all))
	for _, p := range all {
		byID[p.ID] = p
	}
	w.imports.looked(byID, w.strangers(all, asked), asked)
	w.audits.looked(byID)
	return true
}

// lookAt looks at one process, which is not among the newest.
func (w *watcher) lookAt(process int64) (sink.Process, error) {
	w.takeLook(w.now())
	return w.sender.Process(w.ctx, process)
}

func (w *watcher) takeLook(now time.Time) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.looks.Left--
	w.storeLocked(now)
}

// strangers are the unfinished processes that are none of ours. A look that shows none lets an import begin.
func (w *watcher) strangers(all []sink.Process, asked time.Time) (strangers []int64) {
	w.mu.Lock()
	defer w.mu.Unlock()
	ours := map[int64]bool{}
	for _, x := range w.imports.open {
		ours[x.r.Process] = true
	}
	if x := w.audits.exporting; x != nil {
		ours[x.process] = true
	}
	for _, p := range all {
		if !p.Done && !ours[p.ID] && !p.Export {
			strangers = append(strangers, p.ID)
		}
	}
	w.wanted = false
	if len(strangers) == 0 {
		w.clear, w.strange = asked, 0
		w.nudge()
		return nil
	}
	w.notClear = asked.Add(backoff.Pause(firstLook, w.cfg.Limits.LookEvery, w.strange))
	w.strange++
	return strangers
}

// suspectLocked notes until when an import that was lost may come all the same.
//
// +checklocks:w.mu
func (w *watcher) suspectLocked(until, now time.Time) {
	w.suspect = until
	w.storeLocked(now)
}

// measure notes how long an import took: it ended between two looks. One that had ended when it was expected to may have
// been quicker: the next is looked at a little sooner.
func (w *watcher) measure(x *importing, now time.Time) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if x.failures > 0 {
		return
	}
	took := now.Sub(x.began)
	late := took / 2
	if x.last.After(x.began) {
		late = now.Sub(x.last) / 2
	}
	if w.pace.Known() {
		late = min(late, took/12)
	}
	w.pace.Note(len(x.r.Taken), took-late)
	w.storeLocked(now)
}

// importsKey is the row with what a successor must know of imports.
const importsKey = "imports"

type importsRow struct {
	Pace    plan.Pace `json:"pace"`
	Looks   looks     `json:"looks"`
	Suspect time.Time `json:"suspect"` // until when an import that was lost may come all the same
}

// restoreLocked takes up what a predecessor knew.
//
// +checklocks:w.mu
func (w *watcher) restoreLocked() {
	var row importsRow
	if json.Unmarshal(w.table.Meta(importsKey), &row) == nil {
		w.pace, w.looks, w.suspect = row.Pace, row.Looks, row.Suspect
	}
}

// storeLocked is for the next checkpoint.
//
// +checklocks:w.mu
func (w *watcher) storeLocked(now time.Time) {
	if row, err := json.Marshal(importsRow{w.pace, w.looks, w.suspect}); err == nil {
		w.table.SetMeta(importsKey, row)
		w.changedLocked(now)
		w.nudge()
	}
}
