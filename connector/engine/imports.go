package engine

import (
	"context"
	"fmt"
	"strings"
	"time"

	"go.uber.org/zap"

	"segsync/connector/plan"
	"segsync/connector/state"
	"segsync/sink"
)

// importing is an import that has not ended: announced, sent, or adopted from a dead owner. While there is one, no
// other is started, and nothing else touches its contacts, unless it was freed.
type importing struct {
	r        *state.Request
	began    time.Time
	lost     bool      // its answer was lost, or its sender: it may be any of the account's unfinished ones
	since    time.Time // sent, lost or adopted: it is looked for; zero: it is not sent yet
	last     time.Time // the last look that did not find it ended
	failures int       // of fetching its reports, once it has ended
}

// imports are those that have not ended, from their plan to their outcome: planned → announced → sent → followed by the
// watcher → settled. What is lost, and what does not end, is told here.
//
// Races: an import is posted, its answer is lost, no process is in sight for 15 s, its contacts are sent again, it comes all
// the same: their late re-send mends what it does, and no other begins without a look until then. An import does not end,
// its contacts are freed and sent again, it ends: they are unknown once more. An import is posted, the owner dies, the next
// one adopts it: whoever it holds waits for its end, and nobody repeats it.
//
// +checklocksalias:holds.mu=mu
// +checklocksalias:delivery.mu=mu
// +checklocksalias:watcher.mu=mu
type imports struct {
	*core
	holds    *holds
	delivery *delivery
	watcher  *watcher

	// +checklocks:mu
	open map[uint64]*importing
	// +checklocks:mu
	lastEnd time.Time
}

// inSight is how long after it was lost an import without a known process must have come in sight: after that its
// contacts go on, and what it does when it comes later all the same is mended by their late re-send.
const inSight = 15 * time.Second

var importsStuck = holdKey{place{imports: true}, codeImportStuck}

// due is when to look at an import: when it should have ended, as measured; then ever more seldom.
func (i *importing) due(p *plan.Pace) time.Time {
	rows := len(i.r.Taken)
	switch {
	case i.lost && i.last.IsZero():
		return i.since.Add(firstLook)
	case i.lost:
		next, sight := i.last.Add(rarer(i.last.Sub(i.since))), i.since.Add(inSight)
		if i.last.Before(sight) && next.After(sight) {
			return sight
		}
		return next
	}
	first := i.since.Add(firstLook)
	if p.Known() {
		if should := i.began.Add(p.Of(rows)); should.After(first) {
			first = should
		}
	}
	if i.last.Before(first) {
		return first
	}
	if p.Known() {
		return i.last.Add(max(firstLook, p.Of(rows)/20, i.last.Sub(first)))
	}
	return i.last.Add(rarer(i.last.Sub(i.since)))
}

// factsLocked are what the planner must know of imports: one at a time; and as long as one that was lost may come yet,
// only right after a look at the account that shows none.
//
// +checklocks:i.mu
func (i *imports) factsLocked(now time.Time) plan.Imports {
	w := i.watcher
	f := plan.Imports{Open: len(i.open), Takes: w.pace.Of, After: w.notClear}
	f.Begin = f.Open == 0 && (!now.Before(w.suspect) || now.Sub(w.clear) < clearFor)
	f.Never = i.holds.hasLocked(importsStuck) || w.strange > 0 && now.Before(w.suspect)
	for _, x := range i.open {
		switch {
		case x.r.Freed(): // it may never end
			f.Never = true
		case x.lost:
			f.Ahead += (inSight - now.Sub(x.since)).Abs()
		default: // one that is overdue takes as much longer, perhaps
			f.Ahead += (w.pace.Of(len(x.r.Taken)) - now.Sub(x.began)).Abs()
		}
	}
	return f
}

// plannedLocked takes up an import that was planned.
//
// +checklocks:i.mu
func (i *imports) plannedLocked(r *state.Request, now time.Time) {
	i.open[r.Number] = &importing{r: r, began: now}
}

// droppedLocked forgets one whose plan was not committed.
//
// +checklocks:i.mu
func (i *imports) droppedLocked(r *state.Request) { delete(i.open, r.Number) }

// announcedLocked notes that an import's announcement is committed: it may be sent.
//
// +checklocks:i.mu
func (i *imports) announcedLocked(r *state.Request, now time.Time) {
	if x, ok := i.open[r.Number]; ok {
		x.began = now
	}
}

// sentLocked takes up the answer to an import: its process, or that it was lost. It returns false if the import certainly
// was not taken.
//
// +checklocks:i.mu
func (i *imports) sentLocked(r *state.Request, a sink.Answer, now time.Time) bool {
	first := a.Of(0)
	if first.Verdict != sink.Accepted && (first.Verdict != sink.Retry || first.Certain) {
		delete(i.open, r.Number)
		return false
	}
	x, ok := i.open[r.Number]
	if !ok {
		x = &importing{r: r, began: now}
		i.open[r.Number] = x
	}
	x.since = now
	x.lost = a.Process == 0
	if !x.lost {
		i.table.Accepted(r, a.Process)
		i.counts.Imports++
	} else {
		i.log.Warn("the answer to an import was lost: it is looked for, and its contacts wait", zap.Int("contacts", len(r.Taken)))
	}
	i.changedLocked(now)
	i.watcher.wake()
	return true
}

// adoptLocked takes the unfinished imports of a dead owner over: nobody repeats them, their contacts wait for them. One
// without a process id may be any of the account's.
//
// +checklocks:i.mu
func (i *imports) adoptLocked(all []*state.Request, now time.Time) {
	for _, r := range all {
		began := r.At
		if began.After(now) {
			began = now
		}
		i.open[r.Number] = &importing{r: r, began: began, since: now, lost: r.Process == 0}
	}
}

// waitingLocked is how many pending contacts wait for an import.
//
// +checklocks:i.mu
func (i *imports) waitingLocked() (n int) {
	for _, x := range i.open {
		if x.r.Send != nil && !x.r.Freed() {
			n += len(x.r.Taken)
		}
	}
	return n
}

// looked takes up what a look says of the imports under way. strangers are unfinished processes that are none of ours.
func (i *imports) looked(byID map[int64]sink.Process, strangers []int64, asked time.Time) {
	for _, x := range i.since(asked) {
		if x.lost {
			i.seek(x, strangers, asked)
			continue
		}
		p, listed := byID[x.r.Process]
		if !listed { // more than a page of newer ones
			var err error
			if p, err = i.watcher.lookAt(x.r.Process); err != nil {
				i.unfinished(x)
				continue
			}
		}
		i.follow(i.ctx, x, p)
	}
}

// since lists the imports that were sent, lost or adopted before a time.
func (i *imports) since(at time.Time) (all []*importing) {
	i.mu.Lock()
	defer i.mu.Unlock()
	for _, x := range i.open {
		if !x.since.IsZero() && x.since.Before(at) {
			all = append(all, x)
		}
	}
	return all
}

// unfinished notes that a look did not find an import ended.
func (i *imports) unfinished(x *importing) {
	i.mu.Lock()
	defer i.mu.Unlock()
	x.last = i.now()
}

// seek makes the contacts of a lost import unknown once none is in sight that could be it. It may come all the same: until
// they have been sent once more, no other is started without a look.
func (i *imports) seek(x *importing, strangers []int64, asked time.Time) {
	i.unfinished(x)
	switch {
	case len(strangers) > 0:
		i.overdue(x, "the answer to an import was lost, and processes that may be it have not ended", strangers, asked)
	case asked.Sub(x.since) >= inSight:
		i.abandon(x, i.now())
	}
}

// abandon forgets an import whose contacts are unknown from now on.
func (i *imports) abandon(x *importing, now time.Time) {
	i.mu.Lock()
	defer i.mu.Unlock()
	if i.ended() {
		return
	}
	if x.lost {
		i.watcher.suspectLocked(now.Add(i.cfg.Times.LateApply), now)
		i.log.Info("an import that was lost is not in sight: its contacts are sent again", zap.Int("contacts", len(x.r.Taken)))
	}
	delete(i.open, x.r.Number)
	i.holds.releaseLocked(importsStuck, now)
	i.table.Abandon(x.r, now)
	i.changedLocked(now)
	i.nudge()
}

// follow draws the consequences of what a look says of an import.
func (i *imports) follow(ctx context.Context, x *importing, p sink.Process) {
	now := i.now()
	switch {
	case !p.Done:
		i.unfinished(x)
		i.overdue(x, "an import has not ended", []int64{p.ID}, now)
	case x.r.Freed(): // whatever it has done came in between
		i.abandon(x, now)
	case p.Failed:
		i.settle(x, now, func(int) sink.Outcome {
			return sink.Outcome{Verdict: sink.Retry, Code: "import_failed", Message: "the import failed or was cancelled", Split: true}
		})
	default:
		i.complete(ctx, x, p)
	}
}

// overdue halts imports if one has not ended for too long, in this process or a former one, and frees its contacts if
// that was asked for.
func (i *imports) overdue(x *importing, what string, processes []int64, now time.Time) {
	if now.Sub(x.r.At) <= i.cfg.Times.ImportStuck {
		return
	}
	i.mu.Lock()
	defer i.mu.Unlock()
	i.holds.addLocked(importsStuck, hold{mend: fmt.Sprintf("%s within %s (process %s): no other is started; ask Sendinblue's support about it, or let its contacts go with segsync retry", what, i.cfg.Times.ImportStuck, strings.Trim(fmt.Sprint(processes), "[]"))}, now)
	if !i.ended() && i.table.Free(x.r, now) {
		i.log.Info("the contacts of an import that has not ended are sent again", zap.Int("contacts", len(x.r.Taken)))
		i.changedLocked(now)
		i.nudge()
	}
}

// reportTries is how often the report of a completed import is asked for.
const reportTries = 3

// complete settles a completed import: whom a report names is rejected by name, everybody else counts as delivered. What
// was lost in silence, or is named by a report that cannot be had, the audit finds that follows.
func (i *imports) complete(ctx context.Context, x *importing, p sink.Process) {
	rejected := map[string]sink.Outcome{}
	for _, report := range p.Reports {
		names, means, err := i.sender.Report(ctx, report)
		if err != nil {
			if x.failures++; x.failures < reportTries {
				i.unfinished(x)
				return // the next look tries again
			}
			i.log.Warn("an import's report cannot be had", zap.Int64("process", p.ID), zap.Error(err))
			if !i.cfg.Audit.AfterImports {
				i.settle(x, i.now(), func(int) sink.Outcome {
					return sink.Outcome{Verdict: sink.Retry, Certain: true, Code: "report_gone", Message: "the import's report cannot be had", Split: true}
				})
				return
			}
		}
		for _, n := range names {
			rejected[n] = means
		}
	}
	addresses := i.addresses(x.r)
	now := i.now()
	i.watcher.measure(x, now)
	i.settle(x, now, func(n int) sink.Outcome {
		if o, ok := rejected[addresses[n]]; ok {
			return o
		}
		return sink.Outcome{Verdict: sink.Applied}
	})
}

func (i *imports) addresses(r *state.Request) []string {
	i.mu.Lock()
	defer i.mu.Unlock()
	all := make([]string, len(r.Taken))
	for n := range r.Taken {
		all[n] = i.table.Address(r.Taken[n].Contact)
	}
	return all
}

// settle settles an import that has ended, and forgets it.
func (i *imports) settle(x *importing, now time.Time, of func(int) sink.Outcome) {
	i.mu.Lock()
	defer i.mu.Unlock()
	if i.ended() {
		return
	}
	delete(i.open, x.r.Number)
	i.holds.releaseLocked(importsStuck, now)
	i.lastEnd = now
	i.delivery.outcomesLocked(x.r, of, now)
	i.table.Close(x.r)
	i.changedLocked(now)
	i.nudge()
}
