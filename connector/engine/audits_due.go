package engine

import (
	"slices"
	"time"
)

// Which lists are audited, and when.

// due picks a list to audit, the one whose last audit is the oldest; 0: none is due. asks says that it should be asked
// first whether the list is empty; pages that an export of it has failed.
func (a *audits) due() (list int64, asks, pages bool) {
	a.mu.Lock()
	defer a.mu.Unlock()
	now := a.now()
	if a.draining.Load() || a.holds.atLocked(place{}) {
		return 0, false, false
	}
	behind := a.reader.behindLocked() || a.history.leftLocked(-1) > behindBy
	bulk := behind || len(a.imports.open) > 0 || now.Sub(a.imports.lastEnd) < auditSettles || a.planning.bulkLocked(now)
	if l := a.askedForLocked(now); l != 0 {
		return l, false, true
	}
	var oldest time.Time
	for _, l := range a.table.Lists() {
		if a.holds.atLocked(place{list: l}) {
			continue
		}
		if a.perhapsEmptyLocked(l, now) {
			return l, true, false
		}
		if now.Before(a.failures[l].again) {
			continue
		}
		last := a.lastLocked(l, now)
		waited := now.Sub(last)
		if list != 0 && !last.Before(oldest) {
			continue
		}
		if a.doubtfulLocked(l) && (!behind || waited > auditRest) || (!bulk || waited > auditLate) && (a.importsUnseenLocked(l, now) || a.scheduledLocked(l, now)) {
			list, oldest = l, last
		}
	}
	return list, false, a.failures[list].tries >= auditTries-1
}

// lastLocked is when the last audit of a list began; without one, since when audits of it are known of.
//
// +checklocks:a.mu
func (a *audits) lastLocked(list int64, now time.Time) time.Time {
	last := a.table.AuditOf(list)
	if last.First.IsZero() {
		last.First = now
		a.table.SetAudit(list, last)
		a.changedLocked(now)
		a.nudge()
	}
	if last.Began.IsZero() {
		return last.First
	}
	return last.Began
}

// importsUnseenLocked says whether a list is to be audited for the imports that have ended. A bounded run does not rest: what
// they have lost is found before it ends.
//
// +checklocks:a.mu
func (a *audits) importsUnseenLocked(list int64, now time.Time) bool {
	last := a.table.AuditOf(list)
	return a.cfg.Audit.AfterImports && last.Due && (last.Began.IsZero() || a.process.Bounded || now.Sub(last.Began) >= auditRest)
}

// scheduledLocked says whether a list of an export is to be audited because the last audit was long ago.
//
// +checklocks:a.mu
func (a *audits) scheduledLocked(list int64, now time.Time) bool {
	fed := slices.ContainsFunc(a.cfg.Exports, func(x Export) bool { return x.List == list })
	return fed && a.cfg.Audit.Every > 0 && now.Sub(a.lastLocked(list, now)) >= a.cfg.Audit.Every
}

// owedLocked says whether a bounded run is not done before a list was audited.
//
// +checklocks:a.mu
func (a *audits) owedLocked(now time.Time) bool {
	for _, l := range a.table.Lists() {
		owed := a.askedLocked(l) != nil || a.table.DoubtsHeld(l) || a.perhapsEmptyLocked(l, now) ||
			a.failures[l].tries < auditTries && (a.doubtfulLocked(l) || a.importsUnseenLocked(l, now))
		if owed && !a.holds.atLocked(place{list: l}) {
			return true
		}
	}
	return false
}

// doubtfulLocked says whether so many may have been put into a list by others, and are to leave it, that reading the list is
// cheaper than taking them out.
//
// +checklocks:a.mu
func (a *audits) doubtfulLocked(list int64) bool {
	return a.table.Doubts(list) > doubtCalls*a.cfg.Limits.Batch && a.failures[list].tries < auditTries && !a.byCalls[list]
}

// perhapsEmptyLocked says whether the account should be asked whether a list is empty before more than a few are taken out in
// case others have put them in.
//
// +checklocks:a.mu
func (a *audits) perhapsEmptyLocked(list int64, now time.Time) bool {
	return a.table.Doubts(list) > a.cfg.Limits.Batch && a.table.Empty(list) && now.Sub(a.asked[list]) > time.Minute && !a.reader.behindLocked() && a.history.leftLocked(-1) <= behindBy
}

// holdDoubtsLocked keeps such removals back until the list was read, or the account was asked. Before anything is
// planned.
//
// +checklocks:a.mu
func (a *audits) holdDoubtsLocked(now time.Time) {
	for _, l := range a.table.Lists() {
		reads := a.reading == l && a.table.DoubtsHeld(l)
		a.table.HoldDoubts(l, reads || a.doubtfulLocked(l) || a.perhapsEmptyLocked(l, now), now)
	}
}
