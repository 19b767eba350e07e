package state

import (
	"slices"
	"time"
)

// LiveFor is how long a change counts as live: while a backlog is worked off, live ones have a share of the calls of
// their own.
const LiveFor = time.Minute

// live are the contacts that live changes have concerned, the newest last. They lie in the queues, too: whoever takes a
// contact first has it, and its other place is void.
type live struct {
	items []liveItem
	later map[uint32]int64 // they are in flight, or rest: afterwards they are live still
}

type liveItem struct {
	contact uint32
	at      int64 // of the change, Unix milliseconds
}

func (l *live) push(ci uint32, at int64) {
	if n := len(l.items); n > 0 && l.items[n-1] == (liveItem{ci, at}) {
		return
	}
	l.items = append(l.items, liveItem{ci, at})
}

// expire drops what is live no more.
func (l *live) expire(ms int64) {
	old := func(at int64) bool { return at+LiveFor.Milliseconds() < ms }
	n := len(l.items)
	if n == 0 || !old(l.items[0].at) {
		return
	}
	if old(l.items[n-1].at) {
		l.items = l.items[:0]
	} else if k := slices.IndexFunc(l.items, func(i liveItem) bool { return !old(i.at) }); k > n/2 {
		l.items = append(l.items[:0], l.items[k:]...)
	}
	for ci, at := range l.later {
		if old(at) {
			delete(l.later, ci)
		}
	}
}

// landed brings a contact back that was in flight, or rested.
func (t *Table) landed(ci uint32) {
	if at, ok := t.live.later[ci]; ok {
		delete(t.live.later, ci)
		t.live.push(ci, at)
	}
}

// PopLive takes the contact that a live change has concerned last, if something of it may go; nil if there is none. What
// is said of Pop holds of it.
func (t *Table) PopLive(now time.Time) *Need {
	t.Refresh(now)
	ms := millis(now)
	t.live.expire(ms)
	for n := len(t.live.items); n > 0; n = len(t.live.items) {
		item := t.live.items[n-1]
		if item.at+LiveFor.Milliseconds() < ms {
			t.live.items = t.live.items[:0]
			return nil
		}
		t.live.items = t.live.items[:n-1]
		c := t.contacts.at(item.contact)
		switch {
		case c.flags&flagLive == 0 || c.queue == queueNone:
			continue
		case c.flags&(flagInFlight|flagWaiting) != 0:
			t.live.later[item.contact] = item.at
			continue
		case c.queue == queueHeld:
			continue
		}
		need := t.evaluate(item.contact, now)
		kind, list := need.file()
		if kind != QueueRemove && kind != QueueWrite {
			continue
		}
		need.from, need.Address, need.live = queueKey{kind, list}, string(t.addressOf(item.contact)), item.at
		return need
	}
	return nil
}
