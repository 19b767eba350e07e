package state

import (
	"crypto/sha256"
	"encoding/binary"
	"slices"
)

// PersonKey is the 128-bit name of a person in the table: a hash of the source and the person's id there.
type PersonKey [16]byte

// KeyOf hashes a person's id within a source (SHA-256, cut to 128 bits).
func KeyOf(source, person string) PersonKey {
	var stack [256]byte
	b := append(stack[:0], source...)
	b = append(b, 0)
	b = append(b, person...)
	sum := sha256.Sum256(b)
	return PersonKey(sum[:16])
}

// membership is what one segment holds of a person, out included.
type membership struct {
	segment uint32 // durable number
	in      bool
	until   int64 // when it lapses, Unix seconds; 0: never
	stamp   Stamp
}

// holds says whether the person is in at a time.
func (m *membership) holds(ms int64) bool { return m.in && (m.until == 0 || ms < 1000*m.until) }

// value is one mapped attribute with the stamp of the record that said it.
type value struct {
	name  uint32 // durable number
	json  []byte // JSON literal; empty literal "" where a null clears
	stamp Stamp
}

// gaveUp is an address that a person had before the present one, until the contact there is dealt with.
type gaveUp struct {
	address []byte
	blocked bool // found blocked or unsubscribed: no new address of this person is added
	looked  bool // found neither, before the new address was written
}

// person is a decoded row. Its byte slices lie in the row.
type person struct {
	source      uint32
	memberships []membership
	address     []byte
	addressAt   Stamp
	profile     Stamp // the newest record that carried a profile
	values      []value
	gaveUp      []gaveUp
	erased      Stamp
}

// size is roughly how long p's row is, in bytes; no less than it is.
func (p *person) size() int {
	n := 64 + len(p.address) + 48*(len(p.memberships)+len(p.values))
	for i := range p.values {
		n += len(p.values[i].json)
	}
	for i := range p.gaveUp {
		n += len(p.gaveUp[i].address) + 4
	}
	return n
}

func (p *person) reset() {
	*p = person{memberships: p.memberships[:0], values: p.values[:0], gaveUp: p.gaveUp[:0]}
}

// stamps collects the distinct stamps of a row: most people have one or two, named by many fields.
type stamps []Stamp

func (s *stamps) index(st Stamp) uint64 {
	for i, have := range *s {
		if have == st {
			return uint64(i)
		}
	}
	*s = append(*s, st)
	return uint64(len(*s) - 1)
}

// encode appends the row of p.
func (p *person) encode(b []byte) []byte {
	var room [4]Stamp
	all := stamps(room[:0])
	for i := range p.memberships {
		all.index(p.memberships[i].stamp)
	}
	all.index(p.addressAt)
	all.index(p.profile)
	all.index(p.erased)
	for i := range p.values {
		all.index(p.values[i].stamp)
	}
	b = append(b, Version)
	b = binary.AppendUvarint(b, uint64(p.source))
	b = binary.AppendUvarint(b, uint64(len(all)))
	for _, s := range all {
		b = binary.AppendUvarint(b, uint64(s.Topic))
		b = binary.AppendUvarint(b, uint64(s.Partition))
		b = binary.AppendVarint(b, int64(s.Epoch))
		b = binary.AppendVarint(b, s.Offset)
		b = binary.AppendVarint(b, s.Time)
	}
	b = binary.AppendUvarint(b, uint64(len(p.memberships)))
	for i := range p.memberships {
		m := &p.memberships[i]
		b = binary.AppendUvarint(b, uint64(m.segment)<<2|bit(m.until != 0)<<1|bit(m.in))
		b = binary.AppendUvarint(b, all.index(m.stamp))
		if m.until != 0 {
			b = binary.AppendVarint(b, m.until)
		}
	}
	b = putBytes(b, p.address)
	b = binary.AppendUvarint(b, all.index(p.addressAt))
	b = binary.AppendUvarint(b, all.index(p.profile))
	b = binary.AppendUvarint(b, all.index(p.erased))
	b = binary.AppendUvarint(b, uint64(len(p.values)))
	for i := range p.values {
		v := &p.values[i]
		b = binary.AppendUvarint(b, uint64(v.name))
		b = binary.AppendUvarint(b, all.index(v.stamp))
		b = putBytes(b, v.json)
	}
	b = binary.AppendUvarint(b, uint64(len(p.gaveUp)))
	for _, g := range p.gaveUp {
		b = append(b, byte(bit(g.blocked)|bit(g.looked)<<1))
		b = putBytes(b, g.address)
	}
	return b
}

// decode reads a row into p, whose slices it reuses.
func (p *person) decode(row []byte) error {
	p.reset()
	r := reader{b: row}
	version := r.version()
	p.source = uint32(r.uint())
	var room [8]Stamp
	all := room[:0]
	for range r.count() {
		s := Stamp{Topic: uint32(r.uint()), Partition: int32(r.uint()), Epoch: -1}
		if version >= 3 {
			s.Epoch = int32(r.int())
		}
		s.Offset, s.Time = r.int(), r.int()
		if version < 3 && s.Topic == 0 && s.Partition == 0 && s.Offset == 0 && s.Time == 0 {
			s = Stamp{} // none
		}
		all = append(all, s)
	}
	stamp := func() Stamp {
		i := r.uint()
		if i >= uint64(len(all)) {
			r.fail()
			return Stamp{}
		}
		return all[i]
	}
	for range r.count() {
		v, marks := r.uint(), 2 // in, and whether it lapses
		if version < 5 {
			marks = 1
		}
		m := membership{segment: uint32(v >> marks), in: v&1 == 1, stamp: stamp()}
		if marks == 2 && v&2 != 0 {
			m.until = r.int()
		}
		p.memberships = append(p.memberships, m)
	}
	p.address = r.bytes()
	p.addressAt, p.profile, p.erased = stamp(), stamp(), stamp()
	for range r.count() {
		p.values = append(p.values, value{name: uint32(r.uint()), stamp: stamp(), json: r.bytes()})
	}
	for range r.count() {
		marks := r.uint()
		p.gaveUp = append(p.gaveUp, gaveUp{blocked: marks&1 != 0, looked: marks&2 != 0, address: r.bytes()})
	}
	return r.err
}

func (p *person) segment(n uint32) *membership {
	for i := range p.memberships {
		if p.memberships[i].segment == n {
			return &p.memberships[i]
		}
	}
	return nil
}

func (p *person) value(name uint32) *value {
	for i := range p.values {
		if p.values[i].name == name {
			return &p.values[i]
		}
	}
	return nil
}

// inAny says whether the person is in any segment.
func (p *person) inAny() bool {
	return slices.ContainsFunc(p.memberships, func(m membership) bool { return m.in })
}

// blocked says whether an earlier address of the person was found blocked.
func (p *person) blocked() bool {
	for _, g := range p.gaveUp {
		if g.blocked {
			return true
		}
	}
	return false
}

func bit(b bool) uint64 {
	if b {
		return 1
	}
	return 0
}
