package engine

import (
	"sync"
	"time"
)

// unknownSchemas is since when the registry has not known schema ids, for the whole process: a topic full of one waits
// once, not at every record, nor in every epoch. An id that becomes known is not asked for again.
type unknownSchemas struct {
	mu    sync.Mutex
	since map[string]time.Time // by the error that names the id
}

// unknownMost bounds the ids that are remembered: records that are no events may name any number.
const unknownMost = 10_000

func (u *unknownSchemas) lasts(err error) time.Duration {
	u.mu.Lock()
	defer u.mu.Unlock()
	since, ok := u.since[err.Error()]
	if !ok {
		if u.since == nil || len(u.since) >= unknownMost {
			u.since = map[string]time.Time{}
		}
		since = time.Now()
		u.since[err.Error()] = since
	}
	return time.Since(since)
}
