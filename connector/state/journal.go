package state

import "slices"

// journal is what the next cut writes: the rows that have changed, and the rows of the connection itself (k/…).
type journal struct {
	meta        map[string][]byte
	changedMeta map[string]struct{}
	people      []uint32
	contacts    []uint32
	gone        []string // addresses whose rows go
	stored      int      // contacts that have a row in the changelog
	bytes       int      // roughly, of the next cut
}

func newJournal() *journal {
	return &journal{meta: map[string][]byte{}, changedMeta: map[string]struct{}{}}
}

func (j *journal) personChanged(pi uint32, bytes int) {
	j.people = append(j.people, pi)
	j.bytes += bytes + 24
}

func (j *journal) contactChanged(ci uint32, bytes int) {
	j.contacts = append(j.contacts, ci)
	j.bytes += bytes + 48
}

func (j *journal) contactGone(address string) {
	j.gone = append(j.gone, address)
	j.bytes += 64
}

// set sets a row of the connection itself; nil removes it.
func (j *journal) set(key string, v []byte) {
	if v == nil {
		delete(j.meta, key)
	} else {
		j.meta[key] = v
	}
	j.changedMeta[key] = struct{}{}
	j.bytes += len(key) + len(v) + 16
}

// keys lists the rows of the connection itself whose key begins with prefix, sorted.
func (j *journal) keys(prefix string) []string {
	var keys []string
	for k := range j.meta {
		if len(k) >= len(prefix) && k[:len(prefix)] == prefix {
			keys = append(keys, k)
		}
	}
	slices.Sort(keys)
	return keys
}

func (j *journal) empty() bool {
	return len(j.people)+len(j.contacts)+len(j.changedMeta)+len(j.gone) == 0
}

// cut hands all of it out.
func (j *journal) cut() *Cut {
	c := &Cut{people: j.people, contacts: j.contacts, gone: j.gone}
	for k := range j.changedMeta {
		c.meta = append(c.meta, k)
	}
	slices.Sort(c.meta)
	j.stored -= len(c.gone)
	j.people, j.contacts, j.gone, j.bytes = nil, nil, nil, 0
	clear(j.changedMeta)
	return c
}

// giveBack takes what a cut held of the connection's own rows and of those that go: they are written before the row of one
// that was made again.
func (j *journal) giveBack(c *Cut) {
	for _, k := range c.meta {
		j.changedMeta[k] = struct{}{}
	}
	j.gone = append(j.gone, c.gone...)
	j.stored += len(c.gone)
	for _, r := range c.Rows {
		j.bytes += len(r.Key) + len(r.Value)
	}
}

// SetMeta sets a row of the connection itself (k/…); nil removes it.
func (t *Table) SetMeta(key string, v []byte) { t.journal.set(key, v) }

// Meta is a row of the connection itself, nil if there is none.
func (t *Table) Meta(key string) []byte { return t.journal.meta[key] }

// MetaKeys lists the rows of the connection itself whose key begins with prefix, sorted.
func (t *Table) MetaKeys(prefix string) []string { return t.journal.keys(prefix) }

// ChangedBytes is roughly how many bytes the next cut will hold.
func (t *Table) ChangedBytes() int { return t.journal.bytes }
