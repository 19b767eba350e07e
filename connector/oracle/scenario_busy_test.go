package oracle

import (
	"fmt"
	"testing"
	"time"

	"segsync/connector"
	"segsync/sink/sandbox"
)

// Exits and imports beside each other: neither waits for the other.

func TestS5ExitsBesideALongImport(t *testing.T) {
	storm(t, func(s *scene) {
		s.begin()
		s.enter("P", "vip", x)
		s.list(42, time.Minute, x)
		s.Sandbox.Order(sandbox.Fault{Endpoint: "/contacts/import", ImportTime: 300_000})
		s.crowd(300)
		s.until("an import", time.Minute, func() bool { return s.count("POST /contacts/import") > 0 })
		s.exit("P", "vip")
		if s.calm() { // P's entry may have no answer, and be in it
			s.until("who is not in it leaves at once", 10*time.Second, func() bool { _, in := s.Sandbox.List(42)[x]; return !in })
		}
		s.exit("crowd-250", "vip")
		s.converge(s.t, 30*time.Minute)
	})
}

// gone waits until an address is out of a list, though an import is under way.
func (s *scene) gone(list int64, address string, within time.Duration) {
	s.t.Helper()
	s.until(fmt.Sprintf("%s leaves list %d", address, list), within, func() bool { _, in := s.Sandbox.List(list)[address]; return !in })
	if s.Sandbox.Unfinished() == 0 {
		s.t.Error("the import has ended: this tells nothing")
	}
}

// importing begins a life whose import takes a while, and lets many wait for the next one.
func (s *scene) importing(takes time.Duration, waiting int) {
	s.t.Helper()
	s.Sandbox.Order(sandbox.Fault{Endpoint: "/contacts/import", ImportTime: int(takes.Milliseconds())})
	s.crowd(300)
	s.begin()
	s.until("an import", time.Minute, func() bool { return s.count("POST /contacts/import") > 0 })
	s.enterAll("waiting", "vip", waiting)
	time.Sleep(2 * time.Second)
}

// enterAll lets people enter a segment in one go.
func (s *scene) enterAll(name, segment string, n int) {
	s.t.Helper()
	var all []Event
	for i := range n {
		all = append(all, Event{Person: fmt.Sprintf("%s-%d", name, i), Segment: segment, In: true, At: s.when(), Partition: -1, Profile: &Profile{Email: fmt.Sprintf("%s%d@example.com", name, i)}})
	}
	if err := s.Produce(s.t.Context(), all...); err != nil {
		s.t.Fatal(err)
	}
}

// Who waits for the next import, and leaves, does not wait for it: another may have put them into the list.
func TestS5ExitsOfThoseWhoWaitForTheNextImport(t *testing.T) {
	storm(t, func(s *scene) {
		s.Sandbox.Put("waiting900@example.com", []int64{42}, nil)
		s.importing(time.Minute, 1000)
		s.exit("waiting-900", "vip")
		if s.calm() {
			s.gone(42, "waiting900@example.com", 3*time.Second)
		}
		s.converge(s.t, 30*time.Minute)
	})
}

// Behind a long backlog exits wait a little for others, and no longer, though nothing else happens.
func TestS5ExitsBesideALongBacklog(t *testing.T) {
	play(t, func(s *scene) {
		s.Sandbox.Put("waiting900@example.com", []int64{42}, nil)
		s.importing(time.Minute, 5200)
		s.exit("waiting-900", "vip")
		s.gone(42, "waiting900@example.com", 8*time.Second)
		s.converge(s.t, 30*time.Minute)
	})
}

// Who enters one list and leaves another does not wait for the next import, either.
func TestS5ExitsOfThoseWhoEnterAnotherList(t *testing.T) {
	storm(t, func(s *scene) {
		s.begin()
		s.enter("P", "news", x)
		s.list(43, time.Minute, x)
		s.stop()
		s.importing(time.Minute, 1000)
		calls := s.count("PUT /contacts/{id}")
		s.enter("P", "vip", x)
		s.exit("P", "news")
		if s.calm() {
			s.gone(43, x, 8*time.Second)
			if n := s.count("PUT /contacts/{id}") - calls; n > 0 {
				s.t.Errorf("%d calls for one contact each, where many wait", n)
			}
		}
		s.converge(s.t, time.Hour)
	})
}

// An import takes nobody who is to leave another list first.
func TestS5ExitsOfThoseWhoAreToBeImported(t *testing.T) {
	storm(t, func(s *scene) {
		s.begin()
		s.enter("P", "news", x)
		s.list(43, time.Minute, x)
		s.stop()
		s.Sandbox.Order(sandbox.Fault{Endpoint: "/contacts/import", ImportTime: 60_000})
		s.enterAll("crowd", "vip", 1000)
		s.enter("P", "vip", x)
		s.exit("P", "news")
		s.begin()
		s.until("an import", time.Minute, func() bool { return s.count("POST /contacts/import") > 0 })
		if s.calm() {
			s.gone(43, x, 8*time.Second)
		}
		s.converge(s.t, time.Hour)
	})
}

// Who moves from one list to another goes with thousands, though the guard withholds the exits.
func TestS18AMassMoveGoesByImports(t *testing.T) {
	play(t, func(s *scene) {
		s.Tune = func(c *connector.Config) { c.Exports[0].Guard.Share, c.Exports[0].Guard.AtLeast = 0.3, 5 }
		s.past = true
		s.enterAll("crowd", "vip", 1500)
		s.begin()
		s.converge(s.t, 10*time.Minute)
		calls := s.count("POST /contacts")
		var all []Event
		for i := range 1500 {
			p := fmt.Sprintf("crowd-%d", i)
			all = append(all, Event{Person: p, Segment: "news", In: true, Partition: -1, At: s.when(), Profile: &Profile{Email: fmt.Sprintf("crowd%d@example.com", i), First: "New"}}, Event{Person: p, Segment: "vip", Partition: -1, At: s.when().Add(time.Millisecond)})
		}
		if err := s.Produce(s.t.Context(), all...); err != nil {
			s.t.Fatal(err)
		}
		s.until("all have entered the other list", 10*time.Minute, func() bool { return s.Sandbox.Len(43) == 1500 })
		if n := s.count("POST /contacts") - calls; n > 20 {
			s.t.Errorf("%d single calls", n)
		}
		time.Sleep(10 * time.Minute)
		if n := s.Sandbox.Len(42); n < 1050 || s.status().Withheld != n { // some go before the others are read
			s.t.Errorf("%d are left of 1500, %d withheld", n, s.status().Withheld)
		}
	})
}

// Somebody whom no import carries is found behind many who wait for the next one, though nothing else happens.
func TestS5AnEntryThatNoImportCarries(t *testing.T) {
	play(t, func(s *scene) {
		s.begin()
		s.enter("P", "vip", x)
		s.list(42, time.Minute, x)
		s.stop()
		s.importing(4*time.Minute, 4000)
		time.Sleep(5 * time.Second)
		s.enter("P", "vip", y) // the old address is looked at first
		s.until("P's new address is in", time.Minute, func() bool { _, in := s.Sandbox.List(42)[y]; return in })
		if s.Sandbox.Unfinished() == 0 {
			s.t.Error("the import has ended: this tells nothing")
		}
		s.converge(s.t, 2*time.Hour)
	})
}

// What falls due while the lease is not proven for a moment goes when it is.
func TestWhatFallsDueWithoutALease(t *testing.T) {
	play(t, func(s *scene) {
		s.begin()
		s.enter("Q", "vip", y)
		s.list(42, time.Minute, y)
		time.Sleep(5 * time.Second)
		s.Sandbox.Order(sandbox.Fault{Method: "POST", Endpoint: "/contacts", Address: x, Status: 425, Body: `{"code":"account_in_process"}`, Header: map[string]string{"Retry-After": "9"}})
		calls := s.count("POST /contacts")
		s.enter("P", "vip", x)
		s.until("a call that is to rest", time.Minute, func() bool { return s.count("POST /contacts") > calls })
		time.Sleep(1700 * time.Millisecond)
		s.life().Dialer.Freeze(7800 * time.Millisecond)
		s.list(42, time.Minute, x, y)
	})
}
