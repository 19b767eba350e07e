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
