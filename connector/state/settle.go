package state

import (
	"cmp"
	"slices"
	"time"

	"segsync/connector/backoff"
	"segsync/sink"
)

// Settlement is what the engine must know of an outcome: to count it, and to write a dead letter.
type Settlement struct {
	Contact   uint32
	Taken     Taken
	Outcome   sink.Outcome
	Rejected  bool   // it is a reject now: a dead letter is owed
	Delivered bool   // what was sent counts as delivered
	Code      string // of the reject
	Position  Stamp  // of the newest profile of who carries the address; zero if nobody does
	Mask      string // the address, masked
}

// Backoff bounds.
const (
	backoffBase = time.Second
	backoffMost = time.Minute
	// AloneFor is how long a contact may alone keep failing before it is rejected as server_error.
	AloneFor = 15 * time.Minute
)

// Settle records what became of the i-th contact of a request. healthy says that others succeed meanwhile.
func (t *Table) Settle(r *Request, i int, o sink.Outcome, healthy bool, now time.Time) Settlement {
	taken := &r.Taken[i]
	ci := taken.Contact
	t.land(ci)
	s := Settlement{Contact: ci, Taken: *taken, Outcome: o}
	t.guards.returned(taken, r)
	t.settle(r, i, o, healthy, now, &s)
	if s.Rejected {
		s.Position, s.Mask = t.position(ci), Mask(string(t.store.addressOf(ci)))
	}
	t.reconsider(ci, now)
	t.releaseSettled(now)
	return s
}

func (t *Table) settle(r *Request, i int, o sink.Outcome, healthy bool, now time.Time, s *Settlement) {
	taken := &r.Taken[i]
	v := t.view(taken.Contact)
	defer v.end()
	switch o.Verdict {
	case sink.Applied:
		if r.Kind != sink.Look {
			v.applied(r, i, o, now)
			v.store()
			s.Delivered = v.row.rejected == ""
		}
		t.agenda.endWait(v.ci)
		t.looked(v.ci, r)
	case sink.Blocked:
		t.guards.uncount(taken, r)
		t.block(v.ci, o.Address)
	case sink.Reject:
		t.guards.uncount(taken, r)
		s.Rejected, s.Code = v.reject(r, i, o, now), o.Code
	case sink.Halt:
		t.again(v.ci, o, true, now).failing = millis(now) // held by the list until the halt ends; certainly not applied
		t.guards.uncount(taken, r)
	default:
		if s.Rejected = v.retry(r, i, o, healthy, now); s.Rejected {
			s.Code = codeServerError
		}
	}
}

// codeServerError is the reject of a contact that alone keeps failing.
const codeServerError = "server_error"

// applied moves what was delivered to what was sent.
func (v *view) applied(r *Request, i int, o sink.Outcome, now time.Time) {
	t, row, ms := v.t, &v.row, millis(now)
	row.rejected = ""
	row.halves = 0
	row.erase = row.erase && r.Kind != sink.Delete && len(r.Lists) == 0
	if o.Absent || r.Kind == sink.Delete && !o.Unlinked {
		for _, l := range slices.Clone(row.lists) {
			row.set(l.list, out, ms)
		}
		v.letGoAll(now)
		row.hash, row.standing = 0, row.standing[:0]
		if r.Kind == sink.Update && len(r.Lists) > 0 {
			v.notCreated(r, i, now)
		}
		return
	}
	for _, l := range r.Lists {
		row.set(l, in, ms)
		if p := row.list(l); r.Kind == sink.Import {
			p.imported, p.at = true, t.imported(l, ms)
		}
	}
	unproven := false
	for _, l := range r.unlink {
		p := row.list(l)
		unproven = unproven || p != nil && p.state == in && t.audits.unverified(p)
		row.set(l, out, ms)
	}
	if unproven && !slices.ContainsFunc(row.lists, func(l listed) bool { return l.state == in && t.audits.unverified(&l) }) {
		row.hash = 0 // no audit will tell whether the import has set its attributes
	}
	if r.Kind == sink.Add || r.Kind == sink.Remove {
		return
	}
	if r.Taken[i].Hash != 0 {
		row.hash = r.Taken[i].Hash
	}
	v.stands(r, i, now)
}

// NoContact is why a contact rests that the account does not have, and that must not be created. Nobody is at fault: there is no
// dead letter.
const NoContact = "no_contact"

// notCreated lets a contact that does not exist rest until what is wanted of it changes, or something is heard of it, if it must
// not be created.
func (v *view) notCreated(r *Request, i int, now time.Time) {
	if v.slot().flags&flagHeard != 0 || !v.existing(r.Lists) { // it may exist since
		return
	}
	row := &v.row
	if row.late { // said once more, which is all that was owed
		row.late, row.unknownSince = false, 0
	}
	row.rejected, row.rejectedAt, row.rejectedWant = NoContact, millis(now), r.Taken[i].Want
}

// letGoAll lets go of every unique attribute that stands at the contact.
func (v *view) letGoAll(now time.Time) {
	for _, s := range v.row.standing {
		v.t.letGo(v.ci, s.name, s.value, now)
	}
}

// stands notes which unique attributes a request leaves at its contact, and which values it lets go. Of an adopted
// import it is not known which were set.
func (v *view) stands(r *Request, i int, now time.Time) {
	t, row := v.t, &v.row
	if r.Send == nil || i >= len(r.Send.Contacts) {
		v.letGoAll(now)
		v.maybeStanding()
		return
	}
	for _, a := range r.Send.Contacts[i].Attributes {
		if !t.cfg.unique(a.Name) {
			continue
		}
		name, value := t.names.number("attribute", a.Name), hashBytes(a.Value)
		if was, stood := row.stood(name); stood && was != value {
			t.letGo(v.ci, name, was, now)
		}
		if a.Empties() {
			row.emptied(name)
			continue
		}
		row.stand(name, value)
		row.refused = slices.DeleteFunc(row.refused, func(f refusal) bool { return f.name == name })
	}
}

// mayStand notes which unique attributes a request without an answer may have set: beside what stood.
func (v *view) mayStand(c *sink.Contact) {
	for _, a := range c.Attributes {
		if a.Empties() || !v.t.cfg.unique(a.Name) {
			continue
		}
		name, value := v.t.names.number("attribute", a.Name), hashBytes(a.Value)
		if was, stood := v.row.stood(name); stood && was != value {
			value = 0
		}
		v.row.stand(name, value)
	}
}

// unanswered makes unknown what a request without an answer may have changed.
func (v *view) unanswered(r *Request, i int, now time.Time) {
	row := &v.row
	if r.Kind == sink.Look {
		return
	}
	touch := func(list int64) *listed {
		decided := unweighed
		if was := row.list(list); was != nil {
			decided = was.passage
		}
		row.set(list, unknown, millis(now))
		l := row.list(list)
		l.passage = decided
		return l
	}
	for _, l := range r.Lists {
		touch(l)
	}
	for _, l := range r.unlink {
		if l := touch(l); l.passage != refused {
			l.passage = passed // the guard has counted it
		}
	}
	if r.Kind == sink.Delete {
		for _, l := range slices.Clone(row.lists) {
			touch(l.list)
		}
	}
	if r.Kind != sink.Add && r.Kind != sink.Remove {
		row.hash = 0
		if r.Send == nil {
			v.maybeStanding()
		} else {
			v.mayStand(&r.Send.Contacts[i])
		}
	}
	row.unknownSince, row.late = millis(now), false
}

// retry keeps a contact dirty. It returns true if the contact is rejected instead: it alone has kept failing.
func (v *view) retry(r *Request, i int, o sink.Outcome, healthy bool, now time.Time) bool {
	t, row := v.t, &v.row
	if !o.Certain {
		v.unanswered(r, i, now)
		v.store()
		t.agenda.remind(v.ci, row.unknownSince+t.cfg.LateApply.Milliseconds())
	}
	if o.Split {
		v.halve()
	}
	if o.Absent { // it may not exist there: the next write brings its attributes
		row.hash = 0
		v.store()
		t.agenda.endWait(v.ci)
		return false
	}
	if o.Certain {
		t.guards.uncount(&r.Taken[i], r)
	}
	w := t.again(v.ci, o, o.Certain, now)
	if !healthy || !o.Alone || len(r.Taken) > 1 { // it does not fail alone
		w.failing = millis(now)
		return false
	}
	if millis(now)-w.failing < AloneFor.Milliseconds() {
		return false
	}
	row.rejected, row.rejectedAt, row.rejectedWant = codeServerError, millis(now), r.Taken[i].Want
	v.store()
	t.agenda.endWait(v.ci)
	return true
}

// halve notes that a bulk call that held the contact failed as a whole: the next has half as many.
func (v *view) halve() {
	v.row.halves = min(v.row.halves+1, singly)
	v.store()
}

// again makes a contact wait before its next request: full-jitter backoff, or what the answer says.
func (t *Table) again(ci uint32, o sink.Outcome, certain bool, now time.Time) *wait {
	w := t.agenda.waitOf(ci, now)
	w.reason = o.Code
	pause := max(backoff.Jitter(backoff.Pause(backoffBase, backoffMost, w.tries)), o.Wait)
	w.tries++
	if !certain {
		pause = max(pause, t.cfg.Rest)
	}
	t.agenda.waitUntil(ci, w, millis(now)+max(pause.Milliseconds(), 1))
	return w
}

// reject sets a contact aside: with the offending attribute emptied where one is named and its value is unique, else
// whole, until what is wanted changes.
func (v *view) reject(r *Request, i int, o sink.Outcome, now time.Time) bool {
	row := &v.row
	if o.Split {
		v.halve()
		return false
	}
	if r.Kind == sink.Import && o.Attribute == "" && v.mayBeItsNumber(r, i) {
		row.halves = singly
		v.store()
		return false
	}
	if o.Attribute != "" && r.Send != nil {
		for _, a := range r.Send.Contacts[i].Attributes {
			if a.Name == o.Attribute && !a.Empties() {
				return v.refuse(r, v.t.names.number("attribute", a.Name), a.Value, now)
			}
		}
	}
	if row.late { // said once more, which is all that was owed
		row.late, row.unknownSince = false, 0
	}
	row.rejected, row.rejectedAt, row.rejectedWant = cmp.Or(o.Code, "rejected"), millis(now), r.Taken[i].Want
	v.store()
	return true
}

// mayBeItsNumber says whether a contact that an import's report names carried a unique attribute: the report does not say
// what was wrong with it, and a malformed number costs the whole contact; the answer to a call of its own tells.
func (v *view) mayBeItsNumber(r *Request, i int) bool {
	return r.Send == nil || slices.ContainsFunc(r.Send.Contacts[i].Attributes, func(a sink.Attribute) bool {
		return v.t.cfg.unique(a.Name) && !a.Empties()
	})
}

// looked marks the addresses that were looked at before the write of contact ci, for all who carry it and gave them
// up; those of which nothing is left are let go.
func (t *Table) looked(ci uint32, r *Request) {
	if r.Send == nil || len(r.Send.Look) == 0 {
		return
	}
	t.markGaveUp(ci, func(g *gaveUp) bool {
		if !slices.Contains(r.Send.Look, string(g.address)) {
			return false
		}
		t.agenda.settled = append(t.agenda.settled, t.store.findContact(g.address))
		was := g.looked
		g.looked = true
		return !was
	})
}

// block marks an address that a look found blocked or unsubscribed, for all who gave it up and carry ci's address.
func (t *Table) block(ci uint32, address string) {
	t.markGaveUp(ci, func(g *gaveUp) bool {
		if string(g.address) != address || g.blocked {
			return false
		}
		g.blocked = true
		return true
	})
}

// markGaveUp shows mark the former addresses of all who carry a contact's; it says what it has changed.
func (t *Table) markGaveUp(ci uint32, mark func(g *gaveUp) bool) {
	var room [8]uint32
	for _, pi := range t.store.carriersOf(ci, room[:0]) {
		p := t.person(pi)
		changed := false
		for i := range p.gaveUp {
			changed = mark(&p.gaveUp[i]) || changed
		}
		if changed {
			t.store.storePerson(pi, p)
		}
		t.endPerson(p)
	}
}

// position is where the newest profile of who carries the contact was read.
func (t *Table) position(ci uint32) Stamp {
	var newest Stamp
	var room [8]uint32
	for _, pi := range t.store.carriersOf(ci, room[:0]) {
		p := t.person(pi)
		if newest == (Stamp{}) || p.profile.newerPerson(newest) {
			newest = p.profile
		}
		t.endPerson(p)
	}
	return newest
}

// RetryRejected lets the rejected contacts of a list (0: all) try again, and those that did not exist. It returns how many.
func (t *Table) RetryRejected(list int64, now time.Time) (rejected, absent int) {
	t.all(now, func(v *view) {
		if v.row.rejected == "" || list != 0 && v.row.list(list) == nil && !slices.Contains(v.want(now).lists, list) {
			return
		}
		if v.row.rejected == NoContact {
			absent++
		} else {
			rejected++
		}
		v.row.rejected = ""
		v.store()
		t.reconsider(v.ci, now)
	})
	return rejected, absent
}

// Mask hides all of an address but its first letter and domain.
func Mask(address string) string {
	for i := len(address) - 1; i > 0; i-- {
		if address[i] == '@' {
			return address[:1] + "***" + address[i:]
		}
	}
	return "***"
}
