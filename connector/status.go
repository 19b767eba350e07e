package connector

import (
	"time"
)

// Counters are what has happened in this process.
type Counters struct {
	Events, DeadLetters, Calls, Imports  uint64
	Upserted, Updated, Removed, Rejected uint64 // contacts
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

// Status is what a connection is doing.
type Status struct {
	Name     string        `json:"name"`
	State    string        `json:"state"` // waiting, standby, restoring, running, draining
	Waiting  string        `json:"waiting,omitempty"`
	Owner    string        `json:"owner,omitempty"` // the member that owned it when last balanced
	Lag      int64         `json:"lag_records"`
	Pending  int           `json:"pending_contacts"`
	InFlight int           `json:"in_flight_contacts"`
	Oldest   time.Duration `json:"oldest_pending_ns"`
	People   int           `json:"people"`
	Contacts int           `json:"contacts"`
	Withheld int           `json:"withheld"`
	Rejected int           `json:"rejected"`
	Unknown  int           `json:"unknown"`
	Imports  int           `json:"imports_in_flight"`
	Halted   []Halted      `json:"halted,omitempty"`
	Lists    map[int64]int `json:"delivered_in"`
	Counters Counters      `json:"counters"`
	Table    int           `json:"table_bytes"`
	Restored int64         `json:"restored_rows"`
}

// Status tells what the connection is doing.
func (c *Connection) Status() Status {
	c.mu.Lock()
	e, standby, untold := c.engine, c.member, c.untold
	s := Status{Name: c.cfg.Name, State: "standby", Waiting: c.waiting, Owner: c.balancer.Owner(), Counters: c.last}
	c.mu.Unlock()
	if e == nil {
		if !standby {
			s.State = "waiting"
		}
		return s
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	s.Restored = e.restoring.Rows
	if e.table == nil || !e.ready {
		s.State = "restoring"
		if untold != nil {
			s.Waiting = untold.Error()
		}
		return s
	}
	s.State = "running"
	if e.draining.Load() {
		s.State = "draining"
	}
	now := e.now()
	t := &e.table.Counts
	s.Lag, s.Pending, s.InFlight = e.lag(), t.Pending, t.InFlight
	s.Oldest = time.Duration(e.table.Oldest(now)) * time.Millisecond
	s.People, s.Contacts, s.Withheld, s.Rejected, s.Unknown = t.People, t.Contacts, e.table.Withheld(), t.Rejected, t.Unknown
	s.Imports, s.Counters, s.Table = len(e.imports), e.counts, e.table.Bytes()
	s.Lists = map[int64]int{}
	for _, x := range e.cfg.Exports {
		s.Lists[x.List] = e.table.In(x.List)
	}
	s.Halted = e.holds.list()
	return s
}

func (e *engine) counters() Counters {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.counts
}
