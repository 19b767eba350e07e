package state

import (
	"bytes"
	"slices"
	"time"
)

// Change is what one record says of one person.
type Change struct {
	Source int // place in Config.Sources
	Person PersonKey
	Stamp  Stamp
	// Memberships of the segments that the source's exports use, by place in Source.Segments.
	Memberships []Membership
	// Whole: what Memberships does not name is out (a snapshot).
	Whole   bool
	Profile *Profile
	// Erase leaves a row without address or attributes, which nothing older can fill again; Delete deletes the contact.
	Erase, Delete bool
	// Remap lets a record at its standing position be folded anew (backfill --resend).
	Remap bool
	// Only names the segments that are heard, by place in Source.Segments; nil: all (backfill --segments).
	Only []int
	// Live: it has just happened.
	Live bool
}

// Membership is one segment's say about the person.
type Membership struct {
	Segment int
	In      bool
	Until   int64 // when it lapses, Unix seconds; 0: never
	Time    int64 // its own, in place of the stamp's; 0: the stamp's
}

// Profile is what the record says of the person's address and attributes.
type Profile struct {
	Address string // "" none given
	Values  []Value
}

// Value is a mapped attribute: its place in Source.Attributes and a JSON literal. A nil literal is a null that leaves
// what stands; the empty literal "" one that clears.
type Value struct {
	Attribute int
	JSON      []byte
}

// Folded is what a change did.
type Folded struct {
	Moved     bool // something was newer than what stood
	NoAddress bool // a membership moved and no address of the person is known
	TooLarge  bool // the profile does not fit into the person's row: the memberships were folded all the same
}

// Fold takes a change into the table. A change that is not newer, or that concerns a person whom the table does not
// know and does not put in or out explicitly, changes nothing. What it means for contacts is seen by Refresh.
func (t *Table) Fold(c *Change, now time.Time) Folded {
	counts := &t.tally.counts
	counts.Folded++
	pi, known := t.store.findPerson(c.Person, false)
	asked := c.makesRow() || c.Profile != nil && t.cfg.Sources[c.Source].KeepProfiles
	if !known {
		if !asked {
			counts.Ignored++
			return Folded{}
		}
		pi, _ = t.store.findPerson(c.Person, true)
	}
	f := folding{t: t, c: c, pi: pi, p: t.person(pi), src: &t.compiled.sources[c.Source]}
	defer t.endPerson(f.p)
	if !asked && len(f.p.memberships) == 0 { // they were erased, or forgotten
		counts.Ignored++
		return Folded{}
	}
	f.p.source = f.src.number
	if f.p.erased != (Stamp{}) && !c.Stamp.Newer(f.p.erased) {
		counts.Stale++
		return Folded{}
	}
	if c.Erase {
		return f.erase()
	}
	var done Folded
	before := f.p.address
	moved := f.memberships()
	changed := moved
	if c.Profile != nil {
		changed = f.profile() || changed
		if f.p.size() > t.rowMost() { // the memberships alone
			done.TooLarge = true
			t.store.loadPerson(pi, f.p)
			f.p.source, before = f.src.number, f.p.address
			moved = f.memberships()
			changed = moved
		}
	}
	if !changed {
		counts.Stale++
		return done
	}
	done.Moved, done.NoAddress = true, moved && len(f.p.address) == 0
	counts.Needed += bit(f.differs && len(f.p.address) > 0)
	old := t.store.people.At(pi).contact
	f.settleAddress(before, now)
	if c.Live {
		for _, slot := range []uint32{old, t.store.people.At(pi).contact} {
			if slot != 0 {
				t.agenda.live.push(slot-1, millis(now))
			}
		}
	}
	return done
}

// folding is one change that is being folded.
type folding struct {
	t       *Table
	c       *Change
	pi      uint32
	p       *person
	src     *sourcePlan
	left    []int // exports whose list was left explicitly
	news    bool  // something newer was said, not only mapped anew
	differs bool  // what is wanted of the person changes
}

// makesRow says whether a change makes a row of a person whom the table does not know: somebody put in, or put out
// explicitly (an older record on another partition must not put them in again).
func (c *Change) makesRow() bool {
	if c.Erase {
		return true
	}
	for _, m := range c.Memberships {
		if c.hears(m.Segment) && (m.In || !c.Whole) {
			return true
		}
	}
	return false
}

// hears says whether what is said of a segment is heard.
func (c *Change) hears(segment int) bool { return c.Only == nil || slices.Contains(c.Only, segment) }

// newer says whether c supersedes what stands at s.
func (c *Change) newer(s Stamp) bool {
	return c.Stamp.Newer(s) || c.Remap && c.Stamp.samePartition(s) && c.Stamp.Offset == s.Offset
}

// memberships folds them, and says whether one has moved.
func (f *folding) memberships() (moved bool) {
	f.left = f.left[:0]
	for _, m := range f.c.Memberships {
		if !f.c.hears(m.Segment) {
			continue
		}
		moved = f.move(f.src.segments[m.Segment], m, !f.c.Whole) || moved
	}
	if f.c.Whole {
		for i, segment := range f.src.segments {
			if f.c.hears(i) && !slices.ContainsFunc(f.c.Memberships, func(m Membership) bool { return m.Segment == i }) {
				moved = f.move(segment, Membership{}, false) || moved
			}
		}
	}
	return moved
}

// move moves a membership, if what is said is newer.
func (f *folding) move(segment uint32, say Membership, explicit bool) bool {
	p, c, in := f.p, *f.c, say.In
	if say.Time != 0 {
		c.Stamp.Time = say.Time
	}
	m := p.segment(segment)
	was := m != nil && m.in
	first := m == nil
	if m == nil {
		p.memberships = append(p.memberships, membership{segment: segment})
		m = &p.memberships[len(p.memberships)-1]
	}
	if !c.newer(m.stamp) || p.erased != (Stamp{}) && !c.Stamp.Newer(p.erased) {
		return false
	}
	f.news = f.news || c.Stamp.Newer(m.stamp)
	f.differs = f.differs || was != in || first && explicit
	*m = membership{segment: segment, in: in, until: say.Until, stamp: c.Stamp.over(m.stamp)}
	if former := f.src.former[segment]; len(former) > 0 { // what was said of it before it was named again
		p.memberships = slices.DeleteFunc(p.memberships, func(m membership) bool { return slices.Contains(former, m.segment) })
	}
	switch {
	case explicit && !in:
		f.left = append(f.left, f.src.feeds[segment]...)
	case explicit:
		f.left = append(f.left, f.src.bars[segment]...)
	}
	return true
}

// profile moves the address and each attribute for itself, so that the result does not depend on the order in
// which profiles come: a null that keeps leaves its place to be filled by an older profile (S34).
func (f *folding) profile() (moved bool) {
	p, c := f.p, f.c
	if c.newer(p.profile) {
		p.profile = c.Stamp.over(p.profile)
		moved = true
	}
	if a := c.Profile.Address; a != "" && c.newer(p.addressAt) {
		p.addressAt = c.Stamp.over(p.addressAt)
		f.differs = f.differs || p.inAny() && string(p.address) != a
		p.address = []byte(a)
		moved = true
	}
	for _, v := range c.Profile.Values {
		if v.JSON == nil {
			continue
		}
		name := f.src.attributes[v.Attribute]
		have := p.value(name)
		if have == nil {
			p.values = append(p.values, value{name: name})
			have = &p.values[len(p.values)-1]
		}
		if c.newer(have.stamp) {
			f.differs = f.differs || p.inAny() && !bytes.Equal(have.json, v.JSON)
			*have = value{name: name, json: v.JSON, stamp: c.Stamp.over(have.stamp)}
			moved = true
		}
	}
	return moved
}

// settleAddress stores the person and lets the contacts of their addresses, before and now, follow.
func (f *folding) settleAddress(before []byte, now time.Time) {
	s, p := f.t.store, f.p
	slot := s.people.At(f.pi)
	old := slot.contact
	if !bytes.Equal(before, p.address) {
		p.gaveUp = slices.DeleteFunc(p.gaveUp, func(g gaveUp) bool {
			if !bytes.Equal(g.address, p.address) {
				return false
			}
			s.forgive(s.findContact(g.address), f.pi)
			return true
		})
		if old != 0 {
			p.gaveUp = append(p.gaveUp, gaveUp{address: slices.Clone(before)})
			s.giveUp(old-1, f.pi)
			s.unlink(old-1, f.pi)
			f.boundFormer()
		}
		slot.contact = 0
		if len(p.address) > 0 {
			ci := s.findContact(p.address)
			s.link(ci, f.pi)
			slot.contact = ci + 1
		}
	}
	s.storePerson(f.pi, p)
	if old != 0 && old != slot.contact {
		f.leaves(old-1, now)
		f.t.agenda.touch(old - 1)
	}
	if slot.contact != 0 {
		f.leaves(slot.contact-1, now)
		f.t.agenda.touch(slot.contact - 1)
	}
	if old != 0 && (f.news || old != slot.contact) {
		f.t.moved(old - 1)
	}
	if slot.contact != 0 && f.news {
		f.t.moved(slot.contact - 1)
	}
}

// formerMost is how many former addresses of a person are kept that nothing of ours ever reached: they are looked at
// before the present one is added, for their owner may have unsubscribed there.
const formerMost = 16

// boundFormer lets go of the oldest former addresses that nothing of ours ever reached.
func (f *folding) boundFormer() {
	p := f.p
	if len(p.gaveUp) <= formerMost {
		return
	}
	bare := 0
	for i := len(p.gaveUp) - 1; i >= 0; i-- {
		g := &p.gaveUp[i]
		ci, ok := f.t.store.lookContact(g.address)
		if !ok || g.blocked || !f.t.bare(ci) {
			continue
		}
		if bare++; bare > formerMost {
			f.t.store.forgive(ci, f.pi)
			f.t.agenda.touch(ci)
			p.gaveUp = slices.Delete(p.gaveUp, i, i+1)
		}
	}
}

// bare says whether nothing of ours ever reached a contact.
func (t *Table) bare(ci uint32) bool {
	v := t.view(ci)
	defer v.end()
	r := &v.row
	delivered := func(l listed) bool { return l.state == in || l.state == unknown }
	return v.slot().flags&(flagInFlight|flagPinned) == 0 && r.unknownSince == 0 && r.hash == 0 && len(r.standing) == 0 && !slices.ContainsFunc(r.lists, delivered)
}

// rowBytes is how large a person's row may be, in bytes, unless the table's topic takes less.
const rowBytes = 256 << 10

func (t *Table) rowMost() int {
	if most := t.cfg.RowMost; most > 0 && most < rowBytes {
		return most
	}
	return rowBytes
}

// leaves makes the lists that were left explicitly doubtful at a contact that we never delivered there: somebody else may have
// put it in. Once: afterwards the list is in its row. Who takes out only whom we put in does not ask.
func (f *folding) leaves(ci uint32, now time.Time) {
	if len(f.left) == 0 {
		return
	}
	v := f.t.view(ci)
	defer v.end()
	changed := false
	for _, e := range f.left {
		if x := &f.t.compiled.exports[e]; v.row.state(x.List) == absent && !x.OnlyOwn {
			f.t.audits.moved(ci)
			v.row.set(x.List, doubtful, millis(now))
			changed = true
		}
	}
	if changed {
		v.store()
	}
}

// erase empties the person of all that is not newer than the erasure: out everywhere, no address, no attributes, and
// nothing older counts any more.
func (f *folding) erase() Folded {
	p, c, s := f.p, f.c, f.t.store
	if !c.newer(p.erased) {
		return Folded{}
	}
	p.erased = c.Stamp
	p.memberships = slices.DeleteFunc(p.memberships, func(m membership) bool { return !m.stamp.Newer(c.Stamp) })
	p.values = slices.DeleteFunc(p.values, func(v value) bool { return !v.stamp.Newer(c.Stamp) })
	if !p.profile.Newer(c.Stamp) {
		p.profile = Stamp{}
	}
	slot := s.people.At(f.pi)
	var left []uint32 // contacts that are nobody's on account of this person any more
	for _, g := range p.gaveUp {
		left = append(left, s.findContact(g.address))
	}
	p.gaveUp = p.gaveUp[:0]
	for _, ci := range left {
		s.forgive(ci, f.pi)
	}
	if slot.contact != 0 && !p.addressAt.Newer(c.Stamp) {
		left = append(left, slot.contact-1)
		s.unlink(slot.contact-1, f.pi)
		slot.contact, p.address, p.addressAt = 0, nil, Stamp{}
	}
	s.storePerson(f.pi, p)
	for _, ci := range left {
		f.t.nobodys(ci, c.Delete)
		f.t.moved(ci)
		f.t.agenda.touch(ci)
	}
	if slot.contact != 0 {
		f.t.agenda.touch(slot.contact - 1)
	}
	return Folded{Moved: true}
}

// nobodys notes that a contact's person was erased; it is to be deleted if that was asked for.
func (t *Table) nobodys(ci uint32, deleted bool) {
	v := t.view(ci)
	defer v.end()
	v.row.rejected = ""
	v.row.erase = deleted
	v.store()
}
