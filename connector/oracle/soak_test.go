package oracle

import (
	"fmt"
	"maps"
	"os"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

// runs of two sizes: the larger ones make imports.
func matrixRun(t *testing.T, seed uint64) {
	people := 12
	if seed%8 == 7 {
		people = 150
	}
	steps := plan(seed, 40)
	var wrong []string
	ran := t.Run("run", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) { wrong = run(t, seed, steps, people) })
	})
	if len(wrong) == 0 && ran {
		return
	}
	t.Errorf("seed %d: %s\nrepeat it: SEED=%d go test -v ./connector/oracle -run 'TestFaultMatrix$'", seed, strings.Join(wrong, "\n"), seed)
	if os.Getenv("SEED") == "" {
		return
	}
	for _, s := range shrink(t, seed, steps, people) {
		t.Log("  ", s)
	}
}

// shrink leaves away steps for as long as the run still fails, and returns the steps that are left.
func shrink(t *testing.T, seed uint64, steps []step, people int) []step {
	fails := func(steps []step) (failed bool) {
		t.Run("shrink", func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) { failed = len(run(t, seed, steps, people)) > 0 })
		})
		return failed
	}
	for size := len(steps) / 2; size > 0; size /= 2 {
		for at := 0; at+size <= len(steps); {
			if fewer := slices.Concat(steps[:at], steps[at+size:]); fails(fewer) {
				steps = fewer
			} else {
				at += size
			}
		}
	}
	t.Logf("%d steps are left of the failing run:", len(steps))
	return steps
}

// onceFailed are seeds that have found something: a poller that span, more looks than a second has, a number forgotten,
// an unsubscription, a frozen network, an import's losses while all was sent again, time that stood still. With the race
// detector they are few.
var onceFailed = []uint64{4160208, 380043704, 380043736, 11017720, 566536334, 721643775, 677971094}[:max(1, 7/slower)]

func fewSeeds() (seeds []uint64) {
	for seed := range uint64(50 / slower) {
		seeds = append(seeds, seed)
	}
	return seeds
}

// Nothing that goes wrong around segsync leaves a list wrong, breaks a promise, or is worth a call when everything is
// read again. SEED=n repeats a run, and shrinks it if it fails.
func TestFaultMatrix(t *testing.T) {
	if s := os.Getenv("SEED"); s != "" {
		matrixRun(t, parseSeed(t, s))
		return
	}
	for _, seed := range slices.Concat(onceFailed, fewSeeds()) {
		t.Run(fmt.Sprintf("seed=%d", seed), func(t *testing.T) {
			t.Parallel()
			matrixRun(t, seed)
		})
	}
}

// TestSoak runs new seeds of the fault matrix for SEGSYNC_SOAK (make soak FOR=10m) and prints runs, faults by kind and
// failures. It is no part of make test: without the variable it has nothing to do.
func TestSoak(t *testing.T) {
	length, err := time.ParseDuration(os.Getenv("SEGSYNC_SOAK"))
	if err != nil {
		t.Skip("SEGSYNC_SOAK gives no time: make soak FOR=10m")
	}
	end := time.Now().Add(length)
	first := uint64(time.Now().UnixNano()) % 1_000_000_000
	if s := os.Getenv("SEED"); s != "" {
		first = parseSeed(t, s)
	}
	runs, failures := 0, 0
	t.Run("seeds", func(t *testing.T) {
		for seed := first; time.Now().Before(end); seed++ {
			runs++
			if !t.Run(fmt.Sprintf("seed=%d", seed), func(t *testing.T) { matrixRun(t, seed) }) {
				failures++
			}
		}
	})
	for _, k := range slices.Sorted(maps.Keys(struck.kinds)) {
		t.Logf("%6d × %s", struck.kinds[k], k)
	}
	t.Logf("%d runs from seed %d with %d imports, %d failures", runs, first, struck.imports, failures)
}
