package connector

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"regexp"
	"slices"
	"sync"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
	"go.uber.org/zap"

	"segsync/connector/backoff"
	"segsync/connector/engine"
	"segsync/connector/ownership"
)

// Connection works one account whenever Kafka elects this process as its owner; otherwise it stands by.
type Connection struct {
	cfg      Config
	balancer *ownership.Balancer
	process  *engine.Process

	mu sync.Mutex
	// +checklocks:mu
	engine *engine.Engine // the running epoch; nil while standing by
	// +checklocks:mu
	assigned map[string][]int32
	// +checklocks:mu
	waiting string // what it waits for
	// +checklocks:mu
	member bool // of the group: working or standing by
	// +checklocks:mu
	self string // what this member is called in the group
	// +checklocks:mu
	elsewhereAt string // how far another process has come, for a bounded run
	// +checklocks:mu
	last Counters // of the epochs that have ended
}

// New makes a connection.
func New(cfg Config) *Connection {
	c := cfg.WithDefaults()
	return &Connection{cfg: c, process: engine.NewProcess(), balancer: ownership.NewBalancer(c.Name, c.Fingerprint()), waiting: "starting"}
}

// Run works the connection until ctx ends, then drains, commits and leaves. It returns an error only where going on
// makes no sense.
func (c *Connection) Run(ctx context.Context) error {
	var reporting sync.WaitGroup
	reporting.Go(func() { c.report(ctx) })
	defer reporting.Wait()
	for try := 0; ctx.Err() == nil; try++ {
		began := time.Now()
		err := c.life(ctx)
		if ctx.Err() != nil {
			return nil
		}
		if time.Since(began) > time.Minute {
			try = 0
		}
		if errors.Is(err, kerr.FencedInstanceID) {
			c.cfg.Log.Warn("another process has the same instance id: joining again without one", zap.String("instance", c.cfg.Instance))
			c.cfg.Instance = ""
		}
		if errors.Is(err, engine.ErrListAnew) {
			for i := range c.cfg.Exports {
				if x := &c.cfg.Exports[i]; named(*x) {
					x.List = 0
				}
			}
		}
		c.setWaiting(err.Error())
		c.cfg.Log.Warn("starting over", zap.Error(err))
		backoff.Sleep(ctx, backoff.Jitter(backoff.Pause(time.Second, 15*time.Second, try))+10*time.Millisecond)
	}
	return nil
}

func (c *Connection) setWaiting(what string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.waiting = what
}

// elsewhere says whether another process is known to own the connection.
func (c *Connection) elsewhere() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	owner := c.balancer.Owner()
	return owner != "" && owner != c.self
}

func (c *Connection) setMember(member bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.member = member
}

// life is one membership in the group.
func (c *Connection) life(ctx context.Context) error {
	if err := c.environment(ctx); err != nil {
		return err
	}
	m := &membership{c: c, ended: make(chan error, 1)}
	defer m.close(ctx)
	if err := m.join(); err != nil {
		return err
	}
	c.setMember(true)
	defer c.setMember(false)
	c.setWaiting("standing by: another process owns the connection, or the group is being balanced")
	return m.poll(ctx)
}

// environment waits until the sources' topics are there, and the lists that are named.
func (c *Connection) environment(ctx context.Context) error {
	cl, err := kgo.NewClient(c.cfg.Kafka...)
	if err != nil {
		return err
	}
	defer cl.Close()
	for try := 0; ; try++ {
		pause := backoff.Pause(time.Second, 15*time.Second, try)
		err := c.look(ctx, cl)
		if err == nil {
			var off []string
			if off, err = FindLists(ctx, &c.cfg); len(off) > 0 {
				c.cfg.Log.Warn("owners' exports are off: their lists are those of the admins' exports, which name them", zap.Strings("exports", off))
			}
			pause = listsAgain
		}
		if err == nil || ctx.Err() != nil {
			return ctx.Err()
		}
		c.setWaiting(err.Error())
		if try%20 == 0 {
			c.cfg.Log.Warn("waiting for the environment", zap.Error(err))
		}
		backoff.Sleep(ctx, pause)
	}
}

func (c *Connection) look(ctx context.Context, cl *kgo.Client) error {
	ctx, cancel := context.WithTimeout(ctx, 30*time.Second)
	defer cancel()
	topics, err := kadm.NewClient(cl).ListTopics(ctx)
	if err != nil {
		return fmt.Errorf("waiting for Kafka: %w", err)
	}
	for _, s := range c.cfg.Sources {
		for _, t := range s.Topics {
			if d, ok := topics[t]; !ok || d.Err != nil {
				return fmt.Errorf("waiting for topic %s of source %s: it does not exist, or reading it is not allowed", t, s.Name)
			}
		}
	}
	return nil
}

// membership is one client in the group, with the callbacks that win and lose ownership.
type membership struct {
	c       *Connection
	cl      *kgo.Client
	lease   *ownership.Lease
	ended   chan error // an engine ended by itself
	differs bool       // that the owner's configuration does has been told
}

func (m *membership) join() error {
	c := m.c
	m.lease = ownership.NewLease(c.cfg.Session)
	opts := append(slices.Clone(c.cfg.Kafka),
		kgo.ConsumerGroup(c.cfg.Group()), kgo.Balancers(c.balancer), kgo.DisableAutoCommit(),
		kgo.SessionTimeout(c.cfg.Session), kgo.HeartbeatInterval(min(c.cfg.Session/10, 3*time.Second)), kgo.RebalanceTimeout(c.cfg.Session+c.cfg.Times.Drain+15*time.Second),
		kgo.ConsumeResetOffset(kgo.NoResetOffset()), kgo.MetadataMaxAge(time.Minute), // it fetches nothing: its partitions are paused
		kgo.OnPartitionsAssigned(m.assigned), kgo.OnPartitionsRevoked(m.revoked), kgo.OnPartitionsLost(m.lost),
	)
	if c.cfg.Instance != "" {
		opts = append(opts, kgo.InstanceID(c.cfg.Instance))
	}
	var topics, patterns []string
	for _, s := range c.cfg.Sources {
		topics = append(topics, s.Topics...)
		if s.Regex != "" {
			patterns = append(patterns, s.Regex)
		}
	}
	if len(patterns) > 0 {
		opts = append(opts, kgo.ConsumeExcludeTopics(c.cfg.OwnTopics()...))
	}
	if len(patterns) > 0 { // a client subscribes by pattern or by name: names become patterns
		for _, t := range topics {
			patterns = append(patterns, "^"+regexp.QuoteMeta(t)+"$")
		}
		opts = append(opts, kgo.ConsumeRegex(), kgo.ConsumeTopics(patterns...))
	} else {
		opts = append(opts, kgo.ConsumeTopics(topics...))
	}
	cl, err := kgo.NewClient(opts...)
	m.cl = cl
	return err
}

// names notes what this member is called in the group.
func (m *membership) names(cl *kgo.Client) {
	self := m.c.cfg.Instance
	if self == "" {
		self, _ = cl.GroupMetadata()
	}
	m.c.mu.Lock()
	defer m.c.mu.Unlock()
	m.c.self = self
}

// assigned begins an engine when this member is given all that it subscribes to, and hands later partitions to the
// running one. A standby's coming and going calls this with nothing.
func (m *membership) assigned(ctx context.Context, cl *kgo.Client, given map[string][]int32) {
	c := m.c
	if len(given) == 0 {
		if c.balancer.Differs() && !m.differs {
			m.differs = true
			c.cfg.Log.Warn("the owner has another configuration than this process: taking over would change what is sent", zap.String("owner", c.balancer.Owner()))
		}
		return
	}
	m.names(cl)
	cl.PauseFetchPartitions(given) // this client decides who owns; the engine reads with one of its own
	c.mu.Lock()
	if c.assigned == nil {
		c.assigned = map[string][]int32{}
	}
	for t, ps := range given {
		c.assigned[t] = append(c.assigned[t], ps...)
	}
	running, all, counts := c.engine, c.hasAllLocked(), c.last
	assigned := maps.Clone(c.assigned)
	c.mu.Unlock()
	switch {
	case running != nil:
		running.Join(given)
	case all:
		e := engine.New(&c.cfg, c.process, cl, m.lease, counts)
		if err := e.Claim(ctx); err != nil {
			m.end(err)
			return
		}
		c.mu.Lock()
		c.engine = e
		c.waiting = ""
		c.mu.Unlock()
		go func() { //nolint:contextcheck // an epoch has a context of its own
			if err := e.Run(assigned); err != nil {
				m.end(err)
			}
		}()
	}
}

// hasAllLocked says whether every topic that is named is assigned. Regex topics are what the group says they are.
//
// +checklocks:c.mu
func (c *Connection) hasAllLocked() bool {
	for _, s := range c.cfg.Sources {
		for _, t := range s.Topics {
			if len(c.assigned[t]) == 0 {
				return false
			}
		}
	}
	return len(c.assigned) > 0
}

// end ends the membership with an error.
func (m *membership) end(err error) {
	select {
	case m.ended <- err:
	default:
	}
}

// revoked drains: what is in flight is finished, a last checkpoint made.
func (m *membership) revoked(ctx context.Context, _ *kgo.Client, taken map[string][]int32) {
	if len(taken) == 0 {
		return
	}
	if e := m.take(); e != nil {
		e.Drain(context.WithoutCancel(ctx))
		m.end(errors.New("the group gave the connection to another member")) // what is left of the assignment is no engine's
	}
}

// lost ends the engine at once: it writes nothing any more.
func (m *membership) lost(context.Context, *kgo.Client, map[string][]int32) {
	m.lease.End()
	if e := m.take(); e != nil {
		e.Kill(ownership.ErrLost)
		<-e.Done()
	}
}

// take takes the running engine off the connection.
func (m *membership) take() *engine.Engine {
	c := m.c
	c.mu.Lock()
	defer c.mu.Unlock()
	e := c.engine
	c.engine, c.assigned = nil, nil
	if e != nil {
		c.waiting = "standing by"
		c.last = c.counted(e.Counters())
		n := c.last
		c.cfg.Log.Info("this process's work on the connection has ended", zap.Uint64("events", n.Events), zap.Uint64("calls", n.Calls), zap.Stringer("calls_by_kind", n.Kinds), zap.Uint64("upserted", n.Upserted), zap.Uint64("updated", n.Updated), zap.Uint64("removed", n.Removed), zap.Uint64("rejected", n.Rejected), zap.Uint64("dead_letters", n.DeadLetters))
	}
	return e
}

// poll waits for the end of the membership.
func (m *membership) poll(ctx context.Context) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	failed := make(chan error, 1)
	go func() {
		select {
		case err := <-m.ended:
			failed <- err
			cancel()
		case <-ctx.Done():
		}
	}()
	for ctx.Err() == nil {
		m.names(m.cl)
		fetches := m.cl.PollFetches(ctx) // its partitions are paused: it brings the group's errors only
		fetches.EachError(func(_ string, _ int32, err error) {
			if ctx.Err() == nil && errors.Is(err, kerr.FencedInstanceID) {
				m.end(err)
			}
		})
	}
	select {
	case err := <-failed:
		return err
	default:
		return ctx.Err()
	}
}

// close ends the membership: in order when the process is to end, else as after a crash.
func (m *membership) close(ctx context.Context) {
	if m.cl == nil {
		return
	}
	bounded, cancel := context.WithTimeout(context.WithoutCancel(ctx), m.c.cfg.Times.Drain+30*time.Second)
	defer cancel()
	if e := m.take(); e != nil {
		if ctx.Err() != nil {
			e.Drain(bounded)
		} else {
			e.Kill(errors.New("the membership has ended"))
		}
		<-e.Done()
	}
	if ctx.Err() != nil {
		if err := ownership.Leave(bounded, m.cl, m.c.cfg.Group(), m.c.cfg.Instance); err != nil {
			m.c.cfg.Log.Info("leaving the group was not confirmed: a successor waits for the session to end", zap.Error(err))
		}
	}
	m.lease.End()
	m.cl.Close()
}
