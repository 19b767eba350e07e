package state

import (
	"container/heap"
	"slices"
	"time"
)

// queueKind is what a dirty contact needs; none is clean.
type queueKind uint8

// The kinds of dirty contacts. Each kind has a queue for every list, so that a long backlog of one export does not
// keep another's waiting.
const (
	queueNone   queueKind = iota
	QueueRemove           // it only leaves lists
	QueueWrite            // it enters lists or gets attributes
	queueHeld             // nothing of it may go now: withheld, paused or halted (held.go)
)

// placeIn is the flag of a contact that has a place in a queue of a kind, one at most. What is wanted of it may change
// meanwhile: it gets a place in the other kind's queue then, too, so that no exit waits behind entries, and one that it
// does not belong into any more is void.
var placeIn = [...]contactFlag{QueueRemove: flagRemoval, QueueWrite: flagWrite}

type queueKey struct {
	kind queueKind
	list int64
}

// queue is a first-in-first-out of contact slots.
type queue struct {
	items []uint32
	head  int
	since int64 // when it was last empty, or taken from, Unix milliseconds
}

func (q *queue) len() int { return len(q.items) - q.head }

func (q *queue) push(ci uint32) { q.items = append(q.items, ci) }

func (q *queue) pop() uint32 {
	ci := q.items[q.head]
	q.head++
	if q.head > 1024 && q.head*2 > len(q.items) {
		n := copy(q.items, q.items[q.head:])
		q.items, q.head = q.items[:n], 0
	}
	return ci
}

func (t *Table) queueAt(k queueKey) *queue {
	q, ok := t.queues[k]
	if !ok {
		q = &queue{}
		t.queues[k] = q
		t.order = append(t.order, k)
	}
	return q
}

// wait holds a contact back until a time.
type wait struct {
	until   int64
	failing int64 // since when its requests have failed without an answer that settles it
	tries   int
	reason  string
}

// dueItem is something to look at again at a time.
type dueItem struct {
	at      int64
	contact uint32
}

type dueHeap []dueItem

func (h dueHeap) Len() int           { return len(h) }
func (h dueHeap) Less(i, j int) bool { return h[i].at < h[j].at }
func (h dueHeap) Swap(i, j int)      { h[i], h[j] = h[j], h[i] }
func (h *dueHeap) Push(x any)        { *h = append(*h, x.(dueItem)) } //nolint:forcetypeassert // container/heap's signature
func (h *dueHeap) Pop() any {
	old := *h
	x := old[len(old)-1]
	*h = old[:len(old)-1]
	return x
}

func (t *Table) remind(ci uint32, at int64) { heap.Push(&t.due, dueItem{at: at, contact: ci}) }

// Tick looks at what has become due by now, and says when next to call (0: nothing is due).
func (t *Table) Tick(now time.Time) (next int64) {
	ms := millis(now)
	rest := t.retryAny(now)
	for len(t.due) > 0 && t.due[0].at <= ms {
		item, ok := heap.Pop(&t.due).(dueItem)
		if !ok {
			break
		}
		t.wake(item.contact, now)
	}
	t.Refresh(now)
	t.releaseSettled(now)
	if len(t.due) == 0 || rest != 0 && rest < t.due[0].at {
		return rest
	}
	return t.due[0].at
}

// wake ends a contact's wait and begins its late re-send where they are due.
func (t *Table) wake(ci uint32, now time.Time) {
	c := t.contacts.at(ci)
	if c.flags&flagLive == 0 {
		return
	}
	if w, ok := t.waits[ci]; ok && c.flags&flagWaiting != 0 && w.until <= millis(now) {
		c.flags &^= flagWaiting
		t.landed(ci)
	}
	t.loadContact(ci, &t.row)
	r := &t.row
	lateAt := r.unknownSince + t.cfg.LateApply.Milliseconds()
	if r.unknownSince != 0 && !r.late && lateAt <= millis(now) {
		if c.flags&flagInFlight != 0 {
			t.remind(ci, millis(now)+1000)
			return
		}
		t.beginLate(ci, r)
	}
	t.reconsider(ci, now)
}

// beginLate makes all that we ever said of a contact unknown, so that it is said once more: what was sent and not
// answered may have been applied after what was sent since.
func (t *Table) beginLate(ci uint32, r *contactRow) {
	for i := range r.lists {
		l := &r.lists[i]
		if l.passage == refused {
			continue // it stays as it is
		}
		if l.state == out {
			l.passage = passed // it has left once
		}
		if l.state != unknown {
			t.count(l.list, l.state, unknown)
			l.state = unknown
		}
	}
	r.hash, r.late = 0, true
	t.maybeStanding(ci, r)
	t.storeContact(ci, r)
}

// maybeStanding notes that a unique attribute of ours may stand at the contact, with any value: one that stood, or that
// somebody who carries its address, or gave it up, has brought. Others' stay as they are.
func (t *Table) maybeStanding(ci uint32, r *contactRow) {
	var room [8]uint32
	people := append(t.carriersOf(ci, room[:0]), t.gave[ci]...)
	var p person // not the scratch: callers may hold it
	for _, n := range t.uniques {
		_, stood := r.stood(n)
		brought := slices.ContainsFunc(people, func(pi uint32) bool { t.loadPerson(pi, &p); return p.value(n) != nil })
		if stood || brought {
			r.stand(n, 0)
		}
	}
}

// reconsider compares a contact's wanted and delivered and files it where it belongs.
func (t *Table) reconsider(ci uint32, now time.Time) {
	c := t.contacts.at(ci)
	if c.flags&flagInFlight != 0 {
		return // its outcome will bring it back here
	}
	n := t.evaluate(ci, now)
	t.weighed(ci, n)
	t.rewanted(ci, n.Wanted)
	was := c.queue
	kind, _ := n.file()
	t.refile(ci, c, kind, now)
	switch {
	case kind == queueNone:
		if was != queueNone {
			t.settled = append(t.settled, ci)
		}
		t.endUnknown(ci)
		t.sweep(ci)
	case kind == queueHeld:
		t.hold(ci)
	case c.flags&flagWaiting == 0:
		for _, k := range n.places() {
			if q := t.queueAt(k); q.len() == 0 && c.flags&placeIn[k.kind] == 0 {
				q.since = millis(now)
			}
		}
		t.place(n)
	}
}

// places are the queues that a need belongs into: who enters one list and leaves another can do the one before the
// other, and an exit is in no hurry to wait for an import.
func (n *Need) places() []queueKey {
	kind, list := n.file()
	if kind == QueueWrite && len(n.Remove) > 0 {
		return append(n.room[:0], queueKey{kind, list}, queueKey{QueueRemove, n.Remove[0]})
	}
	return append(n.room[:0], queueKey{kind, list})
}

// file says which queue a need belongs into.
func (n *Need) file() (queueKind, int64) {
	switch {
	case n.empty() && (n.Held == "" || n.Rejected):
		return queueNone, 0
	case n.empty():
		return queueHeld, 0
	case !n.Attributes && len(n.Add) == 0 && len(n.Remove) == 0:
		return QueueRemove, 0 // a deletion
	case !n.Attributes && len(n.Add) == 0:
		return QueueRemove, n.Remove[0]
	case len(n.Add) > 0:
		return QueueWrite, n.Add[0]
	case len(n.Wanted) > 0:
		return QueueWrite, n.Wanted[0]
	}
	return QueueWrite, 0 // the emptying of an address given up
}

// refile keeps the figures of dirty contacts.
func (t *Table) refile(ci uint32, c *contactSlot, kind queueKind, now time.Time) {
	if c.queue == kind {
		return
	}
	t.Counts.Pending += int(bit(kind != queueNone)) - int(bit(c.queue != queueNone))
	t.held.n += int(bit(kind == queueHeld)) - int(bit(c.queue == queueHeld))
	if c.queue == queueNone {
		c.since = millis(now)
		t.noteDirty(ci, c.since)
	}
	if kind == queueNone {
		c.since = 0
	}
	c.queue = kind
}

// endUnknown ends what is unknown of a contact whose late re-send has left nothing unknown.
func (t *Table) endUnknown(ci uint32) {
	r := &t.row
	t.loadContact(ci, r)
	if r.unknownSince == 0 || !r.late {
		return
	}
	for _, l := range r.lists {
		if l.state == unknown && r.rejected == "" && l.passage != refused {
			return
		}
	}
	r.unknownSince, r.late = 0, false
	t.storeContact(ci, r)
	t.settled = append(t.settled, ci)
}

// releaseSettled lets go of who gave up the contacts that have become clean.
func (t *Table) releaseSettled(now time.Time) {
	for len(t.settled) > 0 {
		ci := t.settled[len(t.settled)-1]
		t.settled = t.settled[:len(t.settled)-1]
		t.release(ci, now)
	}
}

// sweep drops a contact that nobody carries, that is out of every list of ours and of which nothing is unknown.
func (t *Table) sweep(ci uint32) {
	c := t.contacts.at(ci)
	if c.carriers != 0 || c.queue != queueNone || c.flags&(flagRemoval|flagWrite|flagInFlight|flagWaiting|flagPinned) != 0 || c.flags&flagLive == 0 {
		return
	}
	if _, given := t.gave[ci]; given {
		return
	}
	t.loadContact(ci, &t.row)
	if !t.row.idle() {
		return
	}
	if c.flags&flagStored != 0 {
		t.tombstones = append(t.tombstones, string(t.addressOf(ci)))
		t.changedBytes += 64
	}
	if t.audit != nil {
		t.audit.swept[string(t.addressOf(ci))] = struct{}{}
	}
	t.contact.remove(hashOfAddress(t.addressOf(ci)), ci)
	delete(t.waits, ci)
	t.unreject(&t.row)
	t.blobs.drop(c.address)
	t.blobs.drop(c.row)
	*c = contactSlot{flags: c.flags & (flagChanged | flagHeld | flagTouched)} // it still lies in the lists of these
	t.freed = append(t.freed, ci)
	t.Counts.Contacts--
}

// dirtied is when a contact became dirty.
type dirtied struct {
	contact uint32
	since   int64
}

func (t *Table) isDirty(d dirtied) bool {
	c := t.contacts.at(d.contact)
	return c.flags&flagLive != 0 && c.queue != queueNone && c.since == d.since
}

// noteDirty keeps the contacts in the order in which they became dirty; those that are clean again go when there are
// more of them than of the others.
func (t *Table) noteDirty(ci uint32, since int64) {
	if len(t.dirty) > 2*t.Counts.Pending+1024 {
		t.dirty = slices.DeleteFunc(t.dirty, func(d dirtied) bool { return !t.isDirty(d) })
	}
	t.dirty = append(t.dirty, dirtied{ci, since})
}

// Oldest is how long the contact that has waited longest has been dirty, in milliseconds: unknown, held and resting ones
// count.
func (t *Table) Oldest(now time.Time) int64 {
	for len(t.dirty) > 0 {
		if d := t.dirty[0]; t.isDirty(d) {
			return max(0, millis(now)-d.since)
		}
		t.dirty = t.dirty[1:]
	}
	return 0
}
