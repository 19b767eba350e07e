package connector

import (
	"math"
	"slices"
	"time"

	"segsync/connector/state"
	"segsync/sink"
)

// How the planner fills requests.

func (e *engine) planRemovals(q state.Queue, backlog int, now time.Time) *state.Request {
	full := q.Len >= e.limits.Batch
	if !full && (e.behind() || backlog > behindBy) && q.Age < holdRemovals.Milliseconds() {
		e.holdBack(now.Add(holdRemovals - time.Duration(q.Age)*time.Millisecond))
		return nil
	}
	if !e.reserve(1) {
		return nil
	}
	n := e.table.Pop(q.Kind, q.List, now)
	if n == nil {
		e.sender.Unreserve(1)
		return nil
	}
	bulk := e.bulkPays(backlog, now)
	switch w := e.wayOut(n, q, bulk); w {
	case wayDelete:
		return e.planDelete(n, now)
	case wayUpdate, wayLook:
		return e.planSingle(n, w, now)
	default:
		return e.planRemoval(n, q, bulk, now)
	}
}

// planRemoval takes a contact out of a list, and with it others that wait for that; one call is reserved.
func (e *engine) planRemoval(n *state.Need, q state.Queue, bulk bool, now time.Time) *state.Request {
	r := e.table.NewRequest(sink.Remove, nil, []int64{q.List}, now)
	most := e.limits.Batch >> n.Halves
	for n != nil {
		e.table.Take(r, n, e.table.Contact(n, false), now)
		if len(r.Taken) >= most {
			break
		}
		if n = e.table.Pop(q.Kind, q.List, now); n != nil && (n.Delete || e.limits.Batch>>n.Halves < most || writes(n) && e.wayOut(n, q, bulk) == wayUpdate) {
			e.table.Return(n)
			break
		}
	}
	return r
}

// wayOut is the way of a contact that was popped to be removed, and may be waiting to be written, too.
func (e *engine) wayOut(n *state.Need, q state.Queue, bulk bool) way {
	s := situation{many: q.Len > 2, halved: e.limits.Batch>>n.Halves < 1}
	if writes(n) && bulk {
		c := e.table.Contact(n, true)
		_, _, _, s.row = e.sender.Row(&c)
		s.bulk = true
	}
	return choose(n, s)
}

// planLive plans a call for the contact that a live change has concerned last. It goes by no import: it would wait for
// its end.
func (e *engine) planLive(now time.Time) *state.Request {
	if !e.reserve(1) {
		return nil
	}
	n := e.table.PopLive(now)
	if n == nil {
		e.sender.Unreserve(1)
		return nil
	}
	switch w := choose(n, situation{many: len(n.Remove) < 2, halved: e.limits.Batch>>n.Halves < 1}); w {
	case wayDelete:
		return e.planDelete(n, now)
	case wayRemove:
		return e.planRemoval(n, state.Queue{Kind: state.QueueRemove, List: n.Remove[0]}, false, now)
	case wayAdd:
		return e.planAdd(state.Queue{Kind: state.QueueWrite, List: n.Add[0]}, n, now)
	default:
		return e.planSingle(n, w, now)
	}
}

func (e *engine) planDelete(n *state.Need, now time.Time) *state.Request {
	if !e.reserve(1) { // the look
		e.sender.Unreserve(1)
		e.table.Return(n)
		return nil
	}
	r := e.table.NewRequest(sink.Delete, nil, n.Remove, now)
	r.Send.Look = []string{n.Address}
	e.table.Take(r, n, e.table.Contact(n, false), now)
	return r
}

// planSingle plans a call for one contact; one call is reserved for it.
func (e *engine) planSingle(n *state.Need, w way, now time.Time) *state.Request {
	if w == wayLook {
		r := e.table.NewRequest(sink.Look, nil, nil, now)
		r.Send.Look = n.Look
		if !e.reserveMore(r, n) {
			return nil
		}
		e.table.Take(r, n, e.table.Contact(n, false), now)
		return r
	}
	kind, unlink := sink.Upsert, []int64(nil)
	if w == wayUpdate {
		kind, unlink = sink.Update, n.Remove
	}
	r := e.table.NewRequest(kind, n.Add, unlink, now)
	r.Send.Look = n.Look
	if !e.reserveMore(r, n) {
		return nil
	}
	c := e.table.Contact(n, n.Attributes)
	e.table.Take(r, n, c, now)
	return r
}

// reserveMore takes the calls of a request from the budget for which one was reserved, or puts its contact back.
func (e *engine) reserveMore(r *state.Request, n *state.Need) bool {
	if more := r.Send.Calls() - 1; more == 0 || e.reserve(more) {
		return true
	}
	e.sender.Unreserve(1)
	e.table.Return(n)
	return false
}

func (e *engine) planWrites(q state.Queue, backlog int, now time.Time) *state.Request {
	bulk := e.bulkPays(backlog, now)
	behind := e.behind() && q.Age < holdImports.Milliseconds()
	if behind && (len(e.imports) > 0 || float64(q.Len) < e.importHolds()) {
		e.holdBack(now.Add(holdImports - time.Duration(q.Age)*time.Millisecond))
		return nil
	}
	if !e.reserve(1) {
		return nil
	}
	imports := bulk && e.gathered(q, now) && e.mayImport(now)
	n := e.popWrite(q, bulk, imports, now)
	if n == nil {
		e.sender.Unreserve(1)
		return nil
	}
	s := situation{many: q.Len > 2, halved: n.Halves > 0 && importRows>>n.Halves < 1}
	var c sink.Contact
	var group string
	if imports {
		c = e.table.Contact(n, true)
		group, _, _, s.row = e.sender.Row(&c)
		s.bulk = true
	}
	switch w := choose(n, s); {
	case w == wayRemove: // from the other queue, in which it has a place
		e.sender.Unreserve(1)
		e.table.Return(n)
		return nil
	case w == wayImport:
		return e.planImport(q, n, c, group, now)
	case w == wayAdd:
		return e.planAdd(q, n, now)
	case behind:
		e.sender.Unreserve(1)
		e.table.Return(n)
		return nil
	default:
		return e.planSingle(n, w, now)
	}
}

// passMost is how many contacts that wait for the next import are passed over in one go to find one that no import
// carries; the next go is passPause later at the latest.
const (
	passMost  = 32
	passPause = 50 * time.Millisecond
)

// popWrite takes the next contact of a queue. Where imports pay it passes over those that are to leave a list first,
// and, while none may begin, over those that the next one can carry.
func (e *engine) popWrite(q state.Queue, bulk, imports bool, now time.Time) *state.Need {
	for range min(q.Len, passMost) {
		n := e.table.Pop(q.Kind, q.List, now)
		if n == nil || !bulk || imports && len(n.Remove) == 0 {
			return n
		}
		c := e.table.Contact(n, true)
		_, _, _, row := e.sender.Row(&c)
		if w := choose(n, situation{bulk: true, row: row, halved: n.Halves > 0}); w != wayRemove && (w != wayImport || imports) {
			return n
		}
		e.table.Return(n)
	}
	e.holdBack(now.Add(passPause)) // the others are looked at when nothing else happens, too
	return nil
}

// bulkPays says whether an import, begun as soon as one may be, would be done before single calls were.
func (e *engine) bulkPays(backlog int, now time.Time) bool {
	if e.holds.has(importsStuck) || backlog < 2 || e.sight.strange > 0 && now.Before(e.sight.suspect) {
		return false
	}
	imports := int(math.Ceil(float64(backlog) / e.importHolds()))
	wait := time.Duration(imports) * e.sight.pace.of(backlog/imports)
	for _, i := range e.imports {
		switch {
		case i.r.Freed(): // it may never end
			return false
		case i.lost:
			wait += (inSight - now.Sub(i.since)).Abs()
		default: // one that is overdue takes as much longer, perhaps
			wait += (e.sight.pace.of(len(i.r.Taken)) - now.Sub(i.began)).Abs()
		}
	}
	rate := e.limits.PerSecond
	if e.callTime > 0 {
		rate = min(rate, float64(e.cfg.Senders)/e.callTime.Seconds())
	}
	return float64(backlog)/rate > wait.Seconds()
}

// gathered says whether an import of a queue may begin: the first of a backlog waits for more, until it is full, a
// little, compared with the time that it takes.
func (e *engine) gathered(q state.Queue, now time.Time) bool {
	if float64(q.Len) >= e.importHolds() {
		return true
	}
	until := e.gathering.Add(e.sight.pace.of(q.Len) / 20)
	if now.Before(until) {
		e.holdBack(until)
	}
	return !now.Before(until)
}

// importHolds is how many contacts an import holds, roughly.
func (e *engine) importHolds() float64 {
	return min(importRows, float64(e.limits.ImportBytes)/e.rowBytes)
}

func (e *engine) planAdd(q state.Queue, n *state.Need, now time.Time) *state.Request {
	list := n.Add[0]
	r := e.table.NewRequest(sink.Add, []int64{list}, nil, now)
	for n != nil {
		e.table.Take(r, n, e.table.Contact(n, false), now)
		if len(r.Taken) >= e.limits.Batch>>n.Halves {
			break
		}
		n = e.table.Pop(q.Kind, q.List, now)
		if n != nil && !joins(n, list) {
			e.table.Return(n)
			break
		}
	}
	return r
}

// joins says whether a contact may be added to a list together with others.
func joins(n *state.Need, list int64) bool {
	return n.Known && len(n.Add) > 0 && n.Add[0] == list && len(n.Look) == 0 && n.Halves == 0
}

// planImport packs rows of one group by bytes. What does not belong into the group goes back to the queue's end.
func (e *engine) planImport(q state.Queue, n *state.Need, c sink.Contact, group string, now time.Time) *state.Request {
	lists := n.Wanted
	most := importRows >> n.Halves
	r := e.table.NewRequest(sink.Import, lists, nil, now)
	size := 0
	for scanned := 1; ; scanned++ {
		g, bytes, erase, ok := e.sender.Row(&c)
		fits := ok && g == group && !n.Barred && len(n.Look) == 0 && len(n.Remove) == 0 && slices.Equal(n.Wanted, lists) && importRows>>n.Halves >= most
		if fits && size+bytes > e.limits.ImportBytes {
			e.table.Return(n)
			break
		}
		if fits {
			size += bytes
			r.Send.Erase = erase
			e.table.Take(r, n, c, now)
		} else {
			e.table.Return(n)
		}
		if len(r.Taken) >= most || scanned >= min(q.Len, scanMost) {
			break
		}
		if n = e.table.Pop(q.Kind, q.List, now); n == nil { // whoever is popped is taken or returned, or lost
			break
		}
		c = e.table.Contact(n, true)
	}
	if k := len(r.Taken); k > 100 {
		e.rowBytes += (float64(size)/float64(k) - e.rowBytes) / 4
	}
	e.imports[r.Number] = &importing{r: r, began: now}
	return r
}

// unplan forgets what a plan that was not committed had reserved.
func (e *engine) unplan(r *state.Request) {
	e.sender.Unreserve(r.Send.Calls())
	delete(e.imports, r.Number)
}
