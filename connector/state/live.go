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
	at    map[uint32]int64 // of a contact's last live change, Unix milliseconds; older items of it are void
	swept int64            // when what is live no more was last dropped
}

type liveItem struct {
	contact uint32
	at      int64
}

const (
	liveMost  = 1 << 17 // contacts: of more the oldest are live no more
	liveSweep = 10 * time.Second
)

func tooOld(at, ms int64) bool { return at+LiveFor.Milliseconds() < ms }

// push notes a live change of a contact.
func (l *live) push(ci uint32, at int64) {
	if was, have := l.at[ci]; have && was == at {
		return
	}
	l.at[ci] = at
	l.items = append(l.items, liveItem{ci, at})
	if at-l.swept >= liveSweep.Milliseconds() || len(l.items) > liveMost {
		l.sweep(at)
	}
}

// sweep drops what is live no more.
func (l *live) sweep(ms int64) {
	l.swept = ms
	void := func(i liveItem) bool { return l.at[i.contact] != i.at || tooOld(i.at, ms) }
	l.items = slices.DeleteFunc(l.items, void)
	if n := len(l.items) - liveMost/2; n > liveMost/2 {
		l.items = append([]liveItem(nil), l.items[n:]...)
	}
	clear(l.at)
	for _, i := range l.items {
		l.at[i.contact] = i.at
	}
}

// landed brings a contact back that was in flight, or rested, while it was live.
func (l *live) landed(ci uint32) {
	if at, ok := l.at[ci]; ok {
		l.items = append(l.items, liveItem{ci, at})
	}
}

// PopLive takes the contact that a live change has concerned last, if something of it may go; nil if there is none. What
// is said of Pop holds of it.
func (t *Table) PopLive(now time.Time) *Need {
	t.Refresh(now)
	l, ms := &t.agenda.live, millis(now)
	for n := len(l.items); n > 0; n = len(l.items) {
		item := l.items[n-1]
		l.items = l.items[:n-1]
		c := t.store.contacts.At(item.contact)
		switch {
		case l.at[item.contact] != item.at:
			continue
		case tooOld(item.at, ms), c.flags&flagLive == 0, c.queue == queueNone:
			delete(l.at, item.contact)
			continue
		case c.flags&(flagInFlight|flagWaiting) != 0, c.queue == queueHeld:
			continue // landed brings it back
		}
		v := t.view(item.contact)
		n := v.evaluate(now)
		kind, list := n.file()
		if kind != QueueRemove && kind != QueueWrite {
			v.end()
			continue
		}
		need := v.handOut(queueKey{kind, list})
		need.live = true
		v.end()
		return need
	}
	return nil
}
