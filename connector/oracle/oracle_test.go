package oracle

import (
	"fmt"
	"os"
	"strconv"
	"testing"
	"testing/synctest"
	"time"

	"github.com/twmb/franz-go/pkg/kfake"
	"go.uber.org/zap"
	"go.uber.org/zap/zaptest"

	"segsync/sink/sandbox"
)

func testLog(t *testing.T) *zap.Logger {
	if os.Getenv("SEGSYNC_LOG") == "" {
		return zap.NewNop()
	}
	return zaptest.NewLogger(t)
}

// seeds runs f for SEED, or for n seeds (fewer with the race detector).
func seeds(t *testing.T, n int, f func(t *testing.T, seed uint64)) {
	t.Helper()
	if s := os.Getenv("SEED"); s != "" {
		seed := parseSeed(t, s)
		synctest.Test(t, func(t *testing.T) { f(t, seed) })
		return
	}
	for seed := range max(1, n/slower) {
		t.Run(fmt.Sprintf("seed=%d", seed), func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) { f(t, uint64(seed)) })
		})
	}
}

func parseSeed(t *testing.T, s string) uint64 {
	t.Helper()
	seed, err := strconv.ParseUint(s, 10, 64)
	if err != nil {
		t.Fatal(err)
	}
	return seed
}

func newWorld(t *testing.T, s sandbox.Options, ways ...uint64) *World { // a seed of ways; none: events are told in one
	t.Helper()
	vn := &kfake.VirtualNetwork{}
	w, err := NewWorld(WorldOptions{
		Network: vn, APIAddr: "127.0.0.1:8080", RegAddr: "127.0.0.1:8081", Partitions: 3, Sandbox: s, Log: testLog(t), Ways: sum(ways),
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(w.Close)
	return w
}

// start begins a life that ends with the test.
func (w *World) start(t *testing.T, instance string) *Process {
	t.Helper()
	p, err := w.Start(instance, w.Cutter())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { p.Kill(); p.Wait() })
	return p
}

// converge waits until the lists are right, and fails with what is wrong.
func (w *World) converge(t *testing.T, within time.Duration) {
	t.Helper()
	end := time.Now().Add(within)
	for {
		wrong := w.Wrong()
		if len(wrong) == 0 {
			return
		}
		if time.Now().After(end) {
			for _, x := range wrong {
				t.Error(x)
			}
			t.FailNow()
		}
		time.Sleep(3 * time.Second)
	}
}

func TestListsConvergeToWhatTheEventsSay(t *testing.T) {
	seeds(t, 10, func(t *testing.T, seed uint64) {
		w := newWorld(t, sandbox.Options{Latency: 20 * time.Millisecond, ImportTime: 5 * time.Second, Seed: seed})
		p := w.start(t, "a")
		if err := w.Produce(t.Context(), History(seed, DefaultShape(time.Now()))...); err != nil {
			t.Fatal(err)
		}
		w.converge(t, 10*time.Minute)
		p.Stop()
	})
}

func sum(all []uint64) (n uint64) {
	for _, x := range all {
		n += x
	}
	return n
}

// inWays is a shape in which everything may be said in several ways.
func (s Shape) inWays() Shape {
	s.Lapses, s.Keep, s.Plain = true, true, false
	return s
}

// However the events are put into records - several people in one, what they join and leave in lists, profiles on a topic of
// their own, memberships that lapse - the lists are the same.
func TestListsConvergeInWhateverWayEventsAreTold(t *testing.T) {
	seeds(t, 40, func(t *testing.T, seed uint64) {
		w := newWorld(t, sandbox.Options{Latency: 20 * time.Millisecond, ImportTime: 5 * time.Second, Seed: seed}, seed+1)
		p := w.start(t, "a")
		if err := w.Produce(t.Context(), History(seed, DefaultShape(time.Now()).inWays())...); err != nil {
			t.Fatal(err)
		}
		w.converge(t, 10*time.Minute)
		time.Sleep(12 * time.Minute) // everything that lapses has
		w.converge(t, time.Minute)
		w.promises(t)
		p.Stop()
	})
}
