package state

import (
	"fmt"
	"slices"
	"time"

	"segsync/sink"
)

// Request is a planned write: announced by the checkpoint that planned it, sent, answered, and closed by a later one.
type Request struct {
	Number  uint64
	At      time.Time
	Send    *sink.Request // nil of a restored one
	Kind    sink.Kind
	Lists   []int64
	unlink  []int64
	Process int64 // of an import, once known
	Taken   []Taken

	parts   int
	process bool // the row with the process id has been written
	freed   bool // an import whose contacts no longer wait for it
}

// Taken is what a request holds of a contact.
type Taken struct {
	Contact uint32
	left    uint32 // which of the request's unlinked lists the guard counts it out of, by bits
	doubt   uint32 // the same of those of which it was doubtful whether it was in
	Hash    uint64 // of the attributes sent; 0 none were
	Want    uint64 // fingerprint of what was wanted
	Since   int64  // when it became dirty, Unix milliseconds
}

// NewRequest begins a request; Take fills it. A request that nothing was taken into is forgotten.
func (t *Table) NewRequest(kind sink.Kind, lists, unlink []int64, now time.Time) *Request {
	return &Request{
		At: now, Kind: kind, Lists: lists, unlink: unlink,
		Send: &sink.Request{Kind: kind, Lists: lists, Unlink: unlink},
	}
}

// Take puts the contact of a need that was popped into a request, as c. Until its outcome is settled no other request
// takes it.
func (t *Table) Take(r *Request, n *Need, c sink.Contact, now time.Time) {
	slot := t.contacts.at(n.contact)
	taken := Taken{Contact: n.contact, Want: n.want, Since: slot.since}
	if c.Attributes != nil {
		taken.Hash = n.hash
	}
	t.loadContact(n.contact, &t.row)
	t.takesOut(&taken, r, now)
	r.Taken = append(r.Taken, taken)
	r.Send.Contacts = append(r.Send.Contacts, c)
	slot.flags |= flagInFlight
	t.move(n.contact)
	t.Counts.InFlight++
	if len(r.Taken) == 1 {
		r.Send.Again = n.Again
		t.queueAt(n.from).since = millis(now)
		r.Number = t.next
		t.next++
		t.open[r.Number] = r
	}
}

// Pop takes the next dirty contact off a queue of the kind, lists in turn, and evaluates it; nil if there is none.
// What is not taken must be put back with Return.
func (t *Table) Pop(kind queueKind, list int64, now time.Time) *Need {
	t.Refresh(now)
	key := queueKey{kind, list}
	q, ok := t.queues[key]
	if !ok {
		return nil
	}
	for q.len() > 0 {
		ci := q.pop()
		c := t.contacts.at(ci)
		c.flags &^= placeIn[kind]
		if c.flags&flagLive == 0 || c.flags&(flagInFlight|flagWaiting) != 0 {
			continue
		}
		n := t.evaluate(ci, now)
		if !slices.Contains(n.places(), key) {
			t.reconsider(ci, now)
			continue
		}
		return t.handOut(n, key)
	}
	return nil
}

// Return puts a popped contact that was not taken back at the end of its queue.
func (t *Table) Return(n *Need) {
	if n.live {
		t.landed(n.contact)
	}
	t.place(n)
}

// place gives a contact the places that it lacks.
func (t *Table) place(n *Need) {
	c := t.contacts.at(n.contact)
	for _, k := range n.places() {
		if c.flags&placeIn[k.kind] == 0 {
			c.flags |= placeIn[k.kind]
			t.queueAt(k).push(n.contact)
		}
	}
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
	var all []Queue
	for i := range t.order {
		k := t.order[(i+t.turn)%len(t.order)]
		if n := t.queues[k].len(); n > 0 {
			all = append(all, Queue{Kind: k.kind, List: k.list, Len: n, Age: millis(now) - t.queues[k].since})
		}
	}
	t.turn++
	return all
}

// Waiting is how many contacts wait to be written.
func (t *Table) Waiting() (n int) {
	for k, q := range t.queues {
		if k.kind == QueueWrite {
			n += q.len()
		}
	}
	return n
}

// Accepted notes the process id of an import, for the next checkpoint.
func (t *Table) Accepted(r *Request, process int64) { r.Process = process }

// Drop takes back a request whose announcement was not committed: its contacts are dirty again, it never was.
func (t *Table) Drop(r *Request, now time.Time) {
	for i := range r.Taken {
		t.land(r.Taken[i].Contact)
		t.returned(&r.Taken[i], r)
		t.uncount(&r.Taken[i], r)
	}
	for i := range r.Taken {
		t.reconsider(r.Taken[i].Contact, now)
	}
	delete(t.open, r.Number)
}

// land takes a contact out of flight.
func (t *Table) land(ci uint32) {
	if c := t.contacts.at(ci); c.flags&flagInFlight != 0 {
		c.flags &^= flagInFlight
		t.Counts.InFlight--
	}
	t.move(ci)
	t.landed(ci)
}

// Open lists the requests that are announced and not closed.
func (t *Table) Open() []*Request {
	all := make([]*Request, 0, len(t.open))
	for _, r := range t.open {
		all = append(all, r)
	}
	return all
}

func requestKey(number uint64, part int) string { return fmt.Sprintf("r/%016x.%d", number, part) }
func processKey(number uint64) string           { return fmt.Sprintf("r/%016x.process", number) }
