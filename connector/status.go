package connector

import (
	"fmt"
	"time"

	"go.uber.org/zap"

	"segsync/connector/state"
	"segsync/sink"
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

// counted adds the calls that were made to what an epoch has counted.
func (c *Connection) counted(n Counters) Counters {
	n.Kinds = c.cfg.Metrics.CallsOf(c.cfg.Name)
	n.Calls = n.Kinds.All
	return n
}

// Halted is why nothing is sent for a list (0: the account).
type Halted struct {
	List   int64     `json:"list"`
	Code   string    `json:"code"`
	Mend   string    `json:"mend"`
	Source string    `json:"source,omitempty"` // reading of it is stopped
	Since  time.Time `json:"since"`
	Chosen bool      `json:"chosen,omitempty"` // the configuration wants it so: no fault
}

// ExportStatus is how an export stands.
type ExportStatus struct {
	Name     string `json:"name"`
	List     int64  `json:"list"`
	Enabled  bool   `json:"enabled"`
	In       int    `json:"in"`       // people delivered into the list
	Withheld int    `json:"withheld"` // removals that wait for approval
	Doubtful int    `json:"doubtful"` // people who are to leave, and whom others may have put in
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
	Contacts    int            `json:"contacts"`
	Withheld    int            `json:"withheld"`
	WithheldOf  map[int64]int  `json:"withheld_of_lists,omitempty"`
	Rejected    int            `json:"rejected"`
	Unknown     int            `json:"unknown"`
	Imports     int            `json:"imports_in_flight"`
	Auditing    bool           `json:"auditing"`
	Halted      []Halted       `json:"halted,omitempty"`
	Lists       map[int64]int  `json:"delivered_in"`
	Exports     []ExportStatus `json:"exports,omitempty"`
	Counters    Counters       `json:"counters"`
	Table       int            `json:"table_bytes"`
	Restored    int64          `json:"restored_rows"`
}

// Status tells what the connection is doing.
func (c *Connection) Status() Status {
	c.mu.Lock()
	e, standby, untold := c.engine, c.member, c.untold
	s := Status{Name: c.cfg.Name, State: "standby", Doing: StateStandby, Waiting: c.waiting, Owner: c.balancer.Owner(), Differs: c.balancer.Differs(), Counters: c.counted(c.last)}
	c.mu.Unlock()
	if e == nil {
		s.Why = s.Waiting
		if !standby {
			s.State, s.Doing = "waiting", StateWaiting
		}
		return s
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	s.Owns = true
	s.Restored = e.restoring.Rows
	if e.table == nil || !e.ready {
		s.State, s.Doing = "restoring", StateRestoring
		if untold != nil {
			s.Waiting = untold.Error()
		}
		s.Why = s.Waiting
		return s
	}
	s.State = "running"
	if e.draining.Load() {
		s.State = "draining"
	}
	now := e.now()
	s.Doing, s.Why = e.doing(now)
	t := &e.table.Counts
	s.Account, s.LastSuccess = e.key.owner, e.lastApplied
	s.Lag, s.Pending, s.InFlight = e.lag(), t.Pending, t.InFlight
	s.Oldest = time.Duration(e.table.Oldest(now)) * time.Millisecond
	s.People, s.Contacts, s.Withheld, s.Rejected, s.Unknown = t.People, t.Contacts, e.table.Withheld(), t.Rejected, t.Unknown
	s.Imports, s.Counters, s.Table = len(e.imports), c.counted(e.counts), e.table.Bytes()
	s.Auditing = e.auditor.reading != 0
	s.Lists, s.WithheldOf = map[int64]int{}, map[int64]int{}
	for _, x := range e.cfg.Exports {
		s.Lists[x.List] = e.table.In(x.List)
		s.Exports = append(s.Exports, e.exportStatus(&x, now))
	}
	for _, list := range e.table.Guarded() {
		s.WithheldOf[list] = e.table.WithheldOf(list, now).Removals
	}
	s.Halted = e.holds.list()
	return s
}

// exportStatus is how an export stands. Under the lock.
func (e *engine) exportStatus(x *Export, now time.Time) ExportStatus {
	s := ExportStatus{Name: x.Name, List: x.List, Enabled: x.Enabled, In: e.table.In(x.List), Withheld: e.table.WithheldOf(x.List, now).Removals, Doubtful: e.table.Doubts(x.List)}
	if a := e.table.AuditOf(x.List); !a.Began.IsZero() {
		found := a.Found
		if told, ok := e.auditor.found[x.List]; ok { // with examples
			found = told
		}
		s.Audited, s.Findings = a.Began, &found
	}
	return s
}

// doing is what the engine is doing, in one word, and why. Under the lock.
func (e *engine) doing(now time.Time) (state, why string) {
	switch {
	case e.draining.Load():
		return StateDraining, "what is in flight is finished"
	case e.holds.faults():
		return StateHeld, e.holds.text()
	case !e.registry.since.IsZero() && now.Sub(e.registry.since) >= tellAfter:
		return StateWaiting, fmt.Sprintf("for the schema registry since %s: %s", e.registry.since.UTC().Format(time.RFC3339), e.registry.why)
	case !e.api.since.IsZero() && now.Sub(e.api.since) >= tellAfter:
		return StateRetrying, fmt.Sprintf("since %s: %s", e.api.since.UTC().Format(time.RFC3339), e.api.why)
	}
	return StateWorking, ""
}

// tellAfter is how long something must go wrong for somebody to be told: what passes by itself is none of their business.
const tellAfter = 10 * time.Second

// trouble is something that goes wrong again and again, and is tried again. Under the lock.
type trouble struct {
	since time.Time
	why   string
	told  bool
}

// is notes that it goes wrong.
func (t *trouble) is(why string, now time.Time) {
	if t.since.IsZero() {
		t.since = now
	}
	t.why = why
}

// over notes that it goes well, and says whether somebody was told that it did not, and for how long it did not.
func (t *trouble) over(now time.Time) (told bool, lasted time.Duration) {
	told, lasted = t.told, now.Sub(t.since)
	*t = trouble{}
	return told, lasted
}

// due says whether it is to be told now.
func (t *trouble) due(now time.Time) bool {
	if t.since.IsZero() || t.told || now.Sub(t.since) < tellAfter {
		return false
	}
	t.told = true
	return true
}

// tellTroubles tells of what has been going wrong for a while, once.
func (e *engine) tellTroubles() {
	e.mu.Lock()
	defer e.mu.Unlock()
	now := e.now()
	for _, began := range e.calling {
		if now.Sub(began) >= tellAfter {
			e.api.is("a call is not answered", began)
		}
	}
	if e.api.due(now) {
		e.log.Warn("retrying: the API does not do what it is asked to", zap.String("why", e.api.why), zap.Time("since", e.api.since))
	}
	if e.registry.due(now) {
		e.log.Warn("waiting for the schema registry", zap.String("why", e.registry.why), zap.Time("since", e.registry.since))
	}
}

// answered notes whether the API does what it is asked to. Under the lock.
func (e *engine) answered(o sink.Outcome, now time.Time) {
	if o.Verdict != sink.Retry {
		if told, lasted := e.api.over(now); told {
			e.log.Info("the API answers again", zap.Duration("after", lasted.Round(time.Second)))
		}
		return
	}
	switch {
	case o.Absent || o.Split || o.Code == "Too Many Requests" || o.Code == "too_many_requests":
	default:
		why := o.Code
		if o.Message != "" {
			why += ": " + o.Message
		}
		e.api.is(why, now)
	}
}

func (e *engine) counters() Counters {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.counts
}
