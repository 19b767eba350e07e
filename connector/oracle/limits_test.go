//go:build !race

package oracle

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"segsync/connector"
	"segsync/connector/commands"
	"segsync/sink/sandbox"
	"segsync/sink/sendinblue"
)

// backlog is a first fill at the account's real limits: 10 calls a second, of which 8 are ours, 100 looks an hour, and
// imports that take a minute and then some time for each row.
type backlog struct {
	people   int
	name     int           // bytes of a last name: long ones make more imports of fewer people
	rowTime  time.Duration // of an import
	backfill bool          // it lies in the topic before the process first runs, which reads from the end on: a command has it read
}

// standing are people who are in the list before the backlog comes.
const standing = 900

// measured is what came of a backlog.
type measured struct {
	took, imports time.Duration   // in all; the imports' own
	live          []time.Duration // from a live change to its being in the account
	stats         sandbox.Stats
}

func (m *measured) String() string {
	s := m.stats
	return fmt.Sprintf("right after %.0f s = %.3f × the own time of %d imports; %d live changes: median %s, 99th percentile %s, at most %s; looks %d, exports %d, removals %d, single calls %d, most calls in a second %d, refused %d",
		m.took.Seconds(), m.took.Seconds()/m.imports.Seconds(), s.Imports, len(m.live), m.part(50), m.part(99), m.part(100), s.Calls["GET /processes"], s.Exports,
		s.Calls["POST /contacts/lists/{id}/contacts/remove"], s.Calls["POST /contacts"]+s.Calls["PUT /contacts/{id}"], s.MostASecond, s.Refused)
}

// part is a percentile of the live changes' times.
func (m *measured) part(percent int) time.Duration {
	return m.live[max(0, len(m.live)*percent/100-1)].Round(10 * time.Millisecond)
}

// check holds the figures against what they should be.
func (m *measured) check(t *testing.T) {
	t.Helper()
	t.Log(m)
	ours := int(float64(sendinblue.Plans["general"].ContactsPerSecond) * 0.8)
	switch {
	case m.part(50) > time.Second, m.part(99) > 5*time.Second:
		t.Error("live changes wait")
	case m.took.Seconds() > 1.15*m.imports.Seconds():
		t.Error("the imports wait")
	case m.stats.MostASecond > ours, m.stats.Refused > 0:
		t.Error("there are more calls in a second than are ours")
	case m.stats.Imports < 3:
		t.Error("too few imports to tell anything")
	}
}

// play fills the list, while three live changes come each second of people who are in no import.
func (b backlog) play(t *testing.T) *measured {
	w := newWorld(t, sandbox.Options{
		Latency: 20 * time.Millisecond, ImportTime: time.Minute, ImportRowTime: b.rowTime, ExportTime: 5 * time.Second,
		Rates: sandbox.Rates{ContactsPerSecond: 10, ContactsPerHour: 36_000, OtherPerHour: 100},
	})
	w.Rate = sendinblue.Plans["general"]
	w.Rate.Share = 0.8
	say := func(at time.Time, all ...Event) {
		for i := range all {
			all[i].At, all[i].Partition = at.Add(time.Duration(i)*time.Microsecond), -1
		}
		if err := w.Produce(t.Context(), all...); err != nil {
			t.Fatal(err)
		}
	}
	last := strings.Repeat("x", b.name)
	enter := func(name string, i int, first string) Event {
		return Event{Person: fmt.Sprint(name, i), Segment: "vip", In: true, Profile: &Profile{Email: fmt.Sprintf("%s%d@example.com", name, i), First: first, Last: last}}
	}
	all := make([]Event, 0, max(standing, 10_000))
	history := func() { // one in four has left; most of them were never in the list
		for from := 0; from < b.people; from += 10_000 {
			all = all[:0]
			for i := from; i < min(from+10_000, b.people); i++ {
				all = append(all, enter("person", i, "First"))
				if i%4 == 0 {
					all = append(all, Event{Person: fmt.Sprint("person", i), Segment: "vip"})
				}
			}
			say(time.Now().Add(-time.Hour), all...)
		}
		all = all[:0]
	}
	if b.backfill {
		history()
		w.Tune = func(c *connector.Config) { c.Sources[0].Start.Latest = true }
		p := w.start(t, "a")
		for p.Connection.Status().Doing != "working" {
			time.Sleep(time.Second)
		}
		p.Stop() // its positions stand behind the history
	}
	for i := range standing {
		all = append(all, enter("standing", i, "First"))
	}
	say(time.Now().Add(-2*time.Hour), all...)
	p := w.start(t, "a")
	for w.Sandbox.Len(42) != standing {
		time.Sleep(time.Second)
	}
	time.Sleep(5 * time.Minute)
	if b.backfill {
		if _, err := w.Give(t.Context(), commands.Command{Kind: commands.Backfill, Export: "export-1", Range: &commands.Range{}}); err != nil {
			t.Fatal(err)
		}
	} else {
		history()
	}
	before := w.Sandbox.Stats()
	m := &measured{}
	began := time.Now()
	waiting := map[string]time.Time{} // by address
	done := func(address string) bool {
		c, ok := w.Sandbox.Contact(address)
		switch {
		case strings.HasPrefix(address, "new"):
			return ok && slices.Contains(c.ListIDs, 42)
		case ok && address[len("standing")]%2 == 0:
			return c.Attributes["FIRSTNAME"] == "Changed"
		}
		return !slices.Contains(c.ListIDs, 42)
	}
	for n, tick := 0, 0; ; tick++ {
		if tick%33 == 0 && n < standing {
			e := enter("new", n, "New")
			person := n / 3
			switch n % 3 {
			case 1: // those whose number begins with an odd digit leave
				e = Event{Person: fmt.Sprint("standing", odd(person)), Segment: "vip"}
				waiting[fmt.Sprintf("standing%d@example.com", odd(person))] = time.Now()
			case 2:
				e = enter("standing", even(person), "Changed")
				waiting[e.Profile.Email] = time.Now()
			default:
				waiting[e.Profile.Email] = time.Now()
			}
			n++
			say(time.Now(), e)
		}
		for address, since := range waiting {
			if done(address) {
				m.live = append(m.live, time.Since(since))
				delete(waiting, address)
			}
		}
		if tick%100 == 99 && p.Connection.Status().Pending <= len(waiting) && len(w.Wrong()) <= len(waiting) {
			break
		}
		if time.Since(began) > time.Hour {
			t.Fatalf("%d are wrong after an hour; %+v", len(w.Wrong()), p.Connection.Status())
		}
		time.Sleep(10 * time.Millisecond)
	}
	m.took = time.Since(began)
	m.stats = w.Sandbox.Stats()
	m.imports = m.stats.Busy - before.Busy
	m.stats.Imports -= before.Imports
	slices.Sort(m.live)
	p.Stop()
	return m
}

// odd and even are numbers of people whose first digit is.
func odd(n int) int  { return 100*(1+2*(n/100%5)) + n%100 }
func even(n int) int { return 100*(2+2*(n/100%4)) + n%100 }

// At the account's real limits live changes do not wait behind a backlog, and the backlog does not wait either. (It is
// told in fake time: the race detector would only take longer.)
func TestAtTheRealLimits(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		backlog{people: 60_000, name: 400, rowTime: 500 * time.Microsecond}.play(t).check(t)
	})
}
