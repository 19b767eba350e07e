package engine

import (
	"time"

	"segsync/connector/state"
)

// Counters are what has happened in this process.
type Counters struct {
	Events, DeadLetters, Calls, Imports  uint64
	Failed                               uint64 // attributes that could not be mapped and were left out
	Upserted, Updated, Removed, Rejected uint64 // contacts
	Needed                               uint64 // events that a call each would have been needed for
	Kinds                                CallCounts
}

// Saved is how many calls fewer were made than one for each event that needed one.
func (c Counters) Saved() uint64 {
	if c.Needed < c.Calls {
		return 0
	}
	return c.Needed - c.Calls
}

// Halted is why nothing is sent for a list (0: the account), a source is not read, or no import begins.
type Halted struct {
	List   int64     `json:"list"`
	Code   string    `json:"code"`
	Mend   string    `json:"mend"`
	Source string    `json:"source,omitempty"` // reading of it is stopped
	Since  time.Time `json:"since"`
	Chosen bool      `json:"chosen,omitempty"` // the configuration, a schedule or somebody wants it so: no fault
}

// ExportStatus is how an export stands.
type ExportStatus struct {
	Name     string `json:"name"`
	List     int64  `json:"list"`
	Enabled  bool   `json:"enabled"`
	Doing    string `json:"doing"`    // in one word
	In       int    `json:"in"`       // people delivered into the list
	Withheld int    `json:"withheld"` // removals that wait for approval
	// Freshness is how long the last deliveries took at the median, from what is wanted having changed to its being confirmed;
	// 0: this process has made none.
	Freshness time.Duration `json:"freshness_ns"`
	// LastEvent is when an event was last read of one of its segments, in this process; at first when that began to work.
	LastEvent time.Time `json:"last_event,omitzero"`
	// NextRun is when it is sent next; zero: all the time, now, or when somebody says so.
	NextRun  time.Time `json:"next_run,omitzero"`
	Doubtful int       `json:"doubtful"` // people who are to leave, and whom others may have put in
	// Audited is when the last audit of the list began, and what it found.
	Audited  time.Time       `json:"audited,omitzero"`
	Findings *state.Findings `json:"findings,omitempty"`
}

// What a connection is doing, in one word.
const (
	StateWorking   = "working"
	StateStandby   = "standing by"
	StateWaiting   = "waiting"
	StateRestoring = "taking over"
	StateRetrying  = "retrying"
	StateHeld      = "held"
	StateDraining  = "ending"
	StateAway      = "away"    // no process tells of it
	StatePaused    = "paused"  // of an export
	StateOff       = "off"     // likewise: enabled: false
	StateNotDue    = "not due" // likewise
)

// Status is what a connection is doing.
type Status struct {
	Name        string         `json:"name"`
	State       string         `json:"state"` // how far it is: waiting, standby, restoring, running, draining
	Doing       string         `json:"doing"` // what it is doing, in one word
	Why         string         `json:"why,omitempty"`
	Waiting     string         `json:"waiting,omitempty"`
	Owner       string         `json:"owner,omitempty"` // the member that owned it when last balanced
	Owns        bool           `json:"owns"`            // this process works it
	Differs     bool           `json:"configuration_differs,omitempty"`
	Account     string         `json:"account,omitempty"`
	Lag         int64          `json:"lag_records"`
	Pending     int            `json:"pending_contacts"`
	InFlight    int            `json:"in_flight_contacts"`
	Oldest      time.Duration  `json:"oldest_pending_ns"`
	LastSuccess time.Time      `json:"last_success,omitzero"`
	People      int            `json:"people"`
	NoAddress   int            `json:"people_without_address"` // put into a segment
	Contacts    int            `json:"contacts"`
	Withheld    int            `json:"withheld"`
	WithheldOf  map[int64]int  `json:"withheld_of_lists,omitempty"`
	Rejected    int            `json:"rejected"`
	NoContact   int            `json:"no_contact"` // contacts that the account does not have, where none are created (only_existing)
	Unknown     int            `json:"unknown"`
	Imports     int            `json:"imports_in_flight"`
	Auditing    bool           `json:"auditing"`
	Backfills   []Backfill     `json:"backfills,omitempty"`
	Runs        []Run          `json:"runs,omitempty"` // the last ones, the newest first
	Halted      []Halted       `json:"halted,omitempty"`
	Lists       map[int64]int  `json:"delivered_in"`
	Exports     []ExportStatus `json:"exports,omitempty"`
	Counters    Counters       `json:"counters"`
	Failures    []Failure      `json:"attribute_failures,omitempty"` // attributes that were left out in this process
	Table       int            `json:"table_bytes"`
	Restored    int64          `json:"restored_rows"`
}

// Status tells what the engine is doing, as far as it knows it: s is what its connection knows.
func (e *Engine) Status(s *Status) {
	s.Owns = true
	s.Restored = e.epoch.restored.Load()
	if !e.isReady() {
		s.State, s.Doing = "restoring", StateRestoring
		if err := e.proc.Untold(); err != nil {
			s.Waiting = err.Error()
		}
		s.Why = s.Waiting
		return
	}
	s.State = "running"
	if e.draining.Load() {
		s.State = "draining"
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	now := e.now()
	s.Doing, s.Why = e.doingLocked(now)
	t := e.table.Counts()
	s.Account, s.LastSuccess = e.account.key.owner, e.delivery.lastApplied
	s.Lag, s.Pending, s.InFlight = e.reader.lagLocked(), t.Pending, t.InFlight
	s.Oldest = time.Duration(e.table.Oldest(now)) * time.Millisecond
	s.People, s.Contacts, s.Withheld, s.Rejected, s.NoContact, s.Unknown = t.People, t.Contacts, e.table.Withheld(), t.Rejected, t.NoContact, t.Unknown
	s.NoAddress = t.WithoutAddress
	s.Imports, s.Counters, s.Table = len(e.imports.open), e.counts, e.table.Bytes()
	s.Auditing = e.audits.reading != 0
	s.Backfills, s.Runs = e.history.statusLocked(), e.runs.listLocked()
	s.Lists, s.WithheldOf = map[int64]int{}, map[int64]int{}
	for i := range e.cfg.Exports {
		x := &e.cfg.Exports[i]
		s.Lists[x.List] = e.table.In(x.List)
		s.Exports = append(s.Exports, e.exportLocked(x, now))
	}
	for _, list := range e.table.Guarded() {
		s.WithheldOf[list] = e.table.WithheldOf(list, now).Removals
	}
	s.Halted = e.holds.listLocked()
}

// exportLocked is how an export stands.
//
// +checklocks:e.mu
func (e *Engine) exportLocked(x *Export, now time.Time) ExportStatus {
	s := ExportStatus{Name: x.Name, List: x.List, Enabled: x.Enabled, Doing: e.exportDoingLocked(x, now), In: e.table.In(x.List), Withheld: e.table.WithheldOf(x.List, now).Removals, Doubtful: e.table.Doubts(x.List)}
	s.Freshness = e.delivery.fresh.median(x.List)
	s.LastEvent = e.workers.heardLocked(x)
	if d := e.schedules.all[x.Name]; d != nil {
		s.NextRun = d.next()
	}
	if a := e.table.AuditOf(x.List); !a.Began.IsZero() {
		found := a.Found
		if told, ok := e.audits.found[x.List]; ok { // with examples
			found = told
		}
		s.Audited, s.Findings = a.Began, &found
	}
	return s
}

// exportDoingLocked is what is done for an export, in one word.
//
// +checklocks:e.mu
func (e *Engine) exportDoingLocked(x *Export, now time.Time) string {
	doing, _ := e.doingLocked(now)
	paused := e.holds.hasLocked(holdKey{place{list: x.List}, codePaused}) || e.holds.hasLocked(holdKey{code: codePaused})
	switch {
	case !x.Enabled:
		return StateOff
	case e.holds.atLocked(place{}) || e.holds.atLocked(place{list: x.List}) || e.holds.atLocked(place{source: e.cfg.Sources[x.Source].Name}):
		return StateHeld
	case paused:
		return StatePaused
	case e.holds.hasLocked(holdKey{place{list: x.List}, codeNotDue}):
		return StateNotDue
	case doing == StateHeld: // something else is
		return StateWorking
	}
	return doing
}

// doingLocked is what the engine is doing, in one word, and why.
//
// +checklocks:e.mu
func (e *Engine) doingLocked(now time.Time) (state, why string) {
	t := e.delivery.troubles
	switch {
	case e.draining.Load():
		return StateDraining, "what is in flight is finished"
	case e.holds.faultsLocked():
		return StateHeld, e.holds.textLocked()
	case t.registry.lasts(now):
		return StateWaiting, "for the schema registry " + t.registry.text()
	case t.api.lasts(now):
		return StateRetrying, t.api.text()
	}
	return StateWorking, ""
}

// Counters are what has been counted.
func (e *Engine) Counters() Counters {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.counts
}

// Left is what a bounded run waits for.
type Left struct {
	Records int64
	Pending int    // contacts that can go
	Stuck   string // why what is left cannot be worked off; "": it can
	Done    bool
}

// Left says what is left before the ends of the partitions, and of what was read of them; ready is false if the engine
// does not know yet.
func (e *Engine) Left(ends map[Partition]int64) (l Left, ready bool) {
	if !e.isReady() {
		return l, false
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	l.Records = e.reader.leftLocked(ends)
	l.Pending = e.table.Counts().Pending - e.table.Held()
	if e.holds.hasLocked(importsStuck) {
		l.Pending = max(0, l.Pending-e.imports.waitingLocked())
	}
	l.Records += e.history.leftLocked(-1)
	if l.Records == 0 && l.Pending == 0 && e.schedules.owedLocked() && !e.holds.faultsLocked() {
		return l, true
	}
	if l.Records == 0 && e.history.owedLocked() && !e.holds.sourcesLocked() {
		return l, true // it ends with the next checkpoint
	}
	read, over := l.Records == 0, l.Records == 0 && l.Pending == 0
	if e.holds.sourcesLocked() || e.holds.atLocked(place{}) && read || over && e.holds.faultsLocked() {
		l.Stuck = e.holds.textLocked()
		return l, true
	}
	l.Done = over && len(e.imports.open) == 0 && !e.audits.owedLocked(e.now()) && e.checkpointer.settledLocked() && e.reader.held.Load() == 0
	return l, true
}

// Waits says whether a bounded run may take its time: an import or an audit is under way or owed, or the call budget is
// used up for the moment.
func (e *Engine) Waits() bool {
	if !e.isReady() {
		return false
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	now := e.now()
	return len(e.imports.open) > 0 || e.audits.reading != 0 || e.audits.owedLocked(now) || e.checkpointer.planning.planner.Resting(now)
}
