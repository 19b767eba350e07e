package state

import (
	"container/heap"
	"math"
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

// dirtied is when a contact became dirty.
type dirtied struct {
	contact uint32
	since   int64
}

// agenda is which contacts are to be looked at, and when: the queues of dirty ones, those on hold, those that wait until a
// time, live ones, and those that a change has just concerned. It knows slots and times, not what is wanted.
type agenda struct {
	store   *store
	tally   *tally
	queues  map[queueKey]*queue
	order   []queueKey
	turn    int
	held    held
	waits   map[uint32]*wait
	due     dueHeap
	dirty   []dirtied // contacts in the order in which they became dirty
	live    live
	touched []uint32 // contacts to be evaluated anew
	settled []uint32 // contacts that have just become clean: who gave them up may be let go
}

func newAgenda(s *store, t *tally) *agenda {
	return &agenda{
		store: s, tally: t, queues: map[queueKey]*queue{}, waits: map[uint32]*wait{},
		held: held{why: map[int64][]string{}}, live: live{at: map[uint32]int64{}},
	}
}

func (a *agenda) queueAt(k queueKey) *queue {
	q, ok := a.queues[k]
	if !ok {
		q = &queue{}
		a.queues[k] = q
		a.order = append(a.order, k)
	}
	return q
}

// place gives a contact the places that it lacks.
func (a *agenda) place(n *Need) {
	c := a.store.contacts.At(n.contact)
	for _, k := range n.places() {
		if c.flags&placeIn[k.kind] == 0 {
			c.flags |= placeIn[k.kind]
			a.queueAt(k).push(n.contact)
		}
	}
}

// file gives a dirty contact its places. A queue that was empty begins to age.
func (a *agenda) file(n *Need, now time.Time) {
	c := a.store.contacts.At(n.contact)
	for _, k := range n.places() {
		if q := a.queueAt(k); q.len() == 0 && c.flags&placeIn[k.kind] == 0 {
			q.since = millis(now)
		}
	}
	a.place(n)
}

// refile notes what a contact needs now, and keeps the figures of dirty contacts. It returns what it needed before.
func (a *agenda) refile(ci uint32, kind queueKind, now time.Time) (was queueKind) {
	c := a.store.contacts.At(ci)
	if was = c.queue; was == kind {
		return was
	}
	a.tally.counts.Pending += int(bit(kind != queueNone)) - int(bit(was != queueNone))
	a.held.n += int(bit(kind == queueHeld)) - int(bit(was == queueHeld))
	if was == queueNone {
		c.since = millis(now)
		a.noteDirty(ci, c.since)
	}
	if kind == queueNone {
		c.since = 0
	}
	c.queue = kind
	return was
}

// touch notes a contact that is to be evaluated anew: once, however many changes concern it until then. Of an address
// that thousands carry, each evaluation looks at all of them.
func (a *agenda) touch(ci uint32) {
	if c := a.store.contacts.At(ci); c.flags&flagTouched == 0 {
		c.flags |= flagTouched
		a.touched = append(a.touched, ci)
	}
}

func (a *agenda) remind(ci uint32, at int64) { heap.Push(&a.due, dueItem{at: at, contact: ci}) }

// lapses notes that a membership lapses at a time, in Unix seconds: the contact is looked at then. It has one reminder, of the
// earliest; the next one is set when that is due.
func (a *agenda) lapses(ci uint32, at int64) {
	c := a.store.contacts.At(ci)
	if at <= 0 || at > math.MaxUint32 || c.lapse != 0 && int64(c.lapse) <= at {
		return
	}
	c.lapse = uint32(at)
	a.remind(ci, at*1000)
}

// lapsed says whether a contact's reminder is due, and takes it off.
func (a *agenda) lapsed(ci uint32, ms int64) bool {
	c := a.store.contacts.At(ci)
	if c.lapse == 0 || int64(c.lapse)*1000 > ms {
		return false
	}
	c.lapse = 0
	return true
}

// nextDue takes off what is due by now; ok is false if nothing is.
func (a *agenda) nextDue(ms int64) (ci uint32, ok bool) {
	if len(a.due) == 0 || a.due[0].at > ms {
		return 0, false
	}
	item, ok := heap.Pop(&a.due).(dueItem)
	return item.contact, ok
}

// waitOf is a contact's wait, a new one if it has none.
func (a *agenda) waitOf(ci uint32, now time.Time) *wait {
	w, ok := a.waits[ci]
	if !ok {
		w = &wait{failing: millis(now)}
		a.waits[ci] = w
	}
	return w
}

func (a *agenda) waitUntil(ci uint32, w *wait, until int64) {
	w.until = until
	a.store.contacts.At(ci).flags |= flagWaiting
	a.remind(ci, w.until)
}

func (a *agenda) endWait(ci uint32) {
	delete(a.waits, ci)
	a.store.contacts.At(ci).flags &^= flagWaiting
}

// rested ends a wait that is over, and lets the contact be live again.
func (a *agenda) rested(ci uint32, ms int64) {
	c := a.store.contacts.At(ci)
	if w, ok := a.waits[ci]; ok && c.flags&flagWaiting != 0 && w.until <= ms {
		c.flags &^= flagWaiting
		a.live.landed(ci)
	}
}

func (a *agenda) isDirty(d dirtied) bool {
	c := a.store.contacts.At(d.contact)
	return c.flags&flagLive != 0 && c.queue != queueNone && c.since == d.since
}

// noteDirty keeps the contacts in the order in which they became dirty; those that are clean again go when there are
// more of them than of the others.
func (a *agenda) noteDirty(ci uint32, since int64) {
	if len(a.dirty) > 2*a.tally.counts.Pending+1024 {
		a.dirty = slices.DeleteFunc(a.dirty, func(d dirtied) bool { return !a.isDirty(d) })
	}
	a.dirty = append(a.dirty, dirtied{ci, since})
}

// Oldest is how long the contact that has waited longest has been dirty, in milliseconds: unknown, held and resting ones
// count.
func (t *Table) Oldest(now time.Time) int64 {
	a := t.agenda
	for len(a.dirty) > 0 {
		if d := a.dirty[0]; a.isDirty(d) {
			return max(0, millis(now)-d.since)
		}
		a.dirty = a.dirty[1:]
	}
	return 0
}

// Queue is one list's dirty contacts of a kind.
type Queue struct {
	Kind queueKind
	List int64
	Len  int
	Age  int64 // how long it has held something that nothing was taken of, in milliseconds
}

// Queues lists the queues that hold something, beginning with another one each time.
func (t *Table) Queues(now time.Time) []Queue {
	t.Refresh(now)
	a := t.agenda
	var all []Queue
	for i := range a.order {
		k := a.order[(i+a.turn)%len(a.order)]
		if n := a.queues[k].len(); n > 0 {
			all = append(all, Queue{Kind: k.kind, List: k.list, Len: n, Age: millis(now) - a.queues[k].since})
		}
	}
	a.turn++
	return all
}

// Waiting is how many contacts wait to be written.
func (t *Table) Waiting() (n int) {
	for k, q := range t.agenda.queues {
		if k.kind == QueueWrite {
			n += q.len()
		}
	}
	return n
}
