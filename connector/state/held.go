package state

import (
	"slices"
	"time"

	"segsync/connector/state/arena"
)

// held are the contacts of which nothing may go now. What is wanted of one may change meanwhile, so that it goes by
// another list: it is queued at once then, and its place here is void.
type held struct {
	queue
	n   int                // contacts whose place is not void
	why map[int64][]string // the reasons for which nothing is sent for a list (0: the account), sorted
}

// hold puts a contact on hold.
func (a *agenda) hold(ci uint32) {
	c := a.store.contacts.At(ci)
	if c.flags&flagHeld != 0 {
		return // its place is there still
	}
	if h := &a.held; h.len() > 1024 && h.len() > 2*h.n {
		a.tidyHeld()
	}
	c.flags |= flagHeld
	a.held.push(ci)
}

// tidyHeld drops the places that are void: a hot person may leave one behind with each address.
func (a *agenda) tidyHeld() {
	kept := make([]uint32, 0, a.held.n)
	for _, ci := range a.held.items[a.held.head:] {
		c := a.store.contacts.At(ci)
		if c.flags&flagHeld != 0 && c.queue == queueHeld {
			kept = append(kept, ci)
		}
		c.flags &^= flagHeld
	}
	for _, ci := range kept {
		a.store.contacts.At(ci).flags |= flagHeld
	}
	a.held.items, a.held.head = kept, 0
}

// add notes a reason; it returns false if it stands already.
func (h *held) add(list int64, reason string) bool {
	at, have := slices.BinarySearch(h.why[list], reason)
	if !have {
		h.why[list] = slices.Insert(h.why[list], at, reason)
	}
	return !have
}

// end forgets a reason; it returns false if it does not stand.
func (h *held) end(list int64, reason string) bool {
	at, have := slices.BinarySearch(h.why[list], reason)
	if have {
		h.why[list] = slices.Delete(h.why[list], at, at+1)
	}
	return have
}

// account is why nothing is sent for the account; "" it is.
func (h *held) account() string {
	if why := h.why[0]; len(why) > 0 {
		return why[0]
	}
	return ""
}

// list is why nothing is sent for a list; "" it is.
func (h *held) list(list int64) string {
	if why := h.account(); why != "" {
		return why
	}
	if why := h.why[list]; len(why) > 0 {
		return why[0]
	}
	return ""
}

// Hold stops everything that would be sent for a list (0: the whole account) for a reason.
func (t *Table) Hold(list int64, reason string, now time.Time) {
	if t.agenda.held.add(list, reason) {
		t.fileHeld(now)
	}
}

// Release ends a reason; what no other reason holds goes again.
func (t *Table) Release(list int64, reason string, now time.Time) {
	if t.agenda.held.end(list, reason) {
		t.fileHeld(now)
	}
}

// fileHeld files the contacts anew that were held.
func (t *Table) fileHeld(now time.Time) {
	a := t.agenda
	a.tidyHeld()
	for range a.held.len() {
		ci := a.held.pop()
		t.store.contacts.At(ci).flags &^= flagHeld
		t.reconsider(ci, now)
	}
	t.releaseSettled(now)
}

// Held is how many pending contacts cannot go: withheld, paused or halted.
func (t *Table) Held() int { return t.agenda.held.n }

// WorkedOff looks through some contacts, from a slot on, for one that has needed something of a list since before a time and
// that may go. It says where to go on; owed says that there stands one, done that all were looked through. What becomes needed
// behind that is newer. What is in flight is owed if flying says so.
func (t *Table) WorkedOff(list int64, since time.Time, from uint32, flying bool, now time.Time) (next uint32, owed, done bool) {
	end := min(from+arena.ChunkLen, t.store.contacts.Len())
	for ci := from; ci < end; ci++ {
		if t.store.alive(ci) && t.owes(ci, list, millis(since), flying, now) {
			return ci, true, false
		}
	}
	return end, false, end == t.store.contacts.Len()
}

// owes says whether something of a list is under way for a contact, or may go, that was needed by a time.
func (t *Table) owes(ci uint32, list, since int64, flying bool, now time.Time) bool {
	c := t.store.contacts.At(ci)
	if c.row == 0 && c.queue == queueNone && c.flags&flagInFlight == 0 {
		return false
	}
	v := t.view(ci)
	defer v.end()
	unanswered := v.row.unknownSince != 0 && v.row.list(list) != nil // the late re-send is due still
	if c.queue == queueNone && c.flags&flagInFlight == 0 || c.since > since {
		return unanswered
	}
	n := v.evaluate(now)
	switch {
	case c.flags&flagInFlight != 0:
		return flying && (v.row.list(list) != nil || slices.Contains(n.Wanted, list))
	case n.Rejected:
		return false
	case n.Held == "audit" && v.row.state(list) == doubtful: // the list is read first
		return true
	}
	return unanswered || slices.Contains(n.Add, list) || slices.Contains(n.Remove, list) || n.Attributes && slices.Contains(n.Wanted, list)
}
