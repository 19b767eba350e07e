package connector

import (
	"context"
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
	lost     bool      // its answer was lost, or its sender: it may be any of the account's unfinished ones
	since    time.Time // sent, lost or adopted: it is looked for; zero: it is not sent yet
	last     time.Time // the last look that did not find it ended
	failures int       // of fetching its reports, once it has ended
}

// inSight is how long after it was lost an import without a known process must have come in sight: after that its
// contacts go on, and what it does when it comes later all the same is mended by their late re-send.
const inSight = 15 * time.Second

// firstLook is how soon after its beginning something is looked at first.
const firstLook = time.Second

// due is when to look at an import: when it should have ended, as measured; then ever more seldom.
func (i *importing) due(p *pace) time.Time {
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
	if p.known() {
		if should := i.began.Add(p.of(rows)); should.After(first) {
			first = should
		}
	}
	if i.last.Before(first) {
		return first
	}
	if p.known() {
		return i.last.Add(max(firstLook, p.of(rows)/20, i.last.Sub(first)))
	}
	return i.last.Add(rarer(i.last.Sub(i.since)))
}

// rarer is how long after a look at something of unknown length that has run for so long the next one comes.
func rarer(ran time.Duration) time.Duration {
	if ran < 16*time.Second {
		return max(firstLook, ran)
	}
	return ran / 3
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
		e.log.Warn("the answer to an import was lost: it is looked for, and its contacts wait", zap.Int("contacts", len(r.Taken)))
	}
	e.changed(now)
	e.wakeWatcher()
}

// adopt takes the unfinished imports of a dead owner over: nobody repeats them, their contacts wait for them. One
// without a process id may be any of the account's.
func (e *engine) adopt(imports []*state.Request, now time.Time) {
	for _, r := range imports {
		began := r.At
		if began.After(now) {
			began = now
		}
		e.imports[r.Number] = &importing{r: r, began: began, since: now, lost: r.Process == 0}
	}
}

// mayImport says whether an import may be started: one at a time; and as long as one that was lost may come yet, only
// right after a look at the account that shows none. Under the lock.
func (e *engine) mayImport(now time.Time) bool {
	if len(e.imports) > 0 {
		return false
	}
	if !now.Before(e.sight.suspect) || now.Sub(e.sight.clear) < clearFor {
		return true
	}
	if now.Before(e.sight.notClear) {
		e.holdBack(e.sight.notClear)
		return false
	}
	e.sight.wanted = true
	e.wakeWatcher()
	return false
}

// clearFor is how long a look that shows no unfinished process of unknown making holds good.
const clearFor = 2 * time.Second

// follow takes up what a look says of the imports under way. strangers are unfinished processes that are none of ours.
func (e *engine) follow(byID map[int64]sink.Process, strangers []int64, asked time.Time) {
	e.mu.Lock()
	var all []*importing
	for _, i := range e.imports {
		if !i.since.IsZero() && i.since.Before(asked) {
			all = append(all, i)
		}
	}
	e.mu.Unlock()
	for _, i := range all {
		if i.lost {
			e.seekLost(i, strangers, asked)
			continue
		}
		p, listed := byID[i.r.Process]
		if !listed { // more than a page of newer ones
			var err error
			if p, err = e.lookAt(i.r.Process); err != nil {
				e.unfinished(i)
				continue
			}
		}
		e.followed(e.ctx, i, p)
	}
}

// unfinished notes that a look did not find an import ended.
func (e *engine) unfinished(i *importing) {
	e.mu.Lock()
	defer e.mu.Unlock()
	i.last = e.now()
}

// seekLost makes the contacts of a lost import unknown once none is in sight that could be it. It may come all the same:
// until they have been sent once more, no other is started without a look.
func (e *engine) seekLost(i *importing, strangers []int64, asked time.Time) {
	e.unfinished(i)
	switch {
	case len(strangers) > 0:
		e.unended(i, "the answer to an import was lost, and processes that may be it have not ended", strangers, asked)
	case asked.Sub(i.since) >= inSight:
		e.abandon(i, e.now())
	}
}

// abandon forgets an import whose contacts are unknown from now on.
func (e *engine) abandon(i *importing, now time.Time) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.ctx.Err() != nil {
		return
	}
	if i.lost {
		e.sight.suspect = now.Add(e.cfg.Times.LateApply)
		e.storePace(now)
		e.log.Info("an import that was lost is not in sight: its contacts are sent again", zap.Int("contacts", len(i.r.Taken)))
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
		e.unfinished(i)
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

// reportTries is how often the report of a completed import is asked for.
const reportTries = 3

// completed settles a completed import: whom a report names is rejected by name, everybody else counts as delivered. What
// was lost in silence, or is named by a report that cannot be had, the audit finds that follows.
func (e *engine) completed(ctx context.Context, i *importing, p sink.Process) {
	rejected := map[string]sink.Outcome{}
	for reason, address := range p.Reports {
		names, err := e.sender.Report(ctx, address)
		if err != nil {
			if i.failures++; i.failures < reportTries {
				e.unfinished(i)
				return // the next look tries again
			}
			e.log.Warn("an import's report cannot be had", zap.Int64("process", p.ID), zap.Error(err))
			if !e.cfg.Audit.AfterImports {
				e.endImport(i, e.now(), func(int) sink.Outcome {
					return sink.Outcome{Verdict: sink.Retry, Certain: true, Code: "report_gone", Message: "the import's report cannot be had", Split: true}
				})
				return
			}
		}
		for _, n := range names {
			rejected[n] = reportOutcome(reason)
		}
	}
	addresses := e.addresses(i.r)
	now := e.now()
	e.mu.Lock()
	e.measure(i, now)
	e.mu.Unlock()
	e.endImport(i, now, func(n int) sink.Outcome {
		if o, ok := rejected[addresses[n]]; ok {
			return o
		}
		return sink.Outcome{Verdict: sink.Applied}
	})
}

// measure notes how long an import took: it ended between two looks. One that had ended when it was expected to may have
// been quicker: the next is looked at a little sooner. Under the lock.
func (e *engine) measure(i *importing, now time.Time) {
	if i.failures > 0 {
		return
	}
	took := now.Sub(i.began)
	late := took / 2
	if i.last.After(i.began) {
		late = now.Sub(i.last) / 2
	}
	if e.sight.pace.known() {
		late = min(late, took/12)
	}
	e.sight.pace.note(len(i.r.Taken), took-late)
	e.storePace(now)
}

// reportOutcome is what a report's reason means for whom it names. A number that somebody else has is refused alone.
func reportOutcome(reason string) sink.Outcome {
	o := sink.Outcome{Verdict: sink.Reject, Code: reason, Message: "the import's report names the contact"}
	switch reason {
	case "duplicate_phone_id":
		o.Attribute = "SMS"
	case "duplicate_whatsapp_id":
		o.Attribute = "WHATSAPP"
	case "duplicate_landline_number_id":
		o.Attribute = "LANDLINE_NUMBER"
	case "duplicate_ext_id":
		o.Attribute = "EXT_ID"
	}
	return o
}

func (e *engine) addresses(r *state.Request) []string {
	e.mu.Lock()
	defer e.mu.Unlock()
	all := make([]string, len(r.Taken))
	for i := range r.Taken {
		all[i] = e.table.Address(r.Taken[i].Contact)
	}
	return all
}

// endImport settles an import and forgets it.
func (e *engine) endImport(i *importing, now time.Time, of func(int) sink.Outcome) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.ctx.Err() != nil {
		return
	}
	delete(e.imports, i.r.Number)
	e.holds.release(importsStuck, now)
	e.imported = now
	e.outcomes(i.r, of, now)
	e.table.Close(i.r)
	e.changed(now)
	e.nudge()
}
