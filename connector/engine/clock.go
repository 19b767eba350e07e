package engine

import "time"

// clock tells a time that does not go back, and does not jump: what is due is compared with it. It begins at the wall
// clock's time, and goes on with a stopwatch, whatever becomes of the wall clock.
type clock struct {
	began time.Time
	since func() time.Duration // of the beginning
}

func newClock() clock {
	began := time.Now()
	return clock{began: began, since: func() time.Duration { return time.Since(began) }}
}

func (c clock) now() time.Time { return c.began.Add(c.since()) }
