package state

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"hash/maphash"
	"slices"
	"time"
)

// chunked is a growing array without the copying (and the doubled memory) of a slice.
type chunked[T any] struct {
	chunks [][]T
	n      uint32
}

const chunkLen = 1 << 13

func (c *chunked[T]) at(i uint32) *T { return &c.chunks[i/chunkLen][i%chunkLen] }

func (c *chunked[T]) add() uint32 {
	if c.n%chunkLen == 0 && int(c.n/chunkLen) == len(c.chunks) {
		c.chunks = append(c.chunks, make([]T, chunkLen))
	}
	c.n++
	return c.n - 1
}

// personSlot is a person without pointers.
type personSlot struct {
	key     PersonKey
	row     ref
	contact uint32 // slot of the address's contact, plus one; 0 none
	changed bool
}

// contactSlot is a contact without pointers.
type contactSlot struct {
	address  ref
	row      ref
	carriers uint32 // a person's slot plus one; several: shared
	since    int64  // when it became dirty, Unix milliseconds; 0 clean
	queue    queueKind
	flags    contactFlag
}

type contactFlag uint16

const (
	flagChanged  contactFlag = 1 << iota // its row is to be written
	flagInFlight                         // one announced request holds it
	flagRemoval                          // it has a place in a queue of removals
	flagWrite                            // it has a place in a queue of writes
	flagWaiting                          // it waits until a time (waits)
	flagLive                             // the slot is in use
	flagStored                           // its row has been written to the changelog
	flagHeld                             // it has a place among the held ones
	flagPinned                           // an import that was freed holds it in the table
	flagLeaving                          // a removal of it waits to be decided (guard.go)
	flagTouched                          // it is to be evaluated anew (touched)
)

const shared = 1 << 31

// seed of the hashes of addresses, which live no longer than the process.
var seed = maphash.MakeSeed()

func hashOfAddress(address []byte) uint64 { return maphash.Bytes(seed, address) }

// hash of a person is cut from the key, which is one.
func (k *PersonKey) hash() uint64 { return binary.LittleEndian.Uint64(k[:]) }

// Table is the table of one connection.
type Table struct {
	cfg       Config
	exports   []exportPlan
	sources   []sourcePlan
	sourceOf  map[uint32]int
	lists     []int64
	deletes   map[int64]bool
	guards    map[int64]Guard
	unique    []bool   // by name number
	uniques   []uint32 // attributes
	names     names
	blobs     blobs
	people    chunked[personSlot]
	person    index
	contacts  chunked[contactSlot]
	contact   index
	freed     []uint32 // contact slots
	sharers   map[uint32][]uint32
	gave      map[uint32][]uint32 // contact to the people who gave it up
	meta      map[string][]byte
	held      held
	queues    map[queueKey]*queue
	order     []queueKey
	turn      int
	waits     map[uint32]*wait
	due       dueHeap
	dirty     []dirtied                      // contacts in the order in which they became dirty (Oldest)
	touched   []uint32                       // contacts to be evaluated anew (Refresh)
	settled   []uint32                       // contacts that have just become clean: who gave them up may be let go
	refusedBy map[uint32]map[uint64][]uint32 // attribute and value (its hash) to the contacts that were refused it
	freedAt   map[uint32]int64               // attribute to when a value of it was last let go somewhere, Unix milliseconds
	anyAt     map[uint32]int64               // the same of a value that is not known
	anyDue    map[uint32]int64               // when all that were refused a value before that may try again
	guard     map[int64]*guardCount
	inCount   map[int64]int
	unknownIn map[int64]int  // contacts that we may have sent into a list, and of which it is not known whether it holds them
	doubts    map[int64]int  // contacts that others may have put into a list, and that are to leave it
	settling  map[int64]bool // lists that are read whole before such contacts are taken out
	audits    map[int64]*AuditOf
	audit     *Audit // under way
	live      live

	changedPeople   []uint32
	changedContacts []uint32
	tombstones      []string // addresses whose rows go
	stored          int      // contacts that have a row in the changelog
	changedMeta     map[string]struct{}
	changedBytes    int

	open   map[uint64]*Request
	closed []*Request // answered; their rows go with the next cut
	next   uint64
	parts  map[uint64]map[string][]byte // of open requests, while the table is restored

	// scratch, so that a fold allocates nothing
	p     person
	row   contactRow
	w     wanted
	need  Need
	carry []carrier
	buf   []byte
	// differs: what is folded changes what is wanted of the person.
	differs bool

	Counts Counts
}

// Counts are the table's figures. Pending counts the dirty contacts, in flight and waiting ones included.
type Counts struct {
	People, Contacts, Pending, InFlight int
	Rejected, Unknown                   int
	Folded, Stale, Ignored              uint64 // changes
	Needed                              uint64 // of these: those that alone would have needed a call
}

// New makes an empty table. Rows are applied with Apply; Ready ends the restore.
func New(cfg Config) *Table {
	t := &Table{
		cfg: cfg, sourceOf: map[uint32]int{}, deletes: map[int64]bool{}, guards: map[int64]Guard{},
		names:   names{numbers: map[string]uint32{}},
		sharers: map[uint32][]uint32{}, gave: map[uint32][]uint32{}, meta: map[string][]byte{},
		held: held{why: map[int64][]string{}}, queues: map[queueKey]*queue{}, waits: map[uint32]*wait{},
		refusedBy: map[uint32]map[uint64][]uint32{}, freedAt: map[uint32]int64{}, anyAt: map[uint32]int64{}, anyDue: map[uint32]int64{}, guard: map[int64]*guardCount{}, inCount: map[int64]int{}, unknownIn: map[int64]int{}, doubts: map[int64]int{}, settling: map[int64]bool{}, audits: map[int64]*AuditOf{}, live: live{at: map[uint32]int64{}},
		changedMeta: map[string]struct{}{}, open: map[uint64]*Request{},
	}
	t.person.hash = func(pi uint32) uint64 { return t.people.at(pi).key.hash() }
	t.contact.hash = func(ci uint32) uint64 { return hashOfAddress(t.addressOf(ci)) }
	return t
}

// Bytes is roughly what the table takes in memory.
func (t *Table) Bytes() int {
	return t.blobs.bytes() + len(t.people.chunks)*chunkLen*32 + len(t.contacts.chunks)*chunkLen*24 +
		(len(t.person.cells)+len(t.contact.cells))*4
}

// SetMeta sets a row of the connection itself (k/…); nil removes it.
func (t *Table) SetMeta(key string, v []byte) {
	if v == nil {
		delete(t.meta, key)
	} else {
		t.meta[key] = v
	}
	t.changedMeta[key] = struct{}{}
	t.changedBytes += len(key) + len(v) + 16
}

// Meta is a row of the connection itself, nil if there is none.
func (t *Table) Meta(key string) []byte { return t.meta[key] }

// MetaKeys lists the rows of the connection itself whose key begins with prefix, sorted.
func (t *Table) MetaKeys(prefix string) []string {
	var keys []string
	for k := range t.meta {
		if len(k) >= len(prefix) && k[:len(prefix)] == prefix {
			keys = append(keys, k)
		}
	}
	slices.Sort(keys)
	return keys
}

// findPerson returns the slot of a person, making one if asked to.
func (t *Table) findPerson(key PersonKey, make bool) (uint32, bool) {
	i, ok := t.person.find(key.hash(), func(pi uint32) bool { return t.people.at(pi).key == key })
	if ok || !make {
		return i, ok
	}
	i = t.people.add()
	t.people.at(i).key = key
	t.person.put(key.hash(), i)
	t.Counts.People++
	return i, true
}

// lookContact returns the slot of an address, if it has one.
func (t *Table) lookContact(address []byte) (uint32, bool) {
	return t.contact.find(hashOfAddress(address), func(ci uint32) bool { return bytes.Equal(t.addressOf(ci), address) })
}

// findContact returns the slot of an address, making one.
func (t *Table) findContact(address []byte) uint32 {
	i, ok := t.lookContact(address)
	if ok {
		return i
	}
	if n := len(t.freed); n > 0 {
		i, t.freed = t.freed[n-1], t.freed[:n-1]
	} else {
		i = t.contacts.add()
	}
	c := t.contacts.at(i)
	*c = contactSlot{address: t.blobs.put(address), flags: flagLive | c.flags}
	t.contact.put(hashOfAddress(address), i)
	t.Counts.Contacts++
	return i
}

func (t *Table) addressOf(ci uint32) []byte { return t.blobs.get(t.contacts.at(ci).address) }

// carriersOf are the people who carry a contact's address.
func (t *Table) carriersOf(ci uint32, into []uint32) []uint32 {
	switch c := t.contacts.at(ci).carriers; {
	case c == 0:
		return into
	case c&shared != 0:
		return append(into, t.sharers[ci]...)
	default:
		return append(into, c-1)
	}
}

func (t *Table) link(ci, pi uint32) {
	c := t.contacts.at(ci)
	switch {
	case c.carriers == 0:
		c.carriers = pi + 1
	case c.carriers&shared != 0:
		t.sharers[ci] = append(t.sharers[ci], pi)
	default:
		t.sharers[ci] = []uint32{c.carriers - 1, pi}
		c.carriers = shared
	}
}

func (t *Table) unlink(ci, pi uint32) {
	c := t.contacts.at(ci)
	if c.carriers&shared == 0 {
		c.carriers = 0
		return
	}
	l := slices.DeleteFunc(t.sharers[ci], func(p uint32) bool { return p == pi })
	if len(l) == 1 {
		delete(t.sharers, ci)
		c.carriers = l[0] + 1
		return
	}
	t.sharers[ci] = l
}

// storePerson keeps the scratch person as the row of slot pi, to be written at the next cut.
func (t *Table) storePerson(pi uint32) {
	s := t.people.at(pi)
	t.buf = t.p.encode(t.buf[:0])
	s.row = t.blobs.replace(s.row, t.buf)
	if !s.changed {
		s.changed = true
		t.changedPeople = append(t.changedPeople, pi)
		t.changedBytes += len(t.buf) + 24
	}
}

// storeContact keeps r as the row of slot ci, to be written at the next cut.
func (t *Table) storeContact(ci uint32, r *contactRow) {
	c := t.contacts.at(ci)
	t.buf = r.encode(t.buf[:0])
	c.row = t.blobs.replace(c.row, t.buf)
	t.changedContact(ci, len(t.buf))
}

func (t *Table) changedContact(ci uint32, bytes int) {
	c := t.contacts.at(ci)
	if c.flags&flagChanged == 0 {
		c.flags |= flagChanged
		t.changedContacts = append(t.changedContacts, ci)
		t.changedBytes += bytes + 48
	}
}

// loadContact decodes a contact's row into r.
func (t *Table) loadContact(ci uint32, r *contactRow) {
	if err := r.decode(t.blobs.get(t.contacts.at(ci).row)); err != nil {
		panic(fmt.Sprintf("a contact's own row does not decode: %v", err)) // we wrote it ourselves
	}
}

func (t *Table) loadPerson(pi uint32, p *person) {
	if row := t.blobs.get(t.people.at(pi).row); len(row) == 0 {
		p.reset()
	} else if err := p.decode(row); err != nil {
		panic(fmt.Sprintf("a person's own row does not decode: %v", err))
	}
}

// count moves the number of people delivered in, when a list's state changes.
func (t *Table) count(list int64, from, to delivery) {
	t.inCount[list] += int(bit(to == in)) - int(bit(from == in))
	t.unknownIn[list] += int(bit(to == unknown)) - int(bit(from == unknown))
	t.doubts[list] += int(bit(to == doubtful)) - int(bit(from == doubtful))
	t.Counts.Unknown += int(bit(to.unsure())) - int(bit(from.unsure()))
}

// In is how many contacts were delivered into a list.
func (t *Table) In(list int64) int { return t.inCount[list] }

func millis(now time.Time) int64 { return now.UnixMilli() }
