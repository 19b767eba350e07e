package state

import (
	"encoding/binary"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"segsync/sink"
)

// Row is one row of the changelog; a nil value removes it.
type Row struct{ Key, Value []byte }

// maxPart bounds a part of a request's row, in bytes.
const maxPart = 900_000

// Cut is what one checkpoint writes of the table. A cut that was certainly not committed is given back.
type Cut struct {
	Rows      []Row
	people    []uint32
	contacts  []uint32
	meta      []string
	gone      []string
	closed    []*Request
	processes []*Request
}

// ChangedBytes is roughly how many bytes the next cut will hold.
func (t *Table) ChangedBytes() int { return t.changedBytes }

// Changed says whether there is anything to cut.
func (t *Table) Changed() bool {
	if len(t.touched)+len(t.changedPeople)+len(t.changedContacts)+len(t.changedMeta)+len(t.tombstones)+len(t.closed) > 0 {
		return true
	}
	for _, r := range t.open {
		if r.Process != 0 && !r.process {
			return true
		}
	}
	return false
}

// Cut takes every row changed since the last one, with the rows of the requests that are announced by it and the
// tombstones of those closed.
func (t *Table) Cut(announced []*Request) *Cut {
	c := &Cut{people: t.changedPeople, contacts: t.changedContacts, gone: t.tombstones, closed: t.closed}
	w := rowWriter{cut: c, arena: make([]byte, 0, t.changedBytes+t.changedBytes/4)}
	t.stored -= len(c.gone)
	for _, a := range c.gone {
		w.row([]byte("c/"+a), nil)
	}
	for _, pi := range c.people {
		s := t.people.at(pi)
		s.changed = false
		w.row(append([]byte("p/"), s.key[:]...), t.blobs.get(s.row))
	}
	for _, ci := range c.contacts {
		s := t.contacts.at(ci)
		s.flags &^= flagChanged
		if s.flags&flagLive != 0 && s.row != 0 {
			if s.flags&flagStored == 0 {
				s.flags |= flagStored
				t.stored++
			}
			w.row(append([]byte("c/"), t.blobs.get(s.address)...), t.blobs.get(s.row))
		}
	}
	for k := range t.changedMeta {
		c.meta = append(c.meta, k)
	}
	slices.Sort(c.meta)
	for _, k := range c.meta {
		w.row([]byte("k/"+k), t.meta[k])
	}
	for _, r := range announced {
		t.announce(r, &w)
	}
	for _, r := range t.open {
		if r.Process != 0 && !r.process {
			r.process = true
			c.processes = append(c.processes, r)
			w.row([]byte(processKey(r.Number)), processRow(r))
		}
	}
	for _, r := range c.closed {
		for i := range r.parts {
			w.row([]byte(requestKey(r.Number, i)), nil)
		}
		if r.process {
			w.row([]byte(processKey(r.Number)), nil)
		}
	}
	if len(c.Rows) > 0 {
		var counts []byte
		for _, n := range []int{int(t.people.n), t.stored, t.named(), len(t.names.of)} {
			counts = binary.AppendUvarint(counts, uint64(n))
		}
		t.meta[countsKey] = counts
		w.row([]byte("k/"+countsKey), t.meta[countsKey])
	}
	t.changedPeople, t.changedContacts, t.tombstones, t.closed = nil, nil, nil, nil
	t.changedMeta = map[string]struct{}{}
	t.changedBytes = 0
	return c
}

// GiveBack returns a cut that was certainly not committed: all of it belongs to the next one.
func (t *Table) GiveBack(c *Cut) {
	for _, pi := range c.people {
		if s := t.people.at(pi); !s.changed {
			s.changed = true
			t.changedPeople = append(t.changedPeople, pi)
		}
	}
	for _, ci := range c.contacts {
		t.changedContact(ci, 0)
	}
	for _, k := range c.meta {
		t.changedMeta[k] = struct{}{}
	}
	t.tombstones = append(t.tombstones, c.gone...) // they are written before the row of one that was made again
	t.stored += len(c.gone)
	for _, r := range c.processes {
		r.process = false
	}
	t.closed = append(t.closed, c.closed...)
	for _, r := range c.Rows {
		t.changedBytes += len(r.Key) + len(r.Value)
	}
}

// rowWriter copies rows out of the table: their bytes change once the lock is let go.
type rowWriter struct {
	cut   *Cut
	arena []byte
}

func (w *rowWriter) copy(b []byte) []byte {
	if cap(w.arena)-len(w.arena) < len(b) {
		w.arena = make([]byte, 0, max(1<<20, len(b)))
	}
	start := len(w.arena)
	w.arena = append(w.arena, b...)
	return w.arena[start:len(w.arena):len(w.arena)]
}

func (w *rowWriter) row(key, v []byte) {
	r := Row{Key: w.copy(key)}
	if v != nil {
		r.Value = w.copy(v)
	}
	w.cut.Rows = append(w.cut.Rows, r)
}

// announce writes the rows of a request, in parts.
func (t *Table) announce(r *Request, w *rowWriter) {
	var b []byte
	flush := func() {
		w.row([]byte(requestKey(r.Number, r.parts)), b)
		r.parts++
		b = b[:0]
	}
	most := maxPart
	if m := t.cfg.PartMost; m > 0 && m < most {
		most = m
	}
	for i := range r.Taken {
		if len(b) == 0 {
			b = t.requestHead(r, b)
		}
		b = putBytes(b, t.addressOf(r.Taken[i].Contact))
		b = binary.LittleEndian.AppendUint64(b, r.Taken[i].Hash)
		if len(b) > most {
			flush()
		}
	}
	if len(b) > 0 {
		flush()
	}
}

func processRow(r *Request) []byte { return binary.AppendVarint([]byte{Version}, r.Process) }

func (t *Table) requestHead(r *Request, b []byte) []byte {
	b = append(b, Version, byte(r.Kind))
	b = binary.AppendVarint(b, millis(r.At))
	for _, lists := range [][]int64{r.Lists, r.unlink} {
		b = binary.AppendUvarint(b, uint64(len(lists)))
		for _, l := range lists {
			b = binary.AppendVarint(b, l)
		}
	}
	return b
}

// Apply takes a row read back from the changelog. Later rows of a key replace earlier ones.
func (t *Table) Apply(key, v []byte) error {
	k := string(key)
	switch {
	case strings.HasPrefix(k, "p/") && len(k) == 18:
		return t.applyPerson(PersonKey(key[2:]), v)
	case strings.HasPrefix(k, "c/"):
		return t.applyContact(key[2:], v)
	case strings.HasPrefix(k, "k/"):
		return t.applyMeta(k[2:], v)
	case strings.HasPrefix(k, "r/"):
		return t.applyRequest(k[2:], v)
	}
	return nil // the sentinel
}

func (t *Table) applyPerson(key PersonKey, v []byte) error {
	if v == nil {
		return nil
	}
	if v[0] > Version {
		return fmt.Errorf("%w (row version %d)", ErrVersion, v[0])
	}
	pi, _ := t.findPerson(key, true)
	s := t.people.at(pi)
	s.row = t.blobs.replace(s.row, v)
	return nil
}

func (t *Table) applyContact(address, v []byte) error {
	if v == nil {
		if ci, ok := t.lookContact(address); ok {
			c := t.contacts.at(ci)
			t.blobs.drop(c.row)
			t.stored -= int(bit(c.flags&flagStored != 0))
			c.row, c.flags = 0, c.flags&^flagStored
		}
		return nil
	}
	if v[0] > Version {
		return fmt.Errorf("%w (row version %d)", ErrVersion, v[0])
	}
	c := t.contacts.at(t.findContact(address))
	c.row = t.blobs.replace(c.row, v)
	t.stored += int(bit(c.flags&flagStored == 0))
	c.flags |= flagStored
	return nil
}

func (t *Table) applyMeta(key string, v []byte) error {
	if v == nil {
		delete(t.meta, key)
		return nil
	}
	t.meta[key] = slices.Clone(v)
	if strings.HasPrefix(key, namePrefix) {
		return t.applyName(key, v)
	}
	return nil
}

// applyRequest keeps the parts of open requests until Ready.
func (t *Table) applyRequest(key string, v []byte) error {
	if t.parts == nil {
		t.parts = map[uint64]map[string][]byte{}
	}
	number, part, ok := strings.Cut(key, ".")
	n, err := strconv.ParseUint(number, 16, 64)
	if !ok || err != nil {
		return fmt.Errorf("a request's row has the key %q", key)
	}
	t.next = max(t.next, n+1)
	if v == nil {
		delete(t.parts[n], part)
		if len(t.parts[n]) == 0 {
			delete(t.parts, n)
		}
		return nil
	}
	if t.parts[n] == nil {
		t.parts[n] = map[string][]byte{}
	}
	t.parts[n][part] = slices.Clone(v)
	return nil
}

// Ready ends a restore: people and contacts are joined, open requests are told: their contacts are unknown, but for
// imports, which are returned for adoption and hold their contacts until they are settled, freed or abandoned.
func (t *Table) Ready(now time.Time) (imports []*Request, err error) {
	if err := t.rejoin(now); err != nil {
		return nil, err
	}
	for _, r := range t.Open() {
		if r.Kind == sink.Import {
			imports = append(imports, r)
			continue
		}
		t.Abandon(r, now)
	}
	t.reconsiderAll(now)
	return imports, nil
}

// Peek joins the table without telling open requests: for a look, or for a change made while nobody owns it. They stay
// open, with their contacts in flight, for the next owner to find.
func (t *Table) Peek(now time.Time) error {
	if err := t.rejoin(now); err != nil {
		return err
	}
	t.reconsiderAll(now)
	return nil
}

// rejoin makes a table of the rows that were read back, open requests with them.
func (t *Table) rejoin(now time.Time) error {
	t.padNames()
	t.compile()
	for pi := range t.people.n {
		if err := t.join(pi); err != nil {
			return err
		}
	}
	for ci := range t.contacts.n {
		t.loadContact(ci, &t.row)
		t.forgetNameless(ci)
		for _, l := range t.row.lists {
			t.count(l.list, absent, l.state)
		}
		t.Counts.Rejected += int(bit(t.row.rejected != ""))
		for _, f := range t.row.refused {
			t.noteRefused(ci, f.name, f.value, f.at)
		}
		if t.row.unknownSince != 0 {
			t.remind(ci, t.row.unknownSince+t.cfg.LateApply.Milliseconds())
		}
	}
	t.restoreLetGo(now)
	for n, parts := range t.parts {
		if err := t.reopen(n, parts); err != nil {
			return err
		}
	}
	t.parts = nil
	return nil
}

func (t *Table) reconsiderAll(now time.Time) {
	for ci := range t.contacts.n {
		if t.contacts.at(ci).flags&flagLive != 0 {
			t.reconsider(ci, now)
		}
	}
	t.releaseSettled(now)
}

// join links a restored person to their contact.
func (t *Table) join(pi uint32) error {
	s := t.people.at(pi)
	if err := t.p.decode(t.blobs.get(s.row)); err != nil {
		return err
	}
	if len(t.p.address) > 0 {
		ci := t.findContact(t.p.address)
		t.link(ci, pi)
		s.contact = ci + 1
	}
	for _, g := range t.p.gaveUp {
		ci := t.findContact(g.address)
		t.gave[ci] = append(t.gave[ci], pi)
	}
	return nil
}
