package state

import (
	"encoding/binary"
	"slices"
	"strconv"
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
	repair bool
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

// Findings of an audit, in contacts.
type Findings struct {
	Listed       int `json:"listed"`       // in the list
	Lost         int `json:"lost"`         // an import lost them, or their attributes: they are sent again
	Missing      int `json:"missing"`      // somebody took them out, or deleted them
	Changed      int `json:"changed"`      // they have other attributes than were delivered
	Extra        int `json:"extra"`        // in the list, though nobody of ours wants it
	Unsubscribed int `json:"unsubscribed"` // blocked or unsubscribed: their own will
	Settled      int `json:"settled"`      // of whom it was doubtful whether they were in, and who are not
	Skipped      int `json:"skipped"`      // of whom it tells nothing: something of theirs is under way
	// Examples are some addresses, masked, by what was found of them.
	Examples map[string][]string `json:"examples,omitempty"`
}

// Wrong is how many contacts are not as they should be by somebody's doing, or by an import's. Who unsubscribed is right.
func (f *Findings) Wrong() int { return f.Lost + f.Missing + f.Changed + f.Extra }

// What is found of a contact, in Findings.Examples.
const (
	FoundLost         = "lost"
	FoundMissing      = "missing"
	FoundChanged      = "changed"
	FoundExtra        = "extra"
	FoundUnsubscribed = "unsubscribed"
)

// examplesMost is how many addresses are named of each kind.
const examplesMost = 5

func (f *Findings) found(n *int, what, address string) {
	*n++
	if len(f.Examples[what]) >= examplesMost {
		return
	}
	if f.Examples == nil {
		f.Examples = map[string][]string{}
	}
	f.Examples[what] = append(f.Examples[what], Mask(address))
}

// AuditOf is what is known of a list's audits.
type AuditOf struct {
	Due   bool      // imports into the list have ended since the last one began
	Began time.Time // the last one that was finished; zero: there was none
	First time.Time // since when audits of the list are known of
	Found Findings  // by the last one; without examples
}

func auditKey(list int64) string { return "audit/" + strconv.FormatInt(list, 10) }

// AuditOf tells of a list's audits.
func (t *Table) AuditOf(list int64) AuditOf {
	if a, ok := t.audits[list]; ok {
		return *a
	}
	a := &AuditOf{}
	if r := (reader{b: t.meta[auditKey(list)]}); len(r.b) > 0 {
		at := func() time.Time {
			if ms := r.int(); ms != 0 {
				return time.UnixMilli(ms)
			}
			return time.Time{}
		}
		a.Due, a.Began, a.First = r.int() == 1, at(), at()
		for _, n := range a.Found.counts() {
			*n = int(r.int())
		}
	}
	t.audits[list] = a
	return *a
}

func (f *Findings) counts() []*int {
	return []*int{&f.Listed, &f.Lost, &f.Missing, &f.Changed, &f.Extra, &f.Unsubscribed, &f.Settled, &f.Skipped}
}

// SetAudit notes what is known of a list's audits.
func (t *Table) SetAudit(list int64, a AuditOf) {
	a.Found.Examples = nil
	t.audits[list] = &a
	b := binary.AppendVarint(nil, int64(bit(a.Due)))
	for _, at := range []time.Time{a.Began, a.First} {
		ms := int64(0)
		if !at.IsZero() {
			ms = millis(at)
		}
		b = binary.AppendVarint(b, ms)
	}
	for _, n := range a.Found.counts() {
		b = binary.AppendVarint(b, int64(*n))
	}
	t.SetMeta(auditKey(list), b)
}

// imported notes that an import has brought a contact into a list: until an audit has seen it there it is not verified.
// It returns when that was, behind the last audit's beginning whatever the clock says.
func (t *Table) imported(list, at int64) int64 {
	a := t.AuditOf(list)
	if !a.Due {
		a.Due = true
		t.SetAudit(list, a)
	}
	if !a.Began.IsZero() {
		at = max(at, millis(a.Began))
	}
	return at
}

// unverified says whether no audit has seen yet what an import has done.
func (t *Table) unverified(l *listed) bool {
	began := t.AuditOf(l.list).Began
	return l.imported && (began.IsZero() || l.at >= millis(began))
}

// BeginAudit begins an audit of a list; there is one at a time. repair puts back who is missing, and attributes that others
// have changed.
func (t *Table) BeginAudit(list int64, repair bool, now time.Time) *Audit {
	t.audit = &Audit{List: list, Began: now, t: t, repair: repair, moved: map[uint32]struct{}{}, swept: map[string]struct{}{}, sent: map[uint32]struct{}{}}
	return t.audit
}

// EndAudit ends the audit under way, if there is one.
func (t *Table) EndAudit() { t.audit = nil }

// move notes that something was sent, answered or said of a contact.
func (t *Table) move(ci uint32) {
	if t.audit != nil {
		t.audit.moved[ci] = struct{}{}
	}
}

func (a *Audit) saw(ci uint32) bool {
	return int(ci/64) < len(a.seen) && a.seen[ci/64]&(1<<(ci%64)) != 0
}

// open says whether something of a contact is under way, or may be: what the list shows of it tells nothing.
func (a *Audit) open(ci uint32, r *contactRow) bool {
	_, moved := a.moved[ci]
	return moved || r.unknownSince != 0 || a.t.contacts.at(ci).flags&(flagInFlight|flagPinned) != 0
}

// See takes up that the list holds a contact. carries compares an attribute as it was sent with what is told of it.
func (a *Audit) See(l *sink.Listed, carries func(sent sink.Attribute, told string) bool, now time.Time) {
	t := a.t
	ci, ok := t.lookContact([]byte(l.Address))
	if ok && a.saw(ci) {
		return // pages may tell of somebody twice
	}
	a.Found.Listed++
	if _, gone := a.swept[l.Address]; gone {
		a.Found.Skipped++
		return
	}
	if !ok {
		a.Found.found(&a.Found.Extra, FoundExtra, l.Address)
		return
	}
	for int(ci/64) >= len(a.seen) {
		a.seen = append(a.seen, make([]uint64, max(64, len(a.seen)/4))...)
	}
	a.seen[ci/64] |= 1 << (ci % 64)
	t.loadContact(ci, &t.row)
	if a.open(ci, &t.row) {
		return // Finish counts them
	}
	w := t.want(ci, &t.row, now)
	p := t.row.list(a.List)
	if l.Blocked {
		a.Found.found(&a.Found.Unsubscribed, FoundUnsubscribed, l.Address)
	}
	switch {
	case p == nil || p.state == out:
		if !slices.Contains(w.lists, a.List) && !slices.Contains(w.open, a.List) {
			a.Found.found(&a.Found.Extra, FoundExtra, l.Address)
		}
	case p.state == doubtful: // others have put it in
		t.count(a.List, doubtful, unknown)
		p.state = unknown
		t.storeContact(ci, &t.row)
		t.reconsider(ci, now)
	case p.state == in && !l.Blocked && w.hash == t.row.hash && w.forced == 0 && !a.carriesAll(w, l, carries):
		if t.unverified(p) {
			a.Found.found(&a.Found.Lost, FoundLost, l.Address)
			a.resend(ci, now)
			return
		}
		a.Found.found(&a.Found.Changed, FoundChanged, l.Address)
		if a.repair {
			a.resend(ci, now)
		}
	}
}

// carriesAll says whether a contact has the attributes that it was given, as far as the listing tells.
func (a *Audit) carriesAll(w *wanted, l *sink.Listed, carries func(sink.Attribute, string) bool) bool {
	for i := range w.values {
		name := a.t.attributeName(w.values[i].name)
		if told, ok := l.Attributes[name]; ok && !carries(sink.Attribute{Name: name, Value: w.values[i].json}, told) {
			return false
		}
	}
	return true
}

// singly is so many failures in bulk that a contact goes alone.
const singly = 20

// resend makes what was delivered of a contact unknown, in the list and of its attributes: it is sent again, alone.
func (a *Audit) resend(ci uint32, now time.Time) {
	t := a.t
	t.loadContact(ci, &t.row)
	t.count(a.List, t.row.state(a.List), unknown)
	t.row.set(a.List, unknown, millis(now))
	t.row.hash, t.row.halves = 0, singly
	t.storeContact(ci, &t.row)
	a.moved[ci], a.sent[ci] = struct{}{}, struct{}{}
	t.reconsider(ci, now)
}

// Finish looks at some of the contacts that the list should hold, from a slot on, once the whole list was seen. It says
// where to go on; 0: all were looked at.
func (a *Audit) Finish(from uint32, now time.Time) (next uint32) {
	t := a.t
	end := min(from+chunkLen, t.contacts.n)
	for ci := from; ci < end; ci++ {
		if t.contacts.at(ci).flags&flagLive == 0 {
			continue
		}
		t.loadContact(ci, &t.row)
		p := t.row.list(a.List)
		if p == nil || p.state == out {
			continue
		}
		a.compare(ci, p, now)
	}
	t.releaseSettled(now)
	if end == t.contacts.n {
		return 0
	}
	return end
}

// compare is for a contact whose row, with p in it, is loaded.
func (a *Audit) compare(ci uint32, p *listed, now time.Time) {
	t := a.t
	switch {
	case p.state == unknown:
		if _, ours := a.sent[ci]; !ours {
			a.Found.Skipped++
		}
	case a.open(ci, &t.row):
		a.stayUnverified(ci)
		a.Found.Skipped++
	case a.saw(ci):
	case p.state == doubtful:
		if !a.paged {
			a.Found.Settled++
			t.settleDoubt(ci, a.List, now)
		}
	case !slices.Contains(t.want(ci, &t.row, now).lists, a.List): // it is to leave, and has left
		if t.unverified(p) {
			a.resend(ci, now)
		}
	case t.unverified(p):
		a.Found.found(&a.Found.Lost, FoundLost, string(t.addressOf(ci)))
		a.gone = append(a.gone, missing{ci, true})
	default:
		a.Found.found(&a.Found.Missing, FoundMissing, string(t.addressOf(ci)))
		if a.repair || a.Found.Missing <= looksMost {
			a.gone = append(a.gone, missing{ci, false})
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
			return string(a.t.addressOf(ci)), true
		}
		a.stayUnverified(ci)
		a.gone = a.gone[:len(a.gone)-1]
	}
	return "", false
}

// still says whether a contact stands as it did when the audit began. Its row is loaded.
func (a *Audit) still(ci uint32) bool {
	a.t.loadContact(ci, &a.t.row)
	return !a.open(ci, &a.t.row) && a.t.row.state(a.List) == in
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
		a.Found.found(&a.Found.Unsubscribed, FoundUnsubscribed, string(a.t.addressOf(m.contact)))
	case !a.still(m.contact):
		a.stayUnverified(m.contact)
	case m.lost || a.repair:
		a.resend(m.contact, now)
	}
}

// stayUnverified leaves a contact to the next audit of which this one tells nothing. Its row is loaded.
func (a *Audit) stayUnverified(ci uint32) {
	if p := a.t.row.list(a.List); p != nil && p.state == in && a.t.unverified(p) {
		p.at = max(p.at, millis(a.Began))
		a.t.storeContact(ci, &a.t.row)
	}
}

// Close notes a finished audit.
func (a *Audit) Close() {
	was := a.t.AuditOf(a.List)
	due := was.Due && a.t.importedSince(a)
	a.t.SetAudit(a.List, AuditOf{Due: due, Began: a.Began, First: was.First, Found: a.Found})
	a.t.audit = nil
}

// importedSince says whether there may be contacts that the audit has not verified.
func (t *Table) importedSince(a *Audit) bool {
	for ci := range a.moved {
		if t.contacts.at(ci).flags&flagLive == 0 {
			continue
		}
		t.loadContact(ci, &t.row)
		if p := t.row.list(a.List); p != nil && p.imported && p.at >= millis(a.Began) {
			return true
		}
	}
	return false
}

// ByPages forgets what was seen so far: the list is read by pages instead. Who is not seen there may be in it all the
// same: no doubt is settled.
func (a *Audit) ByPages() { a.paged, a.seen, a.Found = true, nil, Findings{} }

// Paged says whether the list was read by pages.
func (a *Audit) Paged() bool { return a.paged }
