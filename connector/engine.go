package connector

import (
	"context"
	"errors"
	"sync"
	"sync/atomic"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"
	"go.uber.org/zap"

	"segsync/connector/changelog"
	"segsync/connector/deadletter"
	"segsync/connector/ownership"
	"segsync/connector/state"
	"segsync/mapping"
	"segsync/sink"
)

// partition names a source partition.
type partition struct {
	topic string
	n     int32
}

// cursor is a position in a source partition: everything before next is folded.
type cursor struct {
	id      [16]byte
	topic   uint32 // the topic's durable number
	source  int
	next    int64
	epoch   int32
	end     int64 // the last stable offset, as last seen
	start   int64
	era     int32 // what is added to its leader epochs (era.go)
	behind  int32 // how far the log's epochs have gone back, found when it was located
	lost    bool  // its position means nothing in the log as it is
	changed bool
	stopped bool // nothing is read from it: its source is halted
	parked  bool // nor is it now: its next record waits for the registry
}

// engine is one epoch of ownership. Whatever comes back after its end is dropped.
type engine struct {
	c      *Connection
	cfg    *Config
	cl     *kgo.Client
	log    *zap.Logger
	lease  *ownership.Lease
	sender sink.Sender
	limits sink.Limits

	ctx        context.Context // ends with the epoch
	cancel     context.CancelCauseFunc
	done       chan struct{}
	parts      sync.WaitGroup // every goroutine of the epoch
	draining   atomic.Bool
	drained    chan struct{}
	throttling sync.Mutex
	paused     atomic.Bool  // fetching, at the bound
	held       atomic.Int64 // bytes taken from Kafka and not folded
	parked     atomic.Int64 // of these, those that wait for the registry
	wake       chan struct{}
	later      chan map[string][]int32 // partitions that came later
	look       chan struct{}           // wakes the watcher
	requests   chan *state.Request
	queues     []chan *batch // one per worker
	mappers    []*mapping.Mapper
	changes    *changelog.Log

	mu            sync.Mutex // the table's: no I/O under it
	table         *state.Table
	cursors       map[partition]*cursor
	assigned      map[string][]int32
	dead          []*kgo.Record
	deadBytes     int
	lostDead      int       // dead letters that could not be written
	madeDead      time.Time // when their topic was last made again
	waitsDead     int       // checkpoints that were repeated for them
	aborted       int       // checkpoints, in a row
	rowMost       int       // what the topics take, in bytes
	free          int       // idle senders
	again         time.Time // when the budget has room again
	firstChange   time.Time
	lastChange    time.Time
	lastApplied   time.Time
	imports       map[uint64]*importing
	imported      time.Time // when the last import ended
	gathering     time.Time // since when there is a backlog for imports
	sight         sight
	auditor       auditor
	liveLast      bool      // the last call was for a live change
	heldBack      time.Time // until when the planner holds something back that will be due without an event; zero: nothing
	callTime      time.Duration
	rowBytes      float64
	breaker       breaker
	holds         holds
	key           keyCheck
	api, registry trouble
	calling       map[*state.Request]time.Time // calls under way, imports apart
	reconfigured  bool                         // since the table was last worked
	costly        map[string]int               // attributes that took too much work, by how many records
	claimAgain    time.Time
	claimRenewed  time.Time // only claimAccount's
	restoring     changelog.Progress
	ready         bool
	counts        Counters
	reader        *kgo.Client
	decompressor  *decompressor                  // the reader's
	warned        map[deadletter.Class]*repeated // dead letters, by class
	rereads       []int                          // sources to be read again from their start
	rewinds       map[int]*rewindRow
	types         map[string]sink.AttributeType // of attributes, as this life maps them
	oldTypes      map[string]sink.AttributeType // of attributes, if the account has not told them in this life
}

func newEngine(c *Connection, cl *kgo.Client, lease *ownership.Lease, assigned map[string][]int32) *engine {
	e := &engine{
		c: c, cfg: &c.cfg, cl: cl, log: c.cfg.Log, lease: lease, done: make(chan struct{}), drained: make(chan struct{}),
		wake: make(chan struct{}, 1), later: make(chan map[string][]int32, 64), look: make(chan struct{}, 1), requests: make(chan *state.Request, c.cfg.Senders+1),
		cursors: map[partition]*cursor{}, assigned: assigned, free: c.cfg.Senders, imports: map[uint64]*importing{},
		auditor: newAuditor(), callTime: 200 * time.Millisecond, rowBytes: 64,
		breaker: newBreaker(c.cfg.Breaker), holds: newHolds(c.cfg.Log), calling: map[*state.Request]time.Time{}, costly: map[string]int{},
		warned: map[deadletter.Class]*repeated{},
	}
	e.ctx, e.cancel = context.WithCancelCause(context.Background())
	e.sender = c.cfg.Sender(lease.Valid)
	e.limits = e.sender.Limits()
	e.counts = c.last
	return e
}

// claim takes the connection over within the group's callback: a fresh lease, then the fencing of every predecessor.
func (e *engine) claim(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, 45*time.Second)
	defer cancel()
	if err := e.lease.Prove(ctx, e.cl, e.cfg.Group(), e.cfg.Instance); err != nil {
		return err
	}
	topic := changelog.Name(e.cfg.Prefix, e.cfg.Name)
	if err := changelog.Ensure(ctx, e.cl, topic); err != nil {
		return err
	}
	if e.cfg.DeadLetters != "" {
		if err := deadletter.Ensure(ctx, e.cl, e.cfg.DeadLetters); err != nil {
			return err
		}
	}
	var err error
	if e.rowMost, err = e.takes(ctx, topic); err != nil {
		return err
	}
	l, err := changelog.Open(ctx, changelog.Options{
		Topic: topic, ID: e.cfg.Group(), Client: e.cfg.Kafka, Instance: e.cfg.Instance, Member: e.cl.GroupMetadata, Most: e.rowMost,
	})
	e.changes = l
	return err
}

// run is the epoch, from the restore to the end. The error says why it ended by itself.
func (e *engine) run() error {
	defer close(e.done)
	defer e.changes.Close()
	e.parts.Go(e.keepLease)
	err := e.work()
	e.cancel(errors.New("the epoch has ended"))
	e.parts.Wait() // no successor in this process before our requests have returned
	select {
	case <-e.drained:
	default:
		close(e.drained)
	}
	if e.draining.Load() {
		return nil
	}
	return err
}

func (e *engine) work() error {
	if err := e.takeOver(); err != nil {
		return e.cause(err)
	}
	for i := range e.queues {
		e.parts.Go(func() { e.worker(i) })
	}
	for range e.cfg.Senders {
		e.parts.Go(e.send)
	}
	e.parts.Go(e.watch)
	e.parts.Go(e.probe)
	e.parts.Go(e.sizes)
	e.parts.Go(e.audits)
	e.parts.Go(e.tails)
	if e.oldTypes != nil {
		e.parts.Go(e.renewTypes)
	}
	if err := e.resume(); err != nil {
		return e.cause(err)
	}
	e.parts.Go(e.joins)
	e.parts.Go(e.poll)
	err := e.cause(e.checkpoints())
	e.cancel(errors.New("the epoch has ended")) // first: polling a closed client does not wait
	e.reader.Close()
	return err
}

// cause prefers why the epoch was ended over what that led to.
func (e *engine) cause(err error) error {
	if c := context.Cause(e.ctx); c != nil {
		return c
	}
	return err
}

// kill ends the epoch at once: nothing is written any more.
func (e *engine) kill(why error) { e.cancel(why) }

// drain ends the epoch in order: intake stops, what is in flight is finished up to a deadline, a last checkpoint is
// made.
func (e *engine) drain(ctx context.Context) {
	e.draining.Store(true)
	e.nudge()
	if !e.isReady() { // nothing is in flight, and nothing is changed
		e.cancel(errors.New("drained before it was ready"))
	}
	select {
	case <-e.done:
	case <-ctx.Done():
	case <-time.After(e.cfg.Times.Drain + 45*time.Second):
	}
	e.cancel(errors.New("drained"))
}

// keepLease proves the membership again and again. Losing it ends the epoch.
func (e *engine) keepLease() {
	t := time.NewTicker(max(e.cfg.Session/10, 200*time.Millisecond))
	defer t.Stop()
	for {
		select {
		case <-e.ctx.Done():
			return
		case <-t.C:
		}
		ctx, cancel := context.WithTimeout(e.ctx, e.cfg.Session/2)
		err := e.lease.Prove(ctx, e.cl, e.cfg.Group(), e.cfg.Instance)
		cancel()
		if errors.Is(err, ownership.ErrLost) {
			e.lease.End()
			e.kill(err)
			return
		}
	}
}

// nudge wakes the checkpointer.
func (e *engine) nudge() {
	select {
	case e.wake <- struct{}{}:
	default:
	}
}

// changed notes that the table differs from the changelog. Under the lock.
func (e *engine) changed(now time.Time) {
	if e.firstChange.IsZero() {
		e.firstChange = now
	}
	e.lastChange = now
}

// lag is how many records of the sources are not folded. Under the lock.
func (e *engine) lag() (n int64) {
	for _, c := range e.cursors {
		n += max(0, c.end-c.next)
	}
	return n
}

// behind says whether there is much to read. What is not read for a fault does not count. Under the lock.
func (e *engine) behind() bool {
	n := int64(0)
	for _, c := range e.cursors {
		if !c.stopped && !c.parked {
			n += max(0, c.end-c.next)
		}
	}
	return n > behindBy
}

// now is what times of the table are compared with.
func (e *engine) now() time.Time { return e.c.clock.now() }
