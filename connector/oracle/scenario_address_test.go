package oracle

import (
	"fmt"
	"testing"
	"time"

	"segsync/connector"
	"segsync/sink/sandbox"
)

func TestS8S36SharedAddresses(t *testing.T) {
	storm(t, func(s *scene) {
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
	storm(t, func(s *scene) {
		s.begin()
		s.number("P", x, "+33639980001")
		s.number("Q", y, "+33639980002")
		s.attribute(42, x, "SMS", "33639980001")
		s.attribute(42, y, "SMS", "33639980002")
		s.Sandbox.Order(sandbox.Fault{Method: "PUT", DropAfter: true})
		s.number("P", y, "+33639980001")
		s.number("Q", x, "+33639980002")
		time.Sleep(100 * time.Millisecond)
		s.kill()
		s.attribute(42, y, "SMS", "33639980001")
		s.attribute(42, x, "SMS", "33639980002")
		s.number("P", z, "+33639980001") // and a chain, its answers lost
		s.Sandbox.Order(sandbox.Fault{Endpoint: "/contacts", DropAfter: true, Count: 3})
		s.stays(42, x, z)
		s.converge(s.t, 0)
	})
}

func TestS14ABlockedContactIsNotDeletedAndNotMoved(t *testing.T) {
	storm(t, func(s *scene) {
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
	storm(t, func(s *scene) {
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

func TestS21S41S42WhatLandsLateDoesNotStand(t *testing.T) {
	storm(t, func(s *scene) {
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

func TestS29ANumberThatSomebodyElseHas(t *testing.T) {
	storm(t, func(s *scene) {
		s.begin()
		s.number("Q", y, "+33639980001")
		s.attribute(42, y, "SMS", "33639980001")
		s.number("P", x, "+33639980001")
		s.list(42, time.Minute, x, y)
		s.attribute(42, x, "SMS", nil)
		s.number("Q", y, "+33639980002") // Q gives it up
		s.attribute(42, x, "SMS", "33639980001")
		s.attribute(42, y, "SMS", "33639980002")
		s.number("P", x, "+33639980002") // a swap
		s.number("Q", y, "+33639980001")
		s.attribute(42, x, "SMS", "33639980002")
		s.attribute(42, y, "SMS", "33639980001")
	})
}

func TestS45DeleteForOneListWhileAnotherWantsTheContact(t *testing.T) {
	storm(t, func(s *scene) {
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

func TestS52TheEmptyingOfAnOldAddressIsLost(t *testing.T) {
	storm(t, func(s *scene) {
		s.begin()
		s.number("P", x, "+33639980001")
		s.attribute(42, x, "SMS", "33639980001")
		s.Sandbox.Order(sandbox.Fault{Method: "PUT", Address: "x%40example.com", LateMillis: 20_000})
		s.number("P", y, "+33639980001")
		s.attribute(42, y, "SMS", "33639980001")
		s.stays(42, y)
		s.attribute(42, y, "SMS", "33639980001")
	})
}

func TestS54AnExitOfWhomOthersPutInBeforeANewAddress(t *testing.T) {
	storm(t, func(s *scene) {
		s.Sandbox.Put(x, []int64{42}, nil)
		s.begin()
		s.say(Event{Person: "P", Segment: "vip", Partition: -1, Profile: &Profile{Email: x}})
		s.say(Event{Person: "P", Segment: "other", In: true, Partition: -1, Profile: &Profile{Email: y}})
		time.Sleep(50 * time.Millisecond)
		s.kill()
		s.stays(42)
	})
}

// More addresses are given up, in an outage, than a second's budget has looks: they are looked at in several goes, and
// who is found unsubscribed in the last of them is not added.
func TestMoreAddressesGivenUpThanASecondHasLooks(t *testing.T) {
	storm(t, func(s *scene) {
		s.Sandbox.Put("q12@example.com", nil, nil)
		s.Sandbox.Unsubscribe("q12@example.com")
		s.Sandbox.Order(sandbox.Fault{Status: 503, Endpoint: "/contacts", Count: -1, Method: "POST"})
		s.Sandbox.Order(sandbox.Fault{Status: 503, Endpoint: "/contacts", Count: -1, Method: "PUT"})
		s.begin()
		for i := range 14 {
			s.enter("P", "vip", fmt.Sprintf("p%d@example.com", i))
			s.enter("Q", "vip", fmt.Sprintf("q%d@example.com", i))
		}
		time.Sleep(10 * time.Second)
		s.Sandbox.Mend()
		s.stays(42, "p13@example.com")
		if _, ok := s.Sandbox.Contact("q13@example.com"); ok {
			s.t.Error("the new address of somebody who had unsubscribed was written, if only for a moment")
		}
	})
}
