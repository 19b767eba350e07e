package engine

import (
	"context"
	"sync"
	"sync/atomic"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"
	"go.uber.org/zap"

	"segsync/connector/state"
	"segsync/sink"
)

// core is what every part of an engine has: the table and its lock, a clock, and two ways to speak to the engine. No
// part sees the engine itself.
//
// One lock is for all of them. What it guards says so, a method that needs it held ends in Locked, and the analyser
// checklocks holds both to it. No I/O is done under it; the engine's logger hands lines over and never waits.
type core struct {
	cfg    *Config
	log    *zap.Logger
	cl     *kgo.Client // the group's
	sender sink.Destination
	meters *meters
	clock  clock

	ctx      context.Context // ends with the epoch
	ready    *atomic.Bool    // the table is restored, and worked
	draining *atomic.Bool
	nudge    func()      // wakes the checkpointer
	kill     func(error) // ends the epoch at once: nothing is written any more
	spawn    func(func())

	mu *sync.Mutex
	// +checklocks:mu
	table *state.Table
	// +checklocks:mu
	counts Counters
	// +checklocks:mu
	firstChange time.Time
	// +checklocks:mu
	lastChange time.Time
}

// now is what times of the table are compared with.
func (c *core) now() time.Time { return c.clock.now() }

// changedLocked notes that the table differs from the changelog.
//
// +checklocks:c.mu
func (c *core) changedLocked(now time.Time) {
	if c.firstChange.IsZero() {
		c.firstChange = now
	}
	c.lastChange = now
}

// isReady says whether the table is restored, and worked.
func (c *core) isReady() bool { return c.ready.Load() }

// ended says whether the epoch has ended: whatever comes back after that is dropped.
func (c *core) ended() bool { return c.ctx.Err() != nil }

// every calls f again and again, until the epoch has ended.
func (c *core) every(pause time.Duration, f func()) { repeat(c.ctx, pause, f) }

// repeat calls f again and again, until ctx ends.
func repeat(ctx context.Context, pause time.Duration, f func()) {
	t := time.NewTicker(pause)
	defer t.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-t.C:
			f()
		}
	}
}
