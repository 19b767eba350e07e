package connector

import (
	"context"
	"encoding/json"
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

// lookAtImports makes one look and settles what has ended.
func (e *engine) lookAtImports() {
	ctx, cancel := context.WithTimeout(e.ctx, 2*time.Minute)
	defer cancel()
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
	now := time.Now()
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
	e.importsHalt = ""
	e.table.Abandon(i.r, now)
	e.changed(now)
	e.nudge()
}

// followed draws the consequences of what a look says of an import.
func (e *engine) followed(ctx context.Context, i *importing, p sink.Process) {
	now := time.Now()
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
	if e.importsHalt == "" {
		e.importsHalt = fmt.Sprintf("%s within %s (process %s): no other is started; ask Sendinblue's support about it, or let its contacts go with segsync retry", what, e.cfg.Times.ImportStuck, strings.Trim(fmt.Sprint(processes), "[]"))
		e.log.Error(e.importsHalt)
	}
	if e.ctx.Err() == nil && e.table.Free(i.r, now) {
		e.log.Info("the contacts of an import that has not ended are sent again", zap.Int("contacts", len(i.r.Taken)))
		e.changed(now)
		e.nudge()
	}
}

// endImport settles an import and forgets it.
func (e *engine) endImport(i *importing, now time.Time, of func(int) sink.Outcome) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.ctx.Err() != nil {
		return
	}
	delete(e.imports, i.r.Number)
	e.importsHalt = ""
	took := now.Sub(i.began)
	e.importTime += (took - e.importTime) / 2
	e.outcomes(i.r, of, now)
	e.table.Close(i.r)
	e.changed(now)
	e.nudge()
}

// reportTries is how often the report of a completed import is asked for before the list is read back instead.
const reportTries = 3

// completed settles a completed import: whom a report names is rejected by name; if a report cannot be had, or the
// list is shorter than it must be, the list is read back and the missing go again.
func (e *engine) completed(ctx context.Context, i *importing, p sink.Process) {
	rejected := map[string]sink.Outcome{}
	for reason, address := range p.Reports {
		names, err := e.sender.Report(ctx, address)
		if err != nil {
			if i.failures++; i.failures < reportTries {
				return // the next look tries again
			}
			e.log.Warn("an import's report cannot be had: the list is read back", zap.Int64("process", p.ID), zap.Error(err))
			e.readBack(ctx, i, rejected)
			return
		}
		for _, n := range names {
			rejected[n] = reportOutcome(reason)
		}
	}
	short, err := e.short(ctx, i, rejected)
	if err != nil {
		return // the next look tries again
	}
	if short {
		e.log.Warn("a list may be shorter than an import should have made it: it is read back", zap.Int64("process", p.ID))
		e.readBack(ctx, i, rejected)
		return
	}
	addresses := e.addresses(i.r)
	e.endImport(i, time.Now(), func(n int) sink.Outcome {
		if o, ok := rejected[addresses[n]]; ok {
			return o
		}
		return sink.Outcome{Verdict: sink.Applied}
	})
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

// shortTries is how often a list whose length tells nothing for certain is looked at, a second apart: what is in flight
// beside the import settles meanwhile.
const shortTries = 10

// short says whether a list of the import has, or may have, fewer contacts than we have delivered into it and the
// import has. One that is gone is another's concern.
func (e *engine) short(ctx context.Context, i *importing, rejected map[string]sink.Outcome) (bool, error) {
	for _, list := range i.r.Lists {
		missing := true
		for range shortTries {
			fewest, before := e.expected(i.r, list, rejected)
			info, err := e.sender.List(ctx, list)
			var o *sink.OutcomeError
			if errors.As(err, &o) && o.Outcome.Absent {
				missing = false
				break
			}
			if err != nil {
				return false, err
			}
			least, most := e.expected(i.r, list, rejected)
			least = min(least, fewest)
			if have := int(info.Contacts); have >= max(before, most) || have < least {
				missing = have < least
				break
			}
			sleep(ctx, time.Second)
		}
		if missing {
			return true, nil
		}
	}
	return false, nil
}

func (e *engine) expected(r *state.Request, list int64, rejected map[string]sink.Outcome) (least, most int) {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.table.Expected(r, list, func(address string) bool { _, is := rejected[address]; return is })
}

// readBack settles an import by what its lists hold: who is in all of them with the attributes that were sent counts
// as delivered, whom a report named is rejected, everybody else goes again.
func (e *engine) readBack(ctx context.Context, i *importing, rejected map[string]sink.Outcome) {
	addresses := e.addresses(i.r)
	sent := make(map[string]*sink.Contact, len(addresses))
	if i.r.Send != nil {
		for n := range i.r.Send.Contacts {
			sent[addresses[n]] = &i.r.Send.Contacts[n]
		}
	}
	seen := map[string]int{} // in how many of the lists a contact is, with the attributes that were sent
	for _, list := range i.r.Lists {
		err := e.sender.Members(ctx, list, func(page []sink.Listed) error {
			for _, l := range page {
				if c, ok := sent[l.Address]; ok && carries(l.Attributes, c.Attributes) {
					seen[l.Address]++
				}
			}
			return nil
		})
		if err != nil {
			return // the next look tries again
		}
	}
	e.endImport(i, time.Now(), func(n int) sink.Outcome {
		if o, ok := rejected[addresses[n]]; ok {
			return o
		}
		if seen[addresses[n]] >= len(i.r.Lists) {
			return sink.Outcome{Verdict: sink.Applied}
		}
		return sink.Outcome{Verdict: sink.Retry, Code: "not_imported", Message: "the import did not deliver the contact", Split: true}
	})
}

// carries says whether a contact has the attributes that were sent, as the API gives them back: numbers of telephones
// without their sign, an empty one not at all.
func carries(have map[string]any, sent []sink.Attribute) bool {
	for _, a := range sent {
		var want any
		if json.Unmarshal(a.Value, &want) != nil {
			return false
		}
		got, there := have[a.Name]
		if !there && (want == "" || want == nil) {
			continue
		}
		if plain(got) != plain(want) {
			return false
		}
	}
	return true
}

func plain(v any) string { return strings.TrimPrefix(fmt.Sprint(v), "+") }
