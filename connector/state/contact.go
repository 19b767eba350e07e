package state

import (
	"cmp"
	"encoding/binary"
	"slices"
)

// delivery is what a contact's row says of a list. A list that it does not name is absent: never delivered by us, and
// counts as out.
type delivery uint8

const (
	absent delivery = iota
	in
	out
	unknown  // a request that had no answer may have changed it
	doubtful // it left explicitly, and was absent: somebody else may have put it in
)

// unsure says whether the list must be told once more, whatever is wanted.
func (d delivery) unsure() bool { return d >= unknown }

// listed is what was delivered for one list. Times are Unix milliseconds.
type listed struct {
	list  int64
	state delivery
	at    int64
	// imported: by an import; what it has done is not verified before an audit has seen it.
	imported bool
	passage  passage // of its removal, by the guard
}

// refusal is an attribute that the destination refused, by the hash of the value.
type refusal struct {
	name  uint32
	value uint64
	at    int64
}

// standing is a unique attribute of ours that stands (or may stand) at a contact, by the hash of its value; 0: it is
// not known which.
type standing struct {
	name  uint32
	value uint64
}

// contactRow is the decoded row of a contact.
type contactRow struct {
	lists        []listed
	hash         uint64 // of the attributes delivered; 0 not known
	unknownSince int64  // the last unanswered request; 0 none
	late         bool   // the re-send after late_apply has begun
	standing     []standing
	refused      []refusal
	rejected     string // the API's code; "" not rejected
	rejectedAt   int64
	rejectedWant uint64 // fingerprint of what was wanted then
	erase        bool   // it is to be deleted: its person was erased
	halves       uint8  // how often an import that held it failed as a whole
}

func (c *contactRow) reset() {
	*c = contactRow{lists: c.lists[:0], standing: c.standing[:0], refused: c.refused[:0]}
}

func (c *contactRow) list(id int64) *listed {
	for i := range c.lists {
		if c.lists[i].list == id {
			return &c.lists[i]
		}
	}
	return nil
}

func (c *contactRow) state(id int64) delivery {
	if l := c.list(id); l != nil {
		return l.state
	}
	return absent
}

// set moves a list to a state at a time, and forgets what the guard has decided.
func (c *contactRow) set(id int64, s delivery, at int64) {
	if l := c.list(id); l != nil {
		*l = listed{list: id, state: s, at: at}
		return
	}
	c.lists = append(c.lists, listed{list: id, state: s, at: at})
	slices.SortFunc(c.lists, func(a, b listed) int { return cmp.Compare(a.list, b.list) })
}

// forget makes a list absent.
func (c *contactRow) forget(id int64) {
	c.lists = slices.DeleteFunc(c.lists, func(l listed) bool { return l.list == id })
}

func (c *contactRow) refusal(name uint32) *refusal {
	for i := range c.refused {
		if c.refused[i].name == name {
			return &c.refused[i]
		}
	}
	return nil
}

func (c *contactRow) stood(name uint32) (value uint64, stands bool) {
	for _, s := range c.standing {
		if s.name == name {
			return s.value, true
		}
	}
	return 0, false
}

func (c *contactRow) stand(name uint32, value uint64) {
	c.emptied(name)
	c.standing = append(c.standing, standing{name, value})
}

func (c *contactRow) emptied(name uint32) {
	c.standing = slices.DeleteFunc(c.standing, func(s standing) bool { return s.name == name })
}

// idle says whether the row says nothing that must be remembered: it may go.
func (c *contactRow) idle() bool {
	for _, l := range c.lists {
		if l.state == in || l.state.unsure() {
			return false
		}
	}
	return c.unknownSince == 0 && !c.erase
}

func (c *contactRow) encode(b []byte) []byte {
	b = append(b, Version)
	b = binary.AppendUvarint(b, uint64(len(c.lists)))
	for _, l := range c.lists {
		b = binary.AppendUvarint(b, uint64(l.state)<<3|bit(l.imported)<<2|uint64(l.passage))
		b = binary.AppendVarint(b, l.list)
		b = binary.AppendVarint(b, l.at)
	}
	b = binary.LittleEndian.AppendUint64(b, c.hash)
	extra := bit(c.unknownSince != 0) | bit(c.late)<<1 | bit(len(c.standing) > 0)<<2 |
		bit(len(c.refused) > 0)<<3 | bit(c.rejected != "")*extraRejected | bit(c.halves != 0)<<5 | bit(c.erase)<<6 | bit(c.rejected == NoContact)*extraNoContact
	b = binary.AppendUvarint(b, extra)
	if c.unknownSince != 0 {
		b = binary.AppendVarint(b, c.unknownSince)
	}
	if len(c.standing) > 0 {
		b = binary.AppendUvarint(b, uint64(len(c.standing)))
		for _, s := range c.standing {
			b = binary.AppendUvarint(b, uint64(s.name))
			b = binary.LittleEndian.AppendUint64(b, s.value)
		}
	}
	if len(c.refused) > 0 {
		b = binary.AppendUvarint(b, uint64(len(c.refused)))
		for _, r := range c.refused {
			b = binary.AppendUvarint(b, uint64(r.name))
			b = binary.LittleEndian.AppendUint64(b, r.value)
			b = binary.AppendVarint(b, r.at)
		}
	}
	if c.rejected != "" {
		b = putBytes(b, []byte(c.rejected))
		b = binary.AppendVarint(b, c.rejectedAt)
		b = binary.LittleEndian.AppendUint64(b, c.rejectedWant)
	}
	if c.halves != 0 {
		b = append(b, c.halves)
	}
	return b
}

// extraRejected is the bit that says that a rejection follows.
const extraRejected = 16

// extraNoContact is the bit that says that it is no fault: the contact does not exist, and is not to be created.
const extraNoContact = 128

// listed reads what a row says of a list.
func (r *reader) listed(version uint64) listed {
	s := r.uint()
	l := listed{state: delivery(s >> 3), imported: s&4 != 0, passage: passage(s & 3)}
	switch {
	case version < 3:
		l = listed{state: delivery(s >> 1)}
	case version == 3:
		l = listed{state: delivery(s >> 2), passage: passage(s & 3)}
	}
	l.list, l.at = r.int(), r.int()
	if version < 3 && s&1 == 1 {
		r.int() // since when it was withheld: the guard weighs it anew
	}
	return l
}

func (c *contactRow) decode(row []byte) error {
	c.reset()
	if len(row) == 0 {
		return nil
	}
	r := reader{b: row}
	version := r.version()
	for range r.count() {
		c.lists = append(c.lists, r.listed(version))
	}
	c.hash = r.fixed64()
	extra := r.uint()
	if extra&1 != 0 {
		c.unknownSince = r.int()
	}
	c.late, c.erase = extra&2 != 0, extra&64 != 0
	if extra&4 != 0 {
		for range r.count() {
			c.standing = append(c.standing, standing{name: uint32(r.uint()), value: r.fixed64()})
		}
	}
	if extra&8 != 0 {
		for range r.count() {
			c.refused = append(c.refused, refusal{name: uint32(r.uint()), value: r.fixed64(), at: r.int()})
		}
	}
	if extra&extraRejected != 0 {
		c.rejected = string(r.bytes())
		c.rejectedAt = r.int()
		c.rejectedWant = r.fixed64()
	}
	if extra&32 != 0 {
		c.halves = uint8(r.uint())
	}
	return r.err
}
