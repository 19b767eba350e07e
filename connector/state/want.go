package state

import (
	"bytes"
	"cmp"
	"slices"
	"time"

	"segsync/sink"
)

// carrier is one person who carries the address that is looked at, and the exports that want them.
type carrier struct {
	person  person
	exports []int
}

// wanted is what the people who carry an address want of its contact. Its bytes lie in the people's rows.
type wanted struct {
	lists  []int64  // sorted
	open   []int64  // of which it is not known: they were followed once, and have been named again
	values []value  // by attribute name; forced ones among them
	hash   uint64   // of the values that are not forced
	forced int      // unique attributes that are emptied because what stands there is nobody's any more
	looks  []string // addresses given up by who wants the contact: first those that have not been looked at
	unseen int      // how many have not
}

// Need is the difference between wanted and delivered of a contact: what may go now.
type Need struct {
	Address    string
	Wanted     []int64 // all lists that want it
	Add        []int64
	Remove     []int64
	Attributes bool // they are to be set
	Known      bool // the attributes there are as wanted, so the contact is known to exist
	Look       []string
	LookOnly   bool // more are to be looked at than fit before a write: these go first
	Delete     bool // on_exit: delete_contact, and nobody else wants it
	Unknown    bool // something of it is unknown
	Halves     uint8
	Held       string // why something else may not go
	Barred     bool   // a list that wants it is held
	Rejected   bool   // nothing goes until what is wanted changes
	Again      bool   // a request for it had no answer: it is said again
	erase      bool   // to be deleted, whatever list it is in
	leaving    []leave
	from       queueKey // the queue that it was popped off
	live       bool     // it was found by a live change
	room       [2]queueKey
	contact    uint32
	want       uint64
	values     []sink.Attribute // wanted, by name
	hash       uint64           // of those that are not forced
}

// leave is a removal that the guard weighs; doubt: the contact may not be in the list at all.
type leave struct {
	list  int64
	doubt bool
}

// want derives what is wanted of contact ci, whose row is r. Lists: those wanted by anybody who carries the address.
// Attributes: per attribute, that of the newest profile among the carriers in a list that asks for it.
func (t *Table) want(ci uint32, r *contactRow, now time.Time) *wanted {
	w := &t.w
	*w = wanted{lists: w.lists[:0], open: w.open[:0], values: w.values[:0], looks: w.looks[:0]}
	var room [8]uint32
	people := t.carriersOf(ci, room[:0])
	for len(t.carry) < len(people) {
		t.carry = append(t.carry, carrier{})
	}
	carriers := t.carry[:len(people)]
	for i, pi := range people {
		c := &carriers[i]
		t.loadPerson(pi, &c.person)
		c.exports = c.exports[:0]
		src, ok := t.sourceOf[c.person.source]
		if !ok || c.person.blocked() {
			continue
		}
		for _, m := range c.person.memberships {
			if !m.in {
				continue
			}
			if now, ok := t.sources[src].renamed[m.segment]; ok {
				for _, e := range t.sources[src].feeds[now] {
					w.open = append(w.open, t.exports[e].List)
				}
			}
			for _, e := range t.sources[src].feeds[m.segment] {
				if !slices.Contains(c.exports, e) {
					c.exports = append(c.exports, e)
				}
				if l := t.exports[e].List; !slices.Contains(w.lists, l) {
					w.lists = append(w.lists, l)
				}
			}
		}
	}
	slices.Sort(w.lists)
	if len(carriers) > 1 {
		slices.SortStableFunc(carriers, func(a, b carrier) int {
			if a.person.profile.newerPerson(b.person.profile) {
				return -1
			}
			return 1
		})
	}
	t.wantValues(ci, r, carriers, now)
	t.wantLooks(carriers)
	return w
}

// wantValues fills in the attributes: asked for, not held back, not refused; then what must be emptied.
func (t *Table) wantValues(ci uint32, r *contactRow, carriers []carrier, now time.Time) {
	w := &t.w
	var decided [16]uint32
	done := decided[:0]
	for i := range carriers {
		c := &carriers[i]
		for _, e := range c.exports {
			for _, name := range t.exports[e].attributes {
				if slices.Contains(done, name) {
					continue
				}
				done = append(done, name)
				v := c.person.value(name)
				if v == nil || t.isUnique(name) && t.heldBy(&c.person, v) {
					continue
				}
				send := *v
				if f := r.refusal(name); f != nil && f.value == hashBytes(v.json) && !t.retryRefused(f, now) {
					send.json = []byte(sink.Empty)
				}
				w.values = append(w.values, send)
			}
		}
	}
	w.hash = t.hash(w.values)
	_, given := t.gave[ci]
	if len(w.lists) == 0 && !given {
		return
	}
	for _, s := range r.standing {
		if !slices.ContainsFunc(w.values, func(v value) bool { return v.name == s.name }) && (given || !t.anyHeld(carriers, s.name)) {
			w.values = append(w.values, value{name: s.name, json: []byte(sink.Empty)})
			w.forced++
		}
	}
	if w.forced > 0 {
		t.sortValues(w.values)
	}
}

// hash sorts values by attribute name and fingerprints them.
func (t *Table) hash(values []value) uint64 {
	t.sortValues(values)
	const offset, prime = 14695981039346656037, 1099511628211
	h := uint64(offset)
	for _, v := range values {
		h = (h ^ uint64(v.name)) * prime
		for _, b := range v.json {
			h = (h ^ uint64(b)) * prime
		}
		h = (h ^ 0xff) * prime
	}
	return max(h, 1)
}

func (t *Table) sortValues(values []value) {
	slices.SortFunc(values, func(a, b value) int { return cmp.Compare(t.attributeName(a.name), t.attributeName(b.name)) })
}

func hashBytes(b []byte) uint64 {
	return sink.Hash([]sink.Attribute{{Value: b}})
}

func (t *Table) isUnique(name uint32) bool { return int(name) < len(t.unique) && t.unique[name] }

// heldBy says whether the person's value of a unique attribute stands at an address they gave up: it is set on the new
// contact once the old one was emptied. What may land there later is refused by then, or refuses us and is emptied by
// the late re-send (S52); to wait for that would keep the number from the new contact for as long.
func (t *Table) heldBy(p *person, v *value) bool {
	for _, g := range p.gaveUp {
		ci, ok := t.lookContact(g.address)
		if !ok {
			continue
		}
		var r contactRow
		t.loadContact(ci, &r)
		if was, stands := r.stood(v.name); stands && !t.own(ci, &r) && (was == hashBytes(v.json) || was == 0 && !r.late) {
			return true
		}
	}
	return false
}

func (t *Table) anyHeld(carriers []carrier, name uint32) bool {
	return slices.ContainsFunc(carriers, func(c carrier) bool {
		v := c.person.value(name)
		return len(c.exports) > 0 && v != nil && t.heldBy(&c.person, v)
	})
}

// emptied says whether a contact holds nothing of a person who gave it up: nothing of it is unknown, due or in
// flight, and what stands there is its present carriers' own.
func (t *Table) emptied(ci uint32, r *contactRow) bool {
	c := t.contacts.at(ci)
	if r.unknownSince != 0 || c.flags&(flagInFlight|flagPinned) != 0 || slices.ContainsFunc(r.lists, func(l listed) bool { return l.state.unsure() }) {
		return false
	}
	return len(r.standing) == 0 || t.own(ci, r)
}

// own says whether what stands at a contact is its present carriers' own.
func (t *Table) own(ci uint32, r *contactRow) bool {
	c := t.contacts.at(ci)
	return c.carriers != 0 && c.queue == queueNone && r.hash != 0 && c.flags&flagInFlight == 0
}

// wantLooks lists the addresses to look at before a new address is added: those given up by the people who want it.
func (t *Table) wantLooks(carriers []carrier) {
	for i := range carriers {
		if len(carriers[i].exports) == 0 {
			continue
		}
		for _, g := range carriers[i].person.gaveUp {
			a, w := string(g.address), &t.w
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

// fingerprint of what is wanted: a reject stands until it changes.
func (w *wanted) fingerprint() uint64 {
	h := w.hash
	for _, l := range w.lists {
		h = (h ^ uint64(l)) * 1099511628211
	}
	return max(h, 1)
}

// handOut is a need that shares nothing with the table: it carries its lists and attributes with it.
func (t *Table) handOut(n *Need, from queueKey) *Need {
	out := *n
	out.Wanted, out.Add, out.Remove, out.Look = slices.Clone(n.Wanted), slices.Clone(n.Add), slices.Clone(n.Remove), slices.Clone(n.Look)
	out.leaving, out.hash = nil, t.w.hash
	if n.Writes() {
		out.values = t.attributes(t.w.values)
	}
	out.from, out.Address = from, string(t.addressOf(n.contact))
	return &out
}

// Writes says whether the contact enters a list or gets attributes; else it only leaves.
func (n *Need) Writes() bool { return n.Attributes || len(n.Add) > 0 }

// Contact is the contact as the destination would be told of it.
func (n *Need) Contact(attributes bool) sink.Contact {
	c := sink.Contact{Address: n.Address}
	if attributes {
		c.Attributes = n.values
	}
	return c
}

// evaluate compares what is wanted of contact ci with what was delivered. The result is valid until the next call.
func (t *Table) evaluate(ci uint32, now time.Time) *Need {
	r := &t.row
	t.loadContact(ci, r)
	w := t.want(ci, r, now)
	n := &t.need
	*n = Need{
		Wanted: w.lists, Add: n.Add[:0], Remove: n.Remove[:0], leaving: n.leaving[:0],
		Halves: r.halves, Again: r.unknownSince != 0, contact: ci, want: w.fingerprint(),
	}
	if r.rejected != "" && r.rejectedWant == n.want && !r.late {
		n.Held, n.Rejected = r.rejected, true
		return n
	}
	withheld, kept := false, false
	for _, list := range t.lists {
		var l listed
		if p := r.list(list); p != nil {
			l = *p
		}
		state, is := l.state, slices.Contains(w.lists, list)
		n.Unknown = n.Unknown || state.unsure()
		if !is && slices.Contains(w.open, list) { // whether it is in or out is not ours to say
			kept = kept || state == in || state.unsure()
			continue
		}
		leaves := !is && (state == in || state.unsure())
		if leaves && l.passage == refused {
			kept = true // it stays as it is
			continue
		}
		if leaves && l.passage == unweighed {
			n.leaving = append(n.leaving, leave{list, state == doubtful})
		}
		switch why := t.holds(list); {
		case is == (state == in) && !state.unsure(): // as it should be; absent counts as out
		case why != "":
			n.Held, n.Barred = why, n.Barred || is
		case is:
			n.Add = append(n.Add, list)
		case t.withholds(r, list):
			n.Held, withheld = "withheld", true
		case state == doubtful && t.settling[list]:
			n.Held, kept = "audit", true
		default:
			n.Remove = append(n.Remove, list)
			n.Delete = n.Delete || t.deletes[list]
		}
	}
	n.Known = r.hash != 0 && r.hash == w.hash && w.forced == 0
	n.Attributes = len(w.lists) > 0 && (!n.Known || w.unseen > 0) || w.forced > 0
	if n.Attributes && len(n.Add) == 0 && !t.mayWrite(w.lists) {
		n.Attributes, n.Held = false, t.accountHeld()
		if n.Held == "" {
			n.Held = t.holds(w.lists[0])
		}
	}
	if len(n.Add) > 0 || w.unseen > 0 {
		n.Look = w.looks
		if most := t.cfg.Looks; most > 0 && len(n.Look) > most {
			n.Look, n.LookOnly = n.Look[:most], w.unseen > most
		}
	}
	pinned := t.contacts.at(ci).flags&flagPinned != 0 // what it is part of may make it again
	n.erase = r.erase && len(w.lists) == 0 && t.accountHeld() == "" && !pinned && !withheld && !kept
	n.Delete = (n.Delete && n.Held == "" && !kept || n.erase) && len(w.lists) == 0 && !pinned
	if r.erase && n.Held == "" {
		n.Held = t.accountHeld() // the deletion waits, too
	}
	return n
}

// mayWrite says whether attributes may be sent to a contact of these lists: some list of it must be open.
func (t *Table) mayWrite(lists []int64) bool {
	if len(lists) == 0 {
		return t.accountHeld() == ""
	}
	return slices.ContainsFunc(lists, func(l int64) bool { return t.holds(l) == "" })
}

func (n *Need) empty() bool {
	return len(n.Add) == 0 && len(n.Remove) == 0 && !n.Attributes && !n.erase
}

// attributes copies wanted attributes out of the table, for a request.
func (t *Table) attributes(values []value) []sink.Attribute {
	size := 0
	for i := range values {
		size += len(values[i].json)
	}
	buf := make([]byte, 0, size)
	all := make([]sink.Attribute, 0, len(values))
	for i := range values {
		start := len(buf)
		buf = append(buf, values[i].json...)
		all = append(all, sink.Attribute{Name: t.attributeName(values[i].name), Value: buf[start:len(buf):len(buf)]})
	}
	return all
}

// release lets go of the people who gave up contact ci once nothing of theirs is left there, and reconsiders the
// contacts that waited for it.
func (t *Table) release(ci uint32, now time.Time) {
	people, ok := t.gave[ci]
	if !ok {
		return
	}
	var r contactRow
	t.loadContact(ci, &r)
	over := t.emptied(ci, &r)
	address := slices.Clone(t.addressOf(ci))
	for _, pi := range slices.Clone(people) {
		t.loadPerson(pi, &t.p)
		// An address stays given up until the new one was written behind a look at it.
		slot := t.people.at(pi)
		before := len(t.p.gaveUp)
		t.p.gaveUp = slices.DeleteFunc(t.p.gaveUp, func(g gaveUp) bool {
			return over && g.looked && !g.blocked && bytes.Equal(g.address, address)
		})
		if len(t.p.gaveUp) != before {
			t.forgive(ci, pi)
			t.storePerson(pi)
		}
		if slot.contact != 0 {
			t.touch(slot.contact - 1)
		}
	}
	t.sweep(ci)
}
