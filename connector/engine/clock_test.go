package engine

import (
	"testing"
	"time"
)

// S60: the clock goes on with a stopwatch: what the wall clock jumps to meanwhile is not asked for.
func TestS60TheClockDoesNotJump(t *testing.T) {
	c := newClock()
	if d := c.now().Sub(c.began); d < 0 || d > time.Minute {
		t.Errorf("it begins %s off", d)
	}
	elapsed := time.Duration(0)
	c.since = func() time.Duration { return elapsed }
	for range 3 {
		before := c.now()
		elapsed += time.Second
		if d := c.now().Sub(before); d != time.Second {
			t.Errorf("a second takes %s", d)
		}
		if c.now().UnixMilli()-before.UnixMilli() != 1000 { // as rows have it
			t.Error("milliseconds jump")
		}
	}
}
