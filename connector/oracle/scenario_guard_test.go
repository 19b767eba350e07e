package oracle

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"segsync/connector"
	"segsync/connector/commands"
	"segsync/sink/sandbox"
)

// guarded gives list 42 a guard of three tenths.
func (s *scene) guarded() {
	s.Tune = func(c *connector.Config) { c.Exports[0].Guard = connector.Guard{Share: 0.3, AtLeast: 5} }
}

// settled waits until nothing is owed, and nothing unknown.
func (s *scene) settled() {
	s.t.Helper()
	s.until("nothing is owed", 10*time.Minute, func() bool { st := s.status(); return st.Pending+st.Unknown == 0 && st.State == "running" })
}

// full begins a life that puts a crowd into list 42, and waits until nothing is owed.
func (s *scene) full(n int) {
	s.t.Helper()
	s.crowd(n)
	s.begin()
	s.until("all in", 10*time.Minute, func() bool { return len(s.Sandbox.List(42)) == n })
	s.settled()
}

// leaves lets everybody of a crowd leave.
func (s *scene) leaves(segment string, from, to int) {
	s.t.Helper()
	for i := from; i < to; i++ {
		s.exit(fmt.Sprint("crowd-", i), segment)
	}
}

func (s *scene) withheld() bool { return s.status().Withheld > 0 && s.halted("guard") }

// S18, S63: removals that are withheld are told with their numbers; additions and offsets go on; a restart does not let
// them go.
func TestS18TheGuardWithholdsAndNobodyElseWaits(t *testing.T) {
	storm(t, func(s *scene) {
		s.guarded()
		s.full(40)
		var all []Event
		for i := range 40 {
			all = append(all, Event{Person: fmt.Sprint("crowd-", i), Segment: "vip", Partition: -1, At: time.Now().Add(time.Duration(i))})
		}
		if err := s.Produce(s.t.Context(), all...); err != nil {
			s.t.Fatal(err)
		}
		s.until("removals are withheld", 5*time.Minute, s.withheld)
		s.until("the numbers are told", time.Minute, func() bool { // the partitions are read one after another
			return !s.calm() || slices.ContainsFunc(s.status().Halted, func(h connector.Halted) bool {
				return h.Code == "guard" && strings.Contains(h.Mend, "40 people are to leave the list of 40") && strings.Contains(h.Mend, "approve --export export-1")
			})
		})
		s.enter("P", "vip", x) // additions and offsets go on
		s.until("an addition", time.Minute, func() bool { _, in := s.Sandbox.List(42)[x]; return in })
		time.Sleep(5 * time.Second)
		s.kill()
		s.until("still withheld after a restart", time.Minute, s.withheld)
		if n := len(s.Sandbox.List(42)); n < 29 || n < 41 && s.calm() { // in a storm twelve may go before the others are read
			s.t.Errorf("%d are left", n)
		}
		for i := range 40 {
			s.Truth.people[fmt.Sprint("crowd-", i)].in["vip"] = true // what the list holds until somebody decides
		}
	})
}

// S63, S65: what is approved goes, whatever the clock of who approves says; who leaves later is weighed anew.
func TestS65AnApprovalIsNoClock(t *testing.T) {
	for _, approved := range []bool{true, false} {
		t.Run(fmt.Sprint("approved=", approved), func(t *testing.T) {
			play(t, func(s *scene) { // in a storm some leave before the others are read
				s.guarded()
				s.full(40)
				s.stop() // so that all leave at once
				s.leaves("vip", 0, 20)
				s.begin()
				s.until("removals are withheld", 5*time.Minute, s.withheld)
				s.stop()
				decision := commands.Refuse
				if approved {
					decision = commands.Approve
				}
				g := s.give(decision, "export-1")
				s.leaves("vip", 20, 40)
				s.begin()
				s.outcome(g, commands.Done, "d: 20 people")
				s.until("later ones are withheld", 5*time.Minute, func() bool { return s.status().Withheld == 20 && s.halted("guard") })
				time.Sleep(10 * time.Minute)
				want := 20
				if !approved {
					want = 40
				}
				if n := len(s.Sandbox.List(42)); n != want {
					s.t.Errorf("%d are left, not %d", n, want)
				}
			})
		})
	}
}

// S62: a list whom others filled, and a mapping that says out of everybody.
func TestS62AListOfOthersIsGuarded(t *testing.T) {
	storm(t, func(s *scene) {
		s.guarded()
		for i := range 40 {
			s.Sandbox.Put(fmt.Sprintf("crowd%d@example.com", i), []int64{42}, nil)
		}
		for i := range 40 {
			s.say(Event{Person: fmt.Sprint("crowd-", i), Segment: "vip", Partition: -1, Profile: &Profile{Email: fmt.Sprintf("crowd%d@example.com", i)}})
		}
		s.begin()
		s.until("removals are withheld", 5*time.Minute, s.withheld)
		time.Sleep(10 * time.Minute)
		if n := len(s.Sandbox.List(42)); n != 40 {
			s.t.Errorf("%d are left", n)
		}
	})
}

// S64: everybody leaves while it is not known who is in, for the answer to their import was lost.
func TestS64ALostImportDoesNotOpenTheGuard(t *testing.T) {
	storm(t, func(s *scene) {
		s.guarded()
		s.Sandbox.Order(sandbox.Fault{DropAfter: true, Method: "POST", Endpoint: "/contacts", Count: 40})
		s.crowd(40)
		s.begin()
		s.until("the entries are sent", 5*time.Minute, func() bool { return len(s.Sandbox.List(42)) > 20 })
		s.stop()
		s.Sandbox.Mend()
		s.leaves("vip", 0, 40)
		in := len(s.Sandbox.List(42))
		s.begin()
		s.until("removals are withheld", 5*time.Minute, s.withheld)
		time.Sleep(20 * time.Minute)
		if n := len(s.Sandbox.List(42)); n < in {
			s.t.Errorf("%d of %d are left", n, in)
		}
	})
}
