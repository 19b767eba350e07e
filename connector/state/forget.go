package state

import (
	"slices"
	"time"
)

// Forgotten is what was dropped with an export.
type Forgotten struct {
	Contacts    int // of its list
	Memberships int
	Attributes  int
	Addresses   int // of people of whom nothing is asked any more
}

// Forget drops what is held on account of an export that is not configured any more: what was delivered to its list, memberships
// in its segments, attributes that nobody asks for, and all but the erasures of people of whom no membership is left. Segments
// and lists that others have stay.
func (t *Table) Forget(source string, segments []string, list int64, now time.Time) (f Forgotten) {
	if !slices.Contains(t.compiled.lists, list) {
		t.all(now, func(v *view) {
			if v.row.list(list) != nil {
				v.row.forget(list)
				v.store()
				t.reconsider(v.ci, now)
				f.Contacts++
			}
		})
		t.SetMeta(auditKey(list), nil)
	}
	d := t.dropping(source, segments)
	for pi := range t.store.people.Len() {
		p := t.person(pi)
		if p.source == d.source {
			d.person(pi, p, &f)
		}
		t.endPerson(p)
	}
	t.Refresh(now)
	return f
}

// dropping is what goes of a source's people.
type dropping struct {
	t        *Table
	source   uint32
	segments []uint32 // durable numbers
	asked    []uint32 // attributes that stay
	profiles bool     // those of people in no segment are kept
}

func (t *Table) dropping(source string, segments []string) *dropping {
	d := &dropping{t: t, source: t.names.number("source", source)}
	var followed []string
	if s, ok := t.compiled.sourceOf[d.source]; ok {
		followed, d.profiles = t.cfg.Sources[s].Segments, t.cfg.Sources[s].KeepProfiles
		for i := range t.compiled.exports {
			if x := &t.compiled.exports[i]; x.Source == s {
				d.asked = append(d.asked, x.attributes...)
			}
		}
	}
	for _, g := range segments {
		if slices.Contains(followed, g) {
			continue
		}
		for times := 0; ; times++ {
			n, ok := t.names.numbers["segment\x00"+segmentWord(source, g, times)]
			if !ok {
				break
			}
			d.segments = append(d.segments, n)
		}
	}
	return d
}

// person drops what goes of one person.
func (d *dropping) person(pi uint32, p *person, f *Forgotten) {
	t, before := d.t, *f
	f.Memberships += len(p.memberships)
	p.memberships = slices.DeleteFunc(p.memberships, func(m membership) bool { return slices.Contains(d.segments, m.segment) })
	f.Memberships -= len(p.memberships)
	nobody := len(p.memberships) == 0 && !d.profiles
	f.Attributes += len(p.values)
	p.values = slices.DeleteFunc(p.values, func(v value) bool { return nobody || !slices.Contains(d.asked, v.name) })
	f.Attributes -= len(p.values)
	slot := t.store.people.At(pi)
	if nobody {
		for _, g := range p.gaveUp {
			ci := t.store.findContact(g.address)
			t.store.forgive(ci, pi)
			t.agenda.touch(ci)
		}
		p.gaveUp = p.gaveUp[:0]
		if slot.contact != 0 {
			t.store.unlink(slot.contact-1, pi)
			t.agenda.touch(slot.contact - 1)
			f.Addresses++
		}
		slot.contact, p.address, p.addressAt, p.profile = 0, nil, Stamp{}, Stamp{}
	}
	if *f == before {
		return
	}
	t.store.storePerson(pi, p)
	if slot.contact != 0 {
		t.agenda.touch(slot.contact - 1)
	}
}

// Vacate makes a list one that nobody is wanted in: whoever was delivered there leaves it, and the guard does not weigh that. It
// returns how many they are.
func (t *Table) Vacate(list int64, now time.Time) (n int) {
	if !slices.Contains(t.cfg.Retired, list) {
		t.cfg.Retired = append(t.cfg.Retired, list)
	}
	t.compiled = compile(&t.cfg, t.names)
	t.all(now, func(v *view) {
		if l := v.row.list(list); l != nil && (l.state == in || l.state.unsure()) {
			l.passage = passed
			v.store()
			n++
		}
		t.reconsider(v.ci, now)
	})
	return n
}

// Unretire ends that: nothing more is wanted of the list, or known.
func (t *Table) Unretire(list int64) {
	t.cfg.Retired = slices.DeleteFunc(t.cfg.Retired, func(l int64) bool { return l == list })
	t.compiled = compile(&t.cfg, t.names)
}

// Unsettled says of how many contacts of a list a request or an import is under way, and how many are in it, or may be.
func (t *Table) Unsettled(list int64, now time.Time) (held, left int) {
	for _, r := range t.requests.open { // those of imports that were freed, too
		if slices.Contains(r.Lists, list) || slices.Contains(r.unlink, list) {
			held += len(r.Taken)
		}
	}
	t.all(now, func(v *view) {
		l := v.row.list(list)
		if l == nil {
			return
		}
		left += int(bit(l.state == in || l.state.unsure() || v.row.unknownSince != 0)) // what was not answered may come yet
	})
	return held, left
}
