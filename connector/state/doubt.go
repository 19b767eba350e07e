package state

import (
	"slices"
	"time"
)

// Of whom leaves a list explicitly, and was never delivered into it, it is doubtful whether they are in it: others may
// have put them in. Few are taken out by calls; of many the list is read instead (audit.go).

// settleDoubt takes a contact, whose row is loaded, out of a list in which it is not.
func (t *Table) settleDoubt(ci uint32, list int64, now time.Time) {
	t.count(list, doubtful, out)
	t.row.set(list, out, millis(now))
	t.storeContact(ci, &t.row)
	t.reconsider(ci, now)
}

// Doubts is how many contacts left a list explicitly into which we never delivered them: others may have put them in.
func (t *Table) Doubts(list int64) int { return t.doubts[list] }

// DoubtsHeld says whether the removals of those contacts are kept back.
func (t *Table) DoubtsHeld(list int64) bool { return t.settling[list] }

// HoldDoubts keeps them back, or lets them go.
func (t *Table) HoldDoubts(list int64, hold bool, now time.Time) {
	if t.settling[list] == hold {
		return
	}
	t.settling[list] = hold
	t.unheld(now)
}

// Empty says whether nothing of ours is in a list, or under way into it.
func (t *Table) Empty(list int64) bool {
	for _, r := range t.open {
		if slices.Contains(r.Lists, list) {
			return false
		}
	}
	return t.inCount[list] == 0 && t.unknownIn[list] == 0
}

// SettleEmpty takes out of a list, without a call, some of those of whom it was doubtful whether they were in: at a time
// the account has said that it is empty. It goes on as Finish does.
func (t *Table) SettleEmpty(list int64, from uint32, said, now time.Time) (next uint32) {
	end := min(from+chunkLen, t.contacts.n)
	for ci := from; ci < end; ci++ {
		if c := t.contacts.at(ci); c.flags&flagLive == 0 || c.flags&flagInFlight != 0 {
			continue
		}
		t.loadContact(ci, &t.row)
		if p := t.row.list(list); p == nil || p.state != doubtful || p.at >= millis(said) || t.row.unknownSince != 0 {
			continue
		}
		t.settleDoubt(ci, list, now)
	}
	t.releaseSettled(now)
	if end == t.contacts.n {
		return 0
	}
	return end
}
