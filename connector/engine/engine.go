// Package engine is one epoch of ownership of a connection: a reconciler over one table.
//
//	reader        takes records from Kafka and never waits for anything below
//	workers       decode and map them, and fold the changes into the table: what each person wants
//	table         knows what was delivered to each contact; contacts where the two differ are dirty (package state)
//	planning      takes dirty contacts into requests (package plan), at the cut of a checkpoint
//	checkpointer  commits one Kafka transaction of changed rows, announced requests, closings, dead letters and source
//	              offsets: one consistent cut; then hands the requests over
//	delivery      makes the calls and settles what became of each contact in the table
//	watcher       looks at imports and exports, which the API carries out later
//	imports       from their plan to their outcome; what is lost, what does not end
//	audits        read lists whole, and compare them with what was delivered
//	control       carries out what people ask: pause, approve, retry, audit, …
//	history       sources that are read again, behind live reading
//	schedules     exports that are sent at times; runs: what people recognise of the work done
//	positions     the one way to where reading of a partition begins
//	holds         why something is not sent or read, and the only ones that tell of it
//	account       whose key it is, whether another connection works it, its attributes' types
//	guard, damage, letters, breaker, troubles: mass removals, a table that is not whole, dead letters, too many rejects,
//	              what goes wrong for a while
//
// Each is a type with its own fields, in a file of its own; none sees the engine. core.go says what they share: one lock.
// What never lives here: how a contact's difference is sent (plan), what is wanted and delivered (state), what an answer
// means (sink/sendinblue), who may own a connection (connector).
package engine

import (
	"context"
	"errors"
	"sync"
	"sync/atomic"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"

	"segsync/connector/changelog"
	"segsync/connector/deadletter"
	"segsync/connector/ownership"
	"segsync/connector/state"
)

// Engine is one epoch of ownership. Whatever comes back after its end is dropped.
//
// +checklocksalias:holds.mu=mu
// +checklocksalias:account.mu=mu
// +checklocksalias:damage.mu=mu
// +checklocksalias:control.mu=mu
// +checklocksalias:history.mu=mu
// +checklocksalias:schedules.mu=mu
// +checklocksalias:runs.mu=mu
// +checklocksalias:workers.mu=mu
// +checklocksalias:positions.mu=mu
// +checklocksalias:reader.mu=mu
// +checklocksalias:imports.mu=mu
// +checklocksalias:imports.watcher.mu=mu
// +checklocksalias:audits.mu=mu
// +checklocksalias:delivery.mu=mu
// +checklocksalias:delivery.troubles.mu=mu
// +checklocksalias:checkpointer.mu=mu
// +checklocksalias:checkpointer.planning.mu=mu
type Engine struct {
	*core
	proc  *Process
	lease *ownership.Lease
	done  chan struct{}
	epoch epoch

	reader       *reader
	workers      *workers
	positions    *positions
	checkpointer *checkpointer
	delivery     *delivery
	imports      *imports
	audits       *audits
	holds        *holds
	account      *account
	damage       *damage
	control      *control
	history      *history
	schedules    *schedules
	runs         *runs
}

// epoch is what an engine's life is made of.
type epoch struct {
	end        context.CancelCauseFunc
	goroutines sync.WaitGroup // all of them
	lines      *lines
	restored   atomic.Int64 // rows
	rowMost    int          // what the topics take, in bytes
}

// New makes an engine, which Claim and Run bring to life. cl is the group's client; counts goes on from a former epoch's.
func New(cfg *Config, p *Process, cl *kgo.Client, lease *ownership.Lease, counts Counters) *Engine {
	e := &Engine{proc: p, lease: lease, done: make(chan struct{})}
	e.epoch.lines = newLines()
	woken := make(chan struct{}, 1)
	c := &core{
		cfg: cfg, log: e.epoch.lines.logger(cfg.Log), cl: cl, sender: cfg.Sender(lease.Valid), meters: cfg.Metrics.of(cfg.Name), clock: p.clock,
		ready: &atomic.Bool{}, draining: &atomic.Bool{}, spawn: e.epoch.goroutines.Go, kill: e.Kill, mu: &sync.Mutex{}, counts: counts,
		nudge: func() {
			select {
			case woken <- struct{}{}:
			default:
			}
		},
	}
	c.ctx, e.epoch.end = context.WithCancelCause(context.Background())
	e.core = c
	e.compose(woken)
	return e
}

// compose makes the parts, and shows each those that it speaks to.
func (e *Engine) compose(woken chan struct{}) {
	c := e.core
	h := &holds{core: c, all: map[holdKey]*hold{}}
	b := &breaker{core: c, holds: h, last: recent{ring: make([]bool, c.cfg.Breaker.OfLast)}}
	l := &letters{core: c, holds: h, breaker: b, warned: map[deadletter.Class]*repeated{}}
	t := &troubles{core: c, calling: map[*state.Request]time.Time{}}
	d := &damage{core: c, holds: h, topic: changelog.Name(c.cfg.Prefix, c.cfg.Name)}
	r := newReader(c, h, l, b, newQueues())
	p := &positions{core: c, holds: h, reader: r, damage: d, later: make(chan map[string][]int32, 64)}
	i := &imports{core: c, holds: h, open: map[uint64]*importing{}}
	w := &watcher{core: c, imports: i, woken: make(chan struct{}, 1)}
	s := &delivery{core: c, lease: e.lease, holds: h, letters: l, breaker: b, troubles: t, imports: i, requests: make(chan *state.Request, c.cfg.Senders+1), free: c.cfg.Senders, callTime: 200 * time.Millisecond, fresh: freshness{}}
	a := &account{core: c, holds: h, process: e.proc}
	g := &guard{core: c, holds: h}
	u := newAudits(audits{core: c, process: e.proc, holds: h, reader: r, imports: i, watcher: w, account: a})
	n := &planning{core: c, lease: e.lease, guard: g, reader: r, imports: i, audits: u, delivery: s}
	i.delivery, i.watcher, w.audits, u.planning = s, w, u, n
	z := &runs{core: c, process: e.proc, open: map[string]*Run{}}
	o := &control{core: c, holds: h, audits: u}
	v := &schedules{core: c, holds: h, reader: r, runs: z, control: o, opened: make(chan struct{}, 1), all: map[string]*schedule{}}
	y := &history{core: c, live: r, queues: newQueues(), positions: p, holds: h, damage: d, control: o, wanted: make(chan struct{}, 1), open: map[int]*rewind{}}
	u.control, o.history, p.history, u.history, n.history = o, y, y, y, y
	o.schedules, u.runs, y.runs, e.schedules, e.runs = v, z, z, v, z
	r.lost, r.halted = p.lost, y.halted
	e.workers = &workers{core: c, process: e.proc, live: r, history: y, holds: h, letters: l, troubles: t, heard: newHeard(c.cfg), since: c.clock.now(), costly: map[string]int{}}
	e.checkpointer = &checkpointer{core: c, holds: h, letters: l, reader: r, planning: n, delivery: s, control: o, history: y, woken: woken}
	e.reader, e.positions, e.delivery, e.imports, e.audits, e.holds, e.account, e.damage, e.control, e.history = r, p, s, i, u, h, a, d, o, y
}

// Run is the epoch, from the restore to the end. The error says why it ended by itself.
func (e *Engine) Run(assigned map[string][]int32) error {
	defer close(e.done)
	go e.epoch.lines.write(e.cfg.Log)
	defer e.epoch.lines.end()
	defer e.checkpointer.changes.Close()
	e.spawn(e.keepLease)
	err := e.cause(e.work(assigned))
	e.Kill(errors.New("the epoch has ended")) // before reading is closed: polling a closed client does not wait
	e.reader.close()
	e.history.close()
	e.control.close()
	e.epoch.goroutines.Wait() // no successor in this process before our requests have returned
	e.history.close()         // what was opened meanwhile
	e.control.close()
	if e.draining.Load() {
		return nil
	}
	return err
}

// work takes over, and starts the parts. It is what an epoch does, in order.
func (e *Engine) work(assigned map[string][]int32) error {
	if err := e.takeOver(assigned); err != nil {
		return err
	}
	for i := range workersMost {
		e.spawn(func() { e.workers.work(e.reader.queues[i], e.history.queues[i]) })
	}
	for range e.cfg.Senders {
		e.spawn(e.delivery.send)
	}
	for _, part := range []func(){
		e.imports.watcher.watch, e.holds.probe, e.account.watch, e.account.renewTypes, e.damage.watch, e.delivery.troubles.watch,
		e.checkpointer.planning.guard.sizes, e.audits.run, e.reader.tails,
	} {
		e.spawn(part)
	}
	if err := e.resume(); err != nil {
		return err
	}
	e.spawn(e.positions.joins)
	e.spawn(e.control.follow)
	e.spawn(e.history.run)
	e.spawn(e.schedules.run)
	e.spawn(e.runs.keep)
	e.spawn(e.reader.poll)
	return e.checkpointer.run()
}

// cause prefers why the epoch was ended over what that led to.
func (e *Engine) cause(err error) error {
	if c := context.Cause(e.ctx); c != nil {
		return c
	}
	return err
}

// Kill ends the epoch at once: nothing is written any more.
func (e *Engine) Kill(why error) {
	if errors.Is(why, ownership.ErrLost) || errors.Is(why, kerr.FencedInstanceID) {
		e.lease.End()
	}
	e.epoch.end(why)
}

// Done is closed when the epoch has ended, and all its requests have returned.
func (e *Engine) Done() <-chan struct{} { return e.done }

// Drain ends the epoch in order: intake stops, what is in flight is finished up to a deadline, a last checkpoint is
// made.
func (e *Engine) Drain(ctx context.Context) {
	if e.isReady() {
		e.runs.drain()
	}
	e.draining.Store(true)
	e.nudge()
	if !e.isReady() { // nothing is in flight, and nothing is changed
		e.Kill(errors.New("drained before it was ready"))
	}
	select {
	case <-e.done:
	case <-ctx.Done():
	case <-time.After(e.cfg.Times.Drain + 45*time.Second):
	}
	e.Kill(errors.New("drained"))
}

// Join takes in partitions that came later. It never waits.
func (e *Engine) Join(given map[string][]int32) { e.positions.join(given) }

// keepLease proves the membership again and again. Losing it ends the epoch.
func (e *Engine) keepLease() {
	e.every(max(e.cfg.Session/10, 200*time.Millisecond), func() {
		ctx, cancel := context.WithTimeout(e.ctx, e.cfg.Session/2)
		defer cancel()
		if err := e.lease.Prove(ctx, e.cl, e.cfg.Group(), e.cfg.Instance); errors.Is(err, ownership.ErrLost) {
			e.Kill(err)
		}
	})
}
