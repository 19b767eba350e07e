package oracle

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"
	"time"

	"segsync/connector"
	"segsync/connector/commands"
	"segsync/sink/sandbox"
)

// Rules: in any of some segments, in all of others, in none of a third kind; who enters one of these leaves, though somebody
// else put them in.
func TestRulesOfSegments(t *testing.T) {
	storm(t, func(s *scene) {
		s.Tune = func(c *connector.Config) {
			src := &c.Sources[0].Spec
			src.Segments = []string{"vip", "gold", "adult", "suppressed", "news"}
			c.Exports[0].Segments, c.Exports[0].All, c.Exports[0].None = []string{"vip", "gold", "adult", "suppressed"}, []string{"adult"}, []string{"suppressed"}
		}
		s.Sandbox.Put(z, []int64{42}, nil)
		s.enter("P", "vip", x)
		s.begin()
		time.Sleep(10 * time.Minute)
		s.list(42, 0, z)
		s.enter("P", "adult", x)
		s.list(42, 10*time.Minute, x, z)
		s.enter("Q", "adult", y)
		s.enter("P", "suppressed", x)
		s.list(42, 10*time.Minute, z)
		s.enter("R", "suppressed", z)
		s.list(42, 10*time.Minute)
		s.kill()
		s.exit("P", "vip")
		s.exit("P", "suppressed")
		s.enter("Q", "gold", y)
		s.list(42, 10*time.Minute, y)
		s.enter("P", "gold", x)
		s.stays(42, x, y)
		clear(s.Truth.people) // it knows no rules
	})
}

// Who takes out only whom they put in leaves others alone, and makes no call for them.
func TestOnlyWhomWePutInIsTakenOut(t *testing.T) {
	play(t, func(s *scene) {
		s.Tune = func(c *connector.Config) { c.Exports[0].OnlyOwn = true }
		s.Sandbox.Put(z, []int64{42}, nil)
		s.begin()
		s.say(Event{Person: "R", Segment: "vip", Partition: -1, Profile: &Profile{Email: z}})
		s.enter("P", "vip", x)
		s.list(42, 10*time.Minute, x, z)
		s.exit("P", "vip")
		s.stays(42, z)
		clear(s.Truth.people)
	})
}

// onlyExisting lets export-1 take only contacts that the account has.
func (s *scene) onlyExisting() {
	exports := slices.Clone(s.Exports)
	exports[0].OnlyExisting = true
	s.Reconfigure(exports)
}

// Where no contact is created, those that exist enter; others do when they exist and something is heard of them, or somebody asks
// for it. There is no import, no dead letter, and nothing is pending.
func TestNobodyIsCreated(t *testing.T) {
	storm(t, func(s *scene) {
		s.onlyExisting()
		s.Sandbox.Put(x, nil, nil)
		s.crowd(300)
		s.begin()
		s.enter("X", "vip", x)
		s.enter("Y", "vip", y)
		s.list(42, 10*time.Minute, x)
		s.until("nothing is pending", 10*time.Minute, func() bool { st := s.status(); return st.Pending == 0 && st.NoContact == 301 && st.Rejected == 0 })
		s.enter("Z", "gold", z) // the other list creates
		s.list(42, 10*time.Minute, x, z)
		s.Sandbox.Put(y, nil, nil)
		s.say(Event{Person: "Y", Segment: "vip", In: true, Partition: -1})
		s.list(42, 10*time.Minute, x, y, z)
		s.Sandbox.Put("c7@example.com", nil, nil)
		s.outcome(s.give(commands.Retry, "export-1"), commands.Done, "300 that the account did not have")
		s.list(42, 20*time.Minute, "c7@example.com", x, y, z)
		s.exit("X", "vip")
		s.list(42, 10*time.Minute, "c7@example.com", y, z)
		s.converge(s.t, 10*time.Minute)
		if s.count("POST /contacts/import") > 0 || s.letters() {
			s.t.Error("an import was made, or dead letters")
		}
		if _, ok := s.Sandbox.Contact("c8@example.com"); ok {
			s.t.Error("somebody was created")
		}
	})
}

// A list that is gone is no contact that is missing.
func TestAListIsGoneThatCreatesNobody(t *testing.T) {
	play(t, func(s *scene) {
		s.onlyExisting()
		s.Sandbox.Put(x, nil, nil)
		s.Sandbox.RemoveList(42)
		s.begin()
		s.enter("X", "vip", x)
		s.until("it is told", 10*time.Minute, func() bool { return s.halted("list_gone") })
		s.Sandbox.AddList(42)
		s.list(42, 30*time.Minute, x)
	})
}

// Whatever happens, who is wanted and exists is in the list, and nobody else; and what is said again makes no call.
func TestHistoriesOfAListThatCreatesNobody(t *testing.T) {
	seeds(t, 24, func(t *testing.T, seed uint64) {
		w := newWorld(t, sandbox.Options{Latency: 20 * time.Millisecond, ImportTime: 5 * time.Second, Seed: seed})
		s := &scene{World: w, t: t, patient: 1}
		s.onlyExisting()
		all := History(seed, DefaultShape(time.Now()))
		addresses := map[string]bool{}
		for _, e := range all {
			if e.Profile != nil && e.Profile.Email != "" {
				addresses[e.Profile.Email] = true
			}
		}
		for _, a := range slices.Sorted(maps.Keys(addresses)) {
			if hash(fmt.Sprint(a, seed))%2 == 0 {
				w.Sandbox.Put(a, nil, nil)
			}
		}
		s.begin()
		for i, part := range slices.Collect(slices.Chunk(all, len(all)/5+1)) {
			if err := w.Produce(t.Context(), part...); err != nil {
				t.Fatal(err)
			}
			time.Sleep(time.Duration(seed%5) * 500 * time.Millisecond)
			if i%2 == int(seed%2) {
				s.kill()
			}
		}
		w.converge(t, 20*time.Minute)
		w.promises(t)
		s.noCalls(func() { s.outcome(s.again(commands.Range{}), commands.Done, "records read") })
		s.stop()
	})
}

// A list that is named is waited for, in outages of the API, too; nothing is lost meanwhile.
func TestANamedListIsWaitedFor(t *testing.T) {
	play(t, func(s *scene) {
		s.Tune = func(c *connector.Config) {
			c.Exports[0].List, c.Exports[0].Named = 0, connector.ListName{Name: "VIP", Folder: 2}
		}
		s.Sandbox.RemoveList(42)
		s.Sandbox.Order(sandbox.Fault{Status: 500, Endpoint: "/contacts/lists"})
		s.begin()
		s.enter("X", "vip", x)
		s.until("it is told", 10*time.Minute, func() bool {
			st := s.status()
			return st.Doing == "waiting" && strings.Contains(st.Why, `there is no list "VIP" in folder 2`)
		})
		if n := s.count("GET /contacts/lists"); n > 4 {
			s.t.Errorf("%d calls", n)
		}
		s.Sandbox.NameList(42, "VIP", 2)
		s.list(42, 3*time.Minute, x)
		s.kill()
		s.enter("Y", "gold", y)
		s.list(42, 3*time.Minute, x, y)
	})
}

// What had no answer is said once more, and no more than that, of a contact that does not exist.
func TestALostAnswerOfNobody(t *testing.T) {
	play(t, func(s *scene) {
		s.onlyExisting()
		s.begin()
		s.Sandbox.Order(sandbox.Fault{Method: "PUT", Endpoint: "/contacts", DropAfter: true})
		s.enter("Y", "vip", y)
		time.Sleep(20 * time.Minute)
		before := s.count("PUT /contacts/{id}")
		time.Sleep(20 * time.Minute)
		if n := s.count("PUT /contacts/{id}") - before; n > 0 || before != 3 || s.status().Pending > 0 {
			s.t.Errorf("%d calls, and then %d", before, n)
		}
	})
}

// A list that creates, and to which nothing may be sent, creates nobody for one that does not; then it does, and both have them.
func TestAListThatIsHeldCreatesNobody(t *testing.T) {
	play(t, func(s *scene) {
		s.onlyExisting()
		s.begin()
		s.outcome(s.give(commands.Pause, "export-2"), commands.Done, "paused")
		s.enter("Y", "gold", y)
		time.Sleep(10 * time.Minute)
		if _, ok := s.Sandbox.Contact(y); ok {
			s.t.Error("somebody was created")
		}
		if n := s.count("PUT /contacts/{id}"); n != 1 {
			s.t.Errorf("%d calls", n)
		}
		s.outcome(s.give(commands.Resume, "export-2"), commands.Done, "resumed")
		s.list(43, 10*time.Minute, y)
		s.list(42, 10*time.Minute, y)
	})
}

// When the setting is taken away, those are created who were not.
func TestTheSettingIsTakenAway(t *testing.T) {
	play(t, func(s *scene) {
		both := slices.Clone(s.Exports)
		s.onlyExisting()
		s.begin()
		s.enter("Y", "vip", y)
		s.until("rests", 10*time.Minute, func() bool { return s.status().NoContact == 1 })
		s.stop()
		s.Reconfigure(both)
		s.begin()
		s.list(42, 30*time.Minute, y)
	})
}

// A call enters a list that is gone and leaves another: that is left, and the one that is gone is told.
func TestAListIsGoneThatIsEnteredWhileAnotherIsLeft(t *testing.T) {
	for _, creates := range []bool{false, true} {
		t.Run(fmt.Sprint("creates=", creates), func(t *testing.T) {
			play(t, func(s *scene) {
				if !creates {
					s.onlyExisting()
				}
				s.begin()
				s.enter("X", "news", x)
				s.list(43, 10*time.Minute, x)
				s.Sandbox.RemoveList(42)
				s.outcome(s.give(commands.Pause, ""), commands.Done, "paused")
				s.exit("X", "news")
				s.enter("X", "vip", x)
				time.Sleep(time.Minute)
				s.outcome(s.give(commands.Resume, ""), commands.Done, "resumed")
				s.until("it is told", 10*time.Minute, func() bool { return s.halted("list_gone") })
				s.list(43, 10*time.Minute)
				s.Sandbox.AddList(42)
				s.list(42, 30*time.Minute, x)
			})
		})
	}
}

// Something is heard of a contact while the answer is under way that it does not exist: it is looked for once more.
func TestSomebodyExistsWhileTheAnswerIsUnderWay(t *testing.T) {
	play(t, func(s *scene) {
		s.onlyExisting()
		s.begin()
		s.Sandbox.Order(sandbox.Fault{Method: "PUT", Endpoint: "/contacts", AnswerMillis: 5000})
		s.enter("Y", "vip", y)
		time.Sleep(2 * time.Second)
		s.Sandbox.Put(y, nil, nil)
		s.say(Event{Person: "Y", Segment: "vip", In: true, Partition: -1})
		s.list(42, 10*time.Minute, y)
	})
}

// An owner's export of a list that an admins' export names gives way; the others go on.
func TestAnOwnersExportOfANamedListGivesWay(t *testing.T) {
	play(t, func(s *scene) {
		s.Tune = func(c *connector.Config) {
			c.Exports[0].List, c.Exports[0].Named = 0, connector.ListName{Name: "VIP"}
			c.Exports[1].List, c.Exports[1].Owner = 42, "crm"
		}
		s.Sandbox.RemoveList(42)
		s.Sandbox.NameList(42, "VIP", 2)
		s.begin()
		s.enter("X", "vip", x)
		s.enter("Y", "news", y)
		s.stays(42, x)
		clear(s.Truth.people)
	})
}

// A named list that was deleted, and made again under another number, is found; everybody goes there.
func TestANamedListIsMadeAnew(t *testing.T) {
	play(t, func(s *scene) {
		s.Tune = func(c *connector.Config) {
			c.Exports[0].List, c.Exports[0].Named = 0, connector.ListName{Name: "VIP"}
		}
		s.Sandbox.RemoveList(42)
		s.Sandbox.NameList(42, "VIP", 2)
		s.begin()
		s.enter("X", "vip", x)
		s.list(42, 10*time.Minute, x)
		s.Sandbox.RemoveList(42)
		s.enter("Y", "vip", y)
		s.until("it is told", 10*time.Minute, func() bool { return s.halted("list_gone") })
		s.Sandbox.NameList(77, "VIP", 3)
		s.list(77, time.Hour, x, y)
		s.enter("Z", "vip", z)
		s.list(77, 10*time.Minute, x, y, z)
		clear(s.Truth.people)
	})
}
