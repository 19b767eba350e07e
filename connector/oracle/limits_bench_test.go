//go:build bench && !race

package oracle

import (
	"testing"
	"testing/synctest"
	"time"
)

// TestBenchAtTheRealLimits fills a list with 300,000 people, of 400,000 who come and some of whom leave, at the account's real limits, in fake time.
func TestBenchAtTheRealLimits(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		backlog{people: 400_000, name: 8, rowTime: 100 * time.Microsecond}.play(t).check(t)
	})
}

// TestBenchABackfillOfAMillion reads a million people again beside live changes, at the account's real limits, in fake time: they
// are delivered within ten minutes beside the imports' own time.
func TestBenchABackfillOfAMillion(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := backlog{people: 1_000_000, name: 8, rowTime: 100 * time.Microsecond, backfill: true}.play(t)
		m.check(t)
		if beside := m.took - m.imports; beside > 10*time.Minute {
			t.Errorf("%s beside the imports' own time", beside)
		}
	})
}
