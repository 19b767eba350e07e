// Package backoff spaces what is tried again: each pause twice the one before, up to a bound.
package backoff

import (
	"context"
	"math/bits"
	"math/rand/v2"
	"time"
)

// Pause is how long to wait after so many failures in a row (0: the first): first, doubled with each, most at the most.
func Pause(first, most time.Duration, failures int) time.Duration {
	if first <= 0 || most <= first {
		return max(first, 0)
	}
	room := bits.LeadingZeros64(uint64(first)) - 1 // doublings before it overflows
	return min(first<<max(0, min(failures, room)), most)
}

// Jitter is a random part of a pause, up to all of it: whoever failed together does not come back together.
func Jitter(pause time.Duration) time.Duration {
	return rand.N(pause + 1) //nolint:gosec // no secret
}

// Sleep waits for a while, or until ctx has ended.
func Sleep(ctx context.Context, pause time.Duration) {
	t := time.NewTimer(pause)
	defer t.Stop()
	select {
	case <-t.C:
	case <-ctx.Done():
	}
}
