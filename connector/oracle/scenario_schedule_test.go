package oracle

import (
	"fmt"
	"testing"
	"testing/synctest"
	"time"

	"segsync/connector"
	"segsync/connector/commands"
	"segsync/sink/sandbox"
	"segsync/sink/sendinblue"
)

// scheduled gives list 42 a schedule.
func (s *scene) scheduled(schedule string) {
	s.Tune = func(c *connector.Config) { c.Exports[0].Schedule = schedule }
}

// An export with a schedule is kept up to date in the table, and sent when it is due; saving does not run; another export of
// the connection does not wait for it.
func TestAScheduledExportIsSentWhenItIsDue(t *testing.T) {
	storm(t, func(s *scene) {
		s.scheduled("0 6 * * * Europe/Paris") // the clock begins at midnight UTC: 05:00
		s.begin()
		s.enter("P", "gold", x) // both lists
		s.list(43, 10*time.Minute, x)
		time.Sleep(time.Hour)
		s.list(42, 0)
		s.kill()
		time.Sleep(3 * time.Hour)
		s.exit("P", "gold")
		s.enter("Q", "vip", y)
		time.Sleep(50 * time.Minute) // 04:50 or so
		s.list(42, 0)
		s.until("it is told", time.Minute, func() bool { return s.halted("not_due") })
		s.list(42, 40*time.Minute, y)
		s.until("it is held again", 20*time.Minute, func() bool { return s.halted("not_due") })
		s.enter("R", "vip", z)
		time.Sleep(2 * time.Hour)
		s.list(42, 0, y)
		s.stop()
		time.Sleep(24 * time.Hour) // one is missed
		s.begin()
		s.list(42, 20*time.Minute, y, z)
		s.converge(s.t, 10*time.Minute)
	})
}

// A missed time is caught up once, not once for each that was missed; a manual export goes when somebody says so, until what
// was owed then is worked off, whoever owns the connection.
func TestAnExportIsSentWhenSomebodySaysSo(t *testing.T) {
	storm(t, func(s *scene) {
		s.scheduled(connector.Manual)
		s.crowd(300)
		s.begin()
		s.enter("Q", "news", y)
		s.list(43, 10*time.Minute, y)
		time.Sleep(time.Hour)
		s.list(42, 0)
		g := s.give(commands.RunNow, "export-1")
		time.Sleep(300 * time.Millisecond)
		s.kill()
		s.outcome(g, commands.Done, "300 people are in the list")
		s.enter("P", "vip", x)
		time.Sleep(time.Hour)
		if n := len(s.Sandbox.List(42)); n != 300 {
			s.t.Errorf("%d are in", n)
		}
		s.outcome(s.give(commands.RunNow, "export-2"), commands.Done, "no schedule")
		s.stop()
		g = s.give(commands.RunNow, "export-1")
		c, err := s.Prepare("b", func(*connector.Config) {})
		if err != nil {
			s.t.Fatal(err)
		}
		if err := c.Once(s.t.Context(), nil); err != nil {
			s.t.Error(err)
		}
		s.outcome(g, commands.Done, "301 people are in the list")
		s.converge(s.t, time.Minute)
		s.begin()
		s.until("runs are told", time.Minute, func() bool {
			n := 0
			for _, r := range s.status().Runs {
				if r.Kind == "run-now" && r.State == commands.Done && !r.Ended.IsZero() && r.By == "ann" {
					n++
				}
			}
			return n == 2
		})
	})
}

// What an export is let go for does not wait for what is held for other reasons: rejected, withheld, another list.
func TestARunEndsWhereTheRestIsHeld(t *testing.T) {
	play(t, func(s *scene) {
		s.guarded()
		tune := s.Tune
		s.Tune = func(c *connector.Config) {
			tune(c)
			c.Exports[0].Schedule = connector.Manual
			c.Exports[1].Enabled = false
		}
		s.crowd(40)
		s.enter("both", "gold", x)
		s.begin()
		s.outcome(s.give(commands.RunNow, "export-1"), commands.Done, "41 people are in the list")
		s.leaves("vip", 0, 30)
		s.outcome(s.give(commands.RunNow, "export-1"), commands.Done, "the guard withholds 30 removals")
		s.outcome(s.give(commands.Approve, "export-1"), commands.Done, "30 people leave")
		time.Sleep(10 * time.Minute)
		if n := len(s.Sandbox.List(42)); n != 41 {
			s.t.Errorf("%d are in", n)
		}
		s.outcome(s.give(commands.RunNow, "export-1"), commands.Done, "11 people are in the list")
	})
}

// Exports that are due at once share the call budget: none waits for another to be worked off.
func TestExportsThatAreDueAtOnceShareTheBudget(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, sandbox.Options{Latency: 20 * time.Millisecond, ImportTime: time.Minute})
		w.Rate = sendinblue.Plans["general"]
		w.Rate.Share = 0.8
		s := &scene{World: w, t: t, patient: 1}
		s.Tune = func(c *connector.Config) {
			for i := range c.Exports {
				c.Exports[i].Schedule, c.Exports[i].OnlyExisting = "30 0 * * *", true // by single calls
			}
		}
		const each = 120
		for i := range each {
			w.Sandbox.Put(fmt.Sprintf("first%d@example.com", i), nil, nil)
			w.Sandbox.Put(fmt.Sprintf("second%d@example.com", i), nil, nil)
		}
		s.begin()
		s.enterAll("first", "vip", each)
		s.enterAll("second", "news", each)
		time.Sleep(30 * time.Minute)
		due, shared := time.Now(), 0
		for len(w.Sandbox.List(42)) < each || len(w.Sandbox.List(43)) < each {
			a, b := len(w.Sandbox.List(42)), len(w.Sandbox.List(43))
			if a+b > 20 && a < each && b < each {
				shared++
				if 2*a < b || 2*b < a {
					t.Fatalf("%d are in the one list and %d in the other", a, b)
				}
			}
			if time.Sleep(time.Second); time.Since(due) > 10*time.Minute {
				t.Fatalf("%d are in the one list and %d in the other", a, b)
			}
		}
		if shared < 10 {
			t.Errorf("it took %d seconds only", shared)
		}
		s.stop()
	})
}

// Whoever gave a run-now may have gone: another one takes its place, and both are answered.
func TestALaterRunNowTakesThePlaceOfAnEarlierOne(t *testing.T) {
	play(t, func(s *scene) {
		s.scheduled(connector.Manual)
		s.enter("P", "vip", x)
		first := s.give(commands.RunNow, "export-1")
		second := s.give(commands.RunNow, "export-1")
		s.begin()
		s.outcome(first, commands.Done, "a later run-now")
		s.outcome(second, commands.Done, "1 people are in the list")
		s.list(42, time.Minute, x)
	})
}
