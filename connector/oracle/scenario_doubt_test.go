package oracle

import (
	"fmt"
	"testing"
	"testing/synctest"
	"time"

	"segsync/connector"
	"segsync/sink/sandbox"
)

// What an audit must not take for granted, and what must not wait for one.

const refusedExport = `{"code":"permission_denied","message":"Access denied for resource"}`

// others put some into the list who then leave it by events; who is gone is told by their number.
func (s *scene) doubted(inTheList, leave int) {
	s.t.Helper()
	s.past = true
	for i := range inTheList {
		s.Sandbox.Put(fmt.Sprintf("gone%d@example.com", i), []int64{42}, nil)
	}
	s.exitAll("gone", "vip", leave)
}

// later are exits of one partition that nobody reads for a while.
func (s *scene) later(n int, partition int32) {
	s.t.Helper()
	all := make([]Event, 0, n)
	for i := range n {
		all = append(all, Event{Person: fmt.Sprint("later-", i), Segment: "vip", At: s.when(), Partition: partition, Profile: &Profile{Email: fmt.Sprintf("later%d@example.com", i)}})
	}
	if err := s.Produce(s.t.Context(), all...); err != nil {
		s.t.Fatal(err)
	}
}

// What is not read because its source is halted keeps nobody in the list, and nobody out of it.
func TestAHaltedSourceWithMuchUnread(t *testing.T) {
	for _, leave := range []int{0, 5000} {
		t.Run(fmt.Sprint("leave=", leave), func(t *testing.T) {
			play(t, func(s *scene) {
				s.Tune = func(c *connector.Config) { c.Sources[0].Spec.HaltWhen = `segment_id == "truncate"` }
				s.doubted(min(leave, 30), leave)
				s.enterAll("crowd", "vip", 40)
				for p := range int32(3) {
					s.say(Event{Person: "P", Segment: "truncate", Partition: p})
				}
				s.later(6000, 0)
				s.begin()
				s.until("the source halts", time.Minute, func() bool { return s.halted("source") })
				s.until("all that was read is done", 2*time.Minute, func() bool { return s.Sandbox.Len(42) == 40 && s.status().Pending == 0 })
				clear(s.Truth.people) // the rest has not been read
			})
		})
	}
}

// Pages move while they are read: nobody counts as out for it.
func TestADoubtfulContactBetweenPagesThatMove(t *testing.T) {
	play(t, func(s *scene) {
		s.Sandbox.Order(sandbox.Fault{Endpoint: "/contacts/export", Status: 403, Body: refusedExport, Count: -1})
		s.Sandbox.Put("other@example.com", []int64{42}, nil) // the first of the list
		s.doubted(1500, 5000)
		s.Sandbox.Order(sandbox.Fault{Method: "GET", Endpoint: "/contacts", AnswerMillis: 3000, Count: 5})
		s.begin()
		s.until("a page", time.Minute, func() bool { return s.count("GET /contacts") > 0 })
		time.Sleep(500 * time.Millisecond)
		s.Sandbox.TakeOut("other@example.com", 42)
		s.until("all have left", time.Hour, func() bool { return s.Sandbox.Len(42) == 0 })
	})
}

// A bounded run ends when nobody is in the list any more of whom that was doubtful.
func TestABoundedRunSettlesDoubt(t *testing.T) {
	for _, n := range []int{100, 1000, 3000, 5000} {
		t.Run(fmt.Sprint(n), func(t *testing.T) {
			play(t, func(s *scene) {
				s.doubted(30, n)
				c, err := s.Prepare("once", func(*connector.Config) {})
				if err == nil {
					err = c.Once(s.t.Context(), nil)
				}
				if in := s.Sandbox.Len(42); err != nil || in > 0 {
					s.t.Errorf("%d are in the list when the run has ended, %v", in, err)
				}
			})
		})
	}
}

// One who leaves, and whom others may have put in, waits for no audit.
func TestADoubtfulExitBesideASlowExport(t *testing.T) {
	play(t, func(s *scene) {
		s.hourly(true)
		s.begin()
		s.enter("Q", "vip", y)
		s.list(42, time.Minute, y)
		s.slowAudit(3_000_000)
		s.Sandbox.Put(x, []int64{42}, nil)
		s.say(Event{Person: "P", Segment: "vip", Partition: -1, Profile: &Profile{Email: x}})
		s.list(42, 10*time.Second, y)
	})
}

// renamedAndLost lets an import lose the new names of people who are in the list.
func (s *scene) renamedAndLost(n int) {
	s.t.Helper()
	imports := s.count("POST /contacts/import")
	s.Sandbox.Order(sandbox.Fault{Endpoint: "/contacts/import", LoseRows: 1, ImportTime: 3000})
	all := make([]Event, 0, n)
	for i := range n {
		all = append(all, Event{Person: fmt.Sprint("crowd-", i), Segment: "vip", In: true, At: time.Now().Add(-2 * time.Minute), Partition: -1, Profile: &Profile{Email: fmt.Sprintf("crowd%d@example.com", i), First: "New"}})
	}
	if err := s.Produce(s.t.Context(), all...); err != nil {
		s.t.Fatal(err)
	}
	s.until("an import", time.Minute, func() bool { return s.count("POST /contacts/import") > imports })
}

// Somebody whose attributes an import has lost leaves and comes back before the audit.
func TestS23LostAttributesOfWhoLeavesAndComesBack(t *testing.T) {
	play(t, func(s *scene) {
		s.hourly(false)
		s.past = true
		s.begin()
		s.enterAll("crowd", "vip", 400)
		s.converge(s.t, time.Hour)
		s.audit(time.Hour)
		s.renamedAndLost(400)
		s.until("it has ended", time.Minute, func() bool { return s.status().Imports == 0 && s.status().Pending == 0 })
		s.exit("crowd-7", "vip")
		time.Sleep(5 * time.Second)
		s.say(Event{Person: "crowd-7", Segment: "vip", In: true, Partition: -1})
		s.converge(s.t, 4*time.Hour)
	})
}

// Of somebody whose attributes an import has lost an audit tells nothing, for another list's call is under way: the next
// one does.
func TestS23LostAttributesOfWhomAnAuditTellsNothing(t *testing.T) {
	play(t, func(s *scene) {
		s.hourly(false)
		s.past = true
		s.begin()
		s.enterAll("crowd", "vip", 400)
		s.converge(s.t, time.Hour)
		for i := range 400 {
			s.say(Event{Person: fmt.Sprint("crowd-", i), Segment: "news", In: true, Partition: -1, At: time.Now().Add(-2 * time.Minute)})
		}
		s.converge(s.t, time.Hour)
		time.Sleep(20 * time.Minute) // whatever audits are due
		s.Sandbox.Order(sandbox.Fault{Endpoint: "/contacts/export", ImportTime: 60_000, Count: 2})
		exports := s.exports()
		s.renamedAndLost(400)
		for i := range 2 { // of each list, in whatever order
			s.until("an audit", 30*time.Minute, func() bool { return s.exports() > exports+i })
			s.exit(fmt.Sprint("crowd-", 7+i), "news")
		}
		s.converge(s.t, 6*time.Hour)
	})
}

// S3: an import that was lost comes when its owner has died, and its successor is about to begin another.
func TestS3ALostImportComesAfterATakeOver(t *testing.T) {
	for _, dies := range []bool{false, true} {
		t.Run(fmt.Sprint("dies=", dies), func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				w := newWorld(t, sandbox.Options{Latency: 20 * time.Millisecond, ImportTime: 30 * time.Second, Observe: tracing(t)})
				s := &scene{World: w, t: t, patient: 1}
				s.Sandbox.Order(sandbox.Fault{Endpoint: "/contacts/import", LateMillis: 90_000})
				s.past = true
				s.enterAll("crowd", "vip", 300)
				s.begin()
				s.until("an import", time.Minute, func() bool { return s.count("POST /contacts/import") > 0 })
				began := time.Now()
				time.Sleep(70 * time.Second) // it was given up, and its contacts sent again
				s.converge(s.t, 0)
				if dies {
					s.kill()
				}
				time.Sleep(time.Until(began.Add(95 * time.Second)))
				if s.Sandbox.Unfinished() != 1 {
					s.t.Fatal("the late one is not under way: this tells nothing")
				}
				s.enterAll("more", "vip", 3000)
				s.converge(s.t, time.Hour)
				s.kept()
				s.stop()
			})
		})
	}
}

// An address that is given up during an audit is in its export, and nobody's extra.
func TestS55AnAddressGivenUpDuringAnAudit(t *testing.T) {
	play(t, func(s *scene) {
		s.hourly(true)
		s.begin()
		s.enter("P", "vip", x)
		s.enter("Q", "vip", z)
		s.list(42, time.Minute, x, z)
		s.slowAudit(60_000)
		s.enter("P", "vip", y)
		s.list(42, 20*time.Second, y, z)
		if f := s.audit(10 * time.Minute); f.Wrong() > 0 {
			s.t.Errorf("nothing is wrong, and an audit found %+v", f)
		}
	})
}

// Somebody whom an import brought unsubscribes, and is taken out, before the first audit: they are not put back.
func TestS56UnsubscribedBeforeTheAudit(t *testing.T) {
	play(t, func(s *scene) {
		s.past = true
		s.enterAll("crowd", "vip", 500)
		s.begin()
		s.until("all are in", 10*time.Minute, func() bool { return s.Sandbox.Len(42) == 500 })
		s.Sandbox.Unsubscribe("crowd7@example.com")
		s.Sandbox.TakeOut("crowd7@example.com", 42)
		if f := s.audit(30 * time.Minute); f.Unsubscribed != 1 || f.Lost > 0 {
			s.t.Errorf("%+v", f)
		}
		time.Sleep(10 * time.Minute)
		if _, in := s.Sandbox.List(42)["crowd7@example.com"]; in {
			s.t.Error("somebody who unsubscribed was put back")
		}
	})
}

// S63: an export that is older than many exits does not make the list look larger than it is to the guard.
func TestS63AnOldExportAndTheGuard(t *testing.T) {
	play(t, func(s *scene) {
		s.guarded()
		tune := s.Tune
		s.Tune = func(c *connector.Config) { tune(c); c.Audit = connector.Audit{Every: 2 * time.Hour} }
		s.full(100)
		s.slowAudit(600_000)
		s.leaves("vip", 0, 28)
		s.until("they have left", 2*time.Minute, func() bool { return s.Sandbox.Len(42) == 72 })
		time.Sleep(12 * time.Minute)
		s.leaves("vip", 28, 34)
		time.Sleep(5 * time.Minute)
		if n := s.Sandbox.Len(42); n < 68 || !s.withheld() {
			s.t.Errorf("34 of 100 leave within an hour, %d are left, %d are withheld", n, s.status().Withheld)
		}
	})
}
