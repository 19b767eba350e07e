package state

import (
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
	row := &t.row
	t.loadContact(ci, row)
	t.returned(taken, r)
	switch o.Verdict {
	case sink.Applied:
		if r.Kind != sink.Look {
			t.applied(ci, row, r, i, o, now)
			t.storeContact(ci, row)
			s.Delivered = true
		}
		t.endWait(ci)
		t.looked(ci, r)
	case sink.Blocked:
		t.uncount(taken, r)
		t.block(ci, o.Address)
	case sink.Reject:
		t.uncount(taken, r)
		s.Rejected = t.reject(ci, row, r, i, o, now)
		s.Code = o.Code
	case sink.Halt:
		t.again(ci, o, true, now).failing = millis(now) // held by the list until the halt ends; certainly not applied
		t.uncount(taken, r)
	default:
		s.Rejected = t.retry(ci, row, r, i, o, healthy, now)
		if s.Rejected {
			s.Code = "server_error"
		}
	}
	if s.Rejected {
		s.Position, s.Mask = t.position(ci), Mask(string(t.addressOf(ci)))
	}
	t.reconsider(ci, now)
	t.releaseSettled(now)
	return s
}

// applied moves what was delivered to what was sent.
func (t *Table) applied(ci uint32, row *contactRow, r *Request, i int, o sink.Outcome, now time.Time) {
	ms := millis(now)
	set := func(list int64, to delivery) {
		t.count(list, row.state(list), to)
		row.set(list, to, ms)
	}
	t.unreject(row)
	row.halves = 0
	row.erase = row.erase && r.Kind != sink.Delete && len(r.Lists) == 0
	if o.Absent || r.Kind == sink.Delete && !o.Unlinked {
		for _, l := range slices.Clone(row.lists) {
			set(l.list, out)
		}
		for _, s := range row.standing {
			t.letGo(ci, s.name, s.value, now)
		}
		row.hash, row.standing = 0, row.standing[:0]
		return
	}
	for _, l := range r.Lists {
		set(l, in)
		if p := row.list(l); r.Kind == sink.Import {
			p.imported, p.at = true, t.imported(l, ms)
		}
	}
	unproven := false
	for _, l := range r.unlink {
		p := row.list(l)
		unproven = unproven || p != nil && p.state == in && t.unverified(p)
		set(l, out)
	}
	if unproven && !slices.ContainsFunc(row.lists, func(l listed) bool { return l.state == in && t.unverified(&l) }) {
		row.hash = 0 // no audit will tell whether the import has set its attributes
	}
	if r.Kind == sink.Add || r.Kind == sink.Remove {
		return
	}
	if r.Taken[i].Hash != 0 {
		row.hash = r.Taken[i].Hash
	}
	t.stands(ci, row, r, i, now)
}

// stands notes which unique attributes a request leaves at its contact, and which values it lets go. Of an adopted
// import it is not known which were set.
func (t *Table) stands(ci uint32, row *contactRow, r *Request, i int, now time.Time) {
	if r.Send == nil || i >= len(r.Send.Contacts) {
		for _, s := range row.standing {
			t.letGo(ci, s.name, s.value, now)
		}
		t.maybeStanding(ci, row)
		return
	}
	for _, a := range r.Send.Contacts[i].Attributes {
		if t.cfg.Unique == nil || !t.cfg.Unique(a.Name) {
			continue
		}
		name, value := t.number("attribute", a.Name), hashBytes(a.Value)
		if was, stood := row.stood(name); stood && was != value {
			t.letGo(ci, name, was, now)
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
func (t *Table) mayStand(row *contactRow, c *sink.Contact) {
	for _, a := range c.Attributes {
		if a.Empties() || t.cfg.Unique == nil || !t.cfg.Unique(a.Name) {
			continue
		}
		name, value := t.number("attribute", a.Name), hashBytes(a.Value)
		if was, stood := row.stood(name); stood && was != value {
			value = 0
		}
		row.stand(name, value)
	}
}

// unanswered makes unknown what a request without an answer may have changed.
func (t *Table) unanswered(ci uint32, row *contactRow, r *Request, i int, now time.Time) {
	if r.Kind == sink.Look {
		return
	}
	touch := func(list int64) {
		t.count(list, row.state(list), unknown)
		decided := unweighed
		if was := row.list(list); was != nil {
			decided = was.passage
		}
		row.set(list, unknown, millis(now))
		row.list(list).passage = decided
	}
	for _, l := range r.Lists {
		touch(l)
	}
	for _, l := range r.unlink {
		touch(l)
		if l := row.list(l); l.passage != refused {
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
			t.maybeStanding(ci, row)
		} else {
			t.mayStand(row, &r.Send.Contacts[i])
		}
	}
	row.unknownSince, row.late = millis(now), false
}

// retry keeps a contact dirty. It returns true if the contact is rejected instead: it alone has kept failing.
func (t *Table) retry(ci uint32, row *contactRow, r *Request, i int, o sink.Outcome, healthy bool, now time.Time) bool {
	if !o.Certain {
		t.unanswered(ci, row, r, i, now)
		t.storeContact(ci, row)
		t.remind(ci, row.unknownSince+t.cfg.LateApply.Milliseconds())
	}
	if o.Split {
		row.halves = min(row.halves+1, 20)
		t.storeContact(ci, row)
	}
	if o.Absent { // it may not exist there: the next write brings its attributes
		row.hash = 0
		t.storeContact(ci, row)
		t.endWait(ci)
		return false
	}
	if o.Certain {
		t.uncount(&r.Taken[i], r)
	}
	w := t.again(ci, o, o.Certain, now)
	if !healthy || !o.Alone || len(r.Taken) > 1 { // it does not fail alone
		w.failing = millis(now)
		return false
	}
	if millis(now)-w.failing < AloneFor.Milliseconds() {
		return false
	}
	if row.rejected == "" {
		t.Counts.Rejected++
	}
	row.rejected, row.rejectedAt, row.rejectedWant = "server_error", millis(now), r.Taken[i].Want
	t.storeContact(ci, row)
	t.endWait(ci)
	return true
}

// again makes a contact wait before its next request: full-jitter backoff, or what the answer says.
func (t *Table) again(ci uint32, o sink.Outcome, certain bool, now time.Time) *wait {
	w, ok := t.waits[ci]
	if !ok {
		w = &wait{failing: millis(now)}
		t.waits[ci] = w
	}
	w.reason = o.Code
	pause := max(backoff.Jitter(backoff.Pause(backoffBase, backoffMost, w.tries)), o.Wait)
	w.tries++
	if !certain {
		pause = max(pause, t.cfg.Rest)
	}
	t.waitUntil(ci, w, millis(now)+max(pause.Milliseconds(), 1))
	return w
}

func (t *Table) waitUntil(ci uint32, w *wait, until int64) {
	w.until = until
	t.contacts.at(ci).flags |= flagWaiting
	t.remind(ci, w.until)
}

func (t *Table) endWait(ci uint32) {
	delete(t.waits, ci)
	t.contacts.at(ci).flags &^= flagWaiting
}

// reject sets a contact aside: with the offending attribute emptied where one is named and its value is unique, else
// whole, until what is wanted changes.
func (t *Table) reject(ci uint32, row *contactRow, r *Request, i int, o sink.Outcome, now time.Time) bool {
	if o.Split {
		row.halves = min(row.halves+1, 20)
		t.storeContact(ci, row)
		return false
	}
	if o.Attribute != "" && r.Send != nil {
		for _, a := range r.Send.Contacts[i].Attributes {
			if a.Name == o.Attribute && !a.Empties() {
				return t.refuse(ci, row, r, t.number("attribute", a.Name), a.Value, now)
			}
		}
	}
	if row.late { // said once more, which is all that was owed
		row.late, row.unknownSince = false, 0
	}
	if row.rejected == "" {
		t.Counts.Rejected++
	}
	row.rejected, row.rejectedAt, row.rejectedWant = o.Code, millis(now), r.Taken[i].Want
	if o.Code == "" {
		row.rejected = "rejected"
	}
	t.storeContact(ci, row)
	return true
}

func (t *Table) unreject(row *contactRow) {
	if row.rejected != "" {
		row.rejected = ""
		t.Counts.Rejected--
	}
}

// looked marks the addresses that were looked at before the write of contact ci, for all who carry it and gave them
// up; those of which nothing is left are let go.
func (t *Table) looked(ci uint32, r *Request) {
	if r.Send == nil || len(r.Send.Look) == 0 {
		return
	}
	var room [8]uint32
	for _, pi := range t.carriersOf(ci, room[:0]) {
		t.loadPerson(pi, &t.p)
		changed := false
		for i := range t.p.gaveUp {
			g := &t.p.gaveUp[i]
			if slices.Contains(r.Send.Look, string(g.address)) {
				changed = changed || !g.looked
				g.looked = true
				t.settled = append(t.settled, t.findContact(g.address))
			}
		}
		if changed {
			t.storePerson(pi)
		}
	}
}

// block marks an address that a look found blocked or unsubscribed, for all who gave it up and carry ci's address.
func (t *Table) block(ci uint32, address string) {
	var room [8]uint32
	for _, pi := range t.carriersOf(ci, room[:0]) {
		t.loadPerson(pi, &t.p)
		changed := false
		for i := range t.p.gaveUp {
			if g := &t.p.gaveUp[i]; string(g.address) == address && !g.blocked {
				g.blocked, changed = true, true
			}
		}
		if changed {
			t.storePerson(pi)
		}
	}
}

// position is where the newest profile of who carries the contact was read.
func (t *Table) position(ci uint32) Stamp {
	var newest Stamp
	var room [8]uint32
	for _, pi := range t.carriersOf(ci, room[:0]) {
		t.loadPerson(pi, &t.p)
		if newest == (Stamp{}) || t.p.profile.newerPerson(newest) {
			newest = t.p.profile
		}
	}
	return newest
}

// Close forgets an answered request; the next checkpoint removes its rows.
func (t *Table) Close(r *Request) {
	delete(t.open, r.Number)
	if r.Kind == sink.Import {
		t.forgetFreed(r)
	}
	if r.parts > 0 {
		t.closed = append(t.closed, r)
		t.changedBytes += 64 * r.parts
	}
}

// RetryRejected lets the rejected contacts of a list (0: all) try again, and returns how many.
func (t *Table) RetryRejected(list int64, now time.Time) int {
	n := 0
	for ci := range t.contacts.n {
		if t.contacts.at(ci).flags&flagLive == 0 {
			continue
		}
		t.loadContact(ci, &t.row)
		if t.row.rejected == "" || list != 0 && !slices.ContainsFunc(t.row.lists, func(l listed) bool { return l.list == list }) {
			continue
		}
		t.unreject(&t.row)
		t.storeContact(ci, &t.row)
		t.reconsider(ci, now)
		n++
	}
	return n
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
