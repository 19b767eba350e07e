package state

import (
	"slices"
	"time"

	"segsync/sink"
)

// Audit compares a list, as the destination tells of it, with what was delivered into it. It begins before the
// destination is asked: of whom anything is sent, answered or said from then on it tells nothing, and of whom something
// may still be applied neither.
type Audit struct {
	List   int64
	Began  time.Time
	Found  Findings
	t      *Table
	repair Repair
	paged  bool                // the list is read by pages, which may miss somebody
	seen   []uint64            // contacts in the list, a bit for each slot
	moved  map[uint32]struct{} // contacts of which something was sent, answered or said since
	swept  map[string]struct{} // addresses that the table has let go since
	gone   []missing           // to be looked at: they may have unsubscribed, or be in all the same
	sent   map[uint32]struct{} // contacts that this audit has made unknown
}

// missing is a contact that was not seen in the list.
type missing struct {
	contact uint32
	lost    bool // by an import
}

// Repair is what an audit mends beside what imports have lost.
type Repair struct {
	PutBack bool                      // who is missing, and attributes that others have changed
	Most    int                       // so many contacts at most; 0: all
	Extra   func(address string) bool // which of those leave whom others have put in; nil: none
}

// mends says whether one more contact may be mended, and counts it.
func (a *Audit) mends() bool {
	if a.repair.Most > 0 && a.Found.Repaired >= a.repair.Most {
		return false
	}
	a.Found.Repaired++
	return true
}

// BeginAudit begins an audit of a list; there is one at a time.
func (t *Table) BeginAudit(list int64, repair Repair, now time.Time) *Audit {
	t.audits.running = &Audit{List: list, Began: now, t: t, repair: repair, moved: map[uint32]struct{}{}, swept: map[string]struct{}{}, sent: map[uint32]struct{}{}}
	return t.audits.running
}

// EndAudit ends the audit under way, if there is one.
func (t *Table) EndAudit() { t.audits.running = nil }

func (a *Audit) saw(ci uint32) bool {
	return int(ci/64) < len(a.seen) && a.seen[ci/64]&(1<<(ci%64)) != 0
}

// open says whether something of a contact is under way, or may be: what the list shows of it tells nothing.
func (a *Audit) open(v *view) bool {
	_, moved := a.moved[v.ci]
	return moved || v.row.unknownSince != 0 || v.slot().flags&(flagInFlight|flagPinned) != 0
}

// See takes up that the list holds a contact. carries compares an attribute as it was sent with what is told of it.
func (a *Audit) See(l *sink.Listed, carries func(sent sink.Attribute, told string) bool, now time.Time) {
	ci, ok := a.t.store.lookContact([]byte(l.Address))
	if ok && a.saw(ci) {
		return // pages may tell of somebody twice
	}
	a.Found.Listed++
	if _, gone := a.swept[l.Address]; gone {
		a.Found.Skipped++
		return
	}
	if !ok {
		a.extra(l.Address, now)
		return
	}
	for int(ci/64) >= len(a.seen) {
		a.seen = append(a.seen, make([]uint64, max(64, len(a.seen)/4))...)
	}
	a.seen[ci/64] |= 1 << (ci % 64)
	v := a.t.view(ci)
	defer v.end()
	if !a.open(v) { // Finish counts the others
		a.see(v, l, carries, now)
	}
}

func (a *Audit) see(v *view, l *sink.Listed, carries func(sent sink.Attribute, told string) bool, now time.Time) {
	t := a.t
	w := v.want(now)
	p := v.row.list(a.List)
	if l.Blocked {
		a.Found.found(&a.Found.Unsubscribed, FoundUnsubscribed, l.Address)
	}
	switch {
	case p == nil || p.state == out:
		if !slices.Contains(w.lists, a.List) && !slices.Contains(w.open, a.List) {
			a.extra(l.Address, now)
		}
	case p.state == doubtful: // others have put it in
		p.state = unknown
		v.store()
		t.reconsider(v.ci, now)
	case p.state == in && !l.Blocked && w.hash == v.row.hash && w.forced == 0 && !a.carriesAll(w, l, carries):
		if t.audits.unverified(p) {
			a.Found.found(&a.Found.Lost, FoundLost, l.Address)
			a.resend(v, now)
			return
		}
		a.Found.found(&a.Found.Changed, FoundChanged, l.Address)
		if a.repair.PutBack && a.mends() {
			a.resend(v, now)
		}
	}
}

// extra takes up that the list holds somebody whom nobody of ours wants there: who is named leaves, through the guard.
func (a *Audit) extra(address string, now time.Time) {
	a.Found.found(&a.Found.Extra, FoundExtra, address)
	if a.repair.Extra == nil || !a.repair.Extra(address) || !a.mends() {
		return
	}
	ci := a.t.store.findContact([]byte(address))
	v := a.t.view(ci)
	defer v.end()
	v.row.set(a.List, doubtful, millis(now))
	v.store()
	a.moved[ci], a.sent[ci] = struct{}{}, struct{}{}
	a.t.reconsider(ci, now)
}

// carriesAll says whether a contact has the attributes that it was given, as far as the listing tells.
func (a *Audit) carriesAll(w *wanted, l *sink.Listed, carries func(sink.Attribute, string) bool) bool {
	for i := range w.values {
		name := a.t.names.attribute(w.values[i].name)
		if told, ok := l.Attributes[name]; ok && !carries(sink.Attribute{Name: name, Value: w.values[i].json}, told) {
			return false
		}
	}
	return true
}

// singly is so many failures in bulk that a contact goes alone.
const singly = 20

// resend makes what was delivered of a contact unknown, in the list and of its attributes: it is sent again, alone.
func (a *Audit) resend(v *view, now time.Time) {
	v.row.set(a.List, unknown, millis(now))
	v.row.hash, v.row.halves = 0, singly
	v.store()
	a.moved[v.ci], a.sent[v.ci] = struct{}{}, struct{}{}
	a.t.reconsider(v.ci, now)
}

// Finish looks at some of the contacts that the list should hold, from a slot on, once the whole list was seen. It says
// where to go on; 0: all were looked at.
func (a *Audit) Finish(from uint32, now time.Time) (next uint32) {
	return a.t.some(from, now, func(v *view) {
		if p := v.row.list(a.List); p != nil && p.state != out {
			a.compare(v, p, now)
		}
	})
}

// compare is for a contact with p in its row.
func (a *Audit) compare(v *view, p *listed, now time.Time) {
	_, ours := a.sent[v.ci]
	switch {
	case ours: // it is mended already
	case p.state == unknown:
		a.Found.Skipped++
	case a.open(v):
		a.stayUnverified(v)
		a.Found.Skipped++
	case a.saw(v.ci):
	case p.state == doubtful:
		if !a.paged {
			a.Found.Settled++
			v.settleDoubt(a.List, now)
		}
	case !slices.Contains(v.want(now).lists, a.List): // it is to leave, and has left
		if a.t.audits.unverified(p) {
			a.resend(v, now)
		}
	case a.t.audits.unverified(p):
		a.Found.found(&a.Found.Lost, FoundLost, a.t.Address(v.ci))
		a.gone = append(a.gone, missing{v.ci, true})
	default:
		a.Found.found(&a.Found.Missing, FoundMissing, a.t.Address(v.ci))
		if a.repair.PutBack || a.Found.Missing <= looksMost {
			a.gone = append(a.gone, missing{v.ci, false})
		}
	}
}

// looksMost is how many of those are looked at whom somebody took out, where they are not put back.
const looksMost = 100

// Gone hands out the address of somebody who was not seen, to be looked at; ok is false if there is nobody else.
func (a *Audit) Gone() (address string, ok bool) {
	for len(a.gone) > 0 {
		ci := a.gone[len(a.gone)-1].contact
		if a.still(ci) {
			return a.t.Address(ci), true
		}
		a.gone = a.gone[:len(a.gone)-1]
	}
	return "", false
}

// still says whether a contact stands as it did when the audit began. Of one that does not this audit tells nothing.
func (a *Audit) still(ci uint32) bool {
	v := a.t.view(ci)
	defer v.end()
	if !a.open(v) && v.row.state(a.List) == in {
		return true
	}
	a.stayUnverified(v)
	return false
}

// Looked takes up what a look at whom Gone has named shows. Who is in the list all the same is not missing; who is
// blocked or has unsubscribed stays out. Whom an import has lost is sent again, and others where that is asked for.
func (a *Audit) Looked(blocked bool, lists []int64, now time.Time) {
	m := a.gone[len(a.gone)-1]
	a.gone = a.gone[:len(a.gone)-1]
	found := &a.Found.Missing
	if m.lost {
		found = &a.Found.Lost
	}
	switch {
	case slices.Contains(lists, a.List):
		*found--
	case blocked:
		*found--
		a.Found.found(&a.Found.Unsubscribed, FoundUnsubscribed, a.t.Address(m.contact))
	case a.still(m.contact) && (m.lost || a.repair.PutBack && a.mends()):
		v := a.t.view(m.contact)
		defer v.end()
		a.resend(v, now)
	}
}

// stayUnverified leaves a contact to the next audit of which this one tells nothing.
func (a *Audit) stayUnverified(v *view) {
	if p := v.row.list(a.List); p != nil && p.state == in && a.t.audits.unverified(p) {
		p.at = max(p.at, millis(a.Began))
		v.store()
	}
}

// Close notes a finished audit.
func (a *Audit) Close() {
	was := a.t.AuditOf(a.List)
	due := was.Due && a.importedSince()
	a.t.SetAudit(a.List, AuditOf{Due: due, Began: a.Began, First: was.First, Found: a.Found})
	a.t.audits.running = nil
}

// importedSince says whether there may be contacts that the audit has not verified.
func (a *Audit) importedSince() bool {
	for ci := range a.moved {
		if a.t.store.alive(ci) && a.left(ci) {
			return true
		}
	}
	return false
}

// left says whether an import has brought a contact into the list since the audit began.
func (a *Audit) left(ci uint32) bool {
	v := a.t.view(ci)
	defer v.end()
	p := v.row.list(a.List)
	return p != nil && p.imported && p.at >= millis(a.Began)
}

// ByPages forgets what was seen so far: the list is read by pages instead. Who is not seen there may be in it all the
// same: no doubt is settled.
func (a *Audit) ByPages() { a.paged, a.seen, a.Found = true, nil, Findings{} }

// Paged says whether the list was read by pages.
func (a *Audit) Paged() bool { return a.paged }
