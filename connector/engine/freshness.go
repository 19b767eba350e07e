package engine

import (
	"slices"
	"time"
)

// freshMost is of how many deliveries of a list its freshness is, at most; of half as many at least, once there were.
const freshMost = 128

// freshness keeps, of each list, how long its last deliveries took: from what is wanted having changed to its being confirmed.
type freshness map[int64]*[]time.Duration

func (f freshness) note(list int64, took time.Duration) {
	last := f[list]
	if last == nil {
		last = new([]time.Duration)
		f[list] = last
	}
	if len(*last) == freshMost {
		*last = slices.Delete(*last, 0, freshMost/2)
	}
	*last = append(*last, took)
}

// median is that of the last deliveries of a list; 0: there was none.
func (f freshness) median(list int64) time.Duration {
	last := f[list]
	if last == nil {
		return 0
	}
	sorted := slices.Sorted(slices.Values(*last))
	return sorted[len(sorted)/2]
}
