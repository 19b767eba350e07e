package connector

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"go.uber.org/zap"

	"segsync/connector/state"
	"segsync/sink"
)

// importing is an import that has not ended: announced, sent, or adopted from a dead owner. While there is one, no
// other is started, and nothing else touches its contacts, unless it was freed.
type importing struct {
	r        *state.Request
	began    time.Time
	lost     bool // its answer was lost, or its sender: it may be any of the account's unfinished ones
	since    time.Time
	failures int // of settling it, once it has ended
}

// accepted notes an import's process, or that its answer was lost. Under the lock.
func (e *engine) accepted(r *state.Request, a sink.Answer, now time.Time) {
	i, ok := e.imports[r.Number]
	if !ok {
		i = &importing{r: r, began: now}
		e.imports[r.Number] = i
	}
	i.since = now
	i.lost = a.Process == 0
	if !i.lost {
		e.table.Accepted(r, a.Process)
		e.counts.Imports++
	} else {
		e.log.Warn("the answer to an import was lost: its contacts wait until it can have ended", zap.Int("contacts", len(r.Taken)))
	}
	e.changed(now)
	select {
	case e.look <- struct{}{}:
	default:
	}
}

// looks is how many looks may be made in a row before they are spaced as the budget allows in the long run.
const looks = 20

// watch follows the imports under way: one look serves them all, no more often than the scarce budget allows: it keeps
// to a bucket of looks that refills at the budget's own pace, so that the hour's are never used up.
func (e *engine) watch() {
	var pause time.Duration
	left, filled := float64(looks), time.Now()
	for {
		if n := e.unfinished(); n == 0 {
			pause = 0
			select {
			case <-e.look:
			case <-e.ctx.Done():
				return
			}
		}
		pause = e.nextLook(pause)
		left = min(looks, left+time.Since(filled).Seconds()/e.limits.LookEvery.Seconds())
		filled = time.Now()
		if left < 1 {
			pause = max(pause, e.limits.LookEvery)
		}
		sleep(e.ctx, pause)
		if e.ctx.Err() != nil {
			return
		}
		left--
		e.lookAtImports()
	}
}

// nextLook spaces the looks at one import: soon at first, then as the budget allows in the long run.
func (e *engine) nextLook(last time.Duration) time.Duration {
	if last == 0 {
		return min(e.limits.LookEvery, 2*time.Second)
	}
	return min(last*3/2, max(e.limits.LookEvery, time.Millisecond))
}

// unfinished is how many imports are sent and not settled.
func (e *engine) unfinished() (n int) {
	e.mu.Lock()
	defer e.mu.Unlock()
	for _, i := range e.imports {
		if !i.since.IsZero() {
			n++
		}
	}
	return n
}

// lookAtImports makes one look and settles what has ended. Each of its calls has an end; reading a long list back, which
// is many, may take its time.
func (e *engine) lookAtImports() {
	ctx := e.ctx
	all, err := e.sender.Processes(ctx)
	if err != nil {
		if !errors.Is(err, sink.ErrNoRoom) && e.ctx.Err() == nil {
			e.log.Warn("looking at the imports failed", zap.Error(err))
		}
		return
	}
	byID := make(map[int64]sink.Process, len(all))
	var strangers []int64 // unfinished processes that are none of ours
	for _, p := range all {
		byID[p.ID] = p
	}
	e.mu.Lock()
	known := map[int64]bool{}
	var ours []*importing
	for _, i := range e.imports {
		if !i.since.IsZero() {
			ours = append(ours, i)
			known[i.r.Process] = true
		}
	}
	e.mu.Unlock()
	for _, p := range all {
		if !p.Done && !known[p.ID] {
			strangers = append(strangers, p.ID)
		}
	}
	for _, i := range ours {
		switch p, listed := byID[i.r.Process]; {
		case i.lost:
			e.abandonWhenSafe(i, strangers)
			continue
		case !listed: // more than a page of newer ones
			if p, err = e.sender.Process(ctx, i.r.Process); err != nil {
				continue
			}
			e.followed(ctx, i, p)
		default:
			e.followed(ctx, i, p)
		}
	}
}

// abandonWhenSafe makes the contacts of a lost import unknown once it cannot be under way any more: every unfinished
// process that could be it has ended, and it cannot appear any more.
func (e *engine) abandonWhenSafe(i *importing, strangers []int64) {
	now := e.now()
	if len(strangers) > 0 {
		e.unended(i, "the answer to an import was lost, and import processes that may be it have not ended", strangers, now)
		return
	}
	if now.Sub(i.since) < e.cfg.Times.LateApply {
		return
	}
	e.abandon(i, now)
}

// abandon forgets an import whose contacts are unknown from now on.
func (e *engine) abandon(i *importing, now time.Time) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.ctx.Err() != nil {
		return
	}
	delete(e.imports, i.r.Number)
	e.holds.release(importsStuck, now)
	e.table.Abandon(i.r, now)
	e.changed(now)
	e.nudge()
}

// followed draws the consequences of what a look says of an import.
func (e *engine) followed(ctx context.Context, i *importing, p sink.Process) {
	now := e.now()
	switch {
	case !p.Done:
		e.unended(i, "an import has not ended", []int64{p.ID}, now)
	case i.r.Freed(): // whatever it has done came in between
		e.abandon(i, now)
	case p.Failed:
		e.endImport(i, now, func(int) sink.Outcome {
			return sink.Outcome{Verdict: sink.Retry, Code: "import_failed", Message: "the import failed or was cancelled", Split: true}
		})
	default:
		e.completed(ctx, i, p)
	}
}

// unended halts imports if one has not ended for too long, in this process or a former one, and frees its contacts if
// that was asked for.
func (e *engine) unended(i *importing, what string, processes []int64, now time.Time) {
	if now.Sub(i.r.At) <= e.cfg.Times.ImportStuck {
		return
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	e.holds.add(importsStuck, hold{mend: fmt.Sprintf("%s within %s (process %s): no other is started; ask Sendinblue's support about it, or let its contacts go with segsync retry", what, e.cfg.Times.ImportStuck, strings.Trim(fmt.Sprint(processes), "[]"))}, now)
	if e.ctx.Err() == nil && e.table.Free(i.r, now) {
		e.log.Info("the contacts of an import that has not ended are sent again", zap.Int("contacts", len(i.r.Taken)))
		e.changed(now)
		e.nudge()
	}
}

var importsStuck = holdKey{place{imports: true}, codeImportStuck}

// endImport settles an import and forgets it.
func (e *engine) endImport(i *importing, now time.Time, of func(int) sink.Outcome) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.ctx.Err() != nil {
		return
	}
	delete(e.imports, i.r.Number)
	e.holds.release(importsStuck, now)
	took := now.Sub(i.began)
	e.importTime += (took - e.importTime) / 2
	e.outcomes(i.r, of, now)
	e.table.Close(i.r)
	e.changed(now)
	e.nudge()
}
