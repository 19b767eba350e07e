package state

import (
	"slices"
	"time"
)

// reconsider compares a contact's wanted and delivered and files it where it belongs.
func (t *Table) reconsider(ci uint32, now time.Time) {
	if t.store.contacts.At(ci).flags&flagInFlight != 0 {
		return // its outcome will bring it back here
	}
	v := t.view(ci)
	defer v.end()
	n := v.evaluate(now)
	t.agenda.lapses(ci, v.w.lapses)
	t.weighed(v)
	v.rewanted()
	kind, _ := n.file()
	was := t.agenda.refile(ci, kind, now)
	switch {
	case kind == queueNone:
		if was != queueNone {
			t.agenda.settled = append(t.agenda.settled, ci)
		}
		v.endUnknown()
		v.sweep()
	case kind == queueHeld:
		t.agenda.hold(ci)
	case v.slot().flags&flagWaiting == 0:
		t.agenda.file(n, now)
	}
}

// Refresh evaluates the contacts that changes have concerned since the last time.
func (t *Table) Refresh(now time.Time) {
	a := t.agenda
	for i := 0; i < len(a.touched); i++ { // what is let go meanwhile is added
		ci := a.touched[i]
		t.store.contacts.At(ci).flags &^= flagTouched
		if t.store.alive(ci) {
			t.reconsider(ci, now)
		}
		t.releaseSettled(now)
	}
	a.touched = a.touched[:0]
}

// Tick looks at what has become due by now, and says when next to call (0: nothing is due).
func (t *Table) Tick(now time.Time) (next int64) {
	rest := t.retryAny(now)
	a := t.agenda
	for ci, ok := a.nextDue(millis(now)); ok; ci, ok = a.nextDue(millis(now)) {
		t.wake(ci, now)
	}
	t.Refresh(now)
	t.releaseSettled(now)
	if len(a.due) == 0 || rest != 0 && rest < a.due[0].at {
		return rest
	}
	return a.due[0].at
}

// wake ends a contact's wait and begins its late re-send where they are due.
func (t *Table) wake(ci uint32, now time.Time) {
	if !t.store.alive(ci) {
		return
	}
	t.agenda.rested(ci, millis(now))
	if t.agenda.lapsed(ci, millis(now)) {
		t.moved(ci)
	}
	if !t.lateDue(ci, now) {
		return
	}
	t.reconsider(ci, now)
}

// lateDue begins a late re-send that is due. It returns false if that has to wait for an answer.
func (t *Table) lateDue(ci uint32, now time.Time) bool {
	v := t.view(ci)
	defer v.end()
	lateAt := v.row.unknownSince + t.cfg.LateApply.Milliseconds()
	if v.row.unknownSince == 0 || v.row.late || lateAt > millis(now) {
		return true
	}
	if v.slot().flags&flagInFlight != 0 {
		t.agenda.remind(ci, millis(now)+1000)
		return false
	}
	v.beginLate()
	return true
}

// beginLate makes all that we ever said of a contact unknown, so that it is said once more: what was sent and not
// answered may have been applied after what was sent since.
func (v *view) beginLate() {
	for i := range v.row.lists {
		l := &v.row.lists[i]
		if l.passage == refused {
			continue // it stays as it is
		}
		if l.state == out {
			l.passage = passed // it has left once
		}
		l.state = unknown
	}
	v.row.hash, v.row.late = 0, true
	v.maybeStanding()
	v.store()
}

// maybeStanding notes that a unique attribute of ours may stand at the contact, with any value: one that stood, or that
// somebody who carries its address, or gave it up, has brought. Others' stay as they are.
func (v *view) maybeStanding() {
	t := v.t
	var room [8]uint32
	people := append(t.store.carriersOf(v.ci, room[:0]), t.store.gave[v.ci]...)
	for _, n := range t.compiled.uniques {
		_, stood := v.row.stood(n)
		brought := slices.ContainsFunc(people, func(pi uint32) bool {
			p := t.person(pi)
			defer t.endPerson(p)
			return p.value(n) != nil
		})
		if stood || brought {
			v.row.stand(n, 0)
		}
	}
}

// endUnknown ends what is unknown of a contact whose late re-send has left nothing unknown.
func (v *view) endUnknown() {
	r := &v.row
	if r.unknownSince == 0 || !r.late {
		return
	}
	for _, l := range r.lists {
		if l.state == unknown && r.rejected == "" && l.passage != refused {
			return
		}
	}
	r.unknownSince, r.late = 0, false
	v.store()
	v.t.agenda.settled = append(v.t.agenda.settled, v.ci)
}

// releaseSettled lets go of who gave up the contacts that have become clean.
func (t *Table) releaseSettled(now time.Time) {
	a := t.agenda
	for len(a.settled) > 0 {
		ci := a.settled[len(a.settled)-1]
		a.settled = a.settled[:len(a.settled)-1]
		t.release(ci)
	}
}

// release lets go of the people who gave up contact ci once nothing of theirs is left there, and reconsiders the
// contacts that waited for it. An address stays given up until the new one was written behind a look at it.
func (t *Table) release(ci uint32) {
	people, ok := t.store.gave[ci]
	if !ok {
		return
	}
	v := t.view(ci)
	defer v.end()
	over := v.emptied()
	address := string(t.store.addressOf(ci))
	for _, pi := range slices.Clone(people) {
		p := t.person(pi)
		before := len(p.gaveUp)
		p.gaveUp = slices.DeleteFunc(p.gaveUp, func(g gaveUp) bool {
			return over && g.looked && !g.blocked && string(g.address) == address
		})
		if len(p.gaveUp) != before {
			t.store.forgive(ci, pi)
			t.store.storePerson(pi, p)
		}
		t.endPerson(p)
		if slot := t.store.people.At(pi); slot.contact != 0 {
			t.agenda.touch(slot.contact - 1)
		}
	}
	v.sweep()
}

// sweep drops a contact that nobody carries, that is out of every list of ours and of which nothing is unknown.
func (v *view) sweep() {
	t, c := v.t, v.slot()
	if c.carriers != 0 || c.queue != queueNone || c.flags&(flagRemoval|flagWrite|flagInFlight|flagWaiting|flagPinned) != 0 || c.flags&flagLive == 0 {
		return
	}
	if t.store.givenUp(v.ci) || !v.row.idle() {
		return
	}
	t.audits.gone(string(t.store.addressOf(v.ci)))
	delete(t.agenda.waits, v.ci)
	t.store.dropContact(v.ci)
}
