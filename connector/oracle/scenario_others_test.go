package oracle

import (
	"fmt"
	"strconv"
	"testing"
	"time"

	"segsync/connector"
	"segsync/sink/sandbox"
)

// What an import has done is told by the length of its lists: others change them, too, and take them away.

// others puts contacts into list 42 of which segsync has never heard.
func (s *scene) others(n int) {
	for i := range n {
		s.Sandbox.Put(fmt.Sprintf("other%d@example.com", i), []int64{42}, nil)
	}
}

// dropOthers takes them away again: the oracle has not heard of them, either.
func (s *scene) dropOthers(n int) {
	for i := range n {
		s.Sandbox.Drop(fmt.Sprintf("other%d@example.com", i))
	}
}

// imported waits until imports were made and settled.
func (s *scene) imported() {
	s.t.Helper()
	s.until("the import is settled", 30*time.Minute, func() bool {
		return s.count("POST /contacts/import") > 0 && s.Sandbox.Unfinished() == 0 && s.status().Imports == 0
	})
}

// Others put contacts into the list: they do not stand for those that an import loses, whether segsync is to take them
// out or has never heard of them, and though its owner dies meanwhile; and where nothing is lost, nothing is read back.
func TestS23AnImportIntoAListThatOthersFill(t *testing.T) {
	for _, loses := range []bool{true, false} {
		for _, leave := range []bool{true, false} {
			for _, dies := range []bool{true, false} {
				t.Run(fmt.Sprintf("rows are lost=%v, others leave=%v, the owner dies=%v", loses, leave, dies), func(t *testing.T) {
					storm(t, func(s *scene) { s.filledByOthers(loses, leave, dies) })
				})
			}
		}
	}
}

func (s *scene) filledByOthers(loses, leave, dies bool) {
	f := sandbox.Fault{Endpoint: "/contacts/import", ImportTime: 10_000}
	if loses {
		f.LoseRows = 0.2
	}
	s.Sandbox.Order(f)
	s.others(100)
	if leave {
		for i := range 100 {
			s.say(Event{Person: "other-" + strconv.Itoa(i), Segment: "vip", Partition: -1, Profile: &Profile{Email: fmt.Sprintf("other%d@example.com", i)}})
		}
		s.Sandbox.Order(sandbox.Fault{Endpoint: "/contacts/lists/42/contacts/remove", DelayMillis: 60_000})
	}
	s.crowd(200)
	s.begin()
	s.until("an import", time.Minute, func() bool { return s.count("POST /contacts/import") > 0 })
	if dies {
		time.Sleep(3 * time.Second) // its process is in the table
		s.kill()
	}
	if !leave {
		s.until("all are in the list", 20*time.Minute, func() bool { return s.Sandbox.Len(42) == 300 })
		s.dropOthers(100)
	}
	s.converge(s.t, 20*time.Minute)
	if n := s.count("GET /contacts/lists/{id}/contacts"); s.calm() && !loses && !leave && n > 0 {
		s.t.Errorf("the list was read back, by %d calls", n)
	}
}

// How many others there are cannot be told before the import: its list is read back.
func TestS23AnImportIntoAListThatCannotBeLookedAt(t *testing.T) {
	play(t, func(s *scene) {
		s.others(100)
		s.Sandbox.Order(sandbox.Fault{Method: "GET", Endpoint: "/contacts/lists/42", Status: 500, Count: -1})
		s.Sandbox.Order(sandbox.Fault{Endpoint: "/contacts/import", ImportTime: 10_000, LoseRows: 0.2})
		s.crowd(200)
		s.begin()
		s.until("an import", time.Minute, func() bool { return s.count("POST /contacts/import") > 0 })
		s.Sandbox.Mend()
		s.until("all are in the list", 20*time.Minute, func() bool { return s.Sandbox.Len(42) == 300 })
	})
}

// The look before an import hangs: the import does not wait for it, since whoever dies then leaves its contacts unknown.
func TestS23ALookBeforeAnImportThatHangs(t *testing.T) {
	play(t, func(s *scene) {
		s.Sandbox.Order(sandbox.Fault{Method: "GET", Endpoint: "/contacts/lists/42", DelayMillis: 50_000, Count: -1})
		s.crowd(200)
		s.begin()
		s.until("a look", time.Minute, func() bool { return s.count("GET /contacts/lists/{id}") > 0 })
		s.until("the import", 10*time.Second, func() bool { return s.count("POST /contacts/import") > 0 })
		s.Sandbox.Mend()
		s.converge(s.t, 20*time.Minute)
	})
}

// Nor do they where some contacts of ours are unknown, or on their way, when they are counted.
func TestS23AnImportWhileOthersCannotBeToldFromOurs(t *testing.T) {
	loses := func(s *scene, share float64, takes time.Duration) {
		s.Sandbox.Order(sandbox.Fault{Endpoint: "/contacts/import", ImportTime: int(takes.Milliseconds()), LoseRows: share})
	}
	for name, f := range map[string]func(s *scene){
		"unanswered calls of another list": func(s *scene) {
			s.others(60)
			s.begin()
			s.Sandbox.Order(sandbox.Fault{Method: "POST", Endpoint: "/contacts", Address: "lost", DropAfter: true, Count: 60})
			for i := range 60 {
				s.enter(fmt.Sprintf("lost-%d", i), "news", fmt.Sprintf("lost%d@example.com", i))
				time.Sleep(200 * time.Millisecond)
			}
			time.Sleep(time.Minute)
			s.Sandbox.Mend()
			loses(s, 0.2, 7*time.Minute)
			s.crowd(200)
		},
		"calls on their way": func(s *scene) {
			s.others(60)
			s.begin()
			s.Sandbox.Order(sandbox.Fault{Method: "POST", Endpoint: "/contacts", Address: "slow", DelayMillis: 15_000, Count: 14})
			loses(s, 0.03, 20*time.Second)
			for i := range 14 {
				s.enter(fmt.Sprintf("slow-%d", i), "vip", fmt.Sprintf("slow%d@example.com", i))
				time.Sleep(300 * time.Millisecond)
			}
			s.crowd(200)
		},
		"all is sent again": func(s *scene) {
			s.crowd(400)
			s.begin()
			s.converge(s.t, 10*time.Minute)
			s.stop()
			for i := range 60 {
				s.Sandbox.Drop(fmt.Sprintf("c%d@example.com", i))
			}
			s.others(60)
			loses(s, 0.2, 10*time.Second)
			s.Tune = func(c *connector.Config) { c.Rewind = &connector.Rewind{Resend: true, Lists: []int64{42}} }
			imports := s.count("POST /contacts/import")
			s.begin()
			s.until("another import", 10*time.Minute, func() bool { return s.count("POST /contacts/import") > imports })
		},
	} {
		t.Run(name, func(t *testing.T) {
			play(t, func(s *scene) {
				f(s)
				s.imported()
				s.dropOthers(60)
				s.converge(s.t, time.Hour)
			})
		})
	}
}

// A list that is gone when its import ends halts: nothing counts as delivered, and the import's other list, of which it
// has lost some, is made right.
func TestS23AListThatIsGoneWhenItsImportEnds(t *testing.T) {
	for _, segment := range []string{"vip", "gold"} { // list 42, and 43 with it
		t.Run(segment, func(t *testing.T) {
			play(t, func(s *scene) {
				s.Sandbox.Order(sandbox.Fault{Endpoint: "/contacts/import", ImportTime: 30_000, LoseRows: 0.2})
				s.enterAll("crowd", segment, 400)
				s.begin()
				s.until("an import", time.Minute, func() bool { return s.count("POST /contacts/import") > 0 })
				time.Sleep(5 * time.Second)
				s.Sandbox.RemoveList(42)
				s.until("the list halts", 5*time.Minute, func() bool { return s.halted("list_gone") })
				s.exit("crowd-7", segment)
				if segment == "gold" {
					s.until("the other list is right", 20*time.Minute, func() bool { return s.Sandbox.Len(43) == 399 })
				}
				if n := s.status().Lists[42]; n > 0 {
					s.t.Errorf("%d count as delivered into a list that is gone", n)
				}
			})
		})
	}
}

// Reading a long list back takes minutes.
func TestS23AListThatIsLong(t *testing.T) {
	play(t, func(s *scene) {
		s.begin()
		s.crowd(3000)
		s.converge(s.t, 10*time.Minute)
		s.Sandbox.Order(sandbox.Fault{Method: "GET", Endpoint: "/contacts/lists/42/contacts", DelayMillis: 25_000, Count: -1})
		s.Sandbox.Order(sandbox.Fault{Endpoint: "/contacts/import", ImportTime: 5_000, LoseRows: 0.2})
		s.enterAll("more", "vip", 1000)
		s.converge(s.t, time.Hour)
	})
}

// A call that had no answer, and was made again since, does not let lists be read back where it put nobody out.
func TestS23AnImportAfterAnUnansweredCall(t *testing.T) {
	play(t, func(s *scene) {
		s.begin()
		s.Sandbox.Order(sandbox.Fault{Method: "POST", Endpoint: "/contacts", Address: x, DropAfter: true})
		s.enter("P", "gold", x)
		time.Sleep(20 * time.Second)
		s.crowd(1000)
		s.imported()
		s.converge(s.t, 10*time.Minute)
		if n := s.count("GET /contacts/lists/{id}/contacts"); n > 0 {
			s.t.Errorf("lists were read back, by %d calls", n)
		}
	})
}
