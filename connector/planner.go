package connector

import (
	"time"

	"segsync/connector/state"
)

// way is how a contact's difference is sent.
type way uint8

const (
	wayNone   way = iota
	wayRemove     // with others, out of one list
	wayAdd        // with others, into one list
	wayUpsert     // alone: created or updated, added
	wayUpdate     // alone: one PUT adds, unlinks and sets
	wayImport     // with thousands
	wayDelete     // alone, after a look
	wayLook       // looks alone
)

func (w way) String() string {
	return [...]string{"none", "remove", "add", "upsert", "update", "import", "delete", "look"}[w]
}

// situation is what a plan depends on beside the contact.
type situation struct {
	bulk   bool // the backlog is worked off sooner by an import than by single calls
	many   bool // the queue holds more than a handful: batches pay
	row    bool // an import can carry the contact faithfully
	halved bool // a bulk call that held the contact failed as a whole, down to single ones
}

// choose is the planner's reasons, in one place:
//
//   - who leaves for good and is to be deleted goes alone: the look must come immediately before;
//   - who is looked at first goes alone, for the same reason; of more looks than fit before a write the first go alone;
//   - who only leaves goes with others by 150; alone in several lists, one PUT does it;
//   - an address given up is emptied by one PUT;
//   - who enters with attributes as they stand there goes with others by 150, or, when nobody else is there, by an
//     upsert, which also settles whether the contact exists;
//   - everybody else goes by an import when that is sooner, after leaving what is to be left: an import takes its time,
//     and takes nobody out;
//   - else by an upsert, or by one PUT where lists are left too.
func choose(n *state.Need, s situation) way {
	writes := writes(n)
	switch {
	case n.Delete && !writes:
		return wayDelete
	case !writes && (len(n.Remove) == 1 || s.many) && !s.halved:
		return wayRemove
	case !writes, len(n.Wanted) == 0:
		return wayUpdate
	case n.LookOnly:
		return wayLook
	case len(n.Look) > 0:
		return single(n)
	case s.bulk && s.row && !s.halved && !n.Barred && len(n.Remove) > 0:
		return wayRemove
	case s.bulk && s.row && !s.halved && !n.Barred:
		return wayImport
	case n.Known && len(n.Add) > 0 && s.many && !s.halved:
		return wayAdd
	}
	return single(n)
}

func writes(n *state.Need) bool { return n.Attributes || len(n.Add) > 0 }

// single is a call for one contact: an upsert creates it, a PUT also unlinks.
func single(n *state.Need) way {
	if len(n.Remove) > 0 {
		return wayUpdate
	}
	return wayUpsert
}

// Waits behind a backlog of reading, so that calls are full.
const (
	behindBy     = 5000 // records
	holdRemovals = 5 * time.Second
	holdImports  = 30 * time.Second
	scanMost     = 200_000 // contacts looked at for one import
	importRows   = 1 << 17
)

// plan takes dirty contacts into requests for the senders that are free, as far as the budget has room. Under the lock,
// at the cut.
func (e *engine) plan(now time.Time) []*state.Request {
	e.heldBack = time.Time{}
	e.holdDoubts(now)
	e.weigh(now)
	if now.Before(e.again) {
		return nil
	}
	if !e.lease.Valid() { // for a moment: its next proof tells nobody
		e.holdBack(now.Add(time.Second))
		return nil
	}
	var all []*state.Request
	for len(all) < e.free && !now.Before(e.again) {
		r := e.planNext(now)
		if r == nil {
			break
		}
		all = append(all, r)
	}
	return all
}

// planNext plans one request. While a backlog is worked off, every other one is for a live change, if there is any, and
// those that the backlog does not need.
func (e *engine) planNext(now time.Time) *state.Request {
	queues := e.table.Queues(now)
	backlog, pending := waiting(queues), 0
	switch pays := e.bulkPays(backlog, now); {
	case !pays:
		e.gathering = time.Time{}
	case e.gathering.IsZero():
		e.gathering = now
	}
	for _, q := range queues {
		pending += q.Len
	}
	live := float64(pending) > e.limits.PerSecond
	if live && !e.liveLast {
		if r := e.planLive(now); r != nil || now.Before(e.again) {
			e.liveLast = r != nil
			return r
		}
	}
	for _, q := range queues {
		var r *state.Request
		if q.Kind == state.QueueRemove {
			r = e.planRemovals(q, backlog, now)
		} else {
			r = e.planWrites(q, backlog, now)
		}
		if r != nil || now.Before(e.again) {
			e.liveLast = e.liveLast && r == nil
			return r
		}
	}
	if live && e.liveLast {
		return e.planLive(now)
	}
	return nil
}

// waiting is how many contacts wait to be written.
func waiting(queues []state.Queue) (n int) {
	for _, q := range queues {
		if q.Kind == state.QueueWrite {
			n += q.Len
		}
	}
	return n
}

// holdBack notes when something that is not planned now will be due.
func (e *engine) holdBack(until time.Time) {
	if e.heldBack.IsZero() || until.Before(e.heldBack) {
		e.heldBack = until
	}
}

// reserve takes calls from the budget, or notes when to ask again.
func (e *engine) reserve(calls int) bool {
	ok, again := e.sender.Reserve(calls)
	if !ok {
		e.again = again
	}
	return ok
}
