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
		e.unread(i, err)
		return
	}
	if short {
		e.log.Warn("a list may be shorter than an import should have made it: it is read back", zap.Int64("process", p.ID))
		e.readBack(ctx, i, rejected)
		return
	}
	addresses := e.addresses(i.r)
	e.endImport(i, e.now(), func(n int) sink.Outcome {
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

// A list whose length tells nothing for certain is looked at shortTries times, a second apart: what is in flight beside
// the import settles meanwhile. For the first stillFor of that nothing is begun for the list: traffic that never ends
// would make every look as uncertain, and reading the list back takes hundreds of calls.
const (
	shortTries = 10
	stillFor   = 3 * time.Second
)

// A list that holds more than it must is looked at again othersTries times before an import, all of them within
// othersFor.
const (
	othersTries = 1
	othersFor   = 5 * time.Second
)

// countOthers notes, before an import is sent, how many contacts its lists hold by others' doing, at most: they must not
// stand for some that the import loses. Others that are added while it is under way cannot be told.
func (e *engine) countOthers(r *state.Request) {
	ctx, cancel := context.WithTimeout(e.ctx, othersFor) // if this process dies meanwhile, its successor takes the import for one that was sent
	defer cancel()
	others := make([]int, len(r.Lists))
	for n, list := range r.Lists {
		others[n] = e.othersIn(ctx, r, list)
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	r.Others = others
}

func (e *engine) othersIn(ctx context.Context, r *state.Request, list int64) int {
	defer e.keepStill(0)
	for try := 0; ; try++ {
		o, err := e.length(ctx, r, list, nil)
		switch {
		case err != nil:
			return -1
		case o.have <= o.least:
			return 0
		case try == othersTries:
			return o.have - o.least // what is unknown may be there by others' doing
		}
		sleep(ctx, e.keepStill(list)) // what is under way may explain it
	}
}

// short says whether a list of the import has, or may have, fewer contacts than we have delivered into it and the
// import has.
func (e *engine) short(ctx context.Context, i *importing, rejected map[string]sink.Outcome) (bool, error) {
	for n, list := range i.r.Lists {
		others := 0 // so it is with rows of version 1
		if n < len(i.r.Others) {
			others = i.r.Others[n]
		}
		if short, err := e.shortIn(ctx, i.r, list, others, rejected); short || err != nil {
			return short, err
		}
	}
	return false, nil
}

// shortIn is short for one list.
func (e *engine) shortIn(ctx context.Context, r *state.Request, list int64, others int, rejected map[string]sink.Outcome) (bool, error) {
	defer e.keepStill(0)
	for try := range shortTries {
		l, err := e.length(ctx, r, list, func(address string) bool { _, is := rejected[address]; return is })
		switch {
		case err != nil:
			return false, err
		case l.have < l.least || others < 0:
			return true, nil
		case l.have >= l.most+others:
			return false, nil
		}
		pause := time.Second
		if try == 0 {
			pause = e.keepStill(list)
		}
		sleep(ctx, pause)
	}
	return true, nil
}

// length is how many contacts a list holds, and how many of ours it must, and may, hold.
type length struct{ have, least, most int }

// length looks at a list. What of ours goes in and out meanwhile counts in favour of neither.
func (e *engine) length(ctx context.Context, r *state.Request, list int64, refused func(string) bool) (length, error) {
	expected := func() (least, most int) {
		e.mu.Lock()
		defer e.mu.Unlock()
		return e.table.Expected(r, list, refused)
	}
	leastBefore, mostBefore := expected()
	info, err := e.sender.List(ctx, list)
	least, most := expected()
	return length{have: int(info.Contacts), least: min(leastBefore, least), most: max(mostBefore, most)}, ofList(list, err)
}

// keepStill keeps the planner from beginning anything for a list for a while (0: for none any more), and says how long
// what was begun should take.
func (e *engine) keepStill(list int64) time.Duration {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.still != list {
		e.still, e.stillUntil = list, e.now().Add(stillFor)
		e.nudge()
	}
	return min(2*e.callTime, time.Second)
}

// unread is for an import of which a list could not be looked at. If it is gone, it halts, and what the import did is
// not known; else the next look tries again.
func (e *engine) unread(i *importing, err error) {
	var gone *goneError
	if !errors.As(err, &gone) {
		return
	}
	now := e.now()
	e.mu.Lock()
	e.halt(sink.Outcome{Verdict: sink.Halt, Code: codeListGone, List: gone.list, Message: gone.Error()}, now)
	e.mu.Unlock()
	e.endImport(i, now, func(int) sink.Outcome {
		return sink.Outcome{Verdict: sink.Retry, Code: codeListGone, Message: "a list of the import is gone: what it did is not known"}
	})
}

// goneError says that a list does not exist any more.
type goneError struct{ list int64 }

func (g *goneError) Error() string { return fmt.Sprintf("list %d does not exist", g.list) }

// ofList tells a list that is gone from one that could not be looked at.
func ofList(list int64, err error) error {
	var o *sink.OutcomeError
	if errors.As(err, &o) && o.Outcome.Absent {
		return &goneError{list}
	}
	return err
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
			e.unread(i, ofList(list, err))
			return
		}
	}
	e.endImport(i, e.now(), func(n int) sink.Outcome {
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
