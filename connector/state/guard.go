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

// guardCount counts the removals of a list, by ten minutes.
type guardCount struct {
	start  [buckets]int64 // of the bucket, Unix milliseconds
	count  [buckets]int64
	opened int64 // approved up to this time
	flying int   // removals without an outcome yet, of people who still count as delivered in
}

func (g *guardCount) slot(now int64) int {
	start := now - now%bucket.Milliseconds()
	i := int(start / bucket.Milliseconds() % buckets)
	if g.start[i] != start {
		g.start[i], g.count[i] = start, 0
	}
	return i
}

func (g *guardCount) lastHour(now int64) (n int64) {
	for i, s := range g.start {
		if s > now-time.Hour.Milliseconds()-bucket.Milliseconds() {
			n += g.count[i]
		}
	}
	return n
}

func (t *Table) guardOf(list int64) *guardCount {
	g, ok := t.guard[list]
	if !ok {
		g = &guardCount{}
		t.guard[list] = g
		r := reader{b: t.meta[guardKey(list)]}
		for i := range buckets {
			if len(r.b) == 0 {
				break
			}
			g.start[i], g.count[i] = r.int(), r.int()
		}
		a := reader{b: t.meta[ApprovalKey(list)]}
		if len(a.b) > 0 {
			g.opened = a.int()
		}
	}
	return g
}

func guardKey(list int64) string { return "guard/" + strconv.FormatInt(list, 10) }

// ApprovalKey is the row that says until when withheld removals of a list were approved (EncodeTime).
func ApprovalKey(list int64) string { return "approved/" + strconv.FormatInt(list, 10) }

// EncodeTime is the form of times in rows of the connection: Unix milliseconds.
func EncodeTime(at time.Time) []byte { return binary.AppendVarint(nil, millis(at)) }

// DecodeTime is its inverse; zero if there is none.
func DecodeTime(b []byte) time.Time {
	r := reader{b: b}
	if len(b) == 0 {
		return time.Time{}
	}
	return time.UnixMilli(r.int())
}

// withholds says whether the guard keeps back the removal of the contact with row r from a list. Only a removal that
// takes somebody out whom we delivered in is guarded, and only once: a re-send of the same removal is not.
func (t *Table) withholds(r *contactRow, list int64, now time.Time) bool {
	l := r.list(list)
	if l == nil {
		return false
	}
	g := t.guardOf(list)
	if l.withheld != 0 { // and unknown meanwhile, perhaps
		return l.withheld > g.opened
	}
	if l.state != in {
		return false
	}
	cfg, ok := t.guards[list]
	if !ok || cfg.Share <= 0 {
		return false
	}
	n := g.lastHour(millis(now))
	before := int64(t.inCount[list]-g.flying) + n // those delivered in an hour ago, and since
	return n >= int64(cfg.AtLeast) && float64(n+1) > cfg.Share*float64(before)
}

// withhold notes in a contact's row since when its removal is withheld.
func (t *Table) withhold(ci uint32, list int64, now time.Time) {
	t.loadContact(ci, &t.row)
	if l := t.row.list(list); l != nil && l.withheld == 0 {
		l.withheld = millis(now)
		t.storeContact(ci, &t.row)
		t.Counts.Withheld++
	}
}

// unwithhold ends the withholding of a removal that is not wanted any more: a later one is guarded anew.
func (t *Table) unwithhold(ci uint32, wanted []int64) {
	changed := false
	for i := range t.row.lists {
		if l := &t.row.lists[i]; l.withheld != 0 && slices.Contains(wanted, l.list) {
			l.withheld, changed = 0, true
			t.Counts.Withheld--
		}
	}
	if changed {
		t.storeContact(ci, &t.row)
	}
}

// removed counts a planned removal of somebody delivered in.
func (t *Table) removed(list int64, now time.Time) {
	g := t.guardOf(list)
	g.count[g.slot(millis(now))]++
	t.storeGuard(list, g)
}

// maxLeft is how many lists a request can take a contact out of for the removals under way to be counted.
const maxLeft = 32

// takesOut counts what a request that takes the contact with the table's row takes it out of.
func (t *Table) takesOut(taken *Taken, r *Request, now time.Time) {
	for i, list := range r.unlink {
		if t.row.state(list) != in {
			continue
		}
		t.removed(list, now)
		if i < maxLeft {
			taken.left |= 1 << i
			t.guardOf(list).flying++
		}
	}
}

// returned ends what takesOut began: the request has its outcome, or is none.
func (t *Table) returned(taken *Taken, r *Request) {
	for i, list := range r.unlink {
		if taken.left&(1<<i) != 0 {
			t.guardOf(list).flying--
		}
	}
}

// uncount takes a removal back that certainly did not take the contact with this row out: the next try counts it.
func (t *Table) uncount(row *contactRow, r *Request) {
	for _, list := range r.unlink {
		if row.state(list) != in {
			continue
		}
		g := t.guardOf(list)
		start := millis(r.At) - millis(r.At)%bucket.Milliseconds()
		if i := int(start / bucket.Milliseconds() % buckets); g.start[i] == start && g.count[i] > 0 {
			g.count[i]--
			t.storeGuard(list, g)
		}
	}
}

func (t *Table) storeGuard(list int64, g *guardCount) {
	var b []byte
	for i := range buckets {
		b = binary.AppendVarint(b, g.start[i])
		b = binary.AppendVarint(b, g.count[i])
	}
	t.SetMeta(guardKey(list), b)
}

// Approve lets the removals of a list go that have been withheld until now.
func (t *Table) Approve(list int64, now time.Time) {
	t.SetMeta(ApprovalKey(list), EncodeTime(now))
	t.guardOf(list).opened = millis(now)
	t.unheld(now)
}
