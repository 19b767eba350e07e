package oracle

import (
	"fmt"
	"strconv"
	"testing"
	"time"

	"segsync/connector/commands"
	"segsync/sink/sandbox"
)

// What an import has done is told by an audit: others change the list, too, and take their own away.

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

// exports is how many lists were asked for.
func (s *scene) exports() int { return s.count("POST /contacts/export") }

// unpaged fails if a list was read by pages.
func (s *scene) unpaged() {
	s.t.Helper()
	if n := s.count("GET /contacts") + s.count("GET /contacts/lists/{id}/contacts"); n > 0 {
		s.t.Errorf("lists were paged through, by %d calls", n)
	}
}

// Others put contacts into the list: they do not stand for those that an import loses, whether segsync is to take them
// out or has never heard of them, and though its owner dies meanwhile.
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
	if s.calm() {
		s.unpaged()
	}
}

// A list that is busy and has lost nothing is read once, by one export, and not for its length.
func TestS23ABusyListIsReadOnce(t *testing.T) {
	for _, segment := range []string{"news", "gold"} {
		t.Run(segment, func(t *testing.T) {
			play(t, func(s *scene) {
				s.past = true
				s.enterAll("crowd", segment, 2000)
				s.begin()
				s.converge(s.t, 10*time.Minute)
				for _, e := range []string{"/contacts/lists/42/contacts/remove", "/contacts/lists/43/contacts/remove", "/contacts/crowd"} {
					s.Sandbox.Order(sandbox.Fault{Endpoint: e, AnswerMillis: 1500, Count: -1})
				}
				imports := s.count("POST /contacts/import")
				s.enterAll("more", "news", 1000)
				for i := range 200 { // 40 s
					s.exit(fmt.Sprintf("crowd-%d", i), segment)
					time.Sleep(200 * time.Millisecond)
				}
				s.converge(s.t, 10*time.Minute)
				if s.count("POST /contacts/import") == imports {
					s.t.Error("no import was made: this tells nothing")
				}
				time.Sleep(30 * time.Minute)
				s.unpaged()
				if n := s.exports(); n < 1 || n > 4 { // each list after each of two phases
					s.t.Errorf("%d exports", n)
				}
			})
		})
	}
}

// All is sent again, and an import loses some of it; others have come and gone meanwhile.
func TestS23AnImportOfWhatIsSentAgain(t *testing.T) {
	play(t, func(s *scene) {
		s.crowd(400)
		s.begin()
		s.converge(s.t, 10*time.Minute)
		s.stop()
		for i := range 60 {
			s.Sandbox.Drop(fmt.Sprintf("c%d@example.com", i))
		}
		s.others(60)
		s.Sandbox.Order(sandbox.Fault{Endpoint: "/contacts/import", ImportTime: 10_000, LoseRows: 0.2})
		s.again(commands.Range{Resend: true})
		imports := s.count("POST /contacts/import")
		s.begin()
		s.until("another import", 10*time.Minute, func() bool { return s.count("POST /contacts/import") > imports })
		s.imported()
		s.dropOthers(60)
		s.converge(s.t, time.Hour)
	})
}

// Of those who were in the list already an import was only to change attributes: what it loses of them is found, too.
func TestS23AnImportLosesAttributes(t *testing.T) {
	storm(t, func(s *scene) {
		s.crowd(400)
		s.begin()
		s.converge(s.t, 10*time.Minute)
		s.stop()
		s.Sandbox.Order(sandbox.Fault{Endpoint: "/contacts/import", ImportTime: 10_000, LoseRows: 0.2})
		var all []Event
		for i := range 400 {
			all = append(all, Event{Person: fmt.Sprintf("crowd-%d", i), Segment: "vip", In: true, At: time.Now().Add(time.Duration(i) * time.Microsecond), Partition: -1, Profile: &Profile{Email: fmt.Sprintf("c%d@example.com", i), First: "New"}})
		}
		if err := s.Produce(s.t.Context(), all...); err != nil {
			s.t.Fatal(err)
		}
		imports := s.count("POST /contacts/import")
		s.begin()
		s.converge(s.t, time.Hour)
		if s.calm() && (s.count("POST /contacts/import") == imports || s.Sandbox.Stats().Lost == 0) {
			s.t.Error("no import was made that lost something: this tells nothing")
		}
	})
}

// A list that is gone when its import has ended halts, and is filled when it is there again.
func TestS23AListThatIsGoneWhenItsImportEnds(t *testing.T) {
	for _, segment := range []string{"vip", "gold"} { // list 42, and 43 with it
		t.Run(segment, func(t *testing.T) {
			play(t, func(s *scene) {
				s.Sandbox.Order(sandbox.Fault{Endpoint: "/contacts/import", ImportTime: 30_000, LoseRows: 0.2})
				s.past = true
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
				s.Sandbox.AddList(42)
				s.converge(s.t, time.Hour)
			})
		})
	}
}
