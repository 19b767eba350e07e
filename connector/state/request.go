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

// requests are those that are announced and not closed.
type requests struct {
	open   map[uint64]*Request
	closed []*Request // answered; their rows go with the next cut
	next   uint64
	parts  map[uint64]map[string][]byte // of open requests, while the table is restored
}

// add numbers a request.
func (q *requests) add(r *Request) {
	r.Number = q.next
	q.next++
	q.open[r.Number] = r
}

// processes are those whose process is known, and whose row does not say so.
func (q *requests) processes() (all []*Request) {
	for _, r := range q.open {
		if r.Process != 0 && !r.process {
			all = append(all, r)
		}
	}
	return all
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
	v := t.view(n.contact)
	defer v.end()
	taken := Taken{Contact: n.contact, Want: n.want, Since: v.slot().since}
	if c.Attributes != nil {
		taken.Hash = n.hash
	}
	t.guards.takesOut(&v.row, &taken, r, now)
	r.Taken = append(r.Taken, taken)
	r.Send.Contacts = append(r.Send.Contacts, c)
	v.slot().flags = v.slot().flags&^flagHeard | flagInFlight
	t.audits.moved(n.contact)
	t.tally.counts.InFlight++
	if len(r.Taken) == 1 {
		r.Send.Again = n.Again
		t.agenda.queueAt(n.from).since = millis(now)
		t.requests.add(r)
	}
}

// Pop takes the next dirty contact off a queue of the kind, lists in turn, and evaluates it; nil if there is none.
// What is not taken must be put back with Return.
func (t *Table) Pop(kind queueKind, list int64, now time.Time) *Need {
	t.Refresh(now)
	key := queueKey{kind, list}
	q, ok := t.agenda.queues[key]
	if !ok {
		return nil
	}
	for q.len() > 0 {
		ci := q.pop()
		c := t.store.contacts.At(ci)
		c.flags &^= placeIn[kind]
		if c.flags&flagLive == 0 || c.flags&(flagInFlight|flagWaiting) != 0 {
			continue
		}
		if n := t.needFor(ci, key, now); n != nil {
			return n
		}
		t.reconsider(ci, now)
	}
	return nil
}

// needFor is a contact's need, if it belongs into a queue.
func (t *Table) needFor(ci uint32, key queueKey, now time.Time) *Need {
	v := t.view(ci)
	defer v.end()
	if !slices.Contains(v.evaluate(now).places(), key) {
		return nil
	}
	return v.handOut(key)
}

// Return puts a popped contact that was not taken back at the end of its queue.
func (t *Table) Return(n *Need) {
	if n.live {
		t.agenda.live.landed(n.contact)
	}
	t.agenda.place(n)
}

// Accepted notes the process id of an import, for the next checkpoint.
func (t *Table) Accepted(r *Request, process int64) { r.Process = process }

// Drop takes back a request whose announcement was not committed: its contacts are dirty again, it never was.
func (t *Table) Drop(r *Request, now time.Time) {
	for i := range r.Taken {
		t.land(r.Taken[i].Contact)
		t.guards.returned(&r.Taken[i], r)
		t.guards.uncount(&r.Taken[i], r)
	}
	for i := range r.Taken {
		t.reconsider(r.Taken[i].Contact, now)
	}
	delete(t.requests.open, r.Number)
}

// land takes a contact out of flight.
func (t *Table) land(ci uint32) {
	if c := t.store.contacts.At(ci); c.flags&flagInFlight != 0 {
		c.flags &^= flagInFlight
		t.tally.counts.InFlight--
	}
	t.audits.moved(ci)
	t.agenda.live.landed(ci)
}

// Close forgets an answered request; the next checkpoint removes its rows.
func (t *Table) Close(r *Request) {
	delete(t.requests.open, r.Number)
	if r.Kind == sink.Import {
		t.forgetFreed(r)
	}
	if r.parts > 0 {
		t.requests.closed = append(t.requests.closed, r)
		t.journal.bytes += 64 * r.parts
	}
}

// Open lists the requests that are announced and not closed.
func (t *Table) Open() []*Request {
	all := make([]*Request, 0, len(t.requests.open))
	for _, r := range t.requests.open {
		all = append(all, r)
	}
	return all
}

func requestKey(number uint64, part int) string { return fmt.Sprintf("r/%016x.%d", number, part) }
func processKey(number uint64) string           { return fmt.Sprintf("r/%016x.process", number) }
