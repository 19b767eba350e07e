package engine

import (
	"context"
	"errors"
	"slices"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"
	"go.uber.org/zap"

	"segsync/connector/backoff"
	"segsync/connector/changelog"
	"segsync/connector/commands"
	"segsync/connector/state"
)

// checkpointer makes the checkpoints: one goroutine, one at a time, the only one that writes rows, dead letters and
// offsets.
//
// Races: a cut is made, rows change, it is committed: the changes belong to the next, for a cut copies its rows. A cut is
// made, it is certainly not committed: all of it is given back, and what it would have announced never was. Whether it was
// committed is not known: the epoch ends, and the next one reads what Kafka has.
//
// +checklocksalias:holds.mu=mu
// +checklocksalias:letters.mu=mu
// +checklocksalias:reader.mu=mu
// +checklocksalias:history.mu=mu
// +checklocksalias:planning.mu=mu
// +checklocksalias:delivery.mu=mu
// +checklocksalias:control.mu=mu
type checkpointer struct {
	*core
	changes  *changelog.Log
	holds    *holds
	letters  *letters
	reader   *reader
	planning *planning
	delivery *delivery
	control  *control
	history  *history
	woken    chan struct{}
	refusals int // checkpoints that were not committed, in a row; this goroutine's
	rows     int // of these, for something else than dead letters
}

// cut is one consistent cut of the engine, as a checkpoint writes it.
type cut struct {
	table    *state.Cut
	requests []*state.Request // announced by it
	letters  []*kgo.Record
	told     []*kgo.Record // what came of commands
	offsets  []changelog.Offset
	moved    []*cursor
}

func (c *cut) checkpoint() changelog.Checkpoint {
	return changelog.Checkpoint{Rows: c.table.Rows, Records: slices.Concat(c.letters, c.told), Offsets: c.offsets}
}

// run makes checkpoints until the epoch ends, or is drained.
func (k *checkpointer) run() error {
	timer := time.NewTimer(time.Hour)
	defer timer.Stop()
	var drainBy time.Time
	for {
		if k.draining.Load() && drainBy.IsZero() {
			drainBy = k.now().Add(k.cfg.Times.Drain)
		}
		k.reader.throttle()
		k.history.throttle()
		c, next := k.cut(drainBy)
		if c != nil {
			switch err := k.commit(c); {
			case errors.Is(err, changelog.ErrAborted): // Kafka refuses it: not again at once
				backoff.Sleep(k.ctx, backoff.Pause(50*time.Millisecond, 5*time.Second, k.refusals-1))
			case err != nil:
				return err
			}
			continue
		}
		if !drainBy.IsZero() && (k.settled() || !k.now().Before(drainBy)) {
			return nil
		}
		timer.Reset(next)
		select {
		case <-k.woken:
		case <-timer.C:
		case <-k.ctx.Done():
			return k.ctx.Err()
		}
	}
}

// settled says whether nothing is in flight and nothing waits to be written.
func (k *checkpointer) settled() bool {
	k.mu.Lock()
	defer k.mu.Unlock()
	return k.settledLocked() && k.reader.held.Load() == k.reader.parked.Load() && !k.history.waitsLocked()
}

// settledLocked says whether no call is under way and nothing waits to be written.
//
// +checklocks:k.mu
func (k *checkpointer) settledLocked() bool {
	return k.delivery.free == k.cfg.Senders && !k.table.Changed() && len(k.letters.waiting) == 0 && !k.control.toldLaterLocked()
}

// cut plans, and cuts if something may go, or if what has changed has waited long enough. Else it says when to look
// again.
func (k *checkpointer) cut(drainBy time.Time) (*cut, time.Duration) {
	k.mu.Lock()
	defer k.mu.Unlock()
	now := k.now()
	due := k.table.Tick(now)
	var requests []*state.Request
	if drainBy.IsZero() {
		requests = k.planning.planLocked(now)
	}
	if len(requests) == 0 && drainBy.IsZero() {
		if wait, changed := k.restLocked(now); wait > 0 {
			return nil, k.nextLocked(now, due, wait, changed)
		}
	}
	c := k.cutLocked(requests)
	if len(requests) == 0 && len(c.offsets) == 0 && len(c.letters)+len(c.told) == 0 && !k.table.Changed() {
		return nil, 50 * time.Millisecond // draining
	}
	c.table = k.table.Cut(requests)
	return c, 0
}

// cutLocked asks each part for its share.
//
// +checklocks:k.mu
func (k *checkpointer) cutLocked(requests []*state.Request) *cut {
	c := &cut{requests: requests, letters: k.letters.cutLocked(), told: k.control.cutLocked()}
	c.moved, c.offsets = k.reader.cutLocked()
	k.history.cutLocked()
	k.firstChange, k.lastChange = time.Time{}, time.Time{}
	return c
}

// nextLocked is how long until a cut may be due, if nothing happens.
//
// +checklocks:k.mu
func (k *checkpointer) nextLocked(now time.Time, due int64, wait time.Duration, changed bool) time.Duration {
	next := time.Hour
	if changed {
		next = min(next, wait)
	}
	if due != 0 {
		next = min(next, time.UnixMilli(due).Sub(now))
	}
	if len(k.control.waiting) > 0 {
		next = min(next, max(k.control.rests.Sub(now), time.Millisecond))
	}
	if at := k.planning.planner.Due(now); !at.IsZero() {
		next = min(next, at.Sub(now))
	}
	return max(next, time.Millisecond)
}

// restLocked is how long what has changed may wait for more; changed is false if nothing has.
//
// +checklocks:k.mu
func (k *checkpointer) restLocked(now time.Time) (wait time.Duration, changed bool) {
	if k.firstChange.IsZero() && !k.table.Changed() && len(k.letters.waiting) == 0 && !k.control.toldLaterLocked() {
		return time.Hour, false
	}
	if k.firstChange.IsZero() {
		k.changedLocked(now)
	}
	if k.table.ChangedBytes()+k.letters.bytes >= cutAt {
		return 0, true
	}
	return min(k.lastChange.Add(k.cfg.Times.Quiet).Sub(now), k.firstChange.Add(k.cfg.Times.Most).Sub(now)), true
}

// begin commits what the take-over has decided, before anything is announced: first starts, a rewind, the rows of the
// configuration.
func (k *checkpointer) begin(ctx context.Context) error {
	k.mu.Lock()
	c := k.cutLocked(nil)
	c.table = k.table.Cut(nil)
	k.mu.Unlock()
	err := k.changes.Commit(ctx, c.checkpoint())
	var refused *changelog.RecordError
	if errors.Is(err, changelog.ErrAborted) && errors.As(err, &refused) && refused.Topic == commands.Topic(k.cfg.Prefix) { // what came of commands can wait
		k.mu.Lock()
		c.told = k.control.refusedLocked(c.told, refused)
		k.mu.Unlock()
		err = k.changes.Commit(ctx, c.checkpoint())
	}
	return err
}

// commit writes a cut and hands its requests to the senders. A checkpoint that was certainly not committed (ErrAborted)
// gives everything back; any other failure ends the epoch.
func (k *checkpointer) commit(c *cut) error {
	err := k.changes.Commit(k.ctx, c.checkpoint())
	now := k.now()
	k.mu.Lock()
	defer k.mu.Unlock()
	switch {
	case k.ended():
		return k.ctx.Err()
	case errors.Is(err, changelog.ErrAborted):
		k.meters.aborted.Inc()
		k.log.Warn("a checkpoint was not committed and is made again", zap.Error(err))
		k.refusedLocked(c, err, now)
		k.giveBackLocked(c, now)
		return err
	case err != nil:
		k.meters.ended.Inc()
		return err
	}
	k.meters.committed.Inc()
	k.refusals, k.rows = 0, 0
	k.holds.releaseLocked(checkpointRefused, now)
	k.letters.committedLocked(len(c.letters), now)
	k.log.Debug("checkpoint", zap.Int("rows", len(c.table.Rows)), zap.Int("requests", len(c.requests)), zap.Int("dead_letters", len(c.letters)), zap.Int("offsets", len(c.offsets)))
	for _, r := range c.requests {
		k.delivery.announcedLocked(r, now)
	}
	return nil
}

// tellsRefusal is after how many refused checkpoints in a row somebody is told.
const tellsRefusal = 3

var checkpointRefused = holdKey{code: "checkpoint_refused"}

// refusedLocked draws the consequences of a checkpoint that Kafka refused, before it is made again.
//
// +checklocks:k.mu
func (k *checkpointer) refusedLocked(c *cut, err error, now time.Time) {
	k.refusals++
	var refused *changelog.RecordError
	if errors.As(err, &refused) && refused.Topic == k.cfg.DeadLetters {
		c.letters = k.letters.refusedLocked(c.letters, refused, now)
		return
	}
	if refused != nil && refused.Topic == commands.Topic(k.cfg.Prefix) {
		c.told = k.control.refusedLocked(c.told, refused)
		return
	}
	if k.rows++; k.rows >= tellsRefusal {
		k.holds.addLocked(checkpointRefused, hold{mend: "Kafka does not take what segsync has to write, so nothing is sent and no offset goes on: " + err.Error(), partial: true}, now)
	}
}

// giveBackLocked gives everything of a cut back to the next.
//
// +checklocks:k.mu
func (k *checkpointer) giveBackLocked(c *cut, now time.Time) {
	k.table.GiveBack(c.table)
	k.planning.dropLocked(c.requests, now)
	k.letters.giveBackLocked(c.letters)
	k.control.giveBackLocked(c.told)
	for _, cur := range c.moved {
		cur.changed = true
	}
	k.changedLocked(now)
}
