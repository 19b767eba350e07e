package engine

import (
	"fmt"
	"time"
)

// breaker holds the account when too many of the last outcomes were rejects, decoding and mapping included.
//
// +checklocksalias:holds.mu=mu
type breaker struct {
	*core
	holds *holds

	// +checklocks:mu
	last recent
	// +checklocks:mu
	tripped bool
}

var breakerOpen = holdKey{code: codeBreaker}

// openLocked says whether it holds the account. It begins to count anew once it does not any more.
//
// +checklocks:b.mu
func (b *breaker) openLocked() bool {
	if b.tripped && !b.holds.hasLocked(breakerOpen) {
		b.last.reset()
		b.tripped = false
	}
	return b.tripped
}

// deliveredLocked counts an outcome that was none.
//
// +checklocks:b.mu
func (b *breaker) deliveredLocked() {
	b.openLocked()
	b.last.note(false)
}

// rejectedLocked counts a reject of any stage.
//
// +checklocks:b.mu
func (b *breaker) rejectedLocked(now time.Time) {
	open := b.openLocked()
	b.last.note(true)
	if open || b.last.rejects < b.cfg.Breaker.Rejects {
		return
	}
	b.tripped = true
	rest := b.cfg.Times.BreakerRest
	b.holds.addLocked(breakerOpen, hold{
		mend: fmt.Sprintf("%d of the last %d records or contacts were rejected: look at the dead letters' reasons, mend the mapping or the source; it goes on by itself after %s", b.cfg.Breaker.Rejects, b.cfg.Breaker.OfLast, rest),
		next: now.Add(rest),
	}, now)
}

// recent counts rejects among the last outcomes.
type recent struct {
	ring    []bool
	at      int
	rejects int
}

func (r *recent) note(rejected bool) {
	if r.ring[r.at] {
		r.rejects--
	}
	r.ring[r.at] = rejected
	r.at = (r.at + 1) % len(r.ring)
	if rejected {
		r.rejects++
	}
}

func (r *recent) reset() {
	clear(r.ring)
	r.rejects, r.at = 0, 0
}
