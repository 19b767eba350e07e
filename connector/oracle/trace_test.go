package oracle

import (
	"slices"
	"testing"
	"time"

	"segsync/connector"
	"segsync/sink/sandbox"
)

// traced is what is told of somebody.
func (s *scene) traced(who string) *connector.Traced {
	s.t.Helper()
	c, err := s.config("", s.Cutter())
	if err != nil {
		s.t.Fatal(err)
	}
	told, err := connector.Trace(s.t.Context(), &c, "export-1", who, false, func(int64, int64) {})
	if err != nil {
		s.t.Fatal(err)
	}
	return told
}

// A trace tells the calls that concerned a contact, and what came of each: by the rows, whichever process made them.
func TestATraceTellsTheCalls(t *testing.T) {
	play(t, func(s *scene) {
		says := func(who string, want ...string) {
			s.t.Helper()
			var got []string
			for _, c := range s.traced(who).Calls {
				got = append(got, c.Kind+" "+c.Result)
				if c.Announced.IsZero() || c.Settled.Before(c.Announced) {
					s.t.Errorf("%+v", c)
				}
			}
			if !slices.Equal(got, want) {
				s.t.Errorf("%s: %q, not %q", who, got, want)
			}
		}
		s.begin()
		s.enter("P", "vip", x)
		s.list(42, time.Minute, x)
		s.exit("P", "vip")
		s.list(42, time.Minute)
		s.Sandbox.Order(sandbox.Fault{DropAfter: true, Endpoint: "/contacts"})
		s.enter("Q", "vip", y)
		s.list(42, 10*time.Minute, y)
		time.Sleep(30 * time.Minute) // the late one, too
		s.kill()
		s.until("it owns", 10*time.Minute, func() bool { return s.status().Doing == "working" })
		time.Sleep(time.Minute)
		s.Sandbox.Order(sandbox.Fault{Status: 429, Endpoint: "/contacts"})
		s.number("R", z, "none of a telephone")
		s.until("it is settled", 10*time.Minute, func() bool { st := s.status(); return st.Doing == "working" && st.Pending == 0 && st.People == 3 })
		s.until("it is cut", time.Minute, func() bool {
			return !slices.ContainsFunc(s.traced("R").Calls, func(c *connector.CallTold) bool { return c.Settled.IsZero() })
		})
		says("P", "upsert done", "remove done")
		says(x, "upsert done", "remove done")
		says("Q", "upsert no answer: it is said once more", "upsert done", "upsert done")
		says("R", "upsert not done", "upsert done")
	})
}

// What cannot be decoded for the moment is no answer: neither a trace nor a search for somebody's dead letters passes it over.
func TestATraceWhileTheRegistryIsAway(t *testing.T) {
	play(t, func(s *scene) {
		s.begin()
		s.enter("P", "vip", x)
		s.say(Event{Person: "N", Segment: "vip", In: true, Partition: -1}) // a dead letter: no address
		s.list(42, time.Minute, x)
		s.until("there is one", time.Minute, s.letters)
		c, err := s.config("", s.Cutter())
		if err != nil {
			s.t.Fatal(err)
		}
		if all, opaque, err := connector.LettersOf(s.t.Context(), &c, 0, "N"); err != nil || len(all) != 1 || opaque != 0 {
			s.t.Errorf("%v, %d, %v", all, opaque, err)
		}
		s.stop()
		s.down.Store(true)
		if c, err = s.config("", s.Cutter()); err != nil {
			s.t.Fatal(err)
		}
		if _, err := connector.Trace(s.t.Context(), &c, "export-1", "P", false, func(int64, int64) {}); err == nil {
			s.t.Error("the trace passes over what it cannot read")
		}
		if _, _, err := connector.LettersOf(s.t.Context(), &c, 0, "N"); err == nil {
			s.t.Error("the search passes over what it cannot read")
		}
		s.down.Store(false)
	})
}
