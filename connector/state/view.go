package state

import (
	"cmp"
	"slices"
	"time"

	"segsync/sink"
)

// lender lends values that are costly to make, so that no two users have the same one, and none is made for each use.
type lender[T any] struct{ free []*T }

func (l *lender[T]) lend() *T {
	if n := len(l.free); n > 0 {
		x := l.free[n-1]
		l.free = l.free[:n-1]
		return x
	}
	return new(T)
}

func (l *lender[T]) giveBack(x *T) { l.free = append(l.free, x) }

// view is a contact with its decoded row, lent until end. It is the user's own: what others do to the contact meanwhile it
// does not show (load reads the row again).
type view struct {
	t        *Table
	ci       uint32
	row      contactRow
	w        wanted
	need     Need
	carriers []carrier
	segments []uint32 // that one of them is in
	barred   []int    // exports that one of them keeps the contact out of
}

func (t *Table) view(ci uint32) *view {
	v := t.views.lend()
	v.t, v.ci = t, ci
	v.load()
	return v
}

func (v *view) load() { v.t.store.loadContact(v.ci, &v.row) }

// store keeps the row, to be written at the next cut.
func (v *view) store() { v.t.store.storeContact(v.ci, &v.row) }

// end gives the view back; it must not be used any more.
func (v *view) end() { v.t.views.giveBack(v) }

// slot is the contact's.
func (v *view) slot() *contactSlot { return v.t.store.contacts.At(v.ci) }

// person lends a decoded person; endPerson gives it back.
func (t *Table) person(pi uint32) *person {
	p := t.persons.lend()
	t.store.loadPerson(pi, p)
	return p
}

func (t *Table) endPerson(p *person) { t.persons.giveBack(p) }

// carrier is one person who carries the address that is looked at, and the exports that want them.
type carrier struct {
	person  person
	exports []int
}

// wanted is what the people who carry an address want of its contact. Its bytes lie in the people's rows: it holds until
// one of those is stored.
type wanted struct {
	lists  []int64  // sorted
	open   []int64  // of which it is not known: they were followed once, and have been named again
	values []value  // by attribute name; forced ones among them
	hash   uint64   // of the values that are not forced
	forced int      // unique attributes that are emptied because what stands there is nobody's any more
	looks  []string // addresses given up by who wants the contact: first those that have not been looked at
	unseen int      // how many have not
	lapses int64    // when the next membership lapses, Unix seconds; 0: none does
}

// want derives what is wanted of the contact. Lists: those wanted by anybody who carries the address. Attributes: per
// attribute, that of the newest profile among the carriers in a list that asks for it.
func (v *view) want(now time.Time) *wanted {
	w, t := &v.w, v.t
	*w = wanted{lists: w.lists[:0], open: w.open[:0], values: w.values[:0], looks: w.looks[:0]}
	var room [8]uint32
	people := t.store.carriersOf(v.ci, room[:0])
	for len(v.carriers) < len(people) {
		v.carriers = append(v.carriers, carrier{})
	}
	carriers := v.carriers[:len(people)]
	v.barred = v.barred[:0]
	for i, pi := range people {
		c := &carriers[i]
		t.store.loadPerson(pi, &c.person)
		c.exports = c.exports[:0]
		if src, ok := t.compiled.sourceOf[c.person.source]; ok && !c.person.blocked() {
			v.wantLists(c, &t.compiled.sources[src], millis(now))
		}
	}
	v.bar(carriers)
	slices.Sort(w.lists)
	if len(carriers) > 1 {
		slices.SortStableFunc(carriers, func(a, b carrier) int {
			if a.person.profile.newerPerson(b.person.profile) {
				return -1
			}
			return 1
		})
	}
	v.wantValues(carriers, now)
	v.wantLooks(carriers)
	return w
}

// wantLists adds the lists that one person is wanted in.
func (v *view) wantLists(c *carrier, src *sourcePlan, ms int64) {
	w, exports := &v.w, v.t.compiled.exports
	v.segments = v.segments[:0]
	add := func(e int) {
		if !slices.Contains(c.exports, e) {
			c.exports = append(c.exports, e)
		}
		if l := exports[e].List; !slices.Contains(w.lists, l) {
			w.lists = append(w.lists, l)
		}
	}
	for i := range c.person.memberships {
		m := &c.person.memberships[i]
		if !m.holds(ms) {
			continue
		}
		if m.until != 0 && (w.lapses == 0 || m.until < w.lapses) {
			w.lapses = m.until
		}
		if now, ok := src.renamed[m.segment]; ok {
			for _, e := range src.feeds[now] {
				w.open = append(w.open, exports[e].List)
			}
		}
		if len(src.ruled) > 0 {
			v.segments = append(v.segments, m.segment)
			if now, ok := src.renamed[m.segment]; ok && len(src.bars[now]) > 0 { // once suppressed, until it is said otherwise
				v.segments = append(v.segments, now)
			}
		}
		for _, e := range src.feeds[m.segment] {
			if exports[e].rule == nil {
				add(e)
			}
		}
	}
	for _, e := range src.ruled {
		switch r := exports[e].rule; {
		case r.bars(v.segments):
			v.barred = append(v.barred, e)
		case r.holds(v.segments):
			add(e)
		}
	}
}

// bar keeps the contact out of the lists of exports that somebody who carries its address must not be in, whoever else carries it.
func (v *view) bar(carriers []carrier) {
	for _, e := range v.barred {
		list := v.t.compiled.exports[e].List
		v.w.lists = slices.DeleteFunc(v.w.lists, func(l int64) bool { return l == list })
		for i := range carriers {
			carriers[i].exports = slices.DeleteFunc(carriers[i].exports, func(x int) bool { return x == e })
		}
	}
}

// wantValues fills in the attributes: asked for, not held back, not refused; then what must be emptied.
func (v *view) wantValues(carriers []carrier, now time.Time) {
	w, t := &v.w, v.t
	var decided [16]uint32
	done := decided[:0]
	for i := range carriers {
		c := &carriers[i]
		for _, e := range c.exports {
			for _, name := range t.compiled.exports[e].attributes {
				if slices.Contains(done, name) {
					continue
				}
				done = append(done, name)
				x := c.person.value(name)
				if x == nil || t.compiled.isUnique(name) && t.heldBy(&c.person, x) {
					continue
				}
				send := *x
				if f := v.row.refusal(name); f != nil && f.value == hashBytes(x.json) && !t.refusals.due(f, now) {
					send.json = []byte(sink.Empty)
				}
				w.values = append(w.values, send)
			}
		}
	}
	t.sortValues(w.values)
	w.hash = hashValues(w.values)
	given := t.store.givenUp(v.ci)
	if len(w.lists) == 0 && !given {
		return
	}
	for _, s := range v.row.standing {
		if !slices.ContainsFunc(w.values, func(x value) bool { return x.name == s.name }) && (given || !t.anyHeld(carriers, s.name)) {
			w.values = append(w.values, value{name: s.name, json: []byte(sink.Empty)})
			w.forced++
		}
	}
	if w.forced > 0 {
		t.sortValues(w.values)
	}
}

func (t *Table) sortValues(values []value) {
	slices.SortFunc(values, func(a, b value) int { return cmp.Compare(t.names.attribute(a.name), t.names.attribute(b.name)) })
}

// fnv is a 64-bit FNV-1a hash: stable, for it lies in rows.
type fnv uint64

const fnvOffset fnv = 14695981039346656037

func (h fnv) add(x uint64) fnv { return (h ^ fnv(x)) * 1099511628211 }

// hashValues fingerprints values sorted by name; never 0, which means "not known".
func hashValues(values []value) uint64 {
	h := fnvOffset
	for _, v := range values {
		h = h.add(uint64(v.name))
		for _, b := range v.json {
			h = h.add(uint64(b))
		}
		h = h.add(0xff)
	}
	return max(uint64(h), 1)
}

func hashBytes(b []byte) uint64 {
	return sink.Hash([]sink.Attribute{{Value: b}})
}

// fingerprint of what is wanted: a reject stands until it changes.
func (w *wanted) fingerprint() uint64 {
	h := fnv(w.hash)
	for _, l := range w.lists {
		h = h.add(uint64(l))
	}
	return max(uint64(h), 1)
}

// heldBy says whether the person's value of a unique attribute stands at an address they gave up: it is set on the new
// contact once the old one was emptied. What may land there later is refused by then, or refuses us and is emptied by
// the late re-send (S52); to wait for that would keep the number from the new contact for as long.
func (t *Table) heldBy(p *person, x *value) bool {
	for _, g := range p.gaveUp {
		ci, ok := t.store.lookContact(g.address)
		if !ok {
			continue
		}
		v := t.view(ci)
		was, stands := v.row.stood(x.name)
		held := stands && !v.own() && (was == hashBytes(x.json) || was == 0 && !v.row.late)
		v.end()
		if held {
			return true
		}
	}
	return false
}

func (t *Table) anyHeld(carriers []carrier, name uint32) bool {
	return slices.ContainsFunc(carriers, func(c carrier) bool {
		x := c.person.value(name)
		return len(c.exports) > 0 && x != nil && t.heldBy(&c.person, x)
	})
}

// own says whether what stands at a contact is its present carriers' own.
func (v *view) own() bool {
	c := v.slot()
	return c.carriers != 0 && c.queue == queueNone && v.row.hash != 0 && c.flags&flagInFlight == 0
}

// emptied says whether a contact holds nothing of a person who gave it up: nothing of it is unknown, due or in
// flight, and what stands there is its present carriers' own.
func (v *view) emptied() bool {
	unsure := func(l listed) bool { return l.state.unsure() }
	if v.row.unknownSince != 0 || v.slot().flags&(flagInFlight|flagPinned) != 0 || slices.ContainsFunc(v.row.lists, unsure) {
		return false
	}
	return len(v.row.standing) == 0 || v.own()
}

// wantLooks lists the addresses to look at before a new address is added: those given up by the people who want it.
func (v *view) wantLooks(carriers []carrier) {
	w := &v.w
	for i := range carriers {
		if len(carriers[i].exports) == 0 {
			continue
		}
		for _, g := range carriers[i].person.gaveUp {
			a := string(g.address)
			switch i := slices.Index(w.looks, a); {
			case i < 0 && g.looked:
				w.looks = append(w.looks, a)
			case i < 0:
				w.looks = slices.Insert(w.looks, w.unseen, a)
				w.unseen++
			case i >= w.unseen && !g.looked: // by another
				w.looks = slices.Insert(slices.Delete(w.looks, i, i+1), w.unseen, a)
				w.unseen++
			}
		}
	}
}
