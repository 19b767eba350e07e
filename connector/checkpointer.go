package connector

import (
	"errors"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"
	"go.uber.org/zap"

	"segsync/connector/backoff"
	"segsync/connector/changelog"
	"segsync/connector/deadletter"
	"segsync/connector/state"
)

// cut is one consistent cut of the engine, as a checkpoint writes it.
type cut struct {
	table    *state.Cut
	requests []*state.Request // announced by it
	dead     []*kgo.Record
	offsets  []changelog.Offset
	moved    []*cursor
}

// checkpoints is the checkpointer: one goroutine, one checkpoint at a time, the only one that writes rows, dead letters
// and offsets. It returns when the epoch ends.
func (e *engine) checkpoints() error {
	timer := time.NewTimer(time.Hour)
	defer timer.Stop()
	var drainBy time.Time
	aborted := 0 // in a row
	for {
		if e.draining.Load() && drainBy.IsZero() {
			drainBy = e.now().Add(e.cfg.Times.Drain)
		}
		e.throttle()
		c, next := e.makeCut(drainBy)
		if c != nil {
			switch err := e.commit(c); {
			case errors.Is(err, changelog.ErrAborted): // Kafka refuses it: not again at once
				sleep(e.ctx, backoff.Pause(50*time.Millisecond, 5*time.Second, aborted))
				aborted++
			case err != nil:
				return err
			default:
				aborted = 0
			}
			continue
		}
		if !drainBy.IsZero() && (e.settled() || !e.now().Before(drainBy)) {
			return nil
		}
		timer.Reset(next)
		select {
		case <-e.wake:
		case <-timer.C:
		case <-e.ctx.Done():
			return e.ctx.Err()
		}
	}
}

// settled says whether nothing is in flight and nothing waits to be written.
func (e *engine) settled() bool {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.free == e.cfg.Senders && !e.table.Changed() && len(e.dead) == 0 && e.held.Load() == e.parked.Load()
}

// makeCut plans, and cuts if something may go, or if what has changed has waited long enough. Else it says when to look
// again.
func (e *engine) makeCut(drainBy time.Time) (*cut, time.Duration) {
	e.mu.Lock()
	defer e.mu.Unlock()
	now := e.now()
	e.endRewinds()
	due := e.table.Tick(now)
	var requests []*state.Request
	if drainBy.IsZero() {
		requests = e.plan(now)
	}
	next := time.Hour
	if len(requests) == 0 && drainBy.IsZero() {
		wait, changed := e.restBeforeCut(now)
		if wait > 0 {
			if changed {
				next = min(next, wait)
			}
			if due != 0 {
				next = min(next, time.UnixMilli(due).Sub(now))
			}
			for _, t := range []time.Time{e.again, e.heldBack} {
				if t.After(now) {
					next = min(next, t.Sub(now))
				}
			}
			return nil, max(next, time.Millisecond)
		}
	}
	c := &cut{requests: requests, dead: e.dead}
	e.cutPositions(c)
	if len(requests) == 0 && len(c.offsets) == 0 && len(c.dead) == 0 && !e.table.Changed() {
		return nil, 50 * time.Millisecond // draining
	}
	c.table = e.table.Cut(requests)
	e.dead, e.deadBytes = nil, 0
	e.firstChange, e.lastChange = time.Time{}, time.Time{}
	e.free -= len(requests)
	return c, 0
}

// cutPositions takes the positions that have moved: as the group's offsets, and as rows, so that neither can be put back
// without the other unnoticed. Under the lock.
func (e *engine) cutPositions(c *cut) {
	for p, cur := range e.cursors {
		if cur.changed {
			cur.changed = false
			c.moved = append(c.moved, cur)
			c.offsets = append(c.offsets, changelog.Offset{Topic: p.topic, ID: cur.id, Partition: p.n, Next: cur.next, Epoch: cur.epoch})
			e.table.SetPosition(cur.topic, p.n, cur.next)
		}
	}
}

// restBeforeCut is how long what has changed may wait for more; changed is false if nothing has.
func (e *engine) restBeforeCut(now time.Time) (time.Duration, bool) {
	if e.firstChange.IsZero() && !e.table.Changed() && len(e.dead) == 0 {
		return time.Hour, false
	}
	if e.firstChange.IsZero() {
		e.changed(now)
	}
	if e.table.ChangedBytes()+e.deadBytes >= cutAt {
		return 0, true
	}
	return min(e.lastChange.Add(e.cfg.Times.Quiet).Sub(now), e.firstChange.Add(e.cfg.Times.Most).Sub(now)), true
}

// commit writes a cut and hands its requests to the senders. A checkpoint that was certainly not committed (ErrAborted)
// gives everything back; any other failure ends the epoch.
func (e *engine) commit(c *cut) error {
	err := e.changes.Commit(e.ctx, changelog.Checkpoint{Rows: c.table.Rows, Records: c.dead, Offsets: c.offsets})
	now := e.now()
	e.mu.Lock()
	defer e.mu.Unlock()
	name := e.cfg.Name
	switch {
	case e.ctx.Err() != nil:
		return e.ctx.Err()
	case errors.Is(err, changelog.ErrAborted):
		e.cfg.Metrics.Checkpoints.WithLabelValues(name, "aborted").Inc()
		e.log.Warn("a checkpoint was not committed and is made again", zap.Error(err))
		e.refusedCheckpoint(c, err, now)
		e.giveBack(c, now)
		return err
	case err != nil:
		e.cfg.Metrics.Checkpoints.WithLabelValues(name, "ended").Inc()
		return err
	}
	e.cfg.Metrics.Checkpoints.WithLabelValues(name, "committed").Inc()
	e.committed(c, now)
	e.log.Debug("checkpoint", zap.Int("rows", len(c.table.Rows)), zap.Int("requests", len(c.requests)), zap.Int("dead_letters", len(c.dead)), zap.Int("offsets", len(c.offsets)))
	for _, r := range c.requests {
		e.announced(r, now)
		e.requests <- r // there is room: each took a free sender
	}
	return nil
}

func (e *engine) giveBack(c *cut, now time.Time) {
	e.table.GiveBack(c.table)
	for _, r := range c.requests {
		e.unplan(r)
		e.table.Drop(r, now)
	}
	e.free += len(c.requests)
	e.dead = append(c.dead, e.dead...)
	for _, d := range c.dead {
		e.deadBytes += deadletter.Size(d)
	}
	for _, cur := range c.moved {
		cur.changed = true
	}
	e.changed(now)
}
