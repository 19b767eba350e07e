package oracle

import (
	"fmt"
	"maps"
	"math/rand/v2"
	"testing"
	"time"

	"segsync/connector"
	"segsync/connector/commands"
	"segsync/sink/sandbox"
)

// What a plan says and what the backfill then does agree exactly: who enters, leaves, changes, stays; dead letters; records. The
// plan itself writes nothing and calls for nothing but to ask.
func TestAPlanIsWhatHappens(t *testing.T) {
	seeds(t, 24, func(t *testing.T, seed uint64) {
		w := newWorld(t, sandbox.Options{Latency: 20 * time.Millisecond, ImportTime: 5 * time.Second, Seed: seed}, seed%2*(seed+1))
		s := &scene{World: w, t: t, patient: 1}
		r := rand.New(rand.NewPCG(seed, 12))
		shape := DefaultShape(time.Now())
		if seed%2 == 1 {
			shape = shape.inWays()
			shape.Lapses = false // a plan is of one moment
		}
		all := History(seed, shape)
		first := len(all)
		if seed%3 > 0 { // else nothing has ever run
			first = r.IntN(len(all))
			s.begin()
			if err := w.Produce(t.Context(), all[:first]...); err != nil {
				t.Fatal(err)
			}
			w.converge(t, 20*time.Minute)
			time.Sleep(20 * time.Minute)
			s.stop()
		}
		if err := w.Produce(t.Context(), all[min(first, len(all)-1):]...); err != nil {
			t.Fatal(err)
		}
		time.Sleep(2 * time.Minute) // none of it is live
		of := commands.Range{Resend: seed%4 == 3}
		before, calls := s.lists(), s.Sandbox.Stats().Calls
		var planned *connector.Planned
		c, err := s.config("", s.Cutter())
		if err == nil {
			planned, err = connector.Plan(t.Context(), &c, "export-1", of, func(int64, int64) {})
		}
		if err != nil {
			t.Fatal(err)
		}
		for name, n := range s.Sandbox.Stats().Calls {
			if n != calls[name] && name[:3] != "GET" {
				t.Errorf("the plan has called %s", name)
			}
		}
		written, err := s.World.letters(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		had := len(written)
		s.again(of)
		s.begin()
		w.converge(t, 20*time.Minute)
		s.until("it is read", 10*time.Minute, func() bool { st := s.status(); return len(st.Backfills) == 0 && st.Pending == 0 })
		for i, x := range planned.Lists {
			was, is := before[i], s.Sandbox.List(x.List)
			added, removed := 0, 0
			for a := range is {
				if _, ok := was[a]; !ok {
					added++
				}
			}
			for a := range was {
				if _, ok := is[a]; !ok {
					removed++
				}
			}
			if !of.Resend && (x.Add != added || x.Remove != removed) || x.Withheld != 0 {
				t.Errorf("list %d: planned %+v; %d entered, %d left", x.List, x.Outlook, added, removed)
			}
			if n := x.Add + x.Update + x.Unchanged; n != len(is) {
				t.Errorf("list %d: planned %+v; it holds %d", x.List, x.Outlook, len(is))
			}
		}
		letters, err := s.World.letters(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		n := map[string]int{}
		for _, l := range planned.Letters {
			n[l.Class] += l.Count
		}
		for _, h := range letters[had:] {
			n[h["class"]]--
		}
		delete(n, "no_address") // whether an address is known depends on what live reading has said meanwhile
		delete(n, "rejected")   // the account's answers are not planned
		for class, more := range n {
			if more != 0 {
				t.Errorf("%d more dead letters of class %s are planned than written", more, class)
			}
		}
		s.stop()
	})
}

// lists are copies of what the lists of the exports hold.
func (s *scene) lists() (all []map[string]map[string]any) {
	for _, x := range s.Exports {
		all = append(all, maps.Clone(s.Sandbox.List(x.List)))
	}
	return all
}

// A plan weighs the guard, and says how many calls there would be, and how long they take.
func TestAPlanWeighsTheGuard(t *testing.T) {
	play(t, func(s *scene) {
		s.guarded()
		s.full(400)
		s.settled()
		s.stop()
		s.leaves("vip", 0, 300)
		for i := range 2000 {
			s.say(Event{Person: fmt.Sprint("new-", i), Segment: "vip", In: true, Partition: -1, Profile: &Profile{Email: fmt.Sprintf("n%d@example.com", i)}})
		}
		c, err := s.config("", s.Cutter())
		if err != nil {
			s.t.Fatal(err)
		}
		p, err := connector.Plan(s.t.Context(), &c, "export-1", commands.Range{From: time.Now()}, func(int64, int64) {})
		if err != nil {
			s.t.Fatal(err)
		}
		if x := p.Lists[0]; x.Withheld != 300 || x.Add != 2000 || x.Unchanged != 100 || x.Remove != 0 {
			s.t.Errorf("%+v", x)
		}
		if p.Calls["import"] != 1 || p.Calls["remove"] != 0 || p.Sending < time.Second || p.Sending > 5*time.Minute {
			s.t.Errorf("%v, %s", p.Calls, p.Sending)
		}
		clear(s.Truth.people)
		s.begin()
		s.until("it is as planned", 10*time.Minute, func() bool { return len(s.Sandbox.List(42)) == 2400 && s.withheld() })
	})
}
