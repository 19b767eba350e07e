package state

import (
	"encoding/binary"
	"strconv"
	"time"
)

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
	Repaired     int `json:"repaired"`     // missing, changed and extra ones that are mended by it
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

// audits are what is known of the lists' audits, and the one under way.
type audits struct {
	journal  *journal
	known    map[int64]*AuditOf
	running  *Audit         // nil: none is
	settling map[int64]bool // lists that are read whole before whom others may have put in is taken out
}

func newAudits(j *journal) *audits {
	return &audits{journal: j, known: map[int64]*AuditOf{}, settling: map[int64]bool{}}
}

// moved notes that something was sent, answered or said of a contact.
func (x *audits) moved(ci uint32) {
	if x.running != nil {
		x.running.moved[ci] = struct{}{}
	}
}

// gone notes that the table lets go of an address.
func (x *audits) gone(address string) {
	if x.running != nil {
		x.running.swept[address] = struct{}{}
	}
}

// unverified says whether no audit has seen yet what an import has done.
func (x *audits) unverified(l *listed) bool {
	began := x.of(l.list).Began
	return l.imported && (began.IsZero() || l.at >= millis(began))
}

func (x *audits) of(list int64) AuditOf {
	if a, ok := x.known[list]; ok {
		return *a
	}
	a := &AuditOf{}
	if r := (reader{b: x.journal.meta[auditKey(list)]}); len(r.b) > 0 {
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
	x.known[list] = a
	return *a
}

// AuditOf tells of a list's audits.
func (t *Table) AuditOf(list int64) AuditOf { return t.audits.of(list) }

func (f *Findings) counts() []*int {
	return []*int{&f.Listed, &f.Lost, &f.Missing, &f.Changed, &f.Extra, &f.Unsubscribed, &f.Settled, &f.Skipped, &f.Repaired}
}

// SetAudit notes what is known of a list's audits.
func (t *Table) SetAudit(list int64, a AuditOf) {
	a.Found.Examples = nil
	t.audits.known[list] = &a
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
