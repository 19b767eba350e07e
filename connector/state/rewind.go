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
func (t *Table) Address(ci uint32) string { return string(t.store.addressOf(ci)) }

// MakeUnknown makes what was delivered to a list unknown, of some contacts from a slot on, so that it is sent again (backfill
// --resend). It says where to go on; 0: all were looked at.
func (t *Table) MakeUnknown(list int64, from uint32, now time.Time) (next uint32) {
	return t.some(from, now, func(v *view) {
		l := v.row.list(list)
		if v.slot().flags&flagInFlight != 0 || l == nil || l.state != in || l.passage == refused {
			return
		}
		l.state = unknown
		v.row.hash = 0
		v.maybeStanding()
		v.store()
		t.reconsider(v.ci, now)
	})
}

// Walk hands every contact with an address and its lists to f: what is wanted and what was delivered there.
func (t *Table) Walk(list int64, now time.Time, f func(address string, wanted, delivered bool)) {
	t.all(now, func(v *view) {
		f(string(t.store.addressOf(v.ci)), slices.Contains(v.want(now).lists, list), v.row.state(list) == in)
	})
}
