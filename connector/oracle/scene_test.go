package oracle

import (
	"fmt"
	"maps"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"segsync/connector"
	"segsync/sink/sandbox"
)

// scene is a world for one scenario, with a clock of events.
type scene struct {
	*World
	t *testing.T
	p *Process
	n int

	past  bool // what happens all at once happened an hour ago: it is no live change
	freed bool // contacts of an unfinished import: they are written while it has not ended

	mu      sync.Mutex // of p, while there is a storm
	patient int        // how many times longer than usual to wait: 1 where there is no storm
}

// play runs a scenario in a bubble of its own, beside others.
func play(t *testing.T, f func(s *scene)) {
	t.Helper()
	t.Parallel()
	calm(t, f)
}

// calm runs a scenario in a bubble, and in no storm.
func calm(t *testing.T, f func(s *scene)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		s := newScene(t)
		f(s)
		s.kept()
		s.stop()
	})
}

// kept fails if a promise was broken.
func (s *scene) kept() {
	s.t.Helper()
	for _, b := range s.broken(excuses{duringRun: s.freed}) {
		s.t.Error(b)
	}
}

func newScene(t *testing.T) *scene {
	w := newWorld(t, sandbox.Options{Latency: 20 * time.Millisecond, ImportTime: 2 * time.Second, Observe: tracing(t)})
	return &scene{World: w, t: t, patient: 1}
}

// calm says whether nothing but the scenario's own faults happens: how often and how soon something is done can be told
// then, and what a life knows until it ends.
func (s *scene) calm() bool { return s.patient == 1 }

// begin begins a life.
func (s *scene) begin() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.p = s.start(s.t, "a")
}

// kill ends the present life at once and begins the next. Without one there is nothing to kill.
func (s *scene) kill() {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.p != nil {
		s.p.Kill()
		s.p = s.start(s.t, "a")
	}
}

// die ends the present life at once.
func (s *scene) die() {
	if p := s.take(); p != nil {
		p.Kill()
	}
}

// stop ends the present life in order, if there is one.
func (s *scene) stop() {
	if p := s.take(); p != nil {
		p.Stop()
	}
}

// take leaves the scene without a life.
func (s *scene) take() *Process {
	s.mu.Lock()
	defer s.mu.Unlock()
	p := s.p
	s.p = nil
	return p
}

// life is the present one.
func (s *scene) life() *Process {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.p
}

func (s *scene) say(e Event) {
	s.t.Helper()
	s.n++
	if e.At.IsZero() {
		e.At = time.Now()
	}
	if err := s.Produce(s.t.Context(), e); err != nil {
		s.t.Fatal(err)
	}
	time.Sleep(time.Millisecond) // times are unique
}

// when is when things happen that happen all at once.
func (s *scene) when() time.Time {
	if s.past {
		return time.Now().Add(-time.Hour)
	}
	return time.Now()
}

func (s *scene) enter(person, segment, email string) {
	s.t.Helper()
	s.say(Event{Person: person, Segment: segment, In: true, Partition: -1, Profile: &Profile{Email: email, First: person}})
}

// number is an entry into vip with a telephone number.
func (s *scene) number(person, email, phone string) {
	s.t.Helper()
	s.say(Event{Person: person, Segment: "vip", In: true, Partition: -1, Profile: &Profile{Email: email, First: person, Phone: phone}})
}

func (s *scene) exit(person, segment string) {
	s.t.Helper()
	s.say(Event{Person: person, Segment: segment, Partition: -1})
}

// list waits until a list holds just these addresses.
func (s *scene) list(id int64, within time.Duration, addresses ...string) {
	s.t.Helper()
	slices.Sort(addresses)
	end := time.Now().Add(within * time.Duration(s.patient))
	for {
		have := slices.Sorted(maps.Keys(s.Sandbox.List(id)))
		if slices.Equal(have, addresses) {
			return
		}
		if time.Now().After(end) {
			s.t.Fatalf("list %d holds %v, not %v", id, have, addresses)
		}
		time.Sleep(100 * time.Millisecond)
	}
}

// stays is list, and that it is still so after everything due has happened.
func (s *scene) stays(id int64, addresses ...string) {
	s.t.Helper()
	s.list(id, 20*time.Minute, addresses...)
	time.Sleep(12 * time.Minute)
	s.list(id, 0, addresses...)
}

func (s *scene) attribute(list int64, address, name string, want any) {
	s.t.Helper()
	end := time.Now().Add(15 * time.Minute * time.Duration(s.patient))
	for {
		got := s.Sandbox.List(list)[address][name]
		if fmt.Sprint(got) == fmt.Sprint(want) {
			return
		}
		if time.Now().After(end) {
			s.t.Fatalf("%s of %s is %v, not %v", name, address, got, want)
		}
		time.Sleep(100 * time.Millisecond)
	}
}

func (s *scene) count(endpoint string) int { return s.Sandbox.Stats().Calls[endpoint] }

func (s *scene) status() connector.Status { return s.life().Connection.Status() }

func (s *scene) halted(code string) bool {
	return slices.ContainsFunc(s.status().Halted, func(h connector.Halted) bool { return h.Code == code })
}

// letters says whether there are dead letters.
func (s *scene) letters() bool {
	p := s.Cluster.PartitionInfo(DeadLetters, 0)
	return p != nil && p.HighWatermark > 0
}

// until waits for a condition.
func (s *scene) until(what string, within time.Duration, f func() bool) {
	s.t.Helper()
	within *= time.Duration(s.patient)
	end := time.Now().Add(within)
	for !f() {
		if time.Now().After(end) {
			s.t.Fatalf("not within %s: %s; %+v", within, what, s.status())
		}
		time.Sleep(min(max(50*time.Millisecond, within/1000), time.Second))
	}
}

const x, y, z = "x@example.com", "y@example.com", "z@example.com"
