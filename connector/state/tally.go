package state

// Counts are the table's figures. Pending counts the dirty contacts, in flight and waiting ones included.
type Counts struct {
	People, Contacts, Pending, InFlight int
	Rejected, Unknown                   int
	NoContact                           int    // contacts that do not exist, and are not to be created
	WithoutAddress                      int    // people put into a segment, one that has lapsed too, of whom no address is known
	Folded, Stale, Ignored              uint64 // changes
	Needed                              uint64 // of these: those that alone would have needed a call
}

// tally counts what rows say: each row's share is taken off before an edit, and added after it.
type tally struct {
	counts Counts
	lists  map[int64]*listTally
}

// listTally counts the contacts of a list.
type listTally struct {
	in       int // delivered in
	unknown  int // we may have sent them in
	doubtful int // others may have put them in, and they are to leave
}

func newTally() *tally { return &tally{lists: map[int64]*listTally{}} }

func (t *tally) of(list int64) *listTally {
	l, ok := t.lists[list]
	if !ok {
		l = &listTally{}
		t.lists[list] = l
	}
	return l
}

// row adds a contact's encoded row, or takes it off (by: -1).
func (t *tally) row(row []byte, by int) {
	if len(row) == 0 {
		return
	}
	r := reader{b: row}
	version := r.version()
	for range r.count() {
		switch l := r.listed(version); l.state {
		case in:
			t.of(l.list).in += by
		case unknown:
			t.of(l.list).unknown += by
			t.counts.Unknown += by
		case doubtful:
			t.of(l.list).doubtful += by
			t.counts.Unknown += by
		case absent, out:
		}
	}
	r.fixed64()
	switch extra := r.uint(); {
	case extra&extraNoContact != 0:
		t.counts.NoContact += by
	case extra&extraRejected != 0:
		t.counts.Rejected += by
	}
}

// Counts are the table's figures.
func (t *Table) Counts() Counts { return t.tally.counts }

// In is how many contacts were delivered into a list.
func (t *Table) In(list int64) int { return t.tally.of(list).in }

// Doubts is how many contacts left a list explicitly into which we never delivered them: others may have put them in.
func (t *Table) Doubts(list int64) int { return t.tally.of(list).doubtful }
