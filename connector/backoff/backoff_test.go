package backoff

import (
	"testing"
	"time"
)

func TestPausesDoubleUpToABound(t *testing.T) {
	for _, c := range []struct {
		first, most time.Duration
		failures    int
		want        time.Duration
	}{
		{time.Second, time.Minute, 0, time.Second},
		{time.Second, time.Minute, 3, 8 * time.Second},
		{time.Second, time.Minute, 6, time.Minute},
		{time.Second, time.Minute, 1 << 30, time.Minute},
		{time.Second, time.Minute, -1, time.Second},
		{time.Minute, time.Second, 2, time.Minute},
		{time.Hour, 1 << 62, 40, 1 << 62},
		{0, time.Minute, 5, 0},
	} {
		if got := Pause(c.first, c.most, c.failures); got != c.want {
			t.Errorf("%+v: %s", c, got)
		}
	}
}

func TestJitterStaysWithinThePause(t *testing.T) {
	for range 1000 {
		if j := Jitter(time.Millisecond); j < 0 || j > time.Millisecond {
			t.Fatal(j)
		}
	}
	if j := Jitter(0); j != 0 {
		t.Error(j)
	}
}
