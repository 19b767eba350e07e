package oracle

import (
	"math/rand/v2"
	"testing"
	"time"

	"segsync/sink/sandbox"
)

// promises fails if the account has seen a broken one.
func (w *World) promises(t *testing.T) {
	t.Helper()
	for _, b := range w.broken(excuses{}) {
		t.Error(b)
	}
}

// disturb orders random faults of the API.
func (w *World) disturb(r *rand.Rand) {
	faults := []sandbox.Fault{
		{Status: 500, Endpoint: "/contacts"},
		{Status: 524, Body: "<html>a timeout occurred</html>", Endpoint: "/contacts"},
		{Status: 425, Body: `{"code":"account_in_process","message":"wait"}`, Endpoint: "/contacts"},
		{DropAfter: true, Endpoint: "/contacts"},
		{LateMillis: 30_000, Endpoint: "/contacts"},
		{LateMillis: 100_000, Endpoint: "/contacts"},
		{DelayMillis: 3000, Endpoint: "/contacts"},
		{Endpoint: "/contacts/import", DropAfter: true},
		{Endpoint: "/contacts/import", Import: "failed", ImportTime: 4000},
		{Endpoint: "/contacts/import", ImportTime: 60_000},
		{Endpoint: "/contacts/import", LoseRows: 0.3, ImportTime: 3000},
		{Endpoint: "/contacts/import", NoReports: true, ImportTime: 3000},
	}
	for range 1 + r.IntN(3) {
		w.Sandbox.Order(faults[r.IntN(len(faults))])
	}
}

func killed(t *testing.T, seed uint64, shape func(time.Time) Shape) {
	r := rand.New(rand.NewPCG(seed, 3))
	history, ways := shape(time.Now()), uint64(0)
	if seed%3 == 2 {
		history, ways = history.inWays(), seed
	}
	w := newWorld(t, sandbox.Options{
		Latency: 20 * time.Millisecond, ImportTime: 5 * time.Second, Seed: seed,
		Rates: sandbox.Rates{ContactsPerSecond: 10, ContactsPerHour: 36_000, OtherPerHour: 100},
	}, ways)
	events := History(seed, history)
	p := w.start(t, "a")
	for len(events) > 0 {
		n := min(1+r.IntN(len(events)/4+5), len(events))
		if err := w.Produce(t.Context(), events[:n]...); err != nil {
			t.Fatal(err)
		}
		events = events[n:]
		time.Sleep(time.Duration(r.IntN(4000)) * time.Millisecond)
		if r.IntN(2) == 0 {
			w.disturb(r)
		}
		if r.IntN(2) == 0 {
			p.Kill()
			time.Sleep(time.Duration(r.IntN(300)) * time.Millisecond)
			p = w.start(t, "a")
		}
	}
	w.Sandbox.Mend()
	w.converge(t, 2*time.Hour)
	time.Sleep(10 * time.Minute) // what is sent once more after late_apply ends where it was
	w.converge(t, 0)
	w.promises(t)
	p.Stop()
}

func TestListsAreRightThroughKillsAndFaults(t *testing.T) {
	seeds(t, 60, func(t *testing.T, seed uint64) { killed(t, seed, DefaultShape) })
}

func TestListsAreRightThroughKillsAndFaultsWithImports(t *testing.T) {
	seeds(t, 12, func(t *testing.T, seed uint64) {
		killed(t, seed, func(begin time.Time) Shape {
			s := DefaultShape(begin)
			s.People, s.Events, s.Poison = 200, 500, 0.005
			return s
		})
	})
}
