package state

import (
	"slices"
	"time"

	"segsync/connector/state/arena"
)

// Of whom leaves a list explicitly, and was never delivered into it, it is doubtful whether they are in it: others may
// have put them in. Few are taken out by calls; of many the list is read instead (audit.go).

// settleDoubt takes the contact out of a list in which it is not.
func (v *view) settleDoubt(list int64, now time.Time) {
	v.row.set(list, out, millis(now))
	v.store()
	v.t.reconsider(v.ci, now)
}

// DoubtsHeld says whether the removals of those contacts are kept back.
func (t *Table) DoubtsHeld(list int64) bool { return t.audits.settling[list] }

// HoldDoubts keeps them back, or lets them go.
func (t *Table) HoldDoubts(list int64, hold bool, now time.Time) {
	if t.audits.settling[list] == hold {
		return
	}
	t.audits.settling[list] = hold
	t.fileHeld(now)
}

// Empty says whether nothing of ours is in a list, or under way into it.
func (t *Table) Empty(list int64) bool {
	for _, r := range t.requests.open {
		if slices.Contains(r.Lists, list) {
			return false
		}
	}
	n := t.tally.of(list)
	return n.in == 0 && n.unknown == 0
}

// SettleEmpty takes out of a list, without a call, some of those of whom it was doubtful whether they were in: at a time
// the account has said that it is empty. It goes on as Finish does.
func (t *Table) SettleEmpty(list int64, from uint32, said, now time.Time) (next uint32) {
	return t.some(from, now, func(v *view) {
		p := v.row.list(list)
		if v.slot().flags&flagInFlight == 0 && p != nil && p.state == doubtful && p.at < millis(said) && v.row.unknownSince == 0 {
			v.settleDoubt(list, now)
		}
	})
}

// some shows f some of the contacts, from a slot on. It says where to go on; 0: all were shown.
func (t *Table) some(from uint32, now time.Time, f func(v *view)) (next uint32) {
	end := min(from+arena.ChunkLen, t.store.contacts.Len())
	for ci := from; ci < end; ci++ {
		if t.store.alive(ci) {
			v := t.view(ci)
			f(v)
			v.end()
		}
	}
	t.releaseSettled(now)
	if end == t.store.contacts.Len() {
		return 0
	}
	return end
}

// all shows f all contacts.
func (t *Table) all(now time.Time, f func(v *view)) {
	for from, more := uint32(0), true; more; more = from != 0 {
		from = t.some(from, now, f)
	}
}
