package plan

import (
	"slices"
	"time"

	"segsync/connector/state"
	"segsync/sink"
)

// round is the making of one request.
type round struct {
	*Planner
	f       Facts
	now     time.Time
	backlog int  // contacts that wait to be written
	bulk    bool // imports pay
}

// need is a contact that was taken off a queue, with its route. row is what an import would carry of it.
type need struct {
	*state.Need
	route Route
	row   row
}

type row struct {
	contact sink.Contact
	group   string
	size    int
	erase   bool
	ok      bool
}

// next plans one request. While a backlog is worked off, every other one is for a live change, if there is any, and
// those that the backlog does not need.
func (p *Planner) next(f Facts, now time.Time) *state.Request {
	queues := p.table.Queues(now)
	r := &round{Planner: p, f: f, now: now}
	pending := 0
	for _, q := range queues {
		pending += q.Len
		if q.Kind == state.QueueWrite {
			r.backlog += q.Len
		}
	}
	r.bulk = p.Bulk(f, r.backlog)
	switch {
	case !r.bulk:
		p.gathering = time.Time{}
	case p.gathering.IsZero():
		p.gathering = now
	}
	live := float64(pending) > p.limits.PerSecond
	if live && !p.liveLast {
		if made := r.live(); made != nil || now.Before(p.again) {
			p.liveLast = made != nil
			return made
		}
	}
	for _, q := range queues {
		fill := r.writes
		if q.Kind == state.QueueRemove {
			fill = r.removals
		}
		if made := fill(q); made != nil || now.Before(p.again) {
			p.liveLast = p.liveLast && made == nil
			return made
		}
	}
	if live && p.liveLast {
		return r.live()
	}
	return nil
}

// pop takes the next contact off a queue and decides its route; nil if there is none. imports says whether one may begin;
// nobody who is to be taken out waits for that.
func (r *round) pop(q state.Queue, imports bool) *need {
	n := r.table.Pop(q.Kind, q.List, r.now)
	if n == nil {
		return nil
	}
	x := &need{Need: n}
	if r.bulk && n.Writes() {
		x.row = r.rowOf(n)
	}
	x.route = choose(n, situation{
		many: q.Len > 2, alone: r.limits.Batch>>n.Halves < 1, begin: imports,
		imports: x.row.ok && (n.Halves == 0 || importRows>>n.Halves > 0),
	})
	return x
}

func (r *round) rowOf(n *state.Need) (x row) {
	x.contact = n.Contact(true)
	x.group, x.size, x.erase, x.ok = r.rows.Row(&x.contact)
	return x
}

// live plans a call for the contact that a live change has concerned last. It goes by no import: it would wait for its
// end.
func (r *round) live() *state.Request {
	if !r.reserve(1) {
		return nil
	}
	n := r.table.PopLive(r.now)
	if n == nil {
		r.budget.Unreserve(1)
		return nil
	}
	x := &need{Need: n, route: choose(n, situation{many: len(n.Remove) < 2, alone: r.limits.Batch>>n.Halves < 1})}
	switch x.route {
	case Remove:
		return r.removal(x, state.Queue{Kind: state.QueueRemove, List: n.Remove[0]})
	case Add:
		return r.addition(x, state.Queue{Kind: state.QueueWrite, List: n.Add[0]})
	default:
		return r.single(x)
	}
}

// removals plans a call for contacts that are to leave a list.
func (r *round) removals(q state.Queue) *state.Request {
	full := q.Len >= r.limits.Batch
	if !full && (r.f.Behind || r.backlog > behindBy) && q.Age < holdRemovals.Milliseconds() {
		r.postpone(r.now.Add(holdRemovals - time.Duration(q.Age)*time.Millisecond))
		return nil
	}
	if !r.reserve(1) {
		return nil
	}
	n := r.pop(q, true)
	switch {
	case n == nil:
		r.budget.Unreserve(1)
		return nil
	case n.route == Delete, n.route == Update, n.route == Look:
		return r.single(n)
	}
	return r.removal(n, q)
}

// removal takes a contact out of a list, and with it others that wait for that; one call is reserved.
func (r *round) removal(n *need, q state.Queue) *state.Request {
	made := r.table.NewRequest(sink.Remove, nil, []int64{q.List}, r.now)
	most := r.limits.Batch >> n.Halves
	for n != nil {
		r.table.Take(made, n.Need, n.Contact(false), r.now)
		if len(made.Taken) >= most {
			break
		}
		if n = r.pop(q, true); n != nil && (n.Delete || r.limits.Batch>>n.Halves < most || n.Writes() && n.route == Update) {
			r.table.Return(n.Need)
			break
		}
	}
	return made
}

// passMost is how many contacts that wait for the next import are passed over in one go to find one that no import
// carries; the next go is passPause later at the latest.
const (
	passMost  = 32
	passPause = 50 * time.Millisecond
)

// writes plans a call for contacts that enter a list or get attributes. Where imports pay it passes over those that are
// to leave a list first, and, while none may begin, over those that the next one can carry.
func (r *round) writes(q state.Queue) *state.Request {
	behind := r.f.Behind && q.Age < holdImports.Milliseconds()
	if behind && (r.f.Imports.Open > 0 || float64(q.Len) < r.importHolds()) {
		r.postpone(r.now.Add(holdImports - time.Duration(q.Age)*time.Millisecond))
		return nil
	}
	if !r.reserve(1) {
		return nil
	}
	imports := r.bulk && r.gathered(q) && r.mayImport()
	for range min(q.Len, passMost) {
		switch n := r.pop(q, imports); {
		case n == nil:
			r.budget.Unreserve(1)
			return nil
		case n.route == Later, n.route == Remove: // it has a place in the other queue, too
			r.table.Return(n.Need)
		case n.route == Import:
			return r.imported(n, q)
		case n.route == Add:
			return r.addition(n, q)
		case behind:
			r.budget.Unreserve(1)
			r.table.Return(n.Need)
			return nil
		default:
			return r.single(n)
		}
	}
	r.budget.Unreserve(1)
	r.postpone(r.now.Add(passPause)) // the others are looked at when nothing else happens, too
	return nil
}

// single plans a call for one contact; one call is reserved for it.
func (r *round) single(n *need) *state.Request {
	var made *state.Request
	contact := n.Contact(n.Attributes)
	switch n.route {
	case Delete:
		made = r.table.NewRequest(sink.Delete, nil, n.Remove, r.now)
		made.Send.Look, contact = []string{n.Address}, n.Contact(false)
	case Look:
		made = r.table.NewRequest(sink.Look, nil, nil, r.now)
		made.Send.Look, contact = n.Look, n.Contact(false)
	case Update:
		made = r.table.NewRequest(sink.Update, n.Add, n.Remove, r.now)
		made.Send.Look = n.Look
	default:
		made = r.table.NewRequest(sink.Upsert, n.Add, nil, r.now)
		made.Send.Look = n.Look
	}
	if more := made.Send.Calls() - 1; more > 0 && !r.reserve(more) {
		r.budget.Unreserve(1)
		r.table.Return(n.Need)
		return nil
	}
	r.table.Take(made, n.Need, contact, r.now)
	return made
}

// addition adds a contact to a list, and with it others that are as wanted but for that; one call is reserved.
func (r *round) addition(n *need, q state.Queue) *state.Request {
	list := n.Add[0]
	made := r.table.NewRequest(sink.Add, []int64{list}, nil, r.now)
	for n != nil {
		r.table.Take(made, n.Need, n.Contact(false), r.now)
		if len(made.Taken) >= r.limits.Batch>>n.Halves {
			break
		}
		if n = r.pop(q, false); n != nil && !joins(n.Need, list) {
			r.table.Return(n.Need)
			break
		}
	}
	return made
}

// joins says whether a contact may be added to a list together with others.
func joins(n *state.Need, list int64) bool {
	return n.Known && len(n.Add) > 0 && n.Add[0] == list && len(n.Look) == 0 && n.Halves == 0
}

// gathered says whether an import of a queue may begin: the first of a backlog waits for more, until it is full, a
// little, compared with the time that it takes.
func (r *round) gathered(q state.Queue) bool {
	if float64(q.Len) >= r.importHolds() {
		return true
	}
	until := r.gathering.Add(r.f.Imports.Takes(q.Len) / 20)
	if r.now.Before(until) {
		r.postpone(until)
	}
	return !r.now.Before(until)
}

// mayImport says whether an import may begin; if only a look at the account could let it, it is asked for.
func (r *round) mayImport() bool {
	switch i := &r.f.Imports; {
	case i.Begin:
		return true
	case i.Open > 0:
	case i.After.After(r.now):
		r.postpone(i.After)
	default:
		r.look = true
	}
	return false
}

// imported packs rows of one group and one set of lists by bytes, one call being reserved. What does not belong to them
// goes back to the queue's end.
func (r *round) imported(n *need, q state.Queue) *state.Request {
	first := *n
	most := importRows >> n.Halves
	made := r.table.NewRequest(sink.Import, n.Wanted, nil, r.now)
	size := 0
	for scanned := 1; n != nil; scanned++ { // whoever is popped is taken or returned, or lost
		fits := n.route == Import && n.row.group == first.row.group && slices.Equal(n.Wanted, first.Wanted) && importRows>>n.Halves >= most
		if fits && size+n.row.size > r.limits.ImportBytes {
			r.table.Return(n.Need)
			break
		}
		if fits {
			size += n.row.size
			made.Send.Erase = n.row.erase
			r.table.Take(made, n.Need, n.row.contact, r.now)
		} else {
			r.table.Return(n.Need)
		}
		if len(made.Taken) >= most || scanned >= min(q.Len, scanMost) {
			break
		}
		n = r.pop(q, true)
	}
	if k := len(made.Taken); k > 100 {
		r.rowBytes += (float64(size)/float64(k) - r.rowBytes) / 4
	}
	return made
}
