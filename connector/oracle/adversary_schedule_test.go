package oracle

import (
	"fmt"
	"testing"
	"time"

	"segsync/connector"
	"segsync/connector/commands"
	"segsync/sink/sandbox"
)

// Saving does not run: a schedule that is changed counts from now on.
func TestAScheduleIsChanged(t *testing.T) {
	play(t, func(s *scene) {
		s.scheduled(connector.Manual)
		s.begin()
		s.enter("P", "vip", x)
		time.Sleep(time.Hour) // 01:00
		s.stop()
		s.scheduled("30 0 * * *")
		s.begin()
		time.Sleep(time.Hour) // 02:00
		if n := len(s.Sandbox.List(42)); n != 0 {
			s.t.Errorf("%d are in at %s, not due before 00:30", n, time.Now().UTC())
		}
		clear(s.Truth.people)
	})
}

// Nor does one that is removed and named again.
func TestAScheduleIsNamedAgain(t *testing.T) {
	play(t, func(s *scene) {
		s.scheduled("30 * * * *")
		s.begin()
		time.Sleep(time.Hour)
		s.stop()
		s.scheduled("")
		s.begin()
		time.Sleep(time.Hour)
		s.stop()
		s.scheduled("30 * * * *")
		s.enter("P", "vip", x)
		s.begin()
		time.Sleep(20 * time.Minute) // 02:20
		if n := len(s.Sandbox.List(42)); n != 0 {
			s.t.Errorf("%d are in at %s, not due before 02:30", n, time.Now().UTC())
		}
		clear(s.Truth.people)
	})
}

// A schedule is removed while the export is let go: its run has failed, and it is not let go when the schedule comes back.
func TestAScheduleIsRemovedWhileLetGo(t *testing.T) {
	play(t, func(s *scene) {
		s.scheduled(connector.Manual)
		s.begin()
		s.enter("P", "vip", x)
		time.Sleep(time.Minute)
		s.Sandbox.Order(sandbox.Fault{Status: 503, Count: -1})
		g := s.give(commands.RunNow, "export-1")
		time.Sleep(10 * time.Second)
		s.stop()
		s.Sandbox.Mend()
		s.scheduled("")
		s.begin()
		s.list(42, 20*time.Minute, x)
		time.Sleep(time.Hour)
		if got := s.outcomesOf(g); got[len(got)-1] == commands.Begun {
			s.t.Errorf("the command is never over: %v", got)
		}
		for _, r := range s.status().Runs {
			if r.Kind == "run-now" && r.Ended.IsZero() {
				s.t.Errorf("open for ever: %+v", r)
			}
		}
		s.stop()
		s.scheduled(connector.Manual)
		s.enter("Q", "vip", y)
		s.begin()
		time.Sleep(time.Hour)
		if n := len(s.Sandbox.List(42)); n != 1 {
			s.t.Errorf("%d are in: nobody has said so", n)
		}
		clear(s.Truth.people)
	})
}

// A halt at the moment when an export is due: it is sent when the halt has ended.
func TestAnExportIsHaltedWhenItIsDue(t *testing.T) {
	play(t, func(s *scene) {
		s.scheduled("0 6 * * *")
		s.begin()
		s.enter("P", "vip", x)
		time.Sleep(5*time.Hour + 55*time.Minute)
		s.Sandbox.Order(sandbox.Fault{Status: 401, Body: `{"code":"unauthorized","message":"Key not found"}`, Count: -1})
		s.enter("Q", "news", y) // meets the halt
		time.Sleep(10 * time.Minute)
		s.Sandbox.Mend()
		time.Sleep(2 * time.Hour)
		for _, r := range s.status().Runs {
			s.t.Logf("%+v", r)
		}
		if n := len(s.Sandbox.List(42)); n != 1 {
			s.t.Errorf("%d are in two hours after it was due, and the account well", n)
		}
		clear(s.Truth.people)
	})
}

// A plan is of what is owed, whether it may be sent now or not.
func TestAPlanOfWhatIsHeld(t *testing.T) {
	play(t, func(s *scene) {
		s.scheduled(connector.Manual)
		s.enter("P", "vip", x)
		c, err := s.config("", s.Cutter())
		if err != nil {
			s.t.Fatal(err)
		}
		s.Tune(&c)
		p, err := connector.Plan(s.t.Context(), &c, "export-1", commands.Range{}, func(int64, int64) {})
		if err != nil {
			s.t.Fatal(err)
		}
		if p.Lists[0].Add != 1 {
			s.t.Errorf("%+v %v", p.Lists[0], p.Calls)
		}
		c.Exports[0].Schedule, c.Exports[0].Enabled = "", false
		p, err = connector.Plan(s.t.Context(), &c, "export-1", commands.Range{}, func(int64, int64) {})
		if err != nil {
			s.t.Fatal(err)
		}
		if p.Lists[0].Add != 1 {
			s.t.Errorf("disabled: %+v %v", p.Lists[0], p.Calls)
		}
		clear(s.Truth.people)
	})
}

// A plan of a source with many bad records.
func TestAPlanWithBadRecords(t *testing.T) {
	play(t, func(s *scene) {
		for i := range 150 {
			s.say(Event{Poison: []byte{9}, Partition: int32(i % 3)})
		}
		s.enter("P", "vip", x)
		c, err := s.config("", s.Cutter())
		if err != nil {
			s.t.Fatal(err)
		}
		p, err := connector.Plan(s.t.Context(), &c, "export-1", commands.Range{}, func(int64, int64) {})
		if err != nil {
			s.t.Fatal(err)
		}
		if p.Lists[0].Add != 1 {
			s.t.Errorf("%+v %v %+v", p.Lists[0], p.Calls, p.Letters)
		}
		s.begin()
		s.list(42, 20*time.Minute, x)
	})
}

// A sweep does not end what keeps people out.
func TestASweepOfASuppression(t *testing.T) {
	play(t, func(s *scene) {
		s.Tune = func(c *connector.Config) {
			src := &c.Sources[0].Spec
			src.Segments = []string{"vip", "gold", "suppressed", "news"}
			c.Exports[0].Segments, c.Exports[0].None = []string{"vip", "gold", "suppressed"}, []string{"suppressed"}
		}
		s.begin()
		s.enter("P", "suppressed", x)
		time.Sleep(time.Hour)
		from := time.Now()
		s.enter("P", "vip", x)
		s.enter("Q", "vip", y)
		s.list(42, 10*time.Minute, y)
		time.Sleep(time.Hour)
		s.outcome(s.again(commands.Range{From: from, Sweep: true}), commands.Done, "ended")
		time.Sleep(10 * time.Minute)
		if _, in := s.Sandbox.List(42)[x]; in {
			s.t.Error("who is suppressed was added")
		}
		clear(s.Truth.people)
	})
}

// A list whose rule names a segment that is new is not filled before that was read: nobody who is in it is ever added.
func TestANewSegmentThatKeepsOut(t *testing.T) {
	play(t, func(s *scene) {
		s.Tune = func(c *connector.Config) {
			c.Exports[1].Enabled = false
			c.Exports[1].Segments = []string{"news"}
			c.Sources[0].Spec.Segments = []string{"vip", "gold", "news"}
		}
		s.begin()
		for p := range 3 { // reading again takes its time: here, 30 s for a schema that is not known
			s.say(Event{Poison: []byte{0, 0, 0, 3, 231, 1}, Partition: int32(p)})
		}
		time.Sleep(2 * time.Minute)
		s.enter("P", "suppressed", x)
		s.enter("P", "vip", x)
		s.enter("Q", "vip", y)
		s.list(42, 10*time.Minute, x, y)
		for i := range 3000 { // something to read again
			s.n++
			if err := s.Produce(s.t.Context(), Event{Person: fmt.Sprint("n", i), Segment: "news", In: true, Partition: -1, At: time.Now(), Profile: &Profile{Email: fmt.Sprintf("n%d@example.com", i)}}); err != nil {
				s.t.Fatal(err)
			}
		}
		time.Sleep(time.Hour)
		s.stop()
		s.Tune = func(c *connector.Config) {
			c.Sources[0].Spec.Segments = []string{"vip", "gold", "suppressed", "news"}
			c.Exports[1].Segments, c.Exports[1].None = []string{"vip", "suppressed"}, []string{"suppressed"}
		}
		s.begin()
		for range 3000 {
			time.Sleep(20 * time.Millisecond)
			if _, in := s.Sandbox.List(43)[x]; in {
				s.t.Fatal("who is suppressed was added to the new list")
			}
		}
		s.list(43, 10*time.Minute, y)
		clear(s.Truth.people)
	})
}

// Nor does anybody leave before a new segment was read of which they must be.
func TestANewSegmentThatAllMustBeIn(t *testing.T) {
	play(t, func(s *scene) {
		s.begin()
		for p := range 3 { // reading again takes its time: here, 30 s for a schema that is not known
			s.say(Event{Poison: []byte{0, 0, 0, 3, 231, 1}, Partition: int32(p)})
		}
		time.Sleep(2 * time.Minute)
		for i := range 20 {
			s.enter(fmt.Sprint("p", i), "adult", fmt.Sprintf("p%d@example.com", i))
			s.enter(fmt.Sprint("p", i), "vip", fmt.Sprintf("p%d@example.com", i))
		}
		s.until("in", 10*time.Minute, func() bool { return len(s.Sandbox.List(42)) == 20 })
		time.Sleep(time.Hour)
		s.stop()
		s.Tune = func(c *connector.Config) {
			c.Sources[0].Spec.Segments = []string{"vip", "gold", "adult", "news"}
			c.Exports[0].Segments, c.Exports[0].All = []string{"vip", "adult"}, []string{"adult"}
		}
		s.begin()
		for range 3000 {
			time.Sleep(20 * time.Millisecond)
			if n := len(s.Sandbox.List(42)); n != 20 {
				s.t.Fatalf("%d are left while the new segment is read", n)
			}
		}
		clear(s.Truth.people)
	})
}

// A former address is not emptied before its list's export is due.
func TestAFormerAddressOfAnExportThatIsNotDue(t *testing.T) {
	play(t, func(s *scene) {
		s.begin()
		s.number("P", x, "+33612345678")
		s.list(42, 10*time.Minute, x)
		time.Sleep(time.Hour)
		s.stop()
		s.scheduled(connector.Manual)
		s.begin()
		time.Sleep(time.Hour)
		before := s.writes()
		s.number("P", y, "+33612345678")
		time.Sleep(time.Hour)
		if n := s.writes() - before; n != 0 {
			s.t.Errorf("%d writes before anybody said so; %v", n, s.Sandbox.Stats().Calls)
		}
		clear(s.Truth.people)
	})
}

// A bounded run beside an owner ends, though an export is not due.
func TestABoundedRunBesideAnOwnerOfASchedule(t *testing.T) {
	play(t, func(s *scene) {
		s.scheduled(connector.Manual)
		s.begin()
		s.enter("P", "vip", x)
		time.Sleep(10 * time.Minute)
		c, err := s.Prepare("b", func(*connector.Config) {})
		if err != nil {
			s.t.Fatal(err)
		}
		if err := c.Once(s.t.Context(), nil); err != nil {
			s.t.Error(err)
		}
		clear(s.Truth.people)
	})
}

// A run lasts until what had no answer was sent once more.
func TestARunLastsUntilTheLateResend(t *testing.T) {
	play(t, func(s *scene) {
		s.scheduled(connector.Manual)
		s.begin()
		s.enter("P", "vip", x)
		time.Sleep(time.Minute)
		s.Sandbox.Order(sandbox.Fault{Method: "POST", Endpoint: "/contacts", DropAfter: true})
		s.outcome(s.give(commands.RunNow, "export-1"), commands.Done, "1 people")
		n := s.count("POST /contacts")
		time.Sleep(time.Hour)
		if st := s.status(); st.Pending != 0 || st.Unknown != 0 || n < 3 || s.count("POST /contacts") != n { // once, again, and late
			s.t.Errorf("an hour later: pending %d, unknown %d, %d calls before, %d now; in %d", st.Pending, st.Unknown, n, s.count("POST /contacts"), st.Exports[0].In)
		}
		clear(s.Truth.people)
	})
}

// A plan with a segment that is new in the configuration reads what the run reads.
func TestAPlanWithANewSegment(t *testing.T) {
	play(t, func(s *scene) {
		s.begin()
		s.enter("P", "adult", x)
		s.enter("Q", "vip", y)
		s.list(42, 10*time.Minute, y)
		time.Sleep(time.Hour)
		s.stop()
		s.Tune = func(c *connector.Config) {
			c.Sources[0].Spec.Segments = []string{"vip", "gold", "adult", "news"}
			c.Exports[0].Segments = []string{"vip", "adult"}
		}
		c, err := s.config("", s.Cutter())
		if err != nil {
			s.t.Fatal(err)
		}
		s.Tune(&c)
		p, err := connector.Plan(s.t.Context(), &c, "export-1", commands.Range{From: time.Now().Add(-time.Minute)}, func(int64, int64) {})
		if err != nil {
			s.t.Fatal(err)
		}
		s.again(commands.Range{From: time.Now().Add(-time.Minute)})
		s.begin()
		time.Sleep(20 * time.Minute)
		if n := len(s.Sandbox.List(42)); p.Lists[0].Add != n-1 {
			s.t.Errorf("planned %+v; %d are in", p.Lists[0], n)
		}
		clear(s.Truth.people)
	})
}
