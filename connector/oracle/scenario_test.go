package oracle

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"segsync/connector"
	"segsync/sink/sandbox"
)

func TestS1AnAppliedEntryWhoseOwnerDiedIsNoNoOp(t *testing.T) {
	storm(t, func(s *scene) {
		s.begin()
		s.Sandbox.Order(sandbox.Fault{Method: "POST", Endpoint: "/contacts", DropAfter: true})
		s.enter("P", "vip", x)
		s.list(42, time.Minute, x)
		s.die()
		s.exit("P", "vip")
		s.begin()
		s.stays(42)
	})
}

// Nobody says then that the old address has left.
func TestS1AnAppliedEntryWhoseAddressChanges(t *testing.T) {
	storm(t, func(s *scene) {
		s.begin()
		s.Sandbox.Order(sandbox.Fault{Method: "POST", Endpoint: "/contacts", DropAfter: true})
		s.enter("P", "vip", x)
		s.list(42, time.Minute, x)
		s.die()
		s.enter("P", "vip", y)
		s.begin()
		s.stays(42, y)
	})
}

func TestS6SeveralSegmentsOnOneList(t *testing.T) {
	storm(t, func(s *scene) {
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
	storm(t, func(s *scene) {
		s.Sandbox.Put(y, []int64{42}, nil)
		s.begin()
		s.exit("unknown", "vip") // no known address: a dead letter, and the membership moves
		s.until("a dead letter", time.Minute, s.letters)
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

func TestS12APersonInTwoPartitionsAndNewPartitions(t *testing.T) {
	storm(t, func(s *scene) {
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

func TestS16OneOddContactIsRejectedAndOthersGoOn(t *testing.T) {
	storm(t, func(s *scene) {
		s.begin()
		s.Sandbox.Order(sandbox.Fault{Status: 500, Address: x, Count: -1})
		s.enter("P", "vip", x)
		var others []string
		s.until("it is rejected", 20*time.Minute, func() bool {
			others = append(others, fmt.Sprintf("o%d@example.com", len(others)))
			s.enter(fmt.Sprint("other-", len(others)), "vip", others[len(others)-1])
			time.Sleep(2 * time.Minute) // while others succeed, now and then: else it could be an outage
			return s.status().Rejected == 1
		})
		s.list(42, time.Minute, others...)
	})
}

func TestS17TheBreaker(t *testing.T) {
	storm(t, func(s *scene) {
		s.begin()
		for range 90 {
			s.say(Event{Poison: []byte{9}, Partition: 0})
		}
		s.enter("P", "vip", x)
		s.list(42, time.Minute, x)
		for range 30 {
			s.say(Event{Poison: []byte{9}, Partition: 0})
		}
		if s.calm() { // another life counts anew
			s.until("the breaker", time.Minute, func() bool { return s.halted("breaker") })
		}
		s.until("it lets go by itself", 10*time.Minute, func() bool { return len(s.status().Halted) == 0 })
		s.enter("Q", "vip", y)
		s.list(42, time.Minute, x, y)
	})
}

func TestS27ATopicMadeAgainHalts(t *testing.T) {
	storm(t, func(s *scene) {
		s.begin()
		s.enter("P", "vip", x)
		s.list(42, time.Minute, x)
		s.stop()
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
	storm(t, func(s *scene) {
		s.Tune = func(c *connector.Config) { c.Sources[0].Start.Latest = true }
		s.say(Event{Person: "old", Segment: "vip", In: true, Partition: 0, Profile: &Profile{Email: z}})
		delete(s.Truth.people, "old")
		s.begin()
		s.until("running", time.Minute, func() bool { return s.status().State == "running" })
		s.enter("P", "vip", x)
		s.list(42, time.Minute, x)
		s.stop()
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

func TestS33WhomNobodyNamesIsLeftAlone(t *testing.T) {
	storm(t, func(s *scene) {
		s.Sandbox.Put(z, []int64{42}, map[string]any{"FIRSTNAME": "Zoe"})
		s.begin()
		s.enter("P", "vip", x)
		s.stays(42, x, z)
	})
}

func TestS34ANullLeavesWhatStands(t *testing.T) {
	storm(t, func(s *scene) {
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

func TestS40AReplayAfterACrashDoesNotPutInWhoLeft(t *testing.T) {
	storm(t, func(s *scene) {
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

func TestS46TheLargestRecordIsOneDeadLetter(t *testing.T) {
	storm(t, func(s *scene) {
		s.begin()
		s.say(Event{Poison: append([]byte{9}, make([]byte, 990_000)...), Partition: 0})
		s.enter("P", "vip", x)
		s.list(42, time.Minute, x)
		s.until("the dead letter", time.Minute, s.letters)
		if b := s.Cluster.PartitionInfo(DeadLetters, 0).NumBytes; b > 10_000 {
			s.t.Errorf("the dead letter takes %d bytes", b)
		}
	})
}

func TestS48AnExitWhileTheEntryWaits(t *testing.T) {
	storm(t, func(s *scene) {
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
		if _, ok := s.Sandbox.Contact(x); ok && s.calm() { // another life does not know that it has to wait
			s.t.Error("P was put in")
		}
	})
}

// What was owed when an owner ended may not be wanted any more: its successor begins to read before it sends.
func TestS48AnExitWhileNobodyOwnsIt(t *testing.T) {
	play(t, func(s *scene) {
		s.begin()
		s.until("running", time.Minute, func() bool { return s.status().State == "running" })
		s.Sandbox.Order(sandbox.Fault{Method: "POST", Endpoint: "/contacts", Status: 429, Header: map[string]string{"x-sib-ratelimit-reset": "120"}})
		s.enter("Q", "vip", y) // its 429 stops everything for two minutes
		time.Sleep(3 * time.Second)
		s.enter("P", "vip", x)
		time.Sleep(3 * time.Second)
		s.stop()
		s.exit("P", "vip")
		s.begin()
		s.list(42, 5*time.Minute, y)
		if _, ok := s.Sandbox.Contact(x); ok {
			s.t.Error("P was put in")
		}
	})
}

func TestS50ARejectLeavesWhatIsUnknownToBeSentAgain(t *testing.T) {
	storm(t, func(s *scene) {
		s.begin()
		s.Sandbox.Order(sandbox.Fault{Method: "POST", Endpoint: "/contacts", Address: x, LateMillis: 100_000})
		s.enter("P", "vip", x)
		time.Sleep(100 * time.Millisecond)
		s.Sandbox.Order(sandbox.Fault{Method: "POST", Endpoint: "/contacts", Address: x, Status: 400, Body: `{"code":"invalid_parameter","message":"no"}`})
		s.say(Event{Person: "P", Segment: "vip", In: true, Partition: -1, Profile: &Profile{Email: x, First: "New"}})
		if s.calm() { // the answer may be lost
			s.until("rejected", time.Minute, func() bool { return s.status().Rejected == 1 })
		}
		s.exit("P", "vip")
		s.stays(42)
	})
}
