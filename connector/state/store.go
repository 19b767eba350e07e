package state

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"hash/maphash"
	"slices"

	"segsync/connector/state/arena"
)

// personSlot is a person without pointers.
type personSlot struct {
	key     PersonKey
	row     arena.Ref
	contact uint32 // slot of the address's contact, plus one; 0 none
	changed bool
	waiting bool // for an address: the person is in a segment
}

// contactSlot is a contact without pointers.
type contactSlot struct {
	address  arena.Ref
	row      arena.Ref
	carriers uint32 // a person's slot plus one; several: shared
	lapse    uint32 // when it is next looked at because a membership lapses, Unix seconds; 0: never
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
	flagHeard                            // something newer was heard of it while a request held it
)

// shared marks that several carry a contact.
const shared = 1 << 31

// seed of the hashes of addresses, which live no longer than the process.
var seed = maphash.MakeSeed()

func hashOfAddress(address []byte) uint64 { return maphash.Bytes(seed, address) }

// hash of a person is cut from the key, which is one.
func (k *PersonKey) hash() uint64 { return binary.LittleEndian.Uint64(k[:]) }

// store holds people and contacts, their rows, and who carries which address. What a row says is its own; the store sees
// to it that a row that has changed is written (journal) and counted (tally).
type store struct {
	journal  *journal
	tally    *tally
	blobs    arena.Blobs
	people   arena.Chunks[personSlot]
	person   arena.Index
	contacts arena.Chunks[contactSlot]
	contact  arena.Index
	free     []uint32            // contact slots
	sharers  map[uint32][]uint32 // contact to the people who carry it, if several do
	gave     map[uint32][]uint32 // contact to the people who gave it up
	buf      []byte              // a row that is being encoded
}

func newStore(j *journal, t *tally) *store {
	s := &store{journal: j, tally: t, sharers: map[uint32][]uint32{}, gave: map[uint32][]uint32{}}
	s.person.Hash = func(pi uint32) uint64 { return s.people.At(pi).key.hash() }
	s.contact.Hash = func(ci uint32) uint64 { return hashOfAddress(s.addressOf(ci)) }
	return s
}

// takes is roughly what the store takes in memory, in bytes.
func (s *store) takes() int {
	return s.blobs.Bytes() + s.people.Bytes() + s.contacts.Bytes() + s.person.Bytes() + s.contact.Bytes()
}

// findPerson returns the slot of a person, making one if asked to.
func (s *store) findPerson(key PersonKey, make bool) (uint32, bool) {
	i, ok := s.person.Find(key.hash(), func(pi uint32) bool { return s.people.At(pi).key == key })
	if ok || !make {
		return i, ok
	}
	i = s.people.Add()
	s.people.At(i).key = key
	s.person.Put(key.hash(), i)
	s.tally.counts.People++
	return i, true
}

// lookContact returns the slot of an address, if it has one.
func (s *store) lookContact(address []byte) (uint32, bool) {
	return s.contact.Find(hashOfAddress(address), func(ci uint32) bool { return bytes.Equal(s.addressOf(ci), address) })
}

// findContact returns the slot of an address, making one.
func (s *store) findContact(address []byte) uint32 {
	i, ok := s.lookContact(address)
	if ok {
		return i
	}
	if n := len(s.free); n > 0 {
		i, s.free = s.free[n-1], s.free[:n-1]
	} else {
		i = s.contacts.Add()
	}
	c := s.contacts.At(i)
	*c = contactSlot{address: s.blobs.Put(address), flags: flagLive | c.flags}
	s.contact.Put(hashOfAddress(address), i)
	s.tally.counts.Contacts++
	return i
}

// dropContact takes a contact out; its slot is given to another.
func (s *store) dropContact(ci uint32) {
	c := s.contacts.At(ci)
	address := s.addressOf(ci)
	if c.flags&flagStored != 0 {
		s.journal.contactGone(string(address))
	}
	s.tally.row(s.blobs.Get(c.row), -1)
	s.contact.Remove(hashOfAddress(address), ci)
	s.blobs.Drop(c.address)
	s.blobs.Drop(c.row)
	*c = contactSlot{flags: c.flags & (flagChanged | flagHeld | flagTouched)} // it still lies in the lists of these
	s.free = append(s.free, ci)
	s.tally.counts.Contacts--
}

func (s *store) addressOf(ci uint32) []byte { return s.blobs.Get(s.contacts.At(ci).address) }

// alive says whether a slot is in use.
func (s *store) alive(ci uint32) bool { return s.contacts.At(ci).flags&flagLive != 0 }

// carriersOf are the people who carry a contact's address.
func (s *store) carriersOf(ci uint32, into []uint32) []uint32 {
	switch c := s.contacts.At(ci).carriers; {
	case c == 0:
		return into
	case c&shared != 0:
		return append(into, s.sharers[ci]...)
	default:
		return append(into, c-1)
	}
}

func (s *store) link(ci, pi uint32) {
	c := s.contacts.At(ci)
	switch {
	case c.carriers == 0:
		c.carriers = pi + 1
	case c.carriers&shared != 0:
		s.sharers[ci] = append(s.sharers[ci], pi)
	default:
		s.sharers[ci] = []uint32{c.carriers - 1, pi}
		c.carriers = shared
	}
}

func (s *store) unlink(ci, pi uint32) {
	c := s.contacts.At(ci)
	if c.carriers&shared == 0 {
		c.carriers = 0
		return
	}
	l := slices.DeleteFunc(s.sharers[ci], func(p uint32) bool { return p == pi })
	if len(l) == 1 {
		delete(s.sharers, ci)
		c.carriers = l[0] + 1
		return
	}
	s.sharers[ci] = l
}

// giveUp notes that a person gave a contact up, forgive that they did not.
func (s *store) giveUp(ci, pi uint32) { s.gave[ci] = append(s.gave[ci], pi) }

func (s *store) forgive(ci, pi uint32) {
	l := slices.DeleteFunc(s.gave[ci], func(p uint32) bool { return p == pi })
	if len(l) == 0 {
		delete(s.gave, ci)
		return
	}
	s.gave[ci] = l
}

// givenUp says whether somebody gave a contact up.
func (s *store) givenUp(ci uint32) bool { _, ok := s.gave[ci]; return ok }

// storePerson keeps p as the row of slot pi, to be written at the next cut.
func (s *store) storePerson(pi uint32, p *person) {
	slot := s.people.At(pi)
	s.count(slot, p)
	s.buf = p.encode(s.buf[:0])
	slot.row = s.blobs.Replace(slot.row, s.buf)
	if !slot.changed {
		slot.changed = true
		s.journal.personChanged(pi, len(s.buf))
	}
}

// count counts a person who is in a segment and has no address.
func (s *store) count(slot *personSlot, p *person) {
	waits := len(p.address) == 0 && p.inAny()
	s.tally.counts.WithoutAddress += int(bit(waits)) - int(bit(slot.waiting))
	slot.waiting = waits
}

// storeContact keeps r as the row of slot ci, to be written at the next cut.
func (s *store) storeContact(ci uint32, r *contactRow) {
	c := s.contacts.At(ci)
	s.buf = r.encode(s.buf[:0])
	if was := s.blobs.Get(c.row); !bytes.Equal(was, s.buf) {
		s.tally.row(was, -1)
		s.tally.row(s.buf, +1)
	}
	c.row = s.blobs.Replace(c.row, s.buf)
	s.changedContact(ci, len(s.buf))
}

func (s *store) changedContact(ci uint32, bytes int) {
	if c := s.contacts.At(ci); c.flags&flagChanged == 0 {
		c.flags |= flagChanged
		s.journal.contactChanged(ci, bytes)
	}
}

// loadContact decodes a contact's row into r.
func (s *store) loadContact(ci uint32, r *contactRow) {
	if err := r.decode(s.blobs.Get(s.contacts.At(ci).row)); err != nil {
		panic(fmt.Sprintf("a contact's own row does not decode: %v", err)) // we wrote it ourselves
	}
}

// loadPerson decodes a person's row into p, whose bytes lie in it.
func (s *store) loadPerson(pi uint32, p *person) {
	if row := s.blobs.Get(s.people.At(pi).row); len(row) == 0 {
		p.reset()
	} else if err := p.decode(row); err != nil {
		panic(fmt.Sprintf("a person's own row does not decode: %v", err))
	}
}
