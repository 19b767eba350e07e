package state

import (
	"slices"
	"time"

	"segsync/sink"
)

// Need is the difference between wanted and delivered of a contact: what may go now. One that was handed out is a value
// of its own, with its lists and attributes.
type Need struct {
	Address    string
	Wanted     []int64 // all lists that want it
	Add        []int64
	Remove     []int64
	Attributes bool // they are to be set
	Known      bool // the attributes there are as wanted, so the contact is known to exist
	Existing   bool // it must not be created: what it may enter now takes only contacts that exist
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

// evaluate compares what is wanted of the contact with what was delivered. The need is the view's.
func (v *view) evaluate(now time.Time) *Need {
	t, r, n := v.t, &v.row, &v.need
	w := v.want(now)
	*n = Need{
		Wanted: w.lists, Add: n.Add[:0], Remove: n.Remove[:0], leaving: n.leaving[:0],
		Halves: r.halves, Again: r.unknownSince != 0, contact: v.ci, want: w.fingerprint(),
	}
	rests := r.rejected != "" && r.rejectedWant == n.want && !r.late
	if rests && r.rejected != NoContact {
		n.Held, n.Rejected = r.rejected, true
		return n
	}
	withheld, kept := v.lists(n)
	if n.Existing = v.existing(n.Add); rests && n.Existing { // until one that creates it may be entered
		n.Add = n.Add[:0]
		if n.Held == "" {
			n.Held, n.Rejected = NoContact, true
		}
		return n
	}
	n.Known = r.hash != 0 && r.hash == w.hash && w.forced == 0
	n.Attributes = len(w.lists) > 0 && (!n.Known || w.unseen > 0) || w.forced > 0
	held := &t.agenda.held
	if n.Attributes && len(n.Add) == 0 {
		if why := v.shut(); why != "" {
			n.Attributes, n.Held = false, why
		}
	}
	if len(n.Add) > 0 || w.unseen > 0 {
		n.Look = w.looks
		if most := t.cfg.Looks; most > 0 && len(n.Look) > most {
			n.Look, n.LookOnly = n.Look[:most], w.unseen > most
		}
	}
	pinned := v.slot().flags&flagPinned != 0 // what it is part of may make it again
	n.erase = r.erase && len(w.lists) == 0 && held.account() == "" && !pinned && !withheld && !kept
	n.Delete = (n.Delete && n.Held == "" && !kept || n.erase) && len(w.lists) == 0 && !pinned
	if r.erase && n.Held == "" {
		n.Held = held.account() // the deletion waits, too
	}
	return n
}

// existing says whether the contact must not be created on account of lists that it enters, or, without any, that want it: all
// of them take only contacts that exist.
func (v *view) existing(lists []int64) bool {
	if len(lists) == 0 {
		lists = v.w.lists
	}
	return len(lists) > 0 && !slices.ContainsFunc(lists, func(l int64) bool { return v.t.compiled.creates[l] })
}

// lists compares list by list. withheld says that the guard keeps a removal back; kept that the contact may stay in a list
// that does not want it.
func (v *view) lists(n *Need) (withheld, kept bool) {
	t, w := v.t, &v.w
	for _, list := range t.compiled.lists {
		var l listed
		if p := v.row.list(list); p != nil {
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
		switch why := t.agenda.held.list(list); {
		case is == (state == in) && !state.unsure(): // as it should be; absent counts as out
		case why != "":
			n.Held, n.Barred = why, n.Barred || is
		case is:
			n.Add = append(n.Add, list)
		case t.withholds(&l):
			n.Held, withheld = "withheld", true
		case state == doubtful && t.audits.settling[list]:
			n.Held, kept = "audit", true
		default:
			n.Remove = append(n.Remove, list)
			n.Delete = n.Delete || t.compiled.deletes[list]
		}
	}
	return withheld, kept
}

// shut says why no attributes may be sent to the contact; "": they may. Some list that wants it must be open, or, of one that none
// wants, some list that it is in.
func (v *view) shut() (why string) {
	h := &v.t.agenda.held
	lists := v.w.lists
	var room [8]int64
	if len(lists) == 0 {
		lists = room[:0]
		for i := range v.row.lists {
			if l := &v.row.lists[i]; l.state == in || l.state.unsure() {
				lists = append(lists, l.list)
			}
		}
	}
	for _, l := range lists {
		if why = h.list(l); why == "" {
			return ""
		}
	}
	if why == "" {
		return h.account()
	}
	return why
}

// handOut is the need as a value of its own.
func (v *view) handOut(from queueKey) *Need {
	n := &v.need
	out := *n
	out.Wanted, out.Add, out.Remove, out.Look = slices.Clone(n.Wanted), slices.Clone(n.Add), slices.Clone(n.Remove), slices.Clone(n.Look)
	out.leaving, out.hash = nil, v.w.hash
	if n.Writes() {
		out.values = v.t.attributes(v.w.values)
	}
	out.from, out.Address = from, string(v.t.store.addressOf(v.ci))
	return &out
}

// attributes copies wanted attributes out of the table.
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
		all = append(all, sink.Attribute{Name: t.names.attribute(values[i].name), Value: buf[start:len(buf):len(buf)]})
	}
	return all
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

func (n *Need) empty() bool {
	return len(n.Add) == 0 && len(n.Remove) == 0 && !n.Attributes && !n.erase
}

// places are the queues that a need belongs into: who enters one list and leaves another can do the one before the
// other, and an exit is in no hurry to wait for an import.
func (n *Need) places() []queueKey {
	kind, list := n.file()
	if kind == QueueWrite && len(n.Remove) > 0 {
		return append(n.room[:0], queueKey{kind, list}, queueKey{QueueRemove, n.Remove[0]})
	}
	return append(n.room[:0], queueKey{kind, list})
}

// file says which queue a need belongs into.
func (n *Need) file() (queueKind, int64) {
	switch {
	case n.empty() && (n.Held == "" || n.Rejected):
		return queueNone, 0
	case n.empty():
		return queueHeld, 0
	case !n.Attributes && len(n.Add) == 0 && len(n.Remove) == 0:
		return QueueRemove, 0 // a deletion
	case !n.Attributes && len(n.Add) == 0:
		return QueueRemove, n.Remove[0]
	case len(n.Add) > 0:
		return QueueWrite, n.Add[0]
	case len(n.Wanted) > 0:
		return QueueWrite, n.Wanted[0]
	}
	return QueueWrite, 0 // the emptying of an address given up
}
