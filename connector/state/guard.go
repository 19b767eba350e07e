package state

import (
	"encoding/binary"
	"slices"
	"strconv"
	"time"
)

const (
	bucket  = 10 * time.Minute
	buckets = 7 // the running ten minutes and the full hour before
)

// passage is what the guard has decided of a contact's removal from a list.
type passage uint8

const (
	unweighed passage = iota
	passed            // it may go, or has gone: it is not counted again
	refused           // somebody refused it: the contact stays until a newer event moves who carries it
)

// guardCount weighs the removals of a list: those of the last hour, by ten minutes, and those that are pending.
type guardCount struct {
	start   [buckets]int64 // of the bucket, Unix milliseconds
	count   [buckets]int64
	doubted [buckets]int64  // those among them of whom it was doubtful whether they were in; not in count
	others  int64           // whom others put into the list, at most; -1: its size is not known yet
	strange int64           // at least
	tripped int64           // since when removals are withheld, Unix milliseconds; 0 they are not
	waiting bool            // for the list's size, before more than a few go
	flying  int             // removals without an outcome yet, of people who still count as in
	pending map[uint32]bool // contacts whose removal is not decided; true: it is doubtful whether they are in
	doubts  int             // how many of these
}

func (g *guardCount) slot(now int64) int {
	start := now - now%bucket.Milliseconds()
	i := int(start / bucket.Milliseconds() % buckets)
	if g.start[i] != start {
		g.start[i], g.count[i], g.doubted[i] = start, 0, 0
	}
	return i
}

// lastHour is how many removals there were in the last hour: of people who count as in, and doubtful ones.
func (g *guardCount) lastHour(now int64) (n, doubts int64) {
	for i, s := range g.start {
		if s > now-time.Hour.Milliseconds()-bucket.Milliseconds() {
			n, doubts = n+g.count[i], doubts+g.doubted[i]
		}
	}
	return n, doubts
}

// total is how many people the removals of the last hour and those pending take out at most: of those who may not be in
// at all, no more than others have put in, and none while the list is to be read for them.
func (g *guardCount) total(now int64, settling bool) int64 {
	hour, doubts := g.lastHour(now)
	if !settling {
		doubts += int64(g.doubts)
	}
	if g.others >= 0 {
		doubts = min(doubts, g.others)
	}
	return hour + int64(len(g.pending)-g.doubts) + doubts
}

func (g *guardCount) note(ci uint32, doubt bool) {
	was, have := g.pending[ci]
	if have && was == doubt {
		return
	}
	g.doubts += int(bit(doubt)) - int(bit(was))
	g.pending[ci] = doubt
}

func (g *guardCount) drop(ci uint32) {
	g.doubts -= int(bit(g.pending[ci]))
	delete(g.pending, ci)
}

// guards weigh the removals of each list. What they have counted lies in rows.
type guards struct {
	journal *journal
	lists   map[int64]*guardCount
}

func (g *guards) of(list int64) *guardCount {
	c, ok := g.lists[list]
	if !ok {
		c = &guardCount{others: -1, pending: map[uint32]bool{}}
		g.lists[list] = c
		c.decode(g.journal.meta[guardKey(list)])
	}
	return c
}

func (g *guards) store(list int64) { g.journal.set(guardKey(list), g.of(list).encode()) }

func (g *guardCount) decode(row []byte) {
	r := reader{b: row}
	for i := range buckets {
		if len(r.b) == 0 {
			break
		}
		g.start[i], g.count[i] = r.int(), r.int()
	}
	if len(r.b) > 0 {
		g.others, g.strange, g.tripped = r.int(), r.int(), r.int()
		for i := range buckets {
			g.doubted[i] = r.int()
		}
	}
}

func (g *guardCount) encode() (b []byte) {
	for i := range buckets {
		b = binary.AppendVarint(b, g.start[i])
		b = binary.AppendVarint(b, g.count[i])
	}
	for _, n := range []int64{g.others, g.strange, g.tripped} {
		b = binary.AppendVarint(b, n)
	}
	for i := range buckets {
		b = binary.AppendVarint(b, g.doubted[i])
	}
	return b
}

func guardKey(list int64) string { return "guard/" + strconv.FormatInt(list, 10) }

// EncodeTime is the form of times in rows of the connection: Unix milliseconds.
func EncodeTime(at time.Time) []byte { return binary.AppendVarint(nil, millis(at)) }

// withholds says whether the guard keeps back a removal from a list.
func (t *Table) withholds(l *listed) bool {
	if l.passage == passed || !t.compiled.guarded(l.list) {
		return false
	}
	g := t.guards.of(l.list)
	return g.tripped != 0 || g.waiting
}

// weighed notes which removals of a contact, whose need was evaluated, are pending and not decided.
func (t *Table) weighed(v *view) {
	c, leaving := v.slot(), v.need.leaving
	if len(leaving) == 0 && c.flags&flagLeaving == 0 {
		return
	}
	c.flags &^= flagLeaving
	for _, list := range t.compiled.lists {
		if !t.compiled.guarded(list) {
			continue
		}
		if i := slices.IndexFunc(leaving, func(l leave) bool { return l.list == list }); i >= 0 {
			t.guards.of(list).note(v.ci, leaving[i].doubt)
			c.flags |= flagLeaving
		} else {
			t.guards.of(list).drop(v.ci)
		}
	}
}

// Weigh compares, for each guarded list, the removals of the last hour and those pending with the people in the list:
// where they exceed its guard's share, all pending ones are withheld from now on, until somebody has decided, or nobody
// is to leave any more. It is called before anything is planned.
func (t *Table) Weigh(now time.Time) {
	changed := false
	for _, list := range t.compiled.lists {
		cfg, g := t.compiled.guards[list], t.guards.of(list)
		switch {
		case cfg.Share <= 0:
			continue
		case g.tripped != 0 && len(g.pending) == 0:
			g.tripped, changed = 0, true
			t.guards.store(list)
			continue
		case g.tripped != 0 || len(g.pending) == 0:
			continue
		}
		total := g.total(millis(now), t.audits.settling[list])
		waits := total > int64(cfg.AtLeast)
		if waits && g.others >= 0 {
			waits = false
			if float64(total) > cfg.Share*float64(t.people1h(list, g, now)) {
				g.tripped, changed = millis(now), true
				t.guards.store(list)
			}
		}
		changed = changed || g.waiting && !waits
		g.waiting = waits
	}
	if changed {
		t.fileHeld(now)
	}
}

// people1h is how many people a list held an hour ago, at least: a removal without an answer is unknown, and one of the
// hour's.
func (t *Table) people1h(list int64, g *guardCount, now time.Time) int64 {
	hour, _ := g.lastHour(millis(now))
	return int64(t.tally.of(list).in-g.flying) + max(hour, int64(t.tally.of(list).unknown)) + g.strange
}

// Size notes how many contacts the account says that a list holds.
func (t *Table) Size(list int64, contacts int64, now time.Time) {
	g := t.guards.of(list)
	entering := 0 // perhaps they are there already
	for _, r := range t.requests.open {
		if slices.Contains(r.Lists, list) {
			entering += len(r.Taken)
		}
	}
	others := max(0, contacts-int64(t.tally.of(list).in))
	strange := max(0, others-int64(t.tally.of(list).unknown+entering))
	if g.others == others && g.strange == strange {
		return
	}
	g.others, g.strange = others, strange
	t.guards.store(list)
	if g.waiting {
		g.waiting = false
		t.fileHeld(now)
	}
}

// Withheld is what the guard keeps back of a list.
type Withheld struct {
	Removals int       // that wait for a decision
	Hour     int       // removals of the last hour
	People   int       // in the list, with those of the last hour
	Since    time.Time // zero: nothing is withheld
}

// WithheldOf tells what the guard keeps back of a list.
func (t *Table) WithheldOf(list int64, now time.Time) Withheld {
	g := t.guards.of(list)
	if g.tripped == 0 {
		return Withheld{}
	}
	hour, _ := g.lastHour(millis(now))
	return Withheld{
		Removals: len(g.pending), Hour: int(hour), People: int(t.people1h(list, g, now)), Since: time.UnixMilli(g.tripped),
	}
}

// Withheld is how many removals wait for a decision, over all lists.
func (t *Table) Withheld() (n int) {
	for _, g := range t.guards.lists {
		if g.tripped != 0 {
			n += len(g.pending)
		}
	}
	return n
}

// Decide carries a decision out: approved, the pending removals of a list go; refused, these contacts stay until a newer
// event moves who carries them. It returns how many these are. What becomes pending later is weighed anew: no clock has
// a part in it.
func (t *Table) Decide(list int64, approved bool, now time.Time) int {
	g := t.guards.of(list)
	all := make([]uint32, 0, len(g.pending))
	for ci := range g.pending {
		all = append(all, ci)
	}
	clear(g.pending)
	g.tripped, g.waiting, g.doubts = 0, false, 0
	t.guards.store(list)
	for _, ci := range all {
		t.decide(ci, list, approved)
		t.reconsider(ci, now)
	}
	t.fileHeld(now)
	return len(all)
}

func (t *Table) decide(ci uint32, list int64, approved bool) {
	v := t.view(ci)
	defer v.end()
	switch l := v.row.list(list); {
	case l == nil:
	case approved:
		l.passage = passed
	case l.state == doubtful: // whoever put them in, or nobody: they are left alone
		v.row.forget(list)
	default:
		l.passage = refused // of an unknown one, too, no call is made to find out
	}
	v.store()
}

// rewanted ends what the guard has decided of removals that are not wanted any more: a later one is weighed anew.
func (v *view) rewanted() {
	v.unpass(func(l *listed) bool { return slices.Contains(v.w.lists, l.list) })
}

// moved ends the refusals of a contact's removals, and lets one that did not exist be tried again: a newer event has said what is
// wanted of who carries it.
func (t *Table) moved(ci uint32) {
	v := t.view(ci)
	defer v.end()
	v.unpass(func(l *listed) bool { return l.passage == refused })
	v.slot().flags |= flagHeard
	if v.row.rejected == NoContact {
		v.row.rejected = ""
		v.store()
	}
}

// unpass takes decisions back.
func (v *view) unpass(which func(*listed) bool) {
	changed := false
	for i := range v.row.lists {
		if l := &v.row.lists[i]; l.passage != unweighed && which(l) {
			l.passage, changed = unweighed, true
		}
	}
	if changed {
		v.store()
	}
}

// maxLeft is how many lists a request can take a contact out of for the removals under way to be counted.
const maxLeft = 32

// takesOut counts what a request that takes a contact takes it out of, once for each list.
func (g *guards) takesOut(row *contactRow, taken *Taken, r *Request, now time.Time) {
	for i, list := range r.unlink {
		l := row.list(list)
		if i >= maxLeft || l == nil || l.passage == passed || l.state != in && !l.state.unsure() {
			continue
		}
		c := g.of(list)
		c.drop(taken.Contact)
		if l.state == doubtful {
			taken.doubt |= 1 << i
			c.doubted[c.slot(millis(now))]++
		} else {
			taken.left |= 1 << i
			c.flying++
			c.count[c.slot(millis(now))]++
		}
		g.store(list)
	}
}

// returned ends what takesOut began: the request has its outcome, or is none.
func (g *guards) returned(taken *Taken, r *Request) {
	for i, list := range r.unlink {
		if taken.left&(1<<i) != 0 {
			g.of(list).flying--
		}
	}
}

// uncount takes removals back that certainly took nobody out: the next try counts them.
func (g *guards) uncount(taken *Taken, r *Request) {
	for i, list := range r.unlink {
		if (taken.left|taken.doubt)&(1<<i) == 0 {
			continue
		}
		c := g.of(list)
		counts := &c.count
		if taken.doubt&(1<<i) != 0 {
			counts = &c.doubted
		}
		start := millis(r.At) - millis(r.At)%bucket.Milliseconds()
		if i := int(start / bucket.Milliseconds() % buckets); c.start[i] == start && counts[i] > 0 {
			counts[i]--
			g.store(list)
		}
	}
}
