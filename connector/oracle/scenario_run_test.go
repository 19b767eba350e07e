package oracle

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"

	"segsync/connector"
	"segsync/connector/commands"
	"segsync/sink/sandbox"
)

func TestS13TheKeyBecomesAnotherAccounts(t *testing.T) {
	storm(t, func(s *scene) {
		s.another("another")
		change := s.keyed(Key)
		s.begin()
		s.enter("P", "vip", x)
		s.list(42, time.Minute, x)
		s.stop()
		change("another")
		s.begin()
		s.until("the halt", time.Minute, func() bool { return s.halted("account_changed") })
		s.enter("Q", "vip", y)
		time.Sleep(time.Minute)
		s.list(42, 0, x) // nothing is sent to an account that the lists were not delivered to
		change(Key)      // goes on by itself
		s.list(42, time.Minute, x, y)
	})
}

// S19: the topic's last offset is a transaction's marker, and another process has the connection.
func TestS19ABoundedRunEndsWhenAllIsSettled(t *testing.T) {
	for _, beside := range []bool{false, true} {
		t.Run(fmt.Sprintf("beside a live run=%v", beside), func(t *testing.T) {
			storm(t, func(s *scene) {
				for i := range 20 {
					s.enter(fmt.Sprint("p", i), "vip", fmt.Sprintf("p%d@example.com", i))
				}
				s.inTransaction(Event{Person: "P", Segment: "vip", In: true, At: time.Now(), Profile: &Profile{Email: x}})
				if beside {
					s.begin()
				}
				for {
					c, err := s.Prepare("once", func(*connector.Config) {})
					if err == nil {
						err = c.Once(s.t.Context(), nil)
					}
					if err == nil {
						break
					}
					if s.calm() { // else the account may not be there within a minute
						s.t.Fatal(err)
					}
				}
				s.converge(s.t, 0)
			})
		})
	}
}

// What waits for a disabled export is nobody's to wait for.
func TestS19ABoundedRunBesideAnotherDoesNotWaitForADisabledExport(t *testing.T) {
	play(t, func(s *scene) {
		s.Tune = func(c *connector.Config) { c.Exports[1].Enabled = false }
		s.begin()
		s.enter("P", "news", x)
		s.enter("Q", "vip", y)
		s.list(42, time.Minute, y)
		c, err := s.Prepare("once", func(*connector.Config) {})
		if err != nil {
			s.t.Fatal(err)
		}
		ctx, cancel := context.WithTimeout(s.t.Context(), time.Hour)
		defer cancel()
		if err := c.Once(ctx, nil); err != nil {
			s.t.Error(err)
		}
	})
}

// inTransaction says what ends with a marker.
func (s *scene) inTransaction(e Event) {
	s.t.Helper()
	value, err := s.Encode(e)
	if err != nil {
		s.t.Fatal(err)
	}
	cl, err := kgo.NewClient(kgo.SeedBrokers(s.Brokers()...), kgo.Dialer(s.own.DialContext), kgo.TransactionalID("events"))
	if err != nil {
		s.t.Fatal(err)
	}
	defer cl.Close()
	ctx := s.t.Context()
	if err := cl.BeginTransaction(); err != nil {
		s.t.Fatal(err)
	}
	if err := cl.ProduceSync(ctx, &kgo.Record{Topic: Topic, Key: []byte(e.Person), Value: value}).FirstErr(); err != nil {
		s.t.Fatal(err)
	}
	if err := cl.EndTransaction(ctx, kgo.TryCommit); err != nil {
		s.t.Fatal(err)
	}
	s.World.mu.Lock()
	defer s.World.mu.Unlock()
	s.Truth.Apply(e)
}

func TestS20ThousandsOfEventsOfOnePersonInAnOutage(t *testing.T) {
	storm(t, func(s *scene) {
		s.Sandbox.Order(sandbox.Fault{Status: 503, Endpoint: "/contacts", Count: -1})
		s.begin()
		for i := range 30 {
			var all []Event
			for j := range 100 {
				all = append(all, Event{Person: "P", Segment: "vip", In: j%3 > 0, At: time.Now().Add(time.Duration(j) * time.Microsecond), Partition: 0, Profile: &Profile{Email: fmt.Sprintf("p%d@example.com", j%4), First: fmt.Sprint(i, j)}})
			}
			if err := s.Produce(s.t.Context(), all...); err != nil {
				s.t.Fatal(err)
			}
			time.Sleep(2 * time.Second)
		}
		s.Sandbox.Mend()
		s.converge(s.t, time.Hour)
		if n := len(s.Sandbox.List(42)); n != 0 {
			s.t.Errorf("%d are in, and the last event was an exit", n)
		}
	})
}

func TestS39AKillEveryTwoSeconds(t *testing.T) {
	storm(t, func(s *scene) {
		s.begin()
		delivered := 0
		for i := range max(10, 30/slower) {
			for j := range 3 {
				s.enter(fmt.Sprint(i, "-", j), "vip", fmt.Sprintf("p%d-%d@example.com", i, j))
			}
			time.Sleep(2 * time.Second)
			s.kill()
			if n := len(s.Sandbox.List(42)); i%10 == 9 && s.calm() {
				if n <= delivered {
					s.t.Errorf("after %d lives %d are in, as %d were ten lives ago", i+1, n, delivered)
				}
				delivered = n
			}
		}
		s.converge(s.t, 30*time.Minute)
	})
}

// S81: a bounded run that cannot go on ends within minutes, with what it waits for (K11).
func TestS81ABoundedRunEndsWhenNothingGoesOn(t *testing.T) {
	for name, c := range map[string]struct {
		breaks func(s *scene)
		want   string
	}{
		"the registry is down": {func(s *scene) { s.down.Store(true) }, "schema registry"},
		"the API fails":        {func(s *scene) { s.Sandbox.Order(sandbox.Fault{Status: 503, Count: -1}) }, ""},
		"the API fails later": {func(s *scene) {
			s.Sandbox.Order(sandbox.Fault{Method: "POST", Status: 503, Count: -1})
		}, "retrying: since"},
		"another owner stands still": {func(s *scene) {
			s.Sandbox.Order(sandbox.Fault{Method: "POST", Status: 503, Count: -1})
			s.begin()
			s.until("it owns", time.Minute, func() bool { return s.status().State == "running" })
		}, "owns the connection"},
	} {
		t.Run(name, func(t *testing.T) {
			play(t, func(s *scene) {
				s.enter("P", "vip", x)
				c.breaks(s)
				began := time.Now()
				once, err := s.Prepare("once", func(*connector.Config) {})
				if err == nil {
					err = once.Once(s.t.Context(), nil)
				}
				if !errors.Is(err, connector.ErrEnvironment) || !strings.Contains(err.Error(), c.want) || time.Since(began) > 4*time.Minute {
					s.t.Errorf("after %s it ends with %v", time.Since(began), err)
				}
				s.down.Store(false)
				s.Sandbox.Mend()
			})
		})
	}
}

// A standby whose configuration differs from the owner's knows it.
func TestAStandbyWithAnotherConfiguration(t *testing.T) {
	play(t, func(s *scene) {
		s.begin()
		s.enter("P", "vip", x)
		s.list(42, time.Minute, x)
		same := s.start(s.t, "b")
		s.Tune = func(c *connector.Config) { c.Exports[0].Segments = []string{"gold"} }
		other := s.start(s.t, "c")
		time.Sleep(30 * time.Second)
		if same.Connection.Status().Differs || !other.Connection.Status().Differs {
			s.t.Errorf("the same differs: %v, another: %v", same.Connection.Status().Differs, other.Connection.Status().Differs)
		}
		s.Tune = nil
	})
}

// A bounded run that cannot end is told as failed, with its reason, where nobody runs any more.
func TestABoundedRunThatFails(t *testing.T) {
	play(t, func(s *scene) {
		s.enter("N", "news", y)
		s.enter("P", "vip", x)
		s.Sandbox.RemoveList(42)
		c, err := s.Prepare("b", func(*connector.Config) {})
		if err != nil {
			s.t.Fatal(err)
		}
		if err := c.Once(s.t.Context(), nil); !errors.Is(err, connector.ErrHalted) {
			s.t.Error(err)
		}
		all, err := c.Runs(s.t.Context())
		if err != nil || len(all) != 1 || all[0].Kind != "once" || all[0].State != commands.Failed || !strings.Contains(all[0].Text, "nothing more can be sent") {
			s.t.Errorf("%v, %+v", err, all)
		}
		clear(s.Truth.people)
	})
}
