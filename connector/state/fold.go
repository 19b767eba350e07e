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
	// Live: it has just happened.
	Live bool
}

// Membership is one segment's say about the person.
type Membership struct {
	Segment int
	In      bool
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
	t.Counts.Folded++
	pi, known := t.findPerson(c.Person, false)
	if !known {
		if !c.makesRow() {
			t.Counts.Ignored++
			return Folded{}
		}
		pi, _ = t.findPerson(c.Person, true)
	}
	p := &t.p
	t.loadPerson(pi, p)
	src := &t.sources[c.Source]
	p.source = src.number
	if p.erased != (Stamp{}) && !c.Stamp.Newer(p.erased) {
		t.Counts.Stale++
		return Folded{}
	}
	if c.Erase {
		return t.erase(pi, c, now)
	}
	var exits [16]uint32
	before := p.address
	t.differs = false
	left, moved, news := t.foldMemberships(p, c, src, exits[:0])
	changed, f := moved, Folded{}
	if c.Profile != nil {
		changed = t.foldProfile(p, c, src) || changed
		if p.size() > t.rowMost() {
			f.TooLarge = true
			t.loadPerson(pi, p)
			p.source, before = src.number, p.address
			left, moved, news = t.foldMemberships(p, c, src, exits[:0])
			changed = moved
		}
	}
	if !changed {
		t.Counts.Stale++
		return f
	}
	f.Moved, f.NoAddress = true, moved && len(p.address) == 0
	t.Counts.Needed += bit(t.differs && len(p.address) > 0)
	old := t.people.at(pi).contact
	t.settleAddress(pi, before, left, news, c.Source, now)
	if c.Live {
		for _, slot := range []uint32{old, t.people.at(pi).contact} {
			if slot != 0 {
				t.live.push(slot-1, millis(now))
			}
		}
	}
	return f
}

// makesRow says whether a change makes a row of a person whom the table does not know: somebody put in, or put out
// explicitly (an older record on another partition must not put them in again).
func (c *Change) makesRow() bool {
	if c.Erase {
		return true
	}
	for _, m := range c.Memberships {
		if m.In || !c.Whole {
			return true
		}
	}
	return false
}

// newer says whether c supersedes what stands at s.
func (c *Change) newer(s Stamp) bool {
	return c.Stamp.Newer(s) || c.Remap && c.Stamp.samePartition(s) && c.Stamp.Offset == s.Offset
}

// foldMemberships returns the segments that were left explicitly, whether a membership moved, and whether that was by
// something newer, not by what is mapped anew.
func (t *Table) foldMemberships(p *person, c *Change, src *sourcePlan, left []uint32) (gone []uint32, moved, news bool) {
	move := func(segment uint32, in, explicit bool) {
		m := p.segment(segment)
		was := m != nil && m.in
		first := m == nil
		if m == nil {
			p.memberships = append(p.memberships, membership{segment: segment})
			m = &p.memberships[len(p.memberships)-1]
		}
		if !c.newer(m.stamp) {
			return
		}
		news = news || c.Stamp.Newer(m.stamp)
		t.differs = t.differs || was != in || first && explicit
		*m = membership{segment: segment, in: in, stamp: c.Stamp.over(m.stamp)}
		moved = true
		if former := src.former[segment]; len(former) > 0 { // what was said of it before it was named again
			p.memberships = slices.DeleteFunc(p.memberships, func(m membership) bool { return slices.Contains(former, m.segment) })
		}
		if explicit && !in {
			left = append(left, segment)
		}
	}
	for _, m := range c.Memberships {
		move(src.segments[m.Segment], m.In, !c.Whole)
	}
	if c.Whole {
		for i, segment := range src.segments {
			if !slices.ContainsFunc(c.Memberships, func(m Membership) bool { return m.Segment == i }) {
				move(segment, false, false)
			}
		}
	}
	return left, moved, news
}

// foldProfile moves the address and each attribute for itself, so that the result does not depend on the order in
// which profiles come: a null that keeps leaves its place to be filled by an older profile (S34).
func (t *Table) foldProfile(p *person, c *Change, src *sourcePlan) bool {
	moved := false
	if c.newer(p.profile) {
		p.profile = c.Stamp.over(p.profile)
		moved = true
	}
	if a := c.Profile.Address; a != "" && c.newer(p.addressAt) {
		p.addressAt = c.Stamp.over(p.addressAt)
		t.differs = t.differs || p.inAny() && string(p.address) != a
		p.address = []byte(a)
		moved = true
	}
	for _, v := range c.Profile.Values {
		if v.JSON == nil {
			continue
		}
		name := src.attributes[v.Attribute]
		have := p.value(name)
		if have == nil {
			p.values = append(p.values, value{name: name})
			have = &p.values[len(p.values)-1]
		}
		if c.newer(have.stamp) {
			t.differs = t.differs || p.inAny() && !bytes.Equal(have.json, v.JSON)
			*have = value{name: name, json: v.JSON, stamp: c.Stamp.over(have.stamp)}
			moved = true
		}
	}
	return moved
}

// settleAddress stores the scratch person and lets the contacts of their addresses, before and now, follow.
func (t *Table) settleAddress(pi uint32, before []byte, left []uint32, news bool, source int, now time.Time) {
	p := &t.p
	slot := t.people.at(pi)
	old := slot.contact
	if !bytes.Equal(before, p.address) {
		p.gaveUp = slices.DeleteFunc(p.gaveUp, func(g gaveUp) bool {
			if !bytes.Equal(g.address, p.address) {
				return false
			}
			t.forgive(t.findContact(g.address), pi)
			return true
		})
		if old != 0 {
			p.gaveUp = append(p.gaveUp, gaveUp{address: slices.Clone(before)})
			t.gave[old-1] = append(t.gave[old-1], pi)
			t.unlink(old-1, pi)
			t.boundFormer(p, pi)
		}
		slot.contact = 0
		if len(p.address) > 0 {
			ci := t.findContact(p.address)
			t.link(ci, pi)
			slot.contact = ci + 1
		}
	}
	t.storePerson(pi)
	if old != 0 && old != slot.contact {
		t.leaves(old-1, left, source, now)
		t.touch(old - 1)
	}
	if slot.contact != 0 {
		t.leaves(slot.contact-1, left, source, now)
		t.touch(slot.contact - 1)
	}
	if old != 0 && (news || old != slot.contact) {
		t.moved(old - 1)
	}
	if slot.contact != 0 && news {
		t.moved(slot.contact - 1)
	}
}

// touch notes a contact that is to be evaluated anew: once, however many changes concern it until then. Of an address
// that thousands carry, each evaluation looks at all of them.
func (t *Table) touch(ci uint32) {
	if c := t.contacts.at(ci); c.flags&flagTouched == 0 {
		c.flags |= flagTouched
		t.touched = append(t.touched, ci)
	}
}

// Refresh evaluates the contacts that changes have concerned since the last time.
func (t *Table) Refresh(now time.Time) {
	for i := 0; i < len(t.touched); i++ { // what is let go meanwhile is added
		ci := t.touched[i]
		c := t.contacts.at(ci)
		c.flags &^= flagTouched
		if c.flags&flagLive != 0 {
			t.reconsider(ci, now)
		}
		t.releaseSettled(now)
	}
	t.touched = t.touched[:0]
}

// formerMost is how many former addresses of a person are kept that nothing of ours ever reached: they are looked at
// before the present one is added, for their owner may have unsubscribed there.
const formerMost = 16

// boundFormer lets go of the oldest former addresses that nothing of ours ever reached.
func (t *Table) boundFormer(p *person, pi uint32) {
	if len(p.gaveUp) <= formerMost {
		return
	}
	bare := 0
	for i := len(p.gaveUp) - 1; i >= 0; i-- {
		g := &p.gaveUp[i]
		ci, ok := t.lookContact(g.address)
		if !ok || g.blocked || !t.bare(ci) {
			continue
		}
		if bare++; bare > formerMost {
			t.forgive(ci, pi)
			t.touch(ci)
			p.gaveUp = slices.Delete(p.gaveUp, i, i+1)
		}
	}
}

// bare says whether nothing of ours ever reached a contact.
func (t *Table) bare(ci uint32) bool {
	var r contactRow // not the scratch: callers may hold it
	t.loadContact(ci, &r)
	delivered := func(l listed) bool { return l.state == in || l.state == unknown }
	return t.contacts.at(ci).flags&(flagInFlight|flagPinned) == 0 && r.unknownSince == 0 && r.hash == 0 && len(r.standing) == 0 && !slices.ContainsFunc(r.lists, delivered)
}

// rowBytes is how large a person's row may be, in bytes, unless the table's topic takes less.
const rowBytes = 256 << 10

func (t *Table) rowMost() int {
	if most := t.cfg.RowMost; most > 0 && most < rowBytes {
		return most
	}
	return rowBytes
}

// forgive forgets that a person gave a contact up.
func (t *Table) forgive(ci, pi uint32) {
	l := slices.DeleteFunc(t.gave[ci], func(p uint32) bool { return p == pi })
	if len(l) == 0 {
		delete(t.gave, ci)
		return
	}
	t.gave[ci] = l
}

// leaves makes the lists of explicitly left segments doubtful at a contact that we never delivered there: somebody
// else may have put it in. Once: afterwards the list is in its row.
func (t *Table) leaves(ci uint32, left []uint32, source int, now time.Time) {
	if len(left) == 0 {
		return
	}
	changed := false
	for _, segment := range left {
		for _, e := range t.sources[source].feeds[segment] {
			if !changed {
				t.loadContact(ci, &t.row)
			}
			if l := t.exports[e].List; t.row.state(l) == absent {
				t.move(ci)
				t.row.set(l, doubtful, millis(now))
				t.count(l, absent, doubtful)
				changed = true
			}
		}
	}
	if changed {
		t.storeContact(ci, &t.row)
	}
}

// erase empties the person of all that is not newer than the erasure: out everywhere, no address, no attributes, and
// nothing older counts any more.
func (t *Table) erase(pi uint32, c *Change, now time.Time) Folded {
	p := &t.p
	if !c.newer(p.erased) {
		return Folded{}
	}
	p.erased = c.Stamp
	p.memberships = slices.DeleteFunc(p.memberships, func(m membership) bool { return !m.stamp.Newer(c.Stamp) })
	p.values = slices.DeleteFunc(p.values, func(v value) bool { return !v.stamp.Newer(c.Stamp) })
	if !p.profile.Newer(c.Stamp) {
		p.profile = Stamp{}
	}
	slot := t.people.at(pi)
	var left []uint32 // contacts that are nobody's on account of this person any more
	for _, g := range p.gaveUp {
		left = append(left, t.findContact(g.address))
	}
	p.gaveUp = p.gaveUp[:0]
	for _, ci := range left {
		t.forgive(ci, pi)
	}
	if slot.contact != 0 && !p.addressAt.Newer(c.Stamp) {
		left = append(left, slot.contact-1)
		t.unlink(slot.contact-1, pi)
		slot.contact, p.address, p.addressAt = 0, nil, Stamp{}
	}
	t.storePerson(pi)
	for _, ci := range left {
		t.loadContact(ci, &t.row)
		t.unreject(&t.row)
		t.row.erase = c.Delete
		t.storeContact(ci, &t.row)
		t.moved(ci)
		t.touch(ci)
	}
	if slot.contact != 0 {
		t.touch(slot.contact - 1)
	}
	return Folded{Moved: true}
}
