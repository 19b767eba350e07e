package oracle

import (
	"fmt"
	"os"
	"testing"
	"testing/synctest"
	"time"
)

// TestSoak runs new seeds of the kill-and-fault test for SEGSYNC_SOAK (make soak FOR=10m) and prints runs and failures.
// It is no part of make test: without the variable it has nothing to do.
func TestSoak(t *testing.T) {
	length, err := time.ParseDuration(os.Getenv("SEGSYNC_SOAK"))
	if err != nil {
		t.Skip("SEGSYNC_SOAK gives no time: make soak FOR=10m")
	}
	end := time.Now().Add(length)
	first := uint64(time.Now().UnixNano()) % 1_000_000_000
	runs, failures := 0, 0
	for seed := first; time.Now().Before(end); seed++ {
		runs++
		if !t.Run(fmt.Sprintf("seed=%d", seed), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) { killed(t, seed, DefaultShape) })
		}) {
			failures++
			t.Logf("repeat it: SEED=%d go test ./connector/oracle -run 'TestListsAreRightThroughKillsAndFaults$'", seed)
		}
	}
	t.Logf("%d runs from seed %d, %d failures", runs, first, failures)
}
