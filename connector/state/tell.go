package state

import (
	"slices"
	"strings"
	"time"
)

// Position is where a record lies that has said something.
type Position struct {
	Topic     string    `json:"topic"`
	Partition int32     `json:"partition"`
	Offset    int64     `json:"offset"`
	Time      time.Time `json:"time"` // of what it says
}

// PersonTold is what the table holds of a person.
type PersonTold struct {
	Source      string           `json:"source"`
	Address     string           `json:"address,omitempty"`
	AddressAt   *Position        `json:"address_at,omitempty"`
	Memberships []MembershipTold `json:"memberships"`
	Attributes  []AttributeTold  `json:"attributes"`
	Former      []string         `json:"former_addresses,omitempty"`
	Erased      *Position        `json:"erased,omitempty"`
}

// MembershipTold is one of a segment; Until is zero if it does not lapse.
type MembershipTold struct {
	Segment string    `json:"segment"`
	In      bool      `json:"in"`
	Until   time.Time `json:"until,omitzero"`
	At      Position  `json:"at"`
}

// AttributeTold is an attribute with its value as a JSON literal.
type AttributeTold struct {
	Name  string   `json:"name"`
	Value string   `json:"value"`
	At    Position `json:"at"`
}

// ContactTold is what the table holds of a contact, and what is to be done with it.
type ContactTold struct {
	Address    string     `json:"address"`
	Lists      []ListTold `json:"lists"`
	Wanted     []int64    `json:"wanted_in"`
	Add        []int64    `json:"to_enter,omitempty"`
	Remove     []int64    `json:"to_leave,omitempty"`
	Attributes bool       `json:"attributes_to_send,omitempty"`
	InFlight   bool       `json:"in_flight,omitempty"`
	Waits      string     `json:"waits_for,omitempty"` // why something of it does not go
	Unknown    time.Time  `json:"unanswered_since,omitzero"`
	Rejected   string     `json:"rejected,omitempty"` // the API's code
	RejectedAt time.Time  `json:"rejected_at,omitzero"`
	Refused    []string   `json:"refused_attributes,omitempty"`
}

// ListTold is what was delivered for a list.
type ListTold struct {
	List     int64     `json:"list"`
	State    string    `json:"state"` // in, out, unknown, doubtful
	At       time.Time `json:"at"`
	Imported bool      `json:"by_import,omitempty"`
	Guard    string    `json:"guard,omitempty"` // approved or refused: its removal
}

func (t *Table) tellPosition(s Stamp) Position {
	return Position{Topic: t.TopicName(s.Topic), Partition: s.Partition, Offset: s.Offset, Time: time.Unix(0, s.Time).UTC()}
}

func (t *Table) tellPositionOf(s Stamp) *Position {
	if s == (Stamp{}) {
		return nil
	}
	p := t.tellPosition(s)
	return &p
}

// TellPerson tells what the table holds of a person; nil: it does not know them.
func (t *Table) TellPerson(key PersonKey) *PersonTold {
	pi, known := t.store.findPerson(key, false)
	if !known {
		return nil
	}
	p := t.person(pi)
	defer t.endPerson(p)
	told := &PersonTold{Address: string(p.address), AddressAt: t.tellPositionOf(p.addressAt), Erased: t.tellPositionOf(p.erased), Memberships: []MembershipTold{}, Attributes: []AttributeTold{}}
	if s, ok := t.compiled.sourceOf[p.source]; ok {
		told.Source = t.cfg.Sources[s].Name
	}
	for i := range p.memberships {
		m := &p.memberships[i]
		x := MembershipTold{Segment: t.names.segment(m.segment), In: m.in, At: t.tellPosition(m.stamp)}
		if m.until != 0 {
			x.Until = time.Unix(m.until, 0).UTC()
		}
		told.Memberships = append(told.Memberships, x)
	}
	for i := range p.values {
		v := &p.values[i]
		told.Attributes = append(told.Attributes, AttributeTold{Name: t.names.attribute(v.name), Value: string(v.json), At: t.tellPosition(v.stamp)})
	}
	for _, g := range p.gaveUp {
		told.Former = append(told.Former, string(g.address))
	}
	return told
}

// CarriersOf are the people who carry an address, or have given it up.
func (t *Table) CarriersOf(address string) (all []PersonKey) {
	ci, ok := t.store.lookContact([]byte(address))
	if !ok {
		return nil
	}
	var room [8]uint32
	for _, pi := range append(t.store.carriersOf(ci, room[:0]), t.store.gave[ci]...) {
		if key := t.store.people.At(pi).key; !slices.Contains(all, key) {
			all = append(all, key)
		}
	}
	return all
}

// TellContact tells what the table holds of an address, and what is to be done with it; nil: it does not know it.
func (t *Table) TellContact(address string, now time.Time) *ContactTold {
	ci, ok := t.store.lookContact([]byte(address))
	if !ok {
		return nil
	}
	v := t.view(ci)
	defer v.end()
	n := v.evaluate(now)
	c := &ContactTold{Address: address, Lists: []ListTold{}, Wanted: slices.Clone(n.Wanted), Add: slices.Clone(n.Add), Remove: slices.Clone(n.Remove), Attributes: n.Attributes, Waits: n.Held,
		InFlight: v.slot().flags&flagInFlight != 0}
	at := func(ms int64) time.Time {
		if ms == 0 {
			return time.Time{}
		}
		return time.UnixMilli(ms).UTC()
	}
	for _, l := range v.row.lists {
		c.Lists = append(c.Lists, ListTold{
			List: l.list, State: [...]string{"absent", "in", "out", "unknown", "doubtful"}[l.state], At: at(l.at), Imported: l.imported, Guard: [...]string{"", "approved", "refused"}[l.passage],
		})
	}
	if w, waits := t.agenda.waits[ci]; waits && c.Waits == "" {
		c.Waits = w.reason
	}
	c.Unknown, c.Rejected, c.RejectedAt = at(v.row.unknownSince), v.row.rejected, at(v.row.rejectedAt)
	for _, f := range v.row.refused {
		c.Refused = append(c.Refused, t.names.attribute(f.name))
	}
	return c
}

// LetGo lets the removals of an address go, whatever its guard says: its person was erased.
func (t *Table) LetGo(address string, now time.Time) {
	ci, ok := t.store.lookContact([]byte(address))
	if !ok {
		return
	}
	v := t.view(ci)
	defer v.end()
	for i := range v.row.lists {
		v.row.lists[i].passage = passed
	}
	v.store()
	t.reconsider(ci, now)
}

// Holds says whether a row of the table is of a person, or of an address that is theirs, and whether it holds something of
// them: an address, attributes, a contact.
func Holds(key, row []byte, who PersonKey, theirs func(address string) bool) (about, holds bool) {
	k := string(key)
	switch {
	case k == "p/"+string(who[:]):
		var p person
		return true, len(row) > 0 && (p.decode(row) != nil || len(p.address)+len(p.values)+len(p.gaveUp) > 0)
	case strings.HasPrefix(k, "c/") && theirs(k[len("c/"):]):
		return true, len(row) > 0
	case strings.HasPrefix(k, "r/") && !strings.HasSuffix(k, ".process") && len(row) > 0: // a request that was announced
		_ = readRequest(row, &Request{}, func(address []byte, _ uint64) { holds = holds || theirs(string(address)) })
		return holds, holds
	}
	return false, false
}
