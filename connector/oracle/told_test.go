package oracle

import (
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"segsync/connector"
	"segsync/sink/sandbox"
)

// scrape gives the present life's gauges as a scrape would: by name, and by name and label value.
func (s *scene) scrape() map[string]float64 {
	s.t.Helper()
	reg := prometheus.NewPedanticRegistry()
	reg.MustRegister(connector.NewCollector([]connector.Told{s.life().Connection}))
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

// S80: through an outage, a hold and the guard, what a scrape says is true each second: who waits is pending and gets
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
				if m := s.scrape(); m["segsync_state working"] != 1 || m["segsync_owner"] != 1 || m["segsync_pending_contacts"] != 0 || m["segsync_last_success_timestamp_seconds"] == 0 {
					s.t.Errorf("at rest: %v", m)
				}
				s.Sandbox.Order(c.fault)
				began := time.Now()
				s.enter("Q", "vip", y)
				for range 160 {
					time.Sleep(time.Second)
					m, age := s.scrape(), time.Since(began)
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
				if m := s.scrape(); m["segsync_state working"] != 1 || m["segsync_pending_oldest_seconds"] != 0 || m["segsync_halted "+c.reason] != 0 {
					s.t.Errorf("after it: %v", m)
				}
			})
		})
	}
}
