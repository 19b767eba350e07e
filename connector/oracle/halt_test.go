package oracle

import (
	"fmt"
	"testing"
	"time"

	"segsync/connector"
	"segsync/connector/commands"
	"segsync/sink/sandbox"
)

func TestHaltsSayHowToMendAndEndByThemselves(t *testing.T) {
	for code, f := range map[string]sandbox.Fault{
		"blocked_ip":         {Status: 401, Body: `{"code":"unauthorized","message":"We have detected you are using an unrecognised IP address 192.0.2.1"}`, Count: -1},
		"not_enough_credits": {Status: 402, Body: `{"code":"not_enough_credits","message":""}`, Count: -1},
		"redirect":           {Status: 301, Header: map[string]string{"Location": "http://localhost:1/"}, Count: -1},
	} {
		t.Run(code, func(t *testing.T) {
			play(t, func(s *scene) {
				s.begin()
				s.until("running", time.Minute, func() bool { return s.status().State == "running" })
				s.Sandbox.Order(f)
				s.enter("P", "vip", x)
				s.until("the halt", time.Minute, func() bool { return s.halted(code) })
				s.enter("Q", "vip", y) // reading goes on
				s.until("reading goes on", time.Minute, func() bool { return s.status().People == 2 })
				time.Sleep(10 * time.Minute)
				s.Sandbox.Mend()
				s.list(42, 10*time.Minute, x, y)
			})
		})
	}
}

// beginInOutage has P in the list, and a life that begins while the API is away.
func (s *scene) beginInOutage() {
	s.t.Helper()
	s.begin()
	s.enter("P", "vip", x)
	s.list(42, time.Minute, x)
	s.stop()
	s.Sandbox.Order(sandbox.Fault{Status: 503, Count: -1})
	s.begin()
}

// An outage of the API stops reading in no life, were it one that begins in it: what is not read might not be kept for
// as long as the outage is.
func TestALifeThatBeginsInAnOutageReads(t *testing.T) {
	storm(t, func(s *scene) {
		s.beginInOutage()
		s.enter("Q", "vip", y)
		s.until("reading", time.Minute, func() bool { return s.status().People == 2 })
		time.Sleep(10 * time.Minute)
		s.Sandbox.Mend()
		s.list(42, 10*time.Minute, x, y)
	})
}

// The account has changed the type of an attribute meanwhile: what is read after it has answered has the new form.
func TestAnAttributeChangesItsTypeInAnOutage(t *testing.T) {
	storm(t, func(s *scene) {
		s.beginInOutage()
		s.Sandbox.Retype("LASTNAME", "date")
		s.until("reading", time.Minute, func() bool { return s.status().State == "running" })
		time.Sleep(time.Minute)
		s.Sandbox.Mend()
		time.Sleep(time.Minute)
		s.say(Event{Person: "Q", Segment: "vip", In: true, Partition: -1, Profile: &Profile{Email: y, Last: "2026-01-02T03:04:05Z"}})
		s.list(42, time.Minute, x, y)
		s.attribute(42, y, "LASTNAME", "2026-01-02")
	})
}

func TestAListThatIsGoneHaltsItsExportAlone(t *testing.T) {
	storm(t, func(s *scene) {
		s.begin()
		s.until("running", time.Minute, func() bool { return s.status().State == "running" })
		s.Sandbox.RemoveList(42)
		s.enter("P", "vip", x)
		s.until("the halt", time.Minute, func() bool { return s.halted("list_gone") })
		s.enter("Q", "news", y)
		s.enter("P", "news", x) // who waits for the one list goes into the other
		s.list(43, time.Minute, x, y)
		s.Sandbox.AddList(42)
		s.list(42, 10*time.Minute, x)
	})
}

func TestS13AListIsExchanged(t *testing.T) {
	storm(t, func(s *scene) {
		s.begin()
		s.enter("P", "vip", x)
		s.list(42, time.Minute, x)
		s.stop()
		s.Sandbox.AddList(50)
		s.Tune = func(c *connector.Config) { c.Exports[0].List = 50 }
		s.begin()
		s.list(50, 5*time.Minute, x) // filled from the table
		s.list(42, 5*time.Minute)    // people leave the old one, through the guard
	})
}

func TestS13ANewSegmentIsReadFromTheStart(t *testing.T) {
	storm(t, func(s *scene) {
		s.enter("Q", "extra", y) // nobody asks for it yet
		s.begin()
		s.enter("P", "vip", x)
		s.list(42, time.Minute, x)
		s.stop()
		s.Tune = func(c *connector.Config) {
			c.Sources[0].Spec.Segments = append(c.Sources[0].Spec.Segments, "extra")
			c.Exports[0].Segments = append(c.Exports[0].Segments, "extra")
		}
		s.begin()
		s.list(42, 5*time.Minute, x, y)
	})
}

// Quiet: reading everything a second time makes no call.
func TestASecondReadingMakesNoCall(t *testing.T) {
	storm(t, func(s *scene) {
		s.begin()
		if err := s.Produce(s.t.Context(), History(5, DefaultShape(time.Now()))...); err != nil {
			s.t.Fatal(err)
		}
		s.converge(s.t, 20*time.Minute)
		time.Sleep(15 * time.Minute)
		s.stop()
		before := s.Sandbox.Stats()
		s.again(commands.Range{})
		s.begin()
		time.Sleep(10 * time.Minute)
		after := s.Sandbox.Stats()
		for name, n := range after.Calls {
			if n != before.Calls[name] && name != "GET /contacts/attributes" {
				s.t.Errorf("%s was called %d times more", name, n-before.Calls[name])
			}
		}
		s.converge(s.t, 0)
	})
}

func TestTopicsByPattern(t *testing.T) {
	storm(t, func(s *scene) {
		s.Tune = func(c *connector.Config) { c.Sources[0].Topics, c.Sources[0].Regex = nil, `^cdp\..*` }
		s.begin()
		s.enter("P", "vip", x)
		s.list(42, 2*time.Minute, x)
	})
}

func TestS25ATruncateHaltsItsSource(t *testing.T) {
	storm(t, func(s *scene) {
		s.Tune = func(c *connector.Config) { c.Sources[0].Spec.HaltWhen = `segment_id == "truncate"` }
		s.begin()
		s.enter("P", "vip", x)
		s.list(42, time.Minute, x)
		s.say(Event{Person: "P", Segment: "truncate", Partition: -1})
		s.until("reading halts", time.Minute, func() bool { return s.halted("source") })
		s.exit("P", "vip")
		time.Sleep(time.Minute)
		s.list(42, 0, x)
		s.Truth.people["P"].in["vip"] = true // the exit has not been read
	})
}

func TestS32ASchemaThatNobodyKnows(t *testing.T) {
	storm(t, func(s *scene) {
		unknown := Event{Poison: []byte{0, 0, 0, 3, 231, 1, 2, 3}, Partition: 0}
		s.begin()
		s.say(unknown)
		s.say(Event{Person: "P", Segment: "vip", In: true, Partition: 0, Profile: &Profile{Email: x}})
		for i := range int32(3) { // every worker's
			s.say(Event{Person: fmt.Sprint("Q-", i), Segment: "vip", In: true, Partition: i, Profile: &Profile{Email: fmt.Sprintf("q%d@example.com", i)}})
		}
		if s.calm() {
			s.list(42, 5*time.Second, "q1@example.com", "q2@example.com") // nobody else waits
		}
		time.Sleep(20 * time.Second)
		if n := s.status().Counters.DeadLetters; n != 0 {
			s.t.Errorf("%d dead letters before the id had its half minute", n)
		}
		s.list(42, 15*time.Second, x, "q0@example.com", "q1@example.com", "q2@example.com")
		if n := s.status().Counters.DeadLetters; n != 1 && s.calm() { // they are a life's
			s.t.Errorf("%d dead letters", n)
		}
		s.say(unknown)
		s.say(Event{Person: "R", Segment: "vip", In: true, Partition: 0, Profile: &Profile{Email: y}})
		if s.calm() { // it has waited once
			s.list(42, 5*time.Second, x, y, "q0@example.com", "q1@example.com", "q2@example.com")
		}
	})
}

// A record that waits for its schema holds up no drain.
func TestS32ADrainWhileASchemaIsUnknown(t *testing.T) {
	play(t, func(s *scene) {
		s.begin()
		s.enter("P", "vip", x)
		s.list(42, time.Minute, x)
		s.say(Event{Poison: []byte{0, 0, 0, 3, 231, 1, 2, 3}, Partition: 0})
		time.Sleep(3 * time.Second)
		began := time.Now()
		s.stop()
		if took := time.Since(began); took > 3*time.Second {
			s.t.Errorf("the drain took %s", took)
		}
		s.begin()
		s.until("its dead letter", time.Minute, s.letters)
	})
}

func TestS49ACrashInTheMiddleOfARewind(t *testing.T) {
	storm(t, func(s *scene) {
		s.crowd(150)
		s.begin()
		s.converge(s.t, 20*time.Minute)
		s.stop()
		s.again(commands.Range{Resend: true})
		s.begin()
		time.Sleep(30 * time.Millisecond)
		s.die()
		s.begin()
		s.exit("crowd-7", "vip")
		s.converge(s.t, 30*time.Minute)
		for range 5 { // and of a first start and a restore: kills before anything is done
			s.kill()
			time.Sleep(20 * time.Millisecond)
		}
		s.enter("P", "vip", x)
		s.converge(s.t, 30*time.Minute)
	})
}

func TestABoundedRunDoesItsRewindBeforeItEnds(t *testing.T) {
	play(t, func(s *scene) {
		s.begin()
		s.enter("P", "vip", x)
		s.list(42, time.Minute, x)
		s.stop()
		s.again(commands.Range{})
		p, err := s.Prepare("b", func(*connector.Config) {})
		if err != nil {
			s.t.Fatal(err)
		}
		if err := p.Once(s.t.Context(), nil); err != nil {
			s.t.Fatal(err)
		}
		if n := p.Status().Counters.Events; n == 0 {
			s.t.Error("nothing was read again")
		}
	})
}

// S59, S77: a pattern of topics that matches segsync's own: they are never read.
func TestS59APatternThatMatchesSegsyncsOwnTopics(t *testing.T) {
	storm(t, func(s *scene) {
		s.Tune = func(c *connector.Config) {
			c.Sources[0].Topics, c.Sources[0].Regex = nil, `^(cdp|segsync)`
		}
		s.say(Event{Poison: []byte{1, 2, 3}, Partition: 0})
		s.begin()
		s.enter("P", "vip", x)
		s.list(42, 2*time.Minute, x)
		time.Sleep(10 * time.Minute)
		if n := s.status().Counters.DeadLetters; n != 1 && s.calm() {
			s.t.Errorf("%d dead letters of one record", n)
		}
	})
}

// S77: of two lists of an upsert the second is gone: that one is told, the first goes on (K5).
func TestS77OfTwoListsTheOneThatIsGone(t *testing.T) {
	storm(t, func(s *scene) {
		s.begin()
		s.until("running", time.Minute, func() bool { return s.status().State == "running" })
		s.Sandbox.RemoveList(43)
		s.enter("P", "gold", x) // in both lists
		s.until("the halt", time.Minute, func() bool { return s.halted("list_gone") })
		for _, h := range s.status().Halted {
			if h.Code == "list_gone" && h.List != 43 {
				s.t.Errorf("list %d is called gone", h.List)
			}
		}
		s.list(42, 5*time.Minute, x)
		s.Sandbox.AddList(43)
		s.list(43, 10*time.Minute, x)
	})
}

// S57: a list is disabled, then gone, then there again: it stays disabled.
func TestS57OneReasonDoesNotEndAnother(t *testing.T) {
	storm(t, func(s *scene) {
		s.Tune = func(c *connector.Config) { c.Exports[0].Enabled = false }
		s.begin()
		s.enter("P", "news", x)
		s.list(43, 5*time.Minute, x)
		s.Sandbox.RemoveList(43)
		s.enter("Q", "gold", y) // in both
		s.until("the halt", 5*time.Minute, func() bool { return s.halted("list_gone") })
		s.Sandbox.Order(sandbox.Fault{Status: 401, Body: `{"code":"unauthorized","message":"Key not found"}`, Endpoint: "/contacts/lists", Count: 3})
		s.Sandbox.AddList(43)
		s.list(43, 20*time.Minute, y)
		time.Sleep(20 * time.Minute)
		s.list(42, 0)
		if !s.halted("disabled") {
			s.t.Error("that an export is off is not told")
		}
	})
}

// What is none of an attribute's options is left out and told, what the account computes likewise; an option that is added
// while we run is taken from then on.
func TestValuesAreOfTheAccountsOptions(t *testing.T) {
	play(t, func(s *scene) {
		s.Sandbox.Retype("LASTNAME", "category")
		s.Sandbox.Offer("LASTNAME", "Man", "Woman")
		s.Sandbox.Retype("FIRSTNAME", "transactional")
		s.begin()
		say := func(last string) {
			s.say(Event{Person: "P", Segment: "vip", In: true, Partition: -1, Profile: &Profile{Email: x, First: "Ann", Last: last}})
		}
		say("Woman")
		s.list(42, time.Minute, x)
		s.attribute(42, x, "LASTNAME", "Woman")
		say("Femme")
		failed := func() bool {
			causes := map[string]string{}
			for _, f := range s.status().Failures {
				causes[f.Attribute] = f.Cause
			}
			return causes["LASTNAME"] == "not one of the account's options" && causes["FIRSTNAME"] == "an attribute of orders"
		}
		s.until("the failures are told", time.Minute, failed)
		s.attribute(42, x, "LASTNAME", "Woman")
		s.Sandbox.Offer("LASTNAME", "Man", "Woman", "Femme")
		time.Sleep(11 * time.Minute)
		say("Femme")
		s.attribute(42, x, "LASTNAME", "Femme")
	})
}
