package oracle

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"segsync/connector"
	"segsync/connector/commands"
	"segsync/sink/sandbox"
)

func TestS2AnImportOutlivesItsSender(t *testing.T) {
	storm(t, func(s *scene) {
		s.Sandbox.Order(sandbox.Fault{Endpoint: "/contacts/import", ImportTime: 60_000})
		s.crowd(200)
		s.begin()
		s.until("an import", time.Minute, func() bool { return s.count("POST /contacts/import") > 0 })
		time.Sleep(time.Second)
		for range 10 { // ten takeovers in a row pile up none: promises()
			s.kill()
			time.Sleep(3 * time.Second)
		}
		s.exit("crowd-150", "vip")
		s.until("the import's end", 5*time.Minute, func() bool { return s.Sandbox.Unfinished() == 0 })
		s.converge(s.t, 20*time.Minute)
	})
}

// crowd puts many people in, enough for an import.
func (s *scene) crowd(n int) {
	s.t.Helper()
	var all []Event
	for i := range n {
		all = append(all, Event{Person: fmt.Sprintf("crowd-%d", i), Segment: "vip", In: true, At: time.Now().Add(time.Duration(i) * time.Microsecond), Partition: -1, Profile: &Profile{Email: fmt.Sprintf("c%d@example.com", i), First: "C"}})
	}
	if err := s.Produce(s.t.Context(), all...); err != nil {
		s.t.Fatal(err)
	}
}

// The answer to an import is lost, or its sender: it runs at once, runs later, never comes, comes after four minutes.
func TestS3AnImportIsLost(t *testing.T) {
	for name, f := range map[string]sandbox.Fault{
		"ran at once":              {DropAfter: true},
		"runs later":               {DropAfter: true, ImportTime: 400_000},
		"never comes":              {LateMillis: 100 * 3_600_000},
		"comes after four minutes": {LateMillis: 240_000},
	} {
		for _, dies := range []bool{false, true} {
			t.Run(fmt.Sprintf("%s, its sender dies=%v", name, dies), func(t *testing.T) {
				orStorm(t, dies, func(s *scene) { s.lost(f, dies) })
			})
		}
	}
}

func (s *scene) lost(f sandbox.Fault, dies bool) {
	f.Endpoint = "/contacts/import"
	if dies {
		f.AnswerMillis = 500
	}
	s.Sandbox.Order(f)
	s.past = true
	s.enterAll("crowd", "vip", 400)
	s.begin()
	s.until("an import", time.Minute, func() bool { return s.count("POST /contacts/import") > 0 })
	if dies {
		time.Sleep(100 * time.Millisecond)
		s.kill()
	}
	lost := time.Now()
	time.Sleep(2 * time.Second)
	s.exit("crowd-150", "vip") // it is in the import
	s.enter("P", "vip", x)
	if s.calm() { // who is in no import does not notice
		s.until("somebody else enters", 3*time.Second, func() bool { _, in := s.Sandbox.List(42)[x]; return in })
	}
	s.converge(s.t, time.Hour) // promises(): no write to its contacts while it could run
	if took := time.Since(lost); s.calm() && f.ImportTime == 0 && took > 30*time.Second {
		s.t.Errorf("right after %s", took)
	}
	time.Sleep(15 * time.Minute) // whatever comes late
	s.converge(s.t, 0)
	if n := s.count("GET /processes"); s.calm() && n > 40 {
		s.t.Errorf("%d looks", n)
	}
}

// Killed every two seconds for a minute, in a first fill by imports: right within a minute of the last kill.
func TestS3KilledAgainAndAgain(t *testing.T) {
	for _, f := range []sandbox.Fault{{}, {AnswerMillis: 1500, Count: -1}, {ImportTime: 8000, AnswerMillis: 700, Count: -1}} {
		t.Run(fmt.Sprintf("an answer takes %d ms", f.AnswerMillis), func(t *testing.T) {
			play(t, func(s *scene) {
				f.Endpoint = "/contacts/import"
				s.Sandbox.Order(f)
				s.past = true
				s.enterAll("crowd", "vip", 3000)
				s.begin()
				for range 30 {
					time.Sleep(2 * time.Second)
					s.kill()
				}
				s.converge(s.t, time.Minute)
				if n := s.count("GET /processes"); n > 60 {
					s.t.Errorf("%d looks", n)
				}
			})
		})
	}
}

func TestS4AnImportThatHangs(t *testing.T) {
	storm(t, func(s *scene) {
		s.hangs()
		s.enter("P", "vip", x) // others go on
		s.until("somebody else enters", 5*time.Minute, func() bool { _, ok := s.Sandbox.List(42)[x]; return ok })
		s.Sandbox.Unhang()
		s.converge(s.t, time.Hour)
	})
}

// An import that hangs does not keep those waiting who are in none, long before it is found to be stuck.
func TestS4OthersDoNotWaitForAnImportThatHangs(t *testing.T) {
	for name, f := range map[string]sandbox.Fault{"known": {}, "lost": {DropAfter: true}} {
		t.Run(name, func(t *testing.T) {
			play(t, func(s *scene) {
				f.Endpoint, f.Import = "/contacts/import", "hang"
				s.Sandbox.Order(f)
				s.past = true
				s.enterAll("crowd", "vip", 300)
				s.begin()
				s.until("an import", time.Minute, func() bool { return s.count("POST /contacts/import") > 0 })
				in := s.Sandbox.Len(42)
				s.enterAll("others", "vip", 400)
				s.until("the others are in", 10*time.Minute, func() bool { return s.Sandbox.Len(42) >= in+400 })
				s.Sandbox.Unhang()
				s.converge(s.t, time.Hour)
			})
		})
	}
}

// stuck is how long an import may take in the scenarios of imports that hang.
const stuck = 15 * time.Minute

func (s *scene) hurry() { s.Tune = func(c *connector.Config) { c.Times.ImportStuck = stuck } }

// hangs lets an import hang until imports are halted.
func (s *scene) hangs() {
	s.t.Helper()
	s.hurry()
	s.Sandbox.Order(sandbox.Fault{Endpoint: "/contacts/import", Import: "hang"})
	s.crowd(200)
	s.begin()
	s.until("imports are halted, naming the process", 2*stuck, func() bool {
		return slices.ContainsFunc(s.status().Halted, func(h connector.Halted) bool {
			return h.Code == "import_stuck" && strings.Contains(h.Mend, "process ")
		})
	})
}

// An import that hangs is found out though no life lasts as long as that takes.
func TestS4AnImportThatHangsThroughRestarts(t *testing.T) {
	play(t, func(s *scene) {
		s.hurry()
		s.Sandbox.Order(sandbox.Fault{Endpoint: "/contacts/import", Import: "hang"})
		s.crowd(200)
		s.begin()
		s.until("an import", time.Minute, func() bool { return s.count("POST /contacts/import") > 0 })
		for range 3 {
			time.Sleep(stuck / 3)
			s.kill()
		}
		s.until("imports are halted", stuck/3, func() bool { return s.halted("import_stuck") })
		s.Sandbox.Unhang()
		s.converge(s.t, time.Hour)
	})
}

// The answer to the POST was lost, and it hangs: which process it is cannot be known.
func TestS4AnImportThatHangsAndWhoseAnswerIsLost(t *testing.T) {
	storm(t, func(s *scene) {
		s.Sandbox.Order(sandbox.Fault{Endpoint: "/contacts/import", Import: "hang", DropAfter: true})
		s.hangs()
		s.Sandbox.Mend()
		s.Sandbox.Unhang()
		s.converge(s.t, time.Hour)
	})
}

// A bounded run ends all the same, and says why: its own import hangs, or that of a process beside it.
func TestS4ABoundedRunWhoseImportHangs(t *testing.T) {
	for _, beside := range []bool{false, true} {
		t.Run(fmt.Sprintf("beside a live run=%v", beside), func(t *testing.T) {
			play(t, func(s *scene) {
				s.hurry()
				s.Sandbox.Order(sandbox.Fault{Endpoint: "/contacts/import", Import: "hang"})
				s.crowd(200)
				if beside {
					s.begin()
					s.until("an import", time.Minute, func() bool { return s.count("POST /contacts/import") > 0 })
				}
				c, err := s.Prepare("once", func(*connector.Config) {})
				if err != nil {
					s.t.Fatal(err)
				}
				ctx, cancel := context.WithTimeout(s.t.Context(), 2*stuck)
				defer cancel()
				if err := c.Once(ctx, nil); !errors.Is(err, connector.ErrHalted) {
					s.t.Errorf("it ends with %v", err)
				}
				s.Sandbox.Unhang()
				if !beside {
					s.begin()
				}
				s.converge(s.t, time.Hour)
			})
		})
	}
}

func TestS53ContactsOfAnImportThatHangsAreFreed(t *testing.T) {
	storm(t, func(s *scene) {
		s.hangs()
		s.stop()
		g := s.give(commands.Retry, "export-1")
		s.freed = true
		s.begin()
		s.outcome(g, commands.Done, "1 imports")
		s.exit("crowd-150", "vip")
		s.enter("crowd-151", "vip", x)
		s.converge(s.t, 10*time.Minute) // without the import
		s.kill()
		s.exit("crowd-152", "vip")
		time.Sleep(12 * time.Minute)
		s.converge(s.t, 0)
		s.until("imports are still halted", time.Minute, func() bool { return s.halted("import_stuck") })
		if s.calm() { // many come, and how the import stands cannot be asked: they do not wait for it
			s.Sandbox.Order(sandbox.Fault{Endpoint: "/processes", Status: 500, Count: -1})
			s.kill()
			for i := range 900 {
				s.enter(fmt.Sprint("more-", i), "vip", fmt.Sprintf("m%d@example.com", i))
			}
			s.converge(s.t, 5*time.Minute)
			s.Sandbox.Mend()
		}
		s.Sandbox.Unhang() // it puts everybody back, as they were
		s.until("it has run", time.Hour, func() bool { return s.Sandbox.Unfinished() == 0 })
		s.converge(s.t, time.Hour)
		time.Sleep(12 * time.Minute)
		s.converge(s.t, 0)
		s.until("nothing is halted", time.Minute, func() bool { return len(s.status().Halted) == 0 && s.status().Imports == 0 })
	})
}

func TestS23WhatAnImportLosesOrRejects(t *testing.T) {
	for name, f := range map[string]sandbox.Fault{
		"rows lost":        {Endpoint: "/contacts/import", LoseRows: 0.2},
		"reports are gone": {Endpoint: "/contacts/import", NoReports: true},
		"failed":           {Endpoint: "/contacts/import", Import: "failed"},
		"cancelled":        {Endpoint: "/contacts/import", Import: "cancelled"},
	} {
		t.Run(name, func(t *testing.T) {
			storm(t, func(s *scene) {
				f.ImportTime = 3000
				s.Sandbox.Order(f)
				s.Sandbox.Put("owner@example.com", nil, map[string]any{"SMS": "33639980099"})
				s.crowd(200)
				s.say(Event{Person: "dup", Segment: "vip", In: true, Partition: -1, Profile: &Profile{Email: z, Phone: "+33639980099"}})
				s.begin()
				s.converge(s.t, time.Hour)
				if s.calm() && s.count("POST /contacts/import") == 0 {
					s.t.Error("no import was made")
				}
			})
		})
	}
}

// One malformed number in an import does not cost the contact: its own call tells that it was the number.
func TestAnImportNamesAContactForItsNumber(t *testing.T) {
	storm(t, func(s *scene) {
		s.Tune = func(c *connector.Config) {
			spec := &c.Sources[0].Spec
			for i := range spec.Attributes {
				if spec.Attributes[i].Name == "SMS" {
					spec.Attributes[i].Expr = "profile.phone" // as it comes
				}
			}
		}
		s.crowd(200)
		s.say(Event{Person: "n/a", Segment: "vip", In: true, Partition: -1, Profile: &Profile{Email: z, First: "Zoe", Phone: "n/a"}})
		s.begin()
		s.until("everybody is in", time.Hour, func() bool { return len(s.Sandbox.List(42)) == 201 })
		s.attribute(42, z, "FIRSTNAME", "Zoe")
		if s.calm() && s.count("POST /contacts/import") == 0 {
			s.t.Error("no import was made")
		}
	})
}

func TestS24AnAddThatFailedIsSettledByAnUpsert(t *testing.T) {
	storm(t, func(s *scene) {
		s.begin()
		s.enter("P", "vip", x)
		s.list(42, time.Minute, x)
		s.exit("P", "vip")
		s.list(42, time.Minute)
		s.Sandbox.Drop(x) // somebody deletes the contact in the account
		s.say(Event{Person: "P", Segment: "vip", In: true, Partition: -1})
		s.list(42, time.Minute, x)
	})
}

func TestS38TwoExportsShareAContactInAnImport(t *testing.T) {
	storm(t, func(s *scene) {
		s.Sandbox.Order(sandbox.Fault{Endpoint: "/contacts/import", ImportTime: 120_000})
		s.crowd(200)
		s.begin()
		s.until("an import", time.Minute, func() bool { return s.count("POST /contacts/import") > 0 })
		s.say(Event{Person: "crowd-120", Segment: "news", In: true, Partition: -1, Profile: &Profile{Email: "c120@example.com", First: "Newest"}})
		s.converge(s.t, 30*time.Minute)
		s.attribute(43, "c120@example.com", "FIRSTNAME", "Newest")
	})
}
