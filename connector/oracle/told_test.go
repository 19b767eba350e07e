package oracle

import (
	"fmt"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"segsync/connector"
	"segsync/sink/sandbox"
)

// scrape gives a life's gauges as a scrape would: by name, and by name and label value.
func (s *scene) scrape(p *Process) map[string]float64 {
	s.t.Helper()
	reg := prometheus.NewPedanticRegistry()
	reg.MustRegister(connector.NewCollector([]connector.Told{p.Connection}))
	families, err := reg.Gather()
	if err != nil {
		s.t.Fatal(err)
	}
	all := map[string]float64{}
	for _, f := range families {
		for _, m := range f.Metric {
			name := f.GetName()
			for _, l := range m.Label {
				if l.GetName() != "connection" && l.GetName() != "list" {
					name += " " + l.GetValue()
				}
			}
			all[name] = m.GetGauge().GetValue()
		}
	}
	return all
}

// S80: through an outage and a hold, what a scrape says is true each second: who waits is pending and gets
// older, and the state is told in one word.
func TestS80WhatIsToldIsTrueAtEachSecond(t *testing.T) {
	for name, c := range map[string]struct {
		fault  sandbox.Fault
		state  string
		within time.Duration
		reason string
	}{
		"503":     {sandbox.Fault{Status: 503, Count: -1}, "retrying", 15 * time.Second, ""},
		"a hang":  {sandbox.Fault{Hang: true, Count: -1}, "retrying", 15 * time.Second, ""},
		"refused": {sandbox.Fault{Status: 401, Body: `{"code":"unauthorized","message":"Key not found"}`, Count: -1}, "held", 5 * time.Second, "unauthorized"},
	} {
		t.Run(name, func(t *testing.T) {
			play(t, func(s *scene) {
				s.begin()
				s.enter("P", "vip", x)
				s.list(42, time.Minute, x)
				s.settled()
				if m := s.scrape(s.p); m["segsync_state working"] != 1 || m["segsync_owner"] != 1 || m["segsync_pending_contacts"] != 0 || m["segsync_last_success_timestamp_seconds"] == 0 {
					s.t.Errorf("at rest: %v", m)
				}
				s.Sandbox.Order(c.fault)
				began := time.Now()
				s.enter("Q", "vip", y)
				for range 160 {
					time.Sleep(time.Second)
					m, age := s.scrape(s.p), time.Since(began)
					if age < 2*time.Second {
						continue
					}
					if m["segsync_pending_contacts"] != 1 || m["segsync_pending_oldest_seconds"] < age.Seconds()-2 || m["segsync_pending_oldest_seconds"] > age.Seconds() {
						s.t.Fatalf("after %s: %v pending, the oldest for %v s", age, m["segsync_pending_contacts"], m["segsync_pending_oldest_seconds"])
					}
					if age > c.within && m["segsync_state "+c.state] != 1 {
						s.t.Fatalf("after %s it is not told as %s: %v, %s", age, c.state, m, s.status().Why)
					}
					if c.reason != "" && age > c.within && m["segsync_halted "+c.reason] != 1 {
						s.t.Fatalf("after %s no halt is told: %v", age, m)
					}
				}
				s.Sandbox.Mend()
				s.list(42, 10*time.Minute, x, y)
				s.settled()
				if m := s.scrape(s.p); m["segsync_state working"] != 1 || m["segsync_pending_oldest_seconds"] != 0 || m["segsync_halted "+c.reason] != 0 {
					s.t.Errorf("after it: %v", m)
				}
			})
		})
	}
}

// S80: the guard and a takeover are told as they are at each second: at most one process says that it is the owner, and
// only the owner has series of the table.
func TestS80TheGuardAndATakeoverAreTold(t *testing.T) {
	play(t, func(s *scene) {
		s.guarded()
		s.full(40)
		s.stop() // so that all leave at once
		s.leaves("vip", 0, 40)
		s.begin()
		s.until("removals are withheld", 5*time.Minute, s.withheld)
		b := s.second()
		guarded := func(p *Process) bool {
			m := s.scrape(p)
			return m["segsync_owner"] == 1 && m["segsync_withheld_removals"] == 40 && m["segsync_halted guard"] == 1 && m["segsync_pending_contacts"] == 40
		}
		for range 30 {
			time.Sleep(time.Second)
			if !guarded(s.p) {
				s.t.Fatalf("the guard is not told: %v", s.scrape(s.p))
			}
			m := s.scrape(b)
			if _, table := m["segsync_table_people"]; table || m["segsync_owner"] != 0 || m["segsync_state standing by"] != 1 {
				s.t.Fatalf("the standby is told as %v", m)
			}
		}
		s.p.Dialer.Refuse(10 * time.Minute)
		cut := time.Now()
		for !guarded(b) {
			time.Sleep(time.Second)
			if s.scrape(s.p)["segsync_owner"]+s.scrape(b)["segsync_owner"] > 1 {
				s.t.Fatalf("two say that they are the owner: %v, %v", s.scrape(s.p), s.scrape(b))
			}
			if time.Since(cut) > time.Minute {
				s.t.Fatalf("after a minute the takeover is not told: %v, %v", s.scrape(s.p), s.scrape(b))
			}
		}
		for range 30 {
			time.Sleep(time.Second)
			m := s.scrape(s.p)
			if _, table := m["segsync_table_people"]; table || m["segsync_owner"] != 0 || !guarded(b) {
				s.t.Fatalf("after the takeover: %v, %v", m, s.scrape(b))
			}
		}
		if n := len(s.Sandbox.List(42)); n != 40 {
			s.t.Errorf("%d are left", n)
		}
		for i := range 40 {
			s.Truth.people[fmt.Sprint("crowd-", i)].in["vip"] = true // what the list holds until somebody decides
		}
		b.Stop()
	})
}

// Reports of processes that have died long ago, and had names that do not come back, are taken away.
func TestReportsOfTheDeadGo(t *testing.T) {
	play(t, func(s *scene) {
		s.Tune = func(c *connector.Config) { c.Instance = "" }
		reports := func() (all []connector.Report) {
			c, err := s.config("", s.Cutter())
			if err != nil {
				s.t.Fatal(err)
			}
			told, err := connector.Reports(s.t.Context(), c.Kafka, prefix)
			if err != nil {
				s.t.Fatal(err)
			}
			return told[connection]
		}
		s.begin()
		time.Sleep(time.Minute)
		s.die()
		time.Sleep(25 * time.Hour)
		s.begin()
		time.Sleep(time.Minute)
		if n := len(reports()); n != 2 {
			s.t.Errorf("there are %d reports", n)
		}
		time.Sleep(time.Hour)
		if all := reports(); len(all) != 1 || time.Since(all[0].At) > 2*time.Hour {
			s.t.Errorf("%+v", all)
		}
	})
}
