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

// Changed says whether there is anything to cut.
func (t *Table) Changed() bool {
	return len(t.agenda.touched)+len(t.requests.closed) > 0 || !t.journal.empty() || len(t.requests.processes()) > 0
}

// Cut takes every row changed since the last one, with the rows of the requests that are announced by it and the
// tombstones of those closed.
func (t *Table) Cut(announced []*Request) *Cut {
	w := rowWriter{arena: make([]byte, 0, t.journal.bytes+t.journal.bytes/4)}
	c := t.journal.cut()
	w.cut = c
	for _, a := range c.gone {
		w.row([]byte("c/"+a), nil)
	}
	for _, pi := range c.people {
		s := t.store.people.At(pi)
		s.changed = false
		w.row(append([]byte("p/"), s.key[:]...), t.store.blobs.Get(s.row))
	}
	for _, ci := range c.contacts {
		t.cutContact(ci, &w)
	}
	for _, k := range c.meta {
		w.row([]byte("k/"+k), t.journal.meta[k])
	}
	for _, r := range announced {
		t.announce(r, &w)
	}
	c.processes = t.requests.processes()
	for _, r := range c.processes {
		r.process = true
		w.row([]byte(processKey(r.Number)), processRow(r))
	}
	c.closed, t.requests.closed = t.requests.closed, nil
	for _, r := range c.closed {
		for i := range r.parts {
			w.row([]byte(requestKey(r.Number, i)), nil)
		}
		if r.process {
			w.row([]byte(processKey(r.Number)), nil)
		}
	}
	if len(c.Rows) > 0 {
		t.cutCounts(&w)
	}
	return c
}

func (t *Table) cutContact(ci uint32, w *rowWriter) {
	s := t.store.contacts.At(ci)
	s.flags &^= flagChanged
	if s.flags&flagLive == 0 || s.row == 0 {
		return
	}
	if s.flags&flagStored == 0 {
		s.flags |= flagStored
		t.journal.stored++
	}
	w.row(append([]byte("c/"), t.store.blobs.Get(s.address)...), t.store.blobs.Get(s.row))
}

// cutCounts writes how many rows there are.
func (t *Table) cutCounts(w *rowWriter) {
	var counts []byte
	for _, n := range []int{int(t.store.people.Len()), t.journal.stored, t.names.named(), len(t.names.of)} {
		counts = binary.AppendUvarint(counts, uint64(n))
	}
	t.journal.meta[countsKey] = counts
	w.row([]byte("k/"+countsKey), counts)
}

// GiveBack returns a cut that was certainly not committed: all of it belongs to the next one.
func (t *Table) GiveBack(c *Cut) {
	for _, pi := range c.people {
		if s := t.store.people.At(pi); !s.changed {
			s.changed = true
			t.journal.people = append(t.journal.people, pi)
		}
	}
	for _, ci := range c.contacts {
		t.store.changedContact(ci, 0)
	}
	for _, r := range c.processes {
		r.process = false
	}
	t.requests.closed = append(t.requests.closed, c.closed...)
	t.journal.giveBack(c)
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
		b = putBytes(b, t.store.addressOf(r.Taken[i].Contact))
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
	pi, _ := t.store.findPerson(key, true)
	s := t.store.people.At(pi)
	s.row = t.store.blobs.Replace(s.row, v)
	return nil
}

func (t *Table) applyContact(address, v []byte) error {
	if v == nil {
		if ci, ok := t.store.lookContact(address); ok {
			c := t.store.contacts.At(ci)
			t.store.blobs.Drop(c.row)
			t.journal.stored -= int(bit(c.flags&flagStored != 0))
			c.row, c.flags = 0, c.flags&^flagStored
		}
		return nil
	}
	if v[0] > Version {
		return fmt.Errorf("%w (row version %d)", ErrVersion, v[0])
	}
	c := t.store.contacts.At(t.store.findContact(address))
	c.row = t.store.blobs.Replace(c.row, v)
	t.journal.stored += int(bit(c.flags&flagStored == 0))
	c.flags |= flagStored
	return nil
}

func (t *Table) applyMeta(key string, v []byte) error {
	if v == nil {
		delete(t.journal.meta, key)
		return nil
	}
	t.journal.meta[key] = slices.Clone(v)
	if strings.HasPrefix(key, namePrefix) {
		return t.names.apply(key, v)
	}
	return nil
}

// applyRequest keeps the parts of open requests until Ready.
func (t *Table) applyRequest(key string, v []byte) error {
	if t.requests.parts == nil {
		t.requests.parts = map[uint64]map[string][]byte{}
	}
	number, part, ok := strings.Cut(key, ".")
	n, err := strconv.ParseUint(number, 16, 64)
	if !ok || err != nil {
		return fmt.Errorf("a request's row has the key %q", key)
	}
	t.requests.next = max(t.requests.next, n+1)
	if v == nil {
		delete(t.requests.parts[n], part)
		if len(t.requests.parts[n]) == 0 {
			delete(t.requests.parts, n)
		}
		return nil
	}
	if t.requests.parts[n] == nil {
		t.requests.parts[n] = map[string][]byte{}
	}
	t.requests.parts[n][part] = slices.Clone(v)
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
	t.compiled = compile(&t.cfg, t.names)
	for pi := range t.store.people.Len() {
		if err := t.join(pi); err != nil {
			return err
		}
	}
	for ci := range t.store.contacts.Len() {
		t.tally.row(t.store.blobs.Get(t.store.contacts.At(ci).row), +1)
	}
	t.all(now, func(v *view) {
		v.forgetNameless()
		for _, f := range v.row.refused {
			t.refusals.note(v.ci, f.name, f.value, f.at)
		}
		if v.row.unknownSince != 0 {
			t.agenda.remind(v.ci, v.row.unknownSince+t.cfg.LateApply.Milliseconds())
		}
	})
	t.refusals.restore(now)
	for n, parts := range t.requests.parts {
		if err := t.reopen(n, parts); err != nil {
			return err
		}
	}
	t.requests.parts = nil
	return nil
}

func (t *Table) reconsiderAll(now time.Time) {
	t.all(now, func(v *view) { t.reconsider(v.ci, now) })
}

// join links a restored person to their contact.
func (t *Table) join(pi uint32) error {
	s := t.store.people.At(pi)
	p := t.persons.lend()
	defer t.persons.giveBack(p)
	if err := p.decode(t.store.blobs.Get(s.row)); err != nil {
		return err
	}
	t.store.count(s, p)
	if len(p.address) > 0 {
		ci := t.store.findContact(p.address)
		t.store.link(ci, pi)
		s.contact = ci + 1
	}
	for _, g := range p.gaveUp {
		t.store.giveUp(t.store.findContact(g.address), pi)
	}
	return nil
}
