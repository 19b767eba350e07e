package engine

import (
	"errors"
	"fmt"
	"time"

	"go.uber.org/zap"

	"segsync/connector/backoff"
	"segsync/connector/state"
	"segsync/sink"
)

// guard withholds mass removals: the table weighs them (state's guard.go), and this part tells of it, and asks how large
// the lists are.
//
// +checklocksalias:holds.mu=mu
type guard struct {
	*core
	holds *holds
}

// weighLocked lets the table weigh the removals that are pending, and tells of lists whose removals are withheld, and when
// that has ended. Before anything is planned.
//
// +checklocks:g.mu
func (g *guard) weighLocked(now time.Time) {
	g.table.Weigh(now)
	for _, list := range g.table.Guarded() {
		k := holdKey{place{list: list}, codeGuard}
		w := g.table.WithheldOf(list, now)
		switch {
		case w.Since.IsZero():
			g.holds.releaseLocked(k, now)
		case g.holds.hasLocked(k):
			g.holds.retellLocked(k, g.mendLocked(list, w))
		default:
			g.holds.addLocked(k, hold{mend: g.mendLocked(list, w), partial: true}, now)
		}
	}
}

// mendLocked says what to do about the withheld removals of a list.
//
// +checklocks:g.mu
func (g *guard) mendLocked(list int64, w state.Withheld) string {
	for _, x := range g.cfg.Exports {
		if x.List == list {
			return fmt.Sprintf("%d people are to leave the list of %d (%d have left it within the hour), more than the guard of export %s allows (%.0f %%, at least %d): none of them goes until segsync approve --export %s lets them go, or segsync refuse --export %s keeps them in",
				w.Removals, w.People, w.Hour, x.Name, 100*x.Guard.Share, x.Guard.AtLeast, x.Name, x.Name)
		}
	}
	export := retiredLists(g.table)[list]
	return fmt.Sprintf("%d people are to leave the list of %d, which export %s feeds no more: none of them goes until segsync approve --export %s lets them go, or segsync refuse --export %s keeps them in", w.Removals, w.People, export, export, export)
}

// How often lists are asked for their size, and again where one was not told.
const (
	sizeEvery = 24 * time.Hour
	sizeAgain = 30 * time.Second
)

// sizes asks for the real size of each guarded list, at first and once a day: others put people in, too.
func (g *guard) sizes() {
	for {
		g.mu.Lock()
		lists := g.table.Guarded()
		g.mu.Unlock()
		pause := sizeEvery
		var told []string
		for _, list := range lists {
			info, err := g.sender.List(g.ctx, list)
			if g.ctx.Err() != nil {
				return
			}
			var o *sink.OutcomeError
			switch {
			case err == nil:
				g.mu.Lock()
				told = append(told, fmt.Sprintf("%d %s (%d contacts)", list, info.Name, info.Contacts))
				g.table.Size(list, info.Contacts, g.now())
				g.mu.Unlock()
				g.nudge()
			case errors.As(err, &o) && o.Outcome.Absent:
				g.mu.Lock()
				g.table.Size(list, 0, g.now()) // what is sent there will tell
				g.mu.Unlock()
				g.nudge()
			default:
				g.log.Debug("a list's size is not told", zap.Int64("list", list), zap.Error(err))
				pause = sizeAgain
			}
		}
		if len(told) > 0 {
			g.log.Info("the lists", zap.Strings("lists", told))
		}
		backoff.Sleep(g.ctx, pause)
		if g.ctx.Err() != nil {
			return
		}
	}
}
