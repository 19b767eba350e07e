package oracle

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"

	"segsync/connector"
	"segsync/connector/commands"
)

// give gives a command.
func (s *scene) give(kind commands.Kind, export string) *commands.Given {
	s.t.Helper()
	return s.order(commands.Command{Kind: kind, Export: export})
}

func (s *scene) order(c commands.Command) *commands.Given {
	s.t.Helper()
	g, err := s.Give(s.t.Context(), c)
	if err != nil {
		s.t.Fatal(err)
	}
	return g
}

// outcome waits for what comes of a command: a state ("": any), and what the text says.
func (s *scene) outcome(g *commands.Given, state string, parts ...string) *commands.Outcome {
	s.t.Helper()
	ctx, cancel := context.WithTimeout(s.t.Context(), time.Hour)
	defer cancel()
	o, err := g.Await(ctx, nil)
	if err != nil {
		s.t.Fatalf("%s: %v, %+v", g.Kind, err, s.status())
	}
	if o.State != state && state != "" {
		s.t.Errorf("%s is %s: %s; not %s", g.Kind, o.State, o.Text, state)
	}
	for _, part := range parts {
		if !strings.Contains(o.Text, part) {
			s.t.Errorf("%s is %s: %s; it does not say %s", g.Kind, o.State, o.Text, part)
		}
	}
	return o
}

// S31: a pause that was given while nobody ran holds the next owner, from its first moment on, and those after it. Ended
// while the owner is down, it is ended.
func TestS31APauseOutlivesOwners(t *testing.T) {
	for _, export := range []string{"", "export-1"} {
		t.Run("export="+export, func(t *testing.T) {
			storm(t, func(s *scene) {
				s.enter("P", "vip", x)
				s.enter("Q", "news", y)
				s.give(commands.Pause, export)
				s.begin()
				if export != "" {
					s.list(43, 10*time.Minute, y)
				}
				time.Sleep(5 * time.Minute)
				s.kill()
				time.Sleep(5 * time.Minute)
				s.until("it is told", 10*time.Minute, func() bool { return s.halted("paused") })
				s.list(42, 0)
				s.stop()
				g := s.give(commands.Resume, export)
				s.begin()
				s.outcome(g, commands.Done, "resumed")
				s.converge(s.t, 20*time.Minute)
				if s.halted("paused") {
					s.t.Error("it is paused still")
				}
			})
		})
	}
}

// A command is carried out once, by the owner it is given under or by the next; what came of it can be read afterwards.
func TestCommandsTakeEffectOnce(t *testing.T) {
	play(t, func(s *scene) {
		s.guarded()
		s.full(40)
		s.leaves("vip", 0, 20)
		s.until("removals are withheld", 5*time.Minute, s.withheld)
		s.stop() // nobody owns the connection
		first := s.give(commands.Approve, "export-1")
		second := s.give(commands.Approve, "export-1")
		s.begin()
		s.outcome(first, commands.Done, "20 people leave")
		s.outcome(second, commands.Done, "0 people leave")
		s.leaves("vip", 20, 40)
		s.until("later ones are withheld", 5*time.Minute, s.withheld)
		for range 3 {
			s.kill()
			time.Sleep(time.Minute)
			s.until("they are withheld still", 5*time.Minute, s.withheld)
		}
		s.outcome(s.give(commands.Refuse, "export-1"), commands.Done, "20 people stay")
		s.outcome(s.give(commands.Pause, "export-9"), commands.Refused, "no export export-9")
		s.outcome(first, commands.Done, "20 people leave")
		time.Sleep(10 * time.Minute)
		if n := len(s.Sandbox.List(42)); n != 20 {
			s.t.Errorf("%d are left", n)
		}
	})
}

// A table that is gone does not carry out again what was: but a pause stands.
func TestCommandsOfATableThatIsGone(t *testing.T) {
	play(t, func(s *scene) {
		s.full(10)
		s.outcome(s.give(commands.Pause, "export-1"), commands.Done, "paused")
		s.outcome(s.give(commands.Retry, "export-1"), commands.Done, "0 rejected")
		s.stop()
		s.admin(func(ctx context.Context, adm *kadm.Client) error { _, err := adm.DeleteTopic(ctx, table); return err })
		s.begin()
		s.until("it is paused", 5*time.Minute, func() bool { return s.halted("paused") })
		s.outcome(s.give(commands.Resume, "export-1"), commands.Done, "resumed")
	})
}

// S15: a table that is made anew does not bring back who was erased; and of a former address nothing is left either, whatever the
// guard says.
func TestS15AnErasureOutlivesTheTable(t *testing.T) {
	play(t, func(s *scene) {
		s.guarded()
		s.full(10)
		s.enter("P", "vip", x)
		s.list(42, 10*time.Minute, slices.Concat([]string{x}, s.crowded(10))...)
		s.outcome(s.give(commands.Pause, ""), commands.Done, "paused")
		s.enter("P", "vip", y) // the former address is in the list still
		s.until("it is read", time.Minute, func() bool { return s.status().Pending > 0 })
		erase := func() *commands.Given {
			return s.order(commands.Command{Kind: commands.Erase, Person: &commands.Person{Source: "cdp", Hash: connector.PersonHash("cdp", "P")}})
		}
		first := erase()
		s.outcome(first, commands.Done, "1 former addresses")
		s.outcome(s.give(commands.Resume, ""), commands.Done, "resumed")
		s.list(42, 20*time.Minute, s.crowded(10)...)
		second := erase()
		s.outcome(second, commands.Done, "nothing was held")
		time.Sleep(time.Hour)
		c, err := s.config("", s.Cutter())
		if err != nil {
			s.t.Fatal(err)
		}
		for _, g := range []*commands.Given{first, second} {
			if check, err := connector.CheckErasure(s.t.Context(), &c, g.ID); err != nil || check.Holds != 0 || g == first && len(check.Receipt.AddressHashes) != 2 {
				s.t.Errorf("%v, %+v", err, check)
			}
		}
		s.stop()
		s.admin(func(ctx context.Context, adm *kadm.Client) error { _, err := adm.DeleteTopic(ctx, table); return err })
		s.begin()
		s.outcome(s.again(commands.Range{}), commands.Done, "records read")
		s.stays(42, s.crowded(10)...)
		delete(s.Truth.people, "P")
	})
}

// crowded are the addresses of a crowd.
func (s *scene) crowded(n int) (all []string) {
	for i := range n {
		all = append(all, fmt.Sprintf("c%d@example.com", i))
	}
	return all
}

// A live audit: while people come and go, it tells, repairs so many as it may, and takes out whom it is told to.
func TestAnAuditByCommand(t *testing.T) {
	play(t, func(s *scene) {
		s.full(30)
		for _, a := range []string{"c1@example.com", "c2@example.com", "c3@example.com"} {
			s.Sandbox.TakeOut(a, 42)
		}
		s.Sandbox.Put("other@example.com", []int64{42}, nil)
		s.Sandbox.Put("friend@example.com", []int64{42}, nil)
		s.outcome(s.give(commands.Audit, "export-1"), commands.Done, "3 missing, 0 changed, 2 extra; 0 of them are mended")
		s.enter("late", "vip", z)
		g := s.order(commands.Command{Kind: commands.Audit, Export: "export-1", Repair: &commands.Repair{Most: 3, Extras: []string{commands.HashOf("Other@example.com")}}})
		s.kill() // its successor does it
		s.outcome(g, commands.Done, "3 missing, 0 changed, 2 extra; 3 of them are mended")
		s.until("the one that is named is out", 10*time.Minute, func() bool { _, in := s.Sandbox.List(42)["other@example.com"]; return !in })
		s.outcome(s.order(commands.Command{Kind: commands.Audit, Export: "export-1", Repair: &commands.Repair{}}), commands.Done, "1 missing, 0 changed, 1 extra; 1 of them are mended")
		s.Sandbox.Drop("friend@example.com")
		s.converge(s.t, 10*time.Minute)
	})
}

// S15: who was erased leaves the lists, and does not come back by a replay, whoever owns the connection by then; a newer event
// brings them back. Somebody else who carries the address keeps it.
func TestS15ErasureByCommand(t *testing.T) {
	storm(t, func(s *scene) {
		s.guarded()
		s.full(10)
		s.enter("P", "gold", x)
		s.enter("Q", "vip", y)
		s.enter("R", "vip", y)
		s.list(43, 10*time.Minute, x)
		erase := func(person string, deletes bool) *commands.Given {
			return s.order(commands.Command{Kind: commands.Erase, Person: &commands.Person{Source: "cdp", Hash: connector.PersonHash("cdp", person), Delete: deletes}})
		}
		g := erase("P", false)
		s.kill()
		s.outcome(g, commands.Done, "erased: 1 memberships")
		s.list(43, 20*time.Minute)
		s.outcome(erase("Q", true), commands.Done, "somebody else carries the address")
		s.outcome(erase("Z", false), commands.Done, "nothing was held of anybody of this id")
		for i := range 10 { // the guard keeps nobody who was erased
			s.outcome(erase(fmt.Sprint("crowd-", i), true), commands.Done, "deleted from the account")
		}
		s.list(42, 20*time.Minute, y)
		s.outcome(s.again(commands.Range{Resend: true}), commands.Done, "records read")
		time.Sleep(12 * time.Minute)
		s.list(42, 0, y)
		s.list(43, 0)
		s.enter("P", "gold", x)
		s.list(43, 20*time.Minute, x)
		s.outcome(s.order(commands.Command{Kind: commands.Erase, Person: &commands.Person{Source: "crm", Hash: "00"}}), commands.Refused, "no source crm")
		for person := range s.Truth.people {
			if person != "R" && person != "P" {
				delete(s.Truth.people, person)
			}
		}
	})
}
