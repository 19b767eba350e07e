package engine

import (
	"cmp"
	"slices"
	"strings"
	"time"

	"go.uber.org/zap"

	"segsync/sink"
)

// Codes of reasons that are segsync's own; the others are those of answers (sink.Outcome).
const (
	codeBreaker          = "breaker"           // too many rejects
	codeDisabled         = "disabled"          // enabled: false
	codePaused           = "paused"            // somebody has paused it
	codeNotDue           = "not_due"           // it is sent at times
	codeNotRead          = "not_read"          // its segments are read for the first time
	codeGuard            = "guard"             // removals wait for somebody's approval
	codeAccountChanged   = "account_changed"   // the key is another account's
	codeAccountUnchecked = "account_unchecked" // a key's account could not be asked for
	codeAccountShared    = "account_shared"    // another connection works the account
	codeTableDamaged     = "table_damaged"     // rows are missing from the table's topic
	codeSource           = "source"            // reading of a source is stopped
	codeImportStuck      = "import_stuck"      // an import does not end
	codeBudget           = "expression_budget" // an export's expressions are too expensive
)

// place is what a hold concerns: a list, the account (the zero place), a source, or imports.
type place struct {
	list    int64
	source  string
	imports bool
}

// holdKey is one reason at one place.
type holdKey struct {
	place
	code string
}

// hold is why something is not sent or read, and how to mend it.
type hold struct {
	mend    string
	since   time.Time
	probes  bool      // it is tried again by asking the account, slowly
	next    time.Time // when it is tried again; zero: something else ends it
	tries   int
	chosen  bool // the configuration or an operator wants it so: no fault
	partial bool // additions go on: only removals wait
}

// holds are the reasons why something is not sent or read: a set for each place, so that one reason's end does not end
// another's. They are the only ones that hold the table, and that tell of it: log, status and metric.
//
// Races: a list is asked for whether it is well again, a call halts it anew, the answer comes: it is released, and halted
// again by the next call.
type holds struct {
	*core
	// +checklocks:mu
	all map[holdKey]*hold
}

// addLocked holds a place for a reason, if it is not held for it already.
//
// +checklocks:h.mu
func (h *holds) addLocked(k holdKey, why hold, now time.Time) {
	if _, ok := h.all[k]; ok {
		return
	}
	why.since = now
	h.all[k] = &why
	if k.sends() && !why.partial {
		h.table.Hold(k.list, k.code, now)
	}
	if !why.chosen {
		h.log.Error("held", append(k.fields(), zap.String("mend", why.mend))...)
	}
}

// haltLocked holds a list or the account because of an answer. It is asked for again, slowly.
//
// +checklocks:h.mu
func (h *holds) haltLocked(o sink.Outcome, now time.Time) {
	h.addLocked(holdKey{place{list: o.List}, o.Code}, hold{mend: o.Mend, probes: true, next: now.Add(h.cfg.Times.Probe)}, now)
}

// retellLocked changes what a reason's mend says.
//
// +checklocks:h.mu
func (h *holds) retellLocked(k holdKey, mend string) {
	if why, ok := h.all[k]; ok {
		why.mend = mend
	}
}

// releaseLocked ends a reason, if it stands.
//
// +checklocks:h.mu
func (h *holds) releaseLocked(k holdKey, now time.Time) {
	why, ok := h.all[k]
	if !ok {
		return
	}
	delete(h.all, k)
	if k.sends() && !why.partial {
		h.table.Release(k.list, k.code, now)
	}
	if !why.chosen {
		h.log.Info("resumed", append(k.fields(), zap.Duration("after", now.Sub(why.since).Round(time.Second)))...)
	}
	h.nudge() // the checkpointer lets reading go on
}

// releaseSourceLocked ends all reasons for which a source is not read.
//
// +checklocks:h.mu
func (h *holds) releaseSourceLocked(source string, now time.Time) {
	for k := range h.all {
		if k.source == source {
			h.releaseLocked(k, now)
		}
	}
}

// hasLocked says whether a reason stands.
//
// +checklocks:h.mu
func (h *holds) hasLocked(k holdKey) bool { _, ok := h.all[k]; return ok }

// atLocked says whether a place is held by a fault.
//
// +checklocks:h.mu
func (h *holds) atLocked(p place) bool {
	for k, why := range h.all {
		if k.place == p && !why.chosen && !why.partial {
			return true
		}
	}
	return false
}

// faultsLocked says whether anything is held that somebody has to see to.
//
// +checklocks:h.mu
func (h *holds) faultsLocked() bool {
	for _, why := range h.all {
		if !why.chosen && !why.partial {
			return true
		}
	}
	return false
}

// sourceLocked lists the codes for which a source is not read.
//
// +checklocks:h.mu
func (h *holds) sourceLocked(source string) (codes []string) {
	for k := range h.all {
		if k.source == source {
			codes = append(codes, k.code)
		}
	}
	return codes
}

// sourcesLocked says whether reading of any source is stopped.
//
// +checklocks:h.mu
func (h *holds) sourcesLocked() bool {
	for k := range h.all {
		if k.source != "" {
			return true
		}
	}
	return false
}

// listLocked tells of all reasons, in a fixed order.
//
// +checklocks:h.mu
func (h *holds) listLocked() []Halted {
	all := make([]Halted, 0, len(h.all))
	for k, why := range h.all {
		all = append(all, Halted{List: k.list, Code: k.told(), Mend: why.mend, Source: k.source, Since: why.since, Chosen: why.chosen})
	}
	slices.SortFunc(all, func(a, b Halted) int {
		return cmp.Or(cmp.Compare(a.List, b.List), cmp.Compare(a.Source, b.Source), cmp.Compare(a.Code, b.Code), cmp.Compare(a.Mend, b.Mend))
	})
	return all
}

// textLocked joins the reasons that are faults.
//
// +checklocks:h.mu
func (h *holds) textLocked() string {
	var all []string
	for _, x := range h.listLocked() {
		if !x.Chosen {
			all = append(all, x.Code+": "+x.Mend)
		}
	}
	return strings.Join(all, "; ")
}

// sends says whether the reason keeps something from being sent.
func (k holdKey) sends() bool { return k.source == "" && !k.imports }

// told is the reason as operators know it: whatever stops a source is "source".
func (k holdKey) told() string {
	if k.source != "" {
		return codeSource
	}
	return k.code
}

func (k holdKey) fields() []zap.Field {
	f := []zap.Field{zap.String("reason", k.told())}
	switch {
	case k.source != "":
		f = append(f, zap.String("source", k.source))
	case k.list != 0:
		f = append(f, zap.Int64("list", k.list))
	}
	return f
}
