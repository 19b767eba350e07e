package oracle

import (
	"fmt"
	"testing"
	"time"

	"segsync/connector"
	"segsync/sink/sandbox"
)

// audit waits for the next audit of list 42 to be finished.
func (s *scene) audit(within time.Duration) (f *connector.Findings) {
	s.t.Helper()
	last := s.status().Exports[0].Audited
	s.until("an audit", within, func() bool {
		for _, x := range s.status().Exports {
			if x.List == 42 && !x.Audited.Equal(last) {
				f = x.Findings
			}
		}
		return f != nil
	})
	return f
}

// slowAudit lets the next audit's export take so many milliseconds, and waits for its beginning.
func (s *scene) slowAudit(takes int) {
	s.t.Helper()
	s.Sandbox.Order(sandbox.Fault{Endpoint: "/contacts/export", ImportTime: takes})
	exports := s.exports()
	s.until("an audit begins", 3*time.Hour, func() bool { return s.exports() > exports })
}

// hourly lets lists be audited each hour.
func (s *scene) hourly(repair bool) {
	s.Tune = func(c *connector.Config) { c.Audit.Every, c.Audit.Repair = time.Hour, repair }
}

// writes is how many calls have changed something.
func (s *scene) writes() int { return (&matrix{World: s.World}).writes() }

func TestS55AnAuditWhilePeopleComeAndGo(t *testing.T) {
	for name, export := range map[string]sandbox.Fault{
		"ten minutes": {ImportTime: 600_000},
		"fails":       {Import: "failed", ImportTime: 20_000, Count: 2},
		"refused":     {Status: 403, Body: `{"code":"permission_denied","message":"Access denied for resource"}`, Count: -1},
		"unanswered":  {Status: 500, Count: 3},
	} {
		for _, dies := range []bool{false, true} {
			t.Run(fmt.Sprintf("the export: %s, a takeover=%v", name, dies), func(t *testing.T) {
				orStorm(t, dies, func(s *scene) { s.audited(export, dies) })
			})
		}
	}
}

func (s *scene) audited(export sandbox.Fault, dies bool) {
	s.hourly(true)
	s.Sandbox.Order(sandbox.Fault{Endpoint: "/contacts/import", ImportTime: 5000, LoseRows: 0.1})
	export.Endpoint = "/contacts/export"
	s.Sandbox.Order(export)
	s.crowd(300)
	s.enterAll("gone", "vip", 20)
	s.begin()
	s.until("an export is asked for", 10*time.Minute, func() bool { return s.exports() > 0 })
	if dies {
		s.kill()
	}
	for i := range 60 {
		s.enter(fmt.Sprint("new-", i), "vip", fmt.Sprintf("new%d@example.com", i)) // they are not in the export
		s.exit(fmt.Sprint("gone-", i%20), "vip")                                   // they are
		s.say(Event{Person: fmt.Sprint("crowd-", i), Segment: "vip", In: true, Partition: -1, Profile: &Profile{Email: fmt.Sprintf("c%d@example.com", i), First: "Changed"}})
		time.Sleep(2 * time.Second)
	}
	s.converge(s.t, 2*time.Hour)
	if !s.calm() {
		return
	}
	f := s.audit(90 * time.Minute) // the next hour's
	if f.Wrong() > 0 || f.Listed == 0 {
		s.t.Errorf("nothing is wrong, and an audit found %+v", f)
	}
	before := s.writes()
	s.audit(90 * time.Minute)
	if n := s.writes() - before; n > 0 {
		s.t.Errorf("%d calls for whom nothing is wrong", n)
	}
}

// What is sent while an export is under way is not in it: that is no finding.
func TestS55AnAuditKnowsWhatIsNewerThanItsExport(t *testing.T) {
	play(t, func(s *scene) {
		s.hourly(true)
		s.begin()
		s.enter("P", "vip", x)
		s.enter("Q", "vip", y)
		s.list(42, time.Minute, x, y)
		s.slowAudit(60_000)
		s.enter("R", "vip", z)
		s.exit("Q", "vip")
		s.say(Event{Person: "P", Segment: "vip", In: true, Partition: -1, Profile: &Profile{Email: x, First: "New"}})
		s.list(42, 20*time.Second, x, z)
		before := s.writes()
		if f := s.audit(10 * time.Minute); f.Wrong() > 0 || f.Skipped != 2 || f.Listed != 2 {
			s.t.Errorf("nothing is wrong, and an audit found %+v", f)
		}
		time.Sleep(time.Minute)
		if n := s.writes() - before; n > 0 {
			s.t.Errorf("%d calls for whom nothing is wrong", n)
		}
	})
}

// A file that holds a part of the list tells nothing: nobody is sent again for it.
func TestS55AnExportThatIsCutOff(t *testing.T) {
	play(t, func(s *scene) {
		s.past = true
		s.Sandbox.Order(sandbox.Fault{Endpoint: "/contacts/export", LoseRows: 0.8})
		s.enterAll("crowd", "vip", 1000)
		s.begin()
		s.converge(s.t, 10*time.Minute)
		before := s.writes()
		if f := s.audit(time.Hour); f.Lost > 0 || f.Listed != 1000 {
			s.t.Errorf("%+v", f)
		}
		if n := s.writes() - before; n > 0 {
			s.t.Errorf("%d calls for whom nothing is wrong", n)
		}
	})
}

func TestS56AContactThatIsTakenOutByHand(t *testing.T) {
	for _, repair := range []bool{false, true} {
		t.Run(fmt.Sprint("repair=", repair), func(t *testing.T) {
			storm(t, func(s *scene) { s.takenOut(repair) })
		})
	}
}

func (s *scene) takenOut(repair bool) {
	s.hourly(repair)
	s.begin()
	names := []string{"before", "during", "after", "unsubscribed", "changed", "deleted"}
	for _, n := range names {
		s.enter(n, "vip", n+"@example.com")
	}
	s.until("all are in", time.Minute, func() bool { return s.Sandbox.Len(42) == len(names) })
	if !s.calm() { // what had no answer in the storm is sent once more, and would put them back
		time.Sleep(30 * time.Minute)
	}
	in := func(name string) bool { _, ok := s.Sandbox.List(42)[name+"@example.com"]; return ok }
	s.Sandbox.TakeOut("before@example.com", 42)
	s.Sandbox.TakeOut("unsubscribed@example.com", 42)
	s.Sandbox.Unsubscribe("unsubscribed@example.com")
	s.Sandbox.Drop("deleted@example.com")
	s.Sandbox.Put("changed@example.com", nil, map[string]any{"FIRSTNAME": "Other"})
	s.Sandbox.Put("extra@example.com", []int64{42}, nil)
	s.slowAudit(60_000)
	s.Sandbox.TakeOut("during@example.com", 42) // the export has it
	f := s.audit(10 * time.Minute)
	s.Sandbox.TakeOut("after@example.com", 42)
	if f.Missing != 2 || f.Unsubscribed != 1 || f.Skipped != 0 || f.Changed != 1 || f.Extra != 1 || f.Lost != 0 {
		s.t.Errorf("%+v", f)
	}
	time.Sleep(5 * time.Minute)
	if in("unsubscribed") || !in("extra") || in("before") != repair || in("deleted") != repair || in("during") || in("after") {
		s.t.Errorf("the list holds %v", s.Sandbox.List(42))
	}
	if first := s.Sandbox.List(42)["changed@example.com"]["FIRSTNAME"]; (first == "changed") != repair {
		s.t.Errorf("the changed name is %v", first)
	}
	f = s.audit(2 * time.Hour)
	missing := 4
	if repair {
		missing = 2
	}
	if f.Missing != missing || f.Unsubscribed != 1 {
		s.t.Errorf("the next one found %+v", f)
	}
	time.Sleep(5 * time.Minute)
	if in("unsubscribed") || in("during") != repair || in("after") != repair {
		s.t.Errorf("the list holds %v", s.Sandbox.List(42))
	}
}

// A long history of people who left before segsync came: the list is read once, instead of a call for each 150 of them.
// Those whom others have put in leave.
func TestDoubtIsSettledByAnAudit(t *testing.T) {
	for _, others := range []int{30, 4500} {
		t.Run(fmt.Sprint("others=", others), func(t *testing.T) {
			play(t, func(s *scene) {
				s.past = true
				for i := range others {
					s.Sandbox.Put(fmt.Sprintf("gone%d@example.com", i), []int64{42}, nil)
				}
				s.exitAll("gone", "vip", 5000)
				s.begin()
				s.until("who is in has left", 10*time.Minute, func() bool { return s.Sandbox.Len(42) == 0 })
				s.until("all is settled", 10*time.Minute, func() bool { st := s.status(); return st.Pending == 0 && st.Lag == 0 })
				if n := s.count("POST /contacts/lists/{id}/contacts/remove"); n > others/150+2 {
					s.t.Errorf("%d removals", n)
				}
				if n := s.exports(); n != 1 {
					s.t.Errorf("%d exports", n)
				}
			})
		})
	}
}

// Nor does the guard withhold them for those whom others have put in: the list is read first.
func TestS18DoubtIsNotWeighedBeforeTheListIsRead(t *testing.T) {
	play(t, func(s *scene) {
		s.Tune = func(c *connector.Config) { c.Exports[0].Guard.Share, c.Exports[0].Guard.AtLeast = 0.3, 100 }
		s.past = true
		s.others(6000)
		for i := range 30 {
			s.Sandbox.Put(fmt.Sprintf("gone%d@example.com", i), []int64{42}, nil)
		}
		s.exitAll("gone", "vip", 5000)
		s.begin()
		s.until("who is in has left", 10*time.Minute, func() bool { return s.Sandbox.Len(42) == 6000 })
		if s.halted("guard") || s.status().Withheld > 0 {
			s.t.Errorf("%d are withheld", s.status().Withheld)
		}
	})
}

// A list that the account says is empty holds nobody.
func TestNobodyIsTakenOutOfAnEmptyList(t *testing.T) {
	play(t, func(s *scene) {
		s.past = true
		s.exitAll("gone", "vip", 3000)
		s.begin()
		s.until("all is read and settled", 10*time.Minute, func() bool { st := s.status(); return st.Lag == 0 && st.Counters.Events >= 3000 && st.Pending == 0 })
		if n := s.count("POST /contacts/lists/{id}/contacts/remove") + s.exports(); n > 8 {
			s.t.Errorf("%d calls", n)
		}
	})
}

// exitAll lets people leave a segment in one go, of whom nothing was ever said.
func (s *scene) exitAll(name, segment string, n int) {
	s.t.Helper()
	var all []Event
	for i := range n {
		all = append(all, Event{Person: fmt.Sprintf("%s-%d", name, i), Segment: segment, At: s.when(), Partition: -1, Profile: &Profile{Email: fmt.Sprintf("%s%d@example.com", name, i)}})
	}
	if err := s.Produce(s.t.Context(), all...); err != nil {
		s.t.Fatal(err)
	}
}

// A bounded run ends when its lists were audited, though an export fails at first; what imports have lost is right then.
func TestABoundedRunEndsAudited(t *testing.T) {
	for name, export := range map[string]sandbox.Fault{"fails once": {Status: 500}, "slow": {ImportTime: 150_000}, "always fails": {Status: 500, Count: -1}} {
		t.Run(name, func(t *testing.T) {
			play(t, func(s *scene) {
				s.Sandbox.Order(sandbox.Fault{Endpoint: "/contacts/import", ImportTime: 3000, LoseRows: 0.1})
				export.Endpoint = "/contacts/export"
				s.Sandbox.Order(export)
				s.past = true
				s.enterAll("crowd", "vip", 1000)
				c, err := s.Prepare("once", func(*connector.Config) {})
				if err != nil {
					s.t.Fatal(err)
				}
				if err := c.Once(s.t.Context(), nil); err != nil {
					s.t.Error(err)
				}
				s.converge(s.t, 0)
			})
		})
	}
}

// Nothing of a take-over waits: neither with an empty table nor with one that a predecessor has left a moment ago.
func TestATakeOverDoesNotWait(t *testing.T) {
	play(t, func(s *scene) {
		s.Rate.Share = 0.8 // what is left to others serves a question
		for life := range 4 {
			began := time.Now()
			s.begin()
			for s.status().State != "running" {
				time.Sleep(time.Millisecond)
			}
			if took := time.Since(began); took > 150*time.Millisecond {
				s.t.Errorf("life %d runs after %s", life, took)
			}
			s.enter(fmt.Sprint("P-", life), "vip", fmt.Sprintf("p%d@example.com", life))
			s.until("it is delivered", time.Minute, func() bool { return s.Sandbox.Len(42) == life+1 })
			s.die()
		}
		s.begin()
	})
}
