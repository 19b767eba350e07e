package engine

import (
	"context"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"

	"segsync/connector/state"
)

// newCore is a core without Kafka, of an empty table.
func newCore(t *testing.T, cfg Config) *core {
	cfg.Name = "test"
	full := cfg.WithDefaults()
	table := state.New(full.tableConfig())
	if _, err := table.Ready(time.Now()); err != nil {
		t.Fatal(err)
	}
	return &core{
		cfg: &full, log: zap.NewNop(), meters: full.Metrics.of("test"), clock: newClock(), ctx: context.Background(), mu: &sync.Mutex{}, table: table,
		ready: &atomic.Bool{}, draining: &atomic.Bool{}, nudge: func() {}, kill: func(error) {}, spawn: func(f func()) { go f() },
	}
}

func TestTheBreakerCountsAmongTheLast(t *testing.T) {
	c := newCore(t, Config{Breaker: Breaker{Rejects: 3, OfLast: 10}})
	b := &breaker{core: c, holds: &holds{core: c, all: map[holdKey]*hold{}}, last: recent{ring: make([]bool, 10)}}
	b.mu.Lock()
	defer b.mu.Unlock()
	now, k := c.now(), breakerOpen
	for i := range 100 { // one in five for ever
		if b.deliveredLocked(); i%5 == 0 {
			b.rejectedLocked(now)
		}
	}
	if b.holds.hasLocked(k) {
		t.Fatal("one reject in six trips it")
	}
	b.rejectedLocked(now)
	b.rejectedLocked(now)
	if !b.openLocked() || !b.holds.hasLocked(k) || !b.holds.faultsLocked() {
		t.Error("three among ten do not trip it")
	}
	b.holds.releaseLocked(k, now)
	if b.openLocked() {
		t.Error("it stays open when it is released")
	}
	for i := range 3 {
		if b.rejectedLocked(now); b.openLocked() != (i == 2) {
			t.Errorf("after a reset it trips at reject %d: %v", i+1, b.openLocked())
		}
	}
}

// One reason's end does not end another's.
func TestReasonsAreASet(t *testing.T) {
	c := newCore(t, Config{Exports: []Export{{Enabled: true, Name: "x", List: 42}}})
	h := &holds{core: c, all: map[holdKey]*hold{}}
	h.mu.Lock()
	defer h.mu.Unlock()
	now := c.now()
	one, two := holdKey{place{list: 42}, "one"}, holdKey{place{list: 42}, "two"}
	h.addLocked(one, hold{mend: "a"}, now)
	h.addLocked(one, hold{mend: "again"}, now)
	h.addLocked(two, hold{mend: "b", chosen: true}, now)
	if all := h.listLocked(); len(all) != 2 || all[0].Mend != "a" || h.textLocked() != "one: a" {
		t.Errorf("%+v, %q", all, h.textLocked())
	}
	h.releaseLocked(one, now)
	h.releaseLocked(one, now)
	if !h.hasLocked(two) || h.faultsLocked() || h.atLocked(place{list: 42}) {
		t.Errorf("%+v left", h.listLocked())
	}
}

// What is logged never waits for who takes it.
func TestALogThatIsNotTakenHoldsNobodyUp(t *testing.T) {
	taken := make(chan struct{})
	stuck := zap.New(blockedCore{taken})
	l := newLines()
	go l.write(zap.NewNop())
	log := l.logger(stuck)
	done := make(chan struct{})
	go func() {
		defer close(done)
		for range 2 * linesMost {
			log.Warn("x")
		}
	}()
	select {
	case <-done:
	case <-time.After(10 * time.Second):
		t.Fatal("logging waits")
	}
	if n := l.dropped.Load(); n == 0 {
		t.Error("no line was dropped")
	}
	close(taken)
	l.end()
}

// blockedCore takes nothing until its channel is closed.
type blockedCore struct{ taken chan struct{} }

func (b blockedCore) Enabled(zapcore.Level) bool        { return true }
func (b blockedCore) With([]zapcore.Field) zapcore.Core { return b }
func (b blockedCore) Check(e zapcore.Entry, ce *zapcore.CheckedEntry) *zapcore.CheckedEntry {
	return ce.AddCore(e, b)
}
func (b blockedCore) Write(zapcore.Entry, []zapcore.Field) error { <-b.taken; return nil }
func (b blockedCore) Sync() error                                { return nil }
