package connector

import "segsync/connector/engine"

// Status tells what the connection is doing.
func (c *Connection) Status() Status {
	c.mu.Lock()
	e, standby := c.engine, c.member
	s := Status{Name: c.cfg.Name, State: "standby", Doing: engine.StateStandby, Waiting: c.waiting, Owner: c.balancer.Owner(), Differs: c.balancer.Differs(), Counters: c.last}
	c.mu.Unlock()
	switch {
	case e != nil:
		e.Status(&s)
	case standby:
		s.Why = s.Waiting
	default:
		s.State, s.Doing, s.Why = "waiting", engine.StateWaiting, s.Waiting
	}
	s.Counters, s.Failures = c.counted(s.Counters), c.process.Failures()
	return s
}

// counted adds the calls that were made to what an epoch has counted.
func (c *Connection) counted(n Counters) Counters {
	n.Kinds = c.cfg.Metrics.CallsOf(c.cfg.Name)
	n.Calls = n.Kinds.All
	return n
}
