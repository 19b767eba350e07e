package connector

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"
	"go.uber.org/zap"

	"segsync/connector/backoff"
	"segsync/connector/changelog"
	"segsync/connector/engine"
	"segsync/connector/state"
)

// ErrHalted says that a bounded run cannot end: what is left is halted.
var ErrHalted = errors.New("nothing more can be sent")

// ErrEnvironment says that a bounded run cannot begin: Kafka, a topic or the account is not there.
var ErrEnvironment = errors.New("the environment is not as the configuration says")

// environmentMost is how long a bounded run waits for its environment.
const environmentMost = time.Minute

// How often a bounded run asks whether it is done: itself, and, at most, the changelog of a process beside it.
const (
	onceEvery     = 250 * time.Millisecond
	onceElsewhere = 15 * time.Second
)

// Progress of a bounded run.
type Progress struct {
	Left    int64 // records
	Pending int
	Status  Status
}

// Once works everything off up to the present end of the topics and ends. It ends, too, when another process has done
// it meanwhile.
func (c *Connection) Once(ctx context.Context, tell func(Progress)) error {
	bounded, stop := context.WithTimeout(ctx, environmentMost)
	err := c.environment(bounded)
	stop()
	if err != nil && ctx.Err() == nil {
		c.mu.Lock()
		defer c.mu.Unlock()
		return fmt.Errorf("%w: %s", ErrEnvironment, c.waiting)
	}
	if err != nil {
		return err
	}
	cl, err := kgo.NewClient(c.cfg.Kafka...)
	if err != nil {
		return err
	}
	defer cl.Close()
	ends, err := c.ends(ctx, cl)
	if err != nil {
		return err
	}
	c.process.Bounded = true
	run, cancel := context.WithCancel(context.WithoutCancel(ctx)) // it is told first why it ends
	defer cancel()
	ran := make(chan error, 1)
	go func() { ran <- c.Run(run) }()
	var result error
	pause := onceEvery
	moved, last := time.Now(), ""
	for ctx.Err() == nil {
		backoff.Sleep(ctx, pause)
		done, err := c.doneTo(ctx, cl, ends, tell)
		if now, waits := c.progress(); now != last || waits {
			moved, last = time.Now(), now
		}
		if !done && !errors.Is(err, ErrHalted) && time.Since(moved) > environmentMost {
			result = fmt.Errorf("%w: nothing has gone on for %s: %s", ErrEnvironment, environmentMost, c.waitsFor(err))
			break
		}
		if pause = min(2*pause, onceElsewhere); c.owns() {
			pause = onceEvery
		}
		if done || errors.Is(err, ErrHalted) {
			result = err
			break
		}
		if err != nil {
			c.cfg.Log.Warn("asking whether everything is settled", zap.Error(err))
		}
	}
	if err := errors.Join(result, ctx.Err()); err != nil {
		c.process.Failed.Store(new(err.Error()))
	}
	cancel()
	return errors.Join(result, <-ran, ctx.Err())
}

// progress is a fingerprint of what has been done so far. waits says that a bounded run may take its time: an import is
// under way, or the call budget is used up for the moment.
func (c *Connection) progress() (now string, waits bool) {
	s := c.Status()
	done := s.Counters
	done.Calls, done.Kinds = 0, engine.CallCounts{} // one that is made again and again is no progress
	now = fmt.Sprint(s.Owns, s.Restored, s.Lag, s.Pending, done, s.Imports)
	c.mu.Lock()
	e := c.engine
	now += c.elsewhereAt
	c.mu.Unlock()
	return now, e != nil && e.Waits()
}

// waitsFor says what a bounded run waits for that does not go on.
func (c *Connection) waitsFor(err error) string {
	s := c.Status()
	switch {
	case s.Why != "":
		return s.Doing + ": " + s.Why
	case !s.Owns && s.Owner != "":
		return "another process (" + s.Owner + ") owns the connection, and does not go on"
	case err != nil:
		return err.Error()
	}
	return fmt.Sprintf("%s: %d records are not read, %d contacts pending", s.Doing, s.Lag, s.Pending)
}

// Elsewhere names the process that has worked a bounded run's connection in its stead; "" none has.
func (c *Connection) Elsewhere() string {
	if c.elsewhere() {
		return c.balancer.Owner()
	}
	return ""
}

func (c *Connection) owns() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.engine != nil
}

// ends are the last stable offsets of the sources' partitions.
func (c *Connection) ends(ctx context.Context, cl *kgo.Client) (map[engine.Partition]int64, error) {
	adm := kadm.NewClient(cl)
	all, err := adm.ListTopics(ctx)
	if err != nil {
		return nil, err
	}
	var topics []string
	for t := range all {
		if _, ok := c.cfg.SourceOf(t); ok {
			topics = append(topics, t)
		}
	}
	listed, err := adm.ListCommittedOffsets(ctx, topics...)
	if err = errors.Join(err, listed.Error()); err != nil {
		return nil, fmt.Errorf("listing the topics' last offsets: %w", err)
	}
	ends := map[engine.Partition]int64{}
	listed.Each(func(o kadm.ListedOffset) { ends[engine.Partition{Topic: o.Topic, Number: o.Partition}] = o.Offset })
	return ends, nil
}

// doneTo says whether everything before the ends is settled, by whoever.
func (c *Connection) doneTo(ctx context.Context, cl *kgo.Client, ends map[engine.Partition]int64, tell func(Progress)) (bool, error) {
	c.mu.Lock()
	e := c.engine
	c.mu.Unlock()
	if e == nil {
		if !c.elsewhere() {
			return false, nil // the group is being balanced
		}
		return c.doneElsewhere(ctx, cl, ends)
	}
	left, ready := e.Left(ends)
	if !ready {
		return false, nil
	}
	if tell != nil {
		tell(Progress{Left: left.Records, Pending: left.Pending, Status: c.Status()})
	}
	if left.Stuck != "" {
		return false, fmt.Errorf("%w: %s", ErrHalted, left.Stuck)
	}
	return left.Done, nil
}

// doneElsewhere asks the same of the group's offsets and the changelog, while another process owns the connection.
func (c *Connection) doneElsewhere(ctx context.Context, cl *kgo.Client, ends map[engine.Partition]int64) (bool, error) {
	adm := kadm.NewClient(cl)
	committed, err := adm.FetchOffsets(kadm.RequireStable(ctx), c.cfg.Group())
	if err != nil {
		return false, err
	}
	read, open := int64(0), false
	for at, end := range ends {
		o, ok := committed.Lookup(at.Topic, at.Number)
		open = open || !ok || o.At < end
		read += max(0, o.At)
	}
	c.setElsewhere(fmt.Sprint(read))
	if open {
		return false, nil
	}
	t, err := c.peek(ctx, adm)
	if err != nil {
		return false, err
	}
	at := fmt.Sprint(read, t.Counts().People, t.Counts().Contacts, t.Counts().Pending, t.Counts().Rejected, t.Counts().NoContact)
	if importing, _ := t.Hanging(time.Now().Add(time.Hour)); importing { // it may take its time
		at += time.Now().String()
	}
	c.setElsewhere(at)
	if engine.Owes(&c.cfg, t) {
		return false, nil
	}
	hangs, waiting := t.Hanging(time.Now().Add(-c.cfg.Times.ImportStuck))
	if t.Counts().Pending > t.Held() || t.Counts().InFlight > waiting {
		return false, nil
	}
	if hangs {
		return false, fmt.Errorf("%w: an import has not ended within %s, says the table of the process that owns the connection", ErrHalted, c.cfg.Times.ImportStuck)
	}
	return true, nil
}

// setElsewhere notes how far another process has come.
func (c *Connection) setElsewhere(at string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.elsewhereAt = at
}

// Runs are the last pieces of work of the connection, the newest first, as its table has them.
func (c *Connection) Runs(ctx context.Context) ([]Run, error) {
	cl, err := kgo.NewClient(c.cfg.Kafka...)
	if err != nil {
		return nil, err
	}
	defer cl.Close()
	topic := changelog.Name(c.cfg.Prefix, c.cfg.Name)
	topics, err := kadm.NewClient(cl).ListTopics(ctx)
	if err != nil || !topics.Has(topic) {
		return nil, err
	}
	end, err := changelog.End(ctx, kadm.NewClient(cl), topic)
	if err != nil || end < 0 {
		return nil, err
	}
	return engine.Runs(func(apply func(key, v []byte) error) error {
		return changelog.Restore(ctx, c.cfg.Kafka, topic, end, apply, nil)
	})
}

// peek reads the table as it stands in the changelog, without owning it.
func (c *Connection) peek(ctx context.Context, adm *kadm.Client) (*state.Table, error) {
	topic := changelog.Name(c.cfg.Prefix, c.cfg.Name)
	end, err := changelog.End(ctx, adm, topic)
	if err != nil {
		return nil, err
	}
	return engine.Peek(&c.cfg, func(apply func(key, v []byte) error) error {
		if end < 0 {
			return nil
		}
		return changelog.Restore(ctx, c.cfg.Kafka, topic, end, apply, nil)
	}, time.Now())
}
