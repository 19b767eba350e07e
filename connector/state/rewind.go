package state

import (
	"slices"
	"time"
)

// Retire sets the lists that an export once fed and feeds no more. Before Ready.
func (t *Table) Retire(lists []int64) { t.cfg.Retired = lists }

// Follow tells how often segments of a source were named again. Before Ready.
func (t *Table) Follow(source int, renamed []int) { t.cfg.Sources[source].Renamed = renamed }

// Address is the address of a contact's slot.
func (t *Table) Address(ci uint32) string { return string(t.addressOf(ci)) }

// MakeUnknown makes everything that was delivered to a list unknown, so that it is sent again (backfill --resend).
func (t *Table) MakeUnknown(list int64, now time.Time) {
	for ci := range t.contacts.n {
		if t.contacts.at(ci).flags&(flagLive|flagInFlight) != flagLive {
			continue
		}
		t.loadContact(ci, &t.row)
		l := t.row.list(list)
		if l == nil || l.state != in || l.passage == refused {
			continue
		}
		t.count(list, in, unknown)
		l.state = unknown
		t.row.hash = 0
		t.maybeStanding(ci, &t.row)
		t.storeContact(ci, &t.row)
		t.reconsider(ci, now)
	}
	t.releaseSettled(now)
}

// Walk hands every contact with an address and its lists to f: what is wanted and what was delivered there.
func (t *Table) Walk(list int64, now time.Time, f func(address string, wanted, delivered bool)) {
	for ci := range t.contacts.n {
		if t.contacts.at(ci).flags&flagLive == 0 {
			continue
		}
		t.loadContact(ci, &t.row)
		w := t.want(ci, &t.row, now)
		f(string(t.addressOf(ci)), slices.Contains(w.lists, list), t.row.state(list) == in)
	}
}
