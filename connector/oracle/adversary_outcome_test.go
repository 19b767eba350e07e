package oracle

import (
	"context"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kmsg"

	"segsync/connector/commands"
)

// The commands' topic takes no outcome at a take-over: the take-over goes on.
func TestATakeOverWhoseOutcomeIsRefused(t *testing.T) {
	play(t, func(s *scene) {
		s.full(10)
		s.stop()
		s.give(commands.Retry, "export-1")
		s.Cluster.Fault(kfake.Fault{Keys: []kmsg.Key{kmsg.Produce}, Topic: commandsTopic, Err: kerr.MessageTooLarge, Count: -1})
		s.begin()
		s.enter("P", "vip", x)
		time.Sleep(30 * time.Minute)
		if _, in := s.Sandbox.List(42)[x]; !in {
			s.t.Errorf("nothing goes on: %+v", s.status())
		}
	})
}

// The commands' topic takes nothing for two minutes: the outcome is told when it does.
func TestAnOutcomeIsToldLater(t *testing.T) {
	play(t, func(s *scene) {
		s.full(10)
		f := s.Cluster.Fault(kfake.Fault{Keys: []kmsg.Key{kmsg.Fetch}, Topic: commandsTopic, Err: kerr.NotLeaderForPartition, Count: -1})
		time.Sleep(time.Minute)
		g := s.give(commands.Retry, "export-1")
		p := s.Cluster.Fault(kfake.Fault{Keys: []kmsg.Key{kmsg.Produce}, Topic: commandsTopic, Err: kerr.NotEnoughReplicas, Count: -1})
		f.Remove()
		time.Sleep(2 * time.Minute)
		p.Remove()
		if o := s.awaits(g, time.Hour); !strings.HasPrefix(o, "done") {
			s.t.Error("retry:", o)
		}
	})
}

// Backfills and cancels, one close upon the other: each has an outcome, and nothing is left of them.
func TestBackfillsAndCancels(t *testing.T) {
	play(t, func(s *scene) {
		s.read(300)
		r := rand.New(rand.NewPCG(1, 2))
		for i := range 150 {
			g := s.again(commands.Range{Sweep: i%3 == 0})
			time.Sleep(time.Duration(r.IntN(60)) * 100 * time.Microsecond)
			c := s.give(commands.Cancel, "export-1")
			if o := s.awaits(c, time.Hour); strings.HasPrefix(o, "NONE") {
				s.t.Fatal("nothing comes of a cancel")
			}
			if o := s.awaits(g, time.Hour); strings.HasPrefix(o, "NONE") {
				s.t.Fatal("nothing comes of", s.outcomesOf(g))
			}
			over := slices.DeleteFunc(s.outcomesOf(g), func(state string) bool { return strings.HasPrefix(state, commands.Begun) })
			if len(over) != 1 {
				s.t.Errorf("it is over more than once: %v", over)
			}
		}
		s.enter("P", "vip", x)
		s.converge(s.t, 20*time.Minute)
	})
}

// A backfill that is cancelled while it is asked where the log begins does not begin.
func TestABackfillThatIsCancelledWhileItBegins(t *testing.T) {
	play(t, func(s *scene) {
		s.read(300)
		s.Cluster.ControlKey(int16(kmsg.ListOffsets), func(kmsg.Request) (kmsg.Response, error, bool) {
			s.Cluster.SleepControl(func() { time.Sleep(2 * time.Second) })
			return nil, nil, false
		})
		g := s.again(commands.Range{Sweep: true})
		time.Sleep(time.Second)
		s.outcome(s.give(commands.Cancel, "export-1"), commands.Done, "it had not begun")
		s.outcome(g, commands.Failed, "before it began")
		time.Sleep(time.Minute)
		if told := s.outcomesOf(g); len(told) != 2 || len(s.status().Backfills) > 0 {
			s.t.Errorf("%q, %+v", told, s.status().Backfills)
		}
	})
}

// S31: of a pause compaction leaves its outcome alone, and the table is gone: it is paused.
func TestAPauseOutlivesCompaction(t *testing.T) {
	play(t, func(s *scene) {
		s.full(10)
		s.outcome(s.give(commands.Pause, "export-1"), commands.Done, "paused")
		s.outcome(s.give(commands.Retry, "export-1"), commands.Done)
		s.stop()
		s.Cluster.Compact()
		s.admin(func(ctx context.Context, adm *kadm.Client) error { _, err := adm.DeleteTopic(ctx, table); return err })
		s.begin()
		s.until("running", 5*time.Minute, func() bool { return s.status().State == "running" })
		time.Sleep(5 * time.Minute)
		if !s.halted("paused") {
			s.t.Error("the pause is lost", s.status().Halted)
		}
	})
}

// Many backfills, one behind the other: each reads everything.
func TestManyBackfills(t *testing.T) {
	play(t, func(s *scene) {
		s.read(300)
		for i := range 60 {
			s.outcome(s.again(commands.Range{Sweep: i%2 == 0}), commands.Done, "300 records read")
		}
	})
}

// Live events keep coming from other partitions while a lost position is mended by a backfill, over kills.
func TestALostPositionAndKills(t *testing.T) {
	play(t, func(s *scene) {
		s.read(60)
		s.losesAPosition()
		s.enter("N-1", "vip", x)
		s.enter("N-2", "vip", y)
		g := s.again(commands.Range{From: time.Now().Add(-time.Hour)})
		s.kill()
		s.awaits(g, time.Hour)
		s.converge(s.t, 30*time.Minute)
	})
}
