package state

import (
	"slices"
	"time"
)

// held are the contacts of which nothing may go now. What is wanted of one may change meanwhile, so that it goes by
// another list: it is queued at once then, and its place here is void.
type held struct {
	queue
	n   int                // contacts whose place is not void
	why map[int64][]string // the reasons for which nothing is sent for a list (0: the account), sorted
}

// hold files a contact as held.
func (t *Table) hold(ci uint32) {
	c := t.contacts.at(ci)
	if c.flags&flagHeld != 0 {
		return // its place is there still
	}
	if h := &t.held; h.len() > 1024 && h.len() > 2*h.n {
		t.tidyHeld()
	}
	c.flags |= flagHeld
	t.held.push(ci)
}

// tidyHeld drops the places that are void: a hot person may leave one behind with each address.
func (t *Table) tidyHeld() {
	kept := make([]uint32, 0, t.held.n)
	for _, ci := range t.held.items[t.held.head:] {
		c := t.contacts.at(ci)
		if c.flags&flagHeld != 0 && c.queue == queueHeld {
			kept = append(kept, ci)
		}
		c.flags &^= flagHeld
	}
	for _, ci := range kept {
		t.contacts.at(ci).flags |= flagHeld
	}
	t.held.items, t.held.head = kept, 0
}

// Hold stops everything that would be sent for a list (0: the whole account) for a reason.
func (t *Table) Hold(list int64, reason string, now time.Time) {
	at, have := slices.BinarySearch(t.held.why[list], reason)
	if have {
		return
	}
	t.held.why[list] = slices.Insert(t.held.why[list], at, reason)
	t.unheld(now)
}

// Release ends a reason; what no other reason holds goes again.
func (t *Table) Release(list int64, reason string, now time.Time) {
	at, have := slices.BinarySearch(t.held.why[list], reason)
	if !have {
		return
	}
	t.held.why[list] = slices.Delete(t.held.why[list], at, at+1)
	t.unheld(now)
}

// unheld files the contacts that were held anew.
func (t *Table) unheld(now time.Time) {
	t.tidyHeld()
	for range t.held.len() {
		ci := t.held.pop()
		t.contacts.at(ci).flags &^= flagHeld
		t.reconsider(ci, now)
	}
	t.releaseSettled(now)
}

// accountHeld is why nothing is sent for the account; "" it is.
func (t *Table) accountHeld() string {
	if why := t.held.why[0]; len(why) > 0 {
		return why[0]
	}
	return ""
}

func (t *Table) holds(list int64) string {
	if why := t.accountHeld(); why != "" {
		return why
	}
	if why := t.held.why[list]; len(why) > 0 {
		return why[0]
	}
	return ""
}

// Held is how many pending contacts cannot go: withheld, paused or halted.
func (t *Table) Held() int { return t.held.n }
