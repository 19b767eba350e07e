package oracle

import (
	"fmt"
	"maps"
	"slices"
	"strings"
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
}

// play runs a scenario in a bubble of its own.
func play(t *testing.T, f func(s *scene)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, sandbox.Options{Latency: 20 * time.Millisecond, ImportTime: 2 * time.Second})
		s := &scene{World: w, t: t}
		f(s)
		w.promises(t)
		if s.p != nil {
			s.p.Stop()
		}
	})
}

func (s *scene) begin() { s.p = s.start(s.t, "a") }

// kill ends the present life at once and begins the next.
func (s *scene) kill() {
	s.p.Kill()
	s.begin()
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

func (s *scene) enter(person, segment, email string) {
	s.t.Helper()
	s.say(Event{Person: person, Segment: segment, In: true, Partition: -1, Profile: &Profile{Email: email, First: person}})
}

func (s *scene) exit(person, segment string) {
	s.t.Helper()
	s.say(Event{Person: person, Segment: segment, Partition: -1})
}

// list waits until a list holds just these addresses.
func (s *scene) list(id int64, within time.Duration, addresses ...string) {
	s.t.Helper()
	slices.Sort(addresses)
	end := time.Now().Add(within)
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
	end := time.Now().Add(15 * time.Minute)
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

func (s *scene) status() connector.Status { return s.p.Connection.Status() }

func (s *scene) halted(code string) bool {
	return slices.ContainsFunc(s.status().Halted, func(h connector.Halted) bool { return h.Code == code })
}

// until waits for a condition.
func (s *scene) until(what string, within time.Duration, f func() bool) {
	s.t.Helper()
	end := time.Now().Add(within)
	for !f() {
		if time.Now().After(end) {
			s.t.Fatalf("not within %s: %s; %+v", within, what, s.status())
		}
		time.Sleep(max(50*time.Millisecond, within/1000))
	}
}

const x, y, z = "x@example.com", "y@example.com", "z@example.com"

func TestS1AnAppliedEntryWhoseOwnerDiedIsNoNoOp(t *testing.T) {
	play(t, func(s *scene) {
		s.begin()
		s.Sandbox.Order(sandbox.Fault{Method: "POST", Endpoint: "/contacts", DropAfter: true})
		s.enter("P", "vip", x)
		s.list(42, time.Minute, x)
		s.p.Kill()
		s.exit("P", "vip")
		s.begin()
		s.stays(42)
	})
}

func TestS2AnImportOutlivesItsSender(t *testing.T) {
	play(t, func(s *scene) {
		s.Sandbox.Order(sandbox.Fault{Endpoint: "/contacts/import", ImportTime: 60_000})
		s.crowd(200)
		s.begin()
		s.until("an import", time.Minute, func() bool { return s.count("POST /contacts/import") == 1 })
		time.Sleep(time.Second)
		for range 10 { // ten takeovers in a row pile up none
			s.kill()
			time.Sleep(3 * time.Second)
		}
		s.exit("crowd-150", "vip")
		s.until("the import's end", 5*time.Minute, func() bool { return s.Sandbox.Unfinished() == 0 })
		s.converge(s.t, 20*time.Minute)
		if n := s.Sandbox.Stats().MostImports; n != 1 {
			s.t.Errorf("%d imports at once", n)
		}
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

func TestS3TheAnswerToAnImportIsLost(t *testing.T) {
	play(t, func(s *scene) {
		s.Sandbox.Order(sandbox.Fault{Endpoint: "/contacts/import", DropAfter: true, ImportTime: 400_000})
		s.crowd(200)
		s.begin()
		s.until("an import", time.Minute, func() bool { return s.count("POST /contacts/import") >= 1 })
		time.Sleep(2 * time.Second)
		s.exit("crowd-150", "vip")
		s.converge(s.t, time.Hour) // promises(): no write to its contacts while it could run
	})
}

func TestS4S53AnImportThatHangs(t *testing.T) {
	play(t, func(s *scene) {
		s.Sandbox.Order(sandbox.Fault{Endpoint: "/contacts/import", Import: "hang"})
		s.crowd(200)
		s.begin()
		s.until("imports are halted, naming the process", 3*time.Hour, func() bool {
			return slices.ContainsFunc(s.status().Halted, func(h connector.Halted) bool {
				return h.Code == "import_stuck" && strings.Contains(h.Mend, "process ")
			})
		})
		s.enter("P", "vip", x) // others go on
		s.until("somebody else enters", 5*time.Minute, func() bool { _, ok := s.Sandbox.List(42)[x]; return ok })
		s.Sandbox.Unhang()
		s.converge(s.t, time.Hour)
	})
}

func TestS5ExitsBesideALongImport(t *testing.T) {
	play(t, func(s *scene) {
		s.begin()
		s.enter("P", "vip", x)
		s.list(42, time.Minute, x)
		s.Sandbox.Order(sandbox.Fault{Endpoint: "/contacts/import", ImportTime: 300_000})
		s.crowd(300)
		s.until("an import", time.Minute, func() bool { return s.count("POST /contacts/import") == 1 })
		s.exit("P", "vip")
		s.until("who is not in it leaves at once", 10*time.Second, func() bool { _, in := s.Sandbox.List(42)[x]; return !in })
		s.exit("crowd-250", "vip")
		s.converge(s.t, 30*time.Minute)
	})
}

func TestS6SeveralSegmentsOnOneList(t *testing.T) {
	play(t, func(s *scene) {
		s.begin()
		base := time.Now()
		s.say(Event{Person: "P", Segment: "gold", In: true, At: base, Profile: &Profile{Email: x}})
		s.list(42, time.Minute, x)
		s.say(Event{Person: "P", Segment: "vip", In: true, At: base.Add(1 * time.Second)})
		s.say(Event{Person: "P", Segment: "gold", At: base.Add(2 * time.Second)})
		s.stays(42, x)
		s.say(Event{Person: "P", Segment: "gold", At: base.Add(5 * time.Second), Partition: 1})
		s.say(Event{Person: "P", Segment: "vip", At: base.Add(4 * time.Second), Partition: 2})
		s.stays(42)
	})
}

func TestS7ExitWithoutProfile(t *testing.T) {
	play(t, func(s *scene) {
		s.Sandbox.Put(y, []int64{42}, nil)
		s.begin()
		s.exit("unknown", "vip") // no known address: a dead letter, and the membership moves
		s.until("a dead letter", time.Minute, func() bool { return s.status().Counters.DeadLetters == 1 })
		s.enter("P", "vip", x)
		s.list(42, time.Minute, x, y)
		s.exit("P", "vip")
		s.stays(42, y)
		// An older entry of the unknown, on another partition, does not put them in.
		s.say(Event{Person: "unknown", Segment: "vip", In: true, At: time.Now().Add(-time.Hour), Partition: int32(1 + hash("unknown")%3%2), Profile: &Profile{Email: z}})
		delete(s.Truth.people, "unknown")
		time.Sleep(time.Minute)
		s.list(42, 0, y)
	})
}

func TestS8S36SharedAddresses(t *testing.T) {
	play(t, func(s *scene) {
		s.begin()
		s.enter("P", "vip", x)
		s.enter("Q", "vip", x)
		s.list(42, time.Minute, x)
		s.exit("P", "vip")
		time.Sleep(10 * time.Second)
		s.list(42, 0, x)
		s.enter("P", "vip", x)
		s.exit("Q", "vip")
		s.attribute(42, x, "FIRSTNAME", "P") // the newest profile of who is in
		s.Sandbox.Order(sandbox.Fault{Endpoint: "/contacts/lists", DropAfter: true})
		s.exit("P", "vip")
		time.Sleep(50 * time.Millisecond)
		s.kill()
		s.stays(42)
	})
}

func TestS9S43ASwapOfAddressesWithTheirNumbers(t *testing.T) {
	play(t, func(s *scene) {
		s.begin()
		say := func(person, email, phone string) {
			s.say(Event{Person: person, Segment: "vip", In: true, Partition: -1, Profile: &Profile{Email: email, First: person, Phone: phone}})
		}
		say("P", x, "+33639980001")
		say("Q", y, "+33639980002")
		s.attribute(42, x, "SMS", "33639980001")
		s.attribute(42, y, "SMS", "33639980002")
		s.Sandbox.Order(sandbox.Fault{Method: "PUT", DropAfter: true})
		say("P", y, "+33639980001")
		say("Q", x, "+33639980002")
		time.Sleep(100 * time.Millisecond)
		s.kill()
		s.attribute(42, y, "SMS", "33639980001")
		s.attribute(42, x, "SMS", "33639980002")
		say("P", z, "+33639980001") // and a chain, its answers lost
		s.Sandbox.Order(sandbox.Fault{Endpoint: "/contacts", DropAfter: true, Count: 3})
		s.stays(42, x, z)
		s.converge(s.t, 0)
	})
}

func TestS12APersonInTwoPartitionsAndNewPartitions(t *testing.T) {
	play(t, func(s *scene) {
		s.begin()
		base := time.Now()
		s.say(Event{Person: "P", Segment: "vip", In: true, At: base.Add(2 * time.Second), Partition: 0, Profile: &Profile{Email: x}})
		s.say(Event{Person: "P", Segment: "vip", At: base.Add(time.Second), Partition: 1})
		s.Truth.people["P"].in["vip"] = true // the later time stands, whatever came first
		s.stays(42, x)
		if err := s.grow(6); err != nil {
			s.t.Fatal(err)
		}
		s.say(Event{Person: "Q", Segment: "vip", In: true, Partition: 5, Profile: &Profile{Email: y}})
		s.list(42, 10*time.Minute, x, y)
	})
}

func TestS14ABlockedContactIsNotDeletedAndNotMoved(t *testing.T) {
	play(t, func(s *scene) {
		s.Tune = func(c *connector.Config) { c.Exports[0].Delete = true }
		s.begin()
		s.enter("P", "vip", x)
		s.enter("Q", "vip", y)
		s.list(42, time.Minute, x, y)
		s.Sandbox.Unsubscribe(x)
		s.Truth.Unsubscribed[x] = true
		s.exit("P", "vip")
		s.exit("Q", "vip")
		s.list(42, time.Minute)
		if c, ok := s.Sandbox.Contact(x); !ok || !c.EmailBlacklisted {
			s.t.Error("the blocked contact was deleted: created again it would be mailable")
		}
		s.until("the other is deleted", time.Minute, func() bool { _, ok := s.Sandbox.Contact(y); return !ok })
		s.enter("P", "vip", x)
		s.list(42, time.Minute, x)
		if c, _ := s.Sandbox.Contact(x); !c.EmailBlacklisted {
			s.t.Error("the block was lifted")
		}
	})
}

func TestS44S51ANewAddressOfAnUnsubscribedPersonIsNeverAdded(t *testing.T) {
	play(t, func(s *scene) {
		s.begin()
		s.enter("P", "vip", x)
		s.list(42, time.Minute, x)
		s.Sandbox.Unsubscribe(x)
		s.enter("P", "vip", y)
		time.Sleep(30 * time.Millisecond)
		s.kill() // before or after the look
		s.stays(42)
		s.say(Event{Person: "P", Segment: "vip", In: true, Partition: -1, Profile: &Profile{Email: y, First: "New"}})
		time.Sleep(time.Minute)
		s.kill()
		time.Sleep(time.Minute)
		if _, ok := s.Sandbox.Contact(y); ok {
			s.t.Error("the new address was written")
		}
		s.enter("P", "vip", x) // back: all is as before
		s.stays(42, x)
	})
}

func TestS16OneOddContactIsRejectedAndOthersGoOn(t *testing.T) {
	play(t, func(s *scene) {
		s.begin()
		s.Sandbox.Order(sandbox.Fault{Status: 500, Address: x, Count: -1})
		s.enter("P", "vip", x)
		for i := range 20 {
			s.enter(fmt.Sprint("other-", i), "vip", fmt.Sprintf("o%d@example.com", i))
			time.Sleep(time.Minute)
		}
		s.until("it is rejected", 20*time.Minute, func() bool { return s.status().Rejected == 1 })
		if n := len(s.Sandbox.List(42)); n != 20 {
			s.t.Errorf("%d of 20 others are in", n)
		}
	})
}

func TestS17TheBreaker(t *testing.T) {
	play(t, func(s *scene) {
		s.begin()
		for range 90 {
			s.say(Event{Poison: []byte{9}, Partition: 0})
		}
		s.enter("P", "vip", x)
		s.list(42, time.Minute, x)
		for range 30 {
			s.say(Event{Poison: []byte{9}, Partition: 0})
		}
		s.until("the breaker", time.Minute, func() bool { return s.halted("breaker") })
		s.until("it lets go by itself", 10*time.Minute, func() bool { return len(s.status().Halted) == 0 })
		s.enter("Q", "vip", y)
		s.list(42, time.Minute, x, y)
	})
}

func TestS21S41S42WhatLandsLateDoesNotStand(t *testing.T) {
	play(t, func(s *scene) {
		s.begin()
		s.Sandbox.Order(sandbox.Fault{Method: "POST", Endpoint: "/contacts", LateMillis: 60_000})
		s.enter("P", "vip", x)
		time.Sleep(100 * time.Millisecond)
		s.enter("P", "vip", y) // S41: the address that the late one names is nobody's any more
		s.list(42, 30*time.Second, y)
		s.stays(42, y)
		s.Sandbox.Order(sandbox.Fault{Endpoint: "/contacts", Address: y, LateMillis: 100_000}) // S42
		s.say(Event{Person: "P", Segment: "vip", In: true, Partition: -1, Profile: &Profile{Email: y, First: "A"}})
		time.Sleep(50 * time.Millisecond)
		s.say(Event{Person: "P", Segment: "vip", In: true, Partition: -1, Profile: &Profile{Email: y, First: "B"}})
		s.stays(42, y)
		s.attribute(42, y, "FIRSTNAME", "B")
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
			play(t, func(s *scene) {
				f.ImportTime = 3000
				s.Sandbox.Order(f)
				s.Sandbox.Put("owner@example.com", nil, map[string]any{"SMS": "33639980099"})
				s.crowd(200)
				s.say(Event{Person: "dup", Segment: "vip", In: true, Partition: -1, Profile: &Profile{Email: z, Phone: "+33639980099"}})
				s.begin()
				s.converge(s.t, time.Hour)
				if s.count("POST /contacts/import") == 0 {
					s.t.Error("no import was made")
				}
			})
		})
	}
}

func TestS24AnAddThatFailedIsSettledByAnUpsert(t *testing.T) {
	play(t, func(s *scene) {
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

func TestS27ATopicMadeAgainHalts(t *testing.T) {
	play(t, func(s *scene) {
		s.begin()
		s.enter("P", "vip", x)
		s.list(42, time.Minute, x)
		s.p.Stop()
		if err := s.Cluster.DeleteTopic(Topic); err != nil {
			s.t.Fatal(err)
		}
		if err := s.Cluster.CreateTopic(Topic, 3, nil); err != nil {
			s.t.Fatal(err)
		}
		s.begin()
		s.until("the halt names the command", time.Minute, func() bool {
			return slices.ContainsFunc(s.status().Halted, func(h connector.Halted) bool { return strings.Contains(h.Mend, "backfill") })
		})
		s.list(42, 0, x)
	})
}

func TestS28NothingIsSkippedInSilence(t *testing.T) {
	play(t, func(s *scene) {
		s.Tune = func(c *connector.Config) { c.Sources[0].Start.Latest = true }
		s.say(Event{Person: "old", Segment: "vip", In: true, Partition: 0, Profile: &Profile{Email: z}})
		delete(s.Truth.people, "old")
		s.begin()
		s.until("running", time.Minute, func() bool { return s.status().State == "running" })
		s.enter("P", "vip", x)
		s.list(42, time.Minute, x)
		s.p.Stop()
		// While it is away the log's beginning passes its position.
		for range 3 {
			s.say(Event{Person: "lost", Segment: "other", Partition: 1})
		}
		if err := s.Cluster.DeleteRecords(Topic, 1, -1); err != nil {
			s.t.Fatal(err)
		}
		s.begin()
		s.until("it halts", time.Minute, func() bool {
			return slices.ContainsFunc(s.status().Halted, func(h connector.Halted) bool { return strings.Contains(h.Mend, "records are lost") })
		})
	})
}

func TestS29ANumberThatSomebodyElseHas(t *testing.T) {
	play(t, func(s *scene) {
		s.begin()
		say := func(person, email, phone string) {
			s.say(Event{Person: person, Segment: "vip", In: true, Partition: -1, Profile: &Profile{Email: email, First: person, Phone: phone}})
		}
		say("Q", y, "+33639980001")
		s.attribute(42, y, "SMS", "33639980001")
		say("P", x, "+33639980001")
		s.list(42, time.Minute, x, y)
		s.attribute(42, x, "SMS", nil)
		say("Q", y, "+33639980002") // Q gives it up
		s.attribute(42, x, "SMS", "33639980001")
		s.attribute(42, y, "SMS", "33639980002")
		say("P", x, "+33639980002") // a swap
		say("Q", y, "+33639980001")
		s.attribute(42, x, "SMS", "33639980002")
		s.attribute(42, y, "SMS", "33639980001")
	})
}

func TestS33WhomNobodyNamesIsLeftAlone(t *testing.T) {
	play(t, func(s *scene) {
		s.Sandbox.Put(z, []int64{42}, map[string]any{"FIRSTNAME": "Zoe"})
		s.begin()
		s.enter("P", "vip", x)
		s.stays(42, x, z)
	})
}

func TestS34ANullLeavesWhatStands(t *testing.T) {
	play(t, func(s *scene) {
		s.begin()
		s.say(Event{Person: "P", Segment: "vip", In: true, Partition: -1, Profile: &Profile{Email: x, First: "Ann"}})
		s.attribute(42, x, "FIRSTNAME", "Ann")
		s.say(Event{Person: "P", Segment: "vip", In: true, Partition: -1, Profile: &Profile{Email: x, Last: "Lee"}})
		s.attribute(42, x, "LASTNAME", "Lee")
		s.attribute(42, x, "FIRSTNAME", "Ann")
		s.say(Event{Person: "Q", Segment: "vip", In: true, Partition: -1, Profile: &Profile{Email: y, First: "Bob"}})
		s.say(Event{Person: "Q", Segment: "vip", In: true, Partition: -1, Profile: &Profile{Email: y, Last: "Ray"}})
		s.attribute(42, y, "LASTNAME", "Ray")
		s.attribute(42, y, "FIRSTNAME", "Bob")
	})
}

func TestS38TwoExportsShareAContactInAnImport(t *testing.T) {
	play(t, func(s *scene) {
		s.Sandbox.Order(sandbox.Fault{Endpoint: "/contacts/import", ImportTime: 120_000})
		s.crowd(200)
		s.begin()
		s.until("an import", time.Minute, func() bool { return s.count("POST /contacts/import") == 1 })
		s.say(Event{Person: "crowd-120", Segment: "news", In: true, Partition: -1, Profile: &Profile{Email: "c120@example.com", First: "Newest"}})
		s.converge(s.t, 30*time.Minute)
		s.attribute(43, "c120@example.com", "FIRSTNAME", "Newest")
	})
}

func TestS40AReplayAfterACrashDoesNotPutInWhoLeft(t *testing.T) {
	play(t, func(s *scene) {
		s.begin()
		s.enter("P", "vip", x)
		s.list(42, time.Minute, x)
		adds := s.count("POST /contacts")
		s.exit("P", "vip")
		s.until("out", time.Minute, func() bool { return len(s.Sandbox.List(42)) == 0 })
		s.kill()
		s.stays(42)
		if n := s.count("POST /contacts"); n != adds {
			s.t.Errorf("P was written again: %d upserts, then %d", adds, n)
		}
	})
}

func TestS45DeleteForOneListWhileAnotherWantsTheContact(t *testing.T) {
	play(t, func(s *scene) {
		s.Tune = func(c *connector.Config) { c.Exports[0].Delete = true }
		s.begin()
		s.enter("P", "vip", x)
		s.enter("P", "news", x)
		s.list(43, time.Minute, x)
		s.list(42, time.Minute, x)
		s.exit("P", "vip")
		s.list(42, time.Minute)
		s.list(43, 0, x)
		s.exit("P", "news")
		s.list(43, time.Minute)
	})
}

func TestS46TheLargestRecordIsOneDeadLetter(t *testing.T) {
	play(t, func(s *scene) {
		s.begin()
		s.say(Event{Poison: append([]byte{9}, make([]byte, 990_000)...), Partition: 0})
		s.enter("P", "vip", x)
		s.list(42, time.Minute, x)
		s.until("the dead letter", time.Minute, func() bool { return s.Cluster.PartitionInfo(DeadLetters, 0).HighWatermark > 0 })
		if b := s.Cluster.PartitionInfo(DeadLetters, 0).NumBytes; b > 10_000 {
			s.t.Errorf("the dead letter takes %d bytes", b)
		}
	})
}

func TestS48AnExitWhileTheEntryWaits(t *testing.T) {
	play(t, func(s *scene) {
		s.begin()
		s.until("running", time.Minute, func() bool { return s.status().State == "running" })
		s.Sandbox.Order(sandbox.Fault{Method: "POST", Endpoint: "/contacts", Status: 429, Header: map[string]string{"x-sib-ratelimit-reset": "120"}})
		s.enter("Q", "vip", y) // its 429 stops everything for two minutes
		time.Sleep(3 * time.Second)
		s.enter("P", "vip", x)
		time.Sleep(30 * time.Second)
		s.exit("P", "vip")
		s.list(42, 5*time.Minute, y)
		time.Sleep(time.Minute)
		if _, ok := s.Sandbox.Contact(x); ok {
			s.t.Error("P was put in")
		}
	})
}

func TestS50ARejectLeavesWhatIsUnknownToBeSentAgain(t *testing.T) {
	play(t, func(s *scene) {
		s.begin()
		s.Sandbox.Order(sandbox.Fault{Method: "POST", Endpoint: "/contacts", Address: x, LateMillis: 100_000})
		s.enter("P", "vip", x)
		time.Sleep(100 * time.Millisecond)
		s.Sandbox.Order(sandbox.Fault{Method: "POST", Endpoint: "/contacts", Address: x, Status: 400, Body: `{"code":"invalid_parameter","message":"no"}`})
		s.say(Event{Person: "P", Segment: "vip", In: true, Partition: -1, Profile: &Profile{Email: x, First: "New"}})
		s.until("rejected", time.Minute, func() bool { return s.status().Rejected == 1 })
		s.exit("P", "vip")
		s.stays(42)
	})
}

func TestS52TheEmptyingOfAnOldAddressIsLost(t *testing.T) {
	play(t, func(s *scene) {
		s.begin()
		say := func(email string) {
			s.say(Event{Person: "P", Segment: "vip", In: true, Partition: -1, Profile: &Profile{Email: email, First: "P", Phone: "+33639980001"}})
		}
		say(x)
		s.attribute(42, x, "SMS", "33639980001")
		s.Sandbox.Order(sandbox.Fault{Method: "PUT", Address: "x%40example.com", LateMillis: 20_000})
		say(y)
		s.attribute(42, y, "SMS", "33639980001")
		s.stays(42, y)
		s.attribute(42, y, "SMS", "33639980001")
	})
}

func TestS54AnExitOfWhomOthersPutInBeforeANewAddress(t *testing.T) {
	play(t, func(s *scene) {
		s.Sandbox.Put(x, []int64{42}, nil)
		s.begin()
		s.say(Event{Person: "P", Segment: "vip", Partition: -1, Profile: &Profile{Email: x}})
		s.say(Event{Person: "P", Segment: "other", In: true, Partition: -1, Profile: &Profile{Email: y}})
		time.Sleep(50 * time.Millisecond)
		s.kill()
		s.stays(42)
	})
}
