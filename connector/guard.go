package connector

import (
	"errors"
	"fmt"
	"time"

	"go.uber.org/zap"

	"segsync/sink"
)

// weigh lets the table weigh the removals that are pending, and tells of lists whose removals are withheld, and when
// that has ended. Under the lock, before anything is planned.
func (e *engine) weigh(now time.Time) {
	e.table.Weigh(now)
	for _, list := range e.table.Guarded() {
		k := holdKey{place{list: list}, codeGuard}
		w := e.table.WithheldOf(list, now)
		switch {
		case w.Since.IsZero():
			e.holds.release(k, now)
		case e.holds.has(k):
			e.holds.retell(k, e.guardMend(list, w.Removals, w.Hour, w.People))
		default:
			e.holds.add(k, hold{mend: e.guardMend(list, w.Removals, w.Hour, w.People), partial: true}, now)
		}
	}
}

func (e *engine) guardMend(list int64, removals, hour, people int) string {
	for _, x := range e.cfg.Exports {
		if x.List == list {
			return fmt.Sprintf("%d people are to leave the list of %d (%d have left it within the hour), more than the guard of export %s allows (%.0f %%, at least %d): none of them goes until segsync approve --export %s lets them go, or segsync refuse --export %s keeps them in",
				removals, people, hour, x.Name, 100*x.Guard.Share, x.Guard.AtLeast, x.Name, x.Name)
		}
	}
	export := retiredLists(e.table)[list]
	return fmt.Sprintf("%d people are to leave the list of %d, which export %s feeds no more: none of them goes until segsync approve --export %s lets them go, or segsync refuse --export %s keeps them in", removals, people, export, export, export)
}

// How often lists are asked for their size, and again where one was not told.
const (
	sizeEvery = 24 * time.Hour
	sizeAgain = 30 * time.Second
)

// sizes asks for the real size of each guarded list, at first and once a day: others put people in, too.
func (e *engine) sizes() {
	for {
		e.mu.Lock()
		lists := e.table.Guarded()
		e.mu.Unlock()
		pause := sizeEvery
		var told []string
		for _, list := range lists {
			info, err := e.sender.List(e.ctx, list)
			if e.ctx.Err() != nil {
				return
			}
			var o *sink.OutcomeError
			switch {
			case err == nil:
				e.mu.Lock()
				told = append(told, fmt.Sprintf("%d %s (%d contacts)", list, info.Name, info.Contacts))
				e.table.Size(list, info.Contacts, e.now())
				e.mu.Unlock()
				e.nudge()
			case errors.As(err, &o) && o.Outcome.Absent:
				e.mu.Lock()
				e.table.Size(list, 0, e.now()) // what is sent there will tell
				e.mu.Unlock()
				e.nudge()
			default:
				e.log.Debug("a list's size is not told", zap.Int64("list", list), zap.Error(err))
				pause = sizeAgain
			}
		}
		if len(told) > 0 {
			e.log.Info("the lists", zap.Strings("lists", told))
		}
		sleep(e.ctx, pause)
		if e.ctx.Err() != nil {
			return
		}
	}
}
