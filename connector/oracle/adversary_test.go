package oracle

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"

	"segsync/connector"
	"segsync/connector/commands"
)

const commandsTopic = "segsync-commands"

// outcomesOf are the states told of a command, in order.
func (s *scene) outcomesOf(g *commands.Given) (states []string) {
	cl := s.client(kgo.ConsumePartitions(map[string]map[int32]kgo.Offset{commandsTopic: {0: kgo.NewOffset().AtStart()}}), kgo.KeepControlRecords(), kgo.FetchIsolationLevel(kgo.ReadCommitted()))
	defer cl.Close()
	end := s.Cluster.PartitionInfo(commandsTopic, 0).HighWatermark
	for at := int64(0); at < end; {
		ctx, cancel := context.WithTimeout(s.t.Context(), time.Minute)
		f := cl.PollFetches(ctx)
		cancel()
		if ctx.Err() != nil && f.Empty() {
			break
		}
		f.EachRecord(func(r *kgo.Record) {
			at = r.Offset + 1
			var c commands.Command
			if !r.Attrs.IsControl() && json.Unmarshal(r.Value, &c) == nil && c.ID == g.ID && c.Outcome != nil {
				states = append(states, c.Outcome.State+": "+c.Outcome.Text)
			}
		})
	}
	return states
}

// awaits is outcome with a bound, without failing fatally.
func (s *scene) awaits(g *commands.Given, within time.Duration) string {
	ctx, cancel := context.WithTimeout(s.t.Context(), within)
	defer cancel()
	o, err := g.Await(ctx, nil)
	if err != nil || o == nil {
		return fmt.Sprint("NONE ", err)
	}
	return o.State + ": " + o.Text
}

// A backfill of one segment does not call a damaged table whole.
func TestABackfillOfOneSegmentMendsNoTable(t *testing.T) {
	play(t, func(s *scene) {
		s.full(60)
		s.stop()
		s.halve()
		s.begin()
		s.until("the damage is told", time.Minute, func() bool { return s.halted("table_damaged") })
		s.awaits(s.again(commands.Range{Segments: []string{"gold"}}), time.Hour)
		time.Sleep(20 * time.Second)
		if !s.halted("table_damaged") {
			s.t.Errorf("called whole by reading gold only: people=%d, list has %d", s.status().People, len(s.Sandbox.List(42)))
		}
		s.exit("crowd-1", "vip")
		time.Sleep(30 * time.Minute)
	})
}

// A sweep leaves alone whom live reading has read of a partition that joined meanwhile.
func TestASweepKnowsPartitionsThatCameLater(t *testing.T) {
	play(t, func(s *scene) {
		s.read(300)
		s.down.Store(true)
		s.kill()
		g := s.again(commands.Range{Sweep: true})
		s.until("under way", 10*time.Minute, func() bool { return len(s.status().Backfills) == 1 && s.status().Backfills[0].Left > 0 })
		s.admin(func(ctx context.Context, adm *kadm.Client) error {
			_, err := adm.UpdatePartitions(ctx, 4, Topic)
			return err
		})
		s.Renew()
		time.Sleep(10 * time.Minute)
		s.say(Event{Person: "NEW", Segment: "vip", In: true, Partition: 3, Profile: &Profile{Email: x}})
		s.say(Event{Person: "crowd-1", Segment: "gold", In: true, Partition: 3, Profile: &Profile{Email: "c1@example.com", First: "C"}})
		time.Sleep(10 * time.Minute)
		s.down.Store(false)
		s.awaits(g, time.Hour)
		s.converge(s.t, 30*time.Minute)
	})
}

// The segment of a sweep is followed no more: the backfill fails, and life goes on.
func TestASweepOfASegmentThatIsFollowedNoMore(t *testing.T) {
	play(t, func(s *scene) {
		s.read(300)
		s.down.Store(true)
		s.kill()
		g := s.again(commands.Range{Sweep: true, Segments: []string{"gold"}})
		s.until("under way", 10*time.Minute, func() bool { return len(s.status().Backfills) == 1 && s.status().Backfills[0].Left > 0 })
		s.stop()
		s.Tune = func(c *connector.Config) {
			c.Exports[0].Segments = []string{"vip"}
			c.Exports[1].Segments = []string{"news"}
			c.Sources[0].Spec.Segments = slices.DeleteFunc(c.Sources[0].Spec.Segments, func(g string) bool { return g == "gold" })
		}
		s.down.Store(false)
		s.begin()
		s.awaits(g, time.Hour)
	})
}

// A cancel that is given while nobody owns the connection finds the backfill.
func TestACancelWhileNobodyRuns(t *testing.T) {
	play(t, func(s *scene) {
		s.read(300)
		s.down.Store(true)
		s.kill()
		g := s.again(commands.Range{Resend: true})
		s.until("under way", 10*time.Minute, func() bool { return len(s.status().Backfills) == 1 && s.status().Backfills[0].Left > 0 })
		s.stop()
		c := s.give(commands.Cancel, "export-1")
		s.begin()
		if o := s.awaits(c, time.Hour); !strings.HasPrefix(o, "done") {
			s.t.Error("cancel:", o, s.status().Backfills)
		}
		s.down.Store(false)
		s.awaits(g, time.Hour)
	})
}

// A take-over that finds no command keeps the position: nothing is carried out twice.
func TestATakeOverThatFindsNoCommand(t *testing.T) {
	play(t, func(s *scene) {
		s.read(300)
		s.outcome(s.give(commands.Retry, "export-1"), commands.Done)
		time.Sleep(time.Minute)
		s.stop()
		s.begin() // nothing new
		s.settled()
		s.down.Store(true)
		s.stop()
		s.begin()
		s.until("running", 5*time.Minute, func() bool { return s.status().State == "running" })
		g := s.again(commands.Range{Resend: true})
		s.until("under way", 10*time.Minute, func() bool { return len(s.status().Backfills) == 1 && s.status().Backfills[0].Left > 0 })
		began := s.status().Backfills[0].Began
		time.Sleep(time.Minute)
		s.stop()
		s.begin()
		s.until("under way", 10*time.Minute, func() bool { return len(s.status().Backfills) == 1 && s.status().Backfills[0].Left > 0 })
		if again := s.status().Backfills[0].Began; !again.Equal(began) {
			s.t.Errorf("begun %s, and again %s", began, again)
		}
		if o := s.outcomesOf(g); len(o) != 1 {
			s.t.Errorf("carried out %d times: %v", len(o), o)
		}
		s.down.Store(false)
		s.awaits(g, time.Hour)
	})
}

// The broker says once that the position in the commands' topic is out of range: nothing is carried out again.
func TestACommandsPositionOutOfRange(t *testing.T) {
	play(t, func(s *scene) {
		s.guarded()
		s.full(40)
		s.leaves("vip", 0, 20)
		s.until("removals are withheld", 5*time.Minute, s.withheld)
		first := s.give(commands.Approve, "export-1")
		s.outcome(first, commands.Done, "20 people leave")
		s.until("they have left", 10*time.Minute, func() bool { return len(s.Sandbox.List(42)) == 20 })
		s.leaves("vip", 20, 40)
		s.until("later ones are withheld", 5*time.Minute, s.withheld)
		time.Sleep(time.Minute)
		s.Cluster.Fault(kfake.Fault{Keys: []kmsg.Key{kmsg.Fetch}, Topic: commandsTopic, Err: kerr.OffsetOutOfRange, Count: 1})
		time.Sleep(10 * time.Minute)
		if n := len(s.Sandbox.List(42)); n != 14 {
			s.t.Errorf("%d are left of 14 that nobody has decided on; %v", n, s.outcomesOf(first))
		}
	})
}

// A source that was halted while it ran is read on by live reading once a backfill has mended it.
func TestLiveReadingGoesOnAfterAHalt(t *testing.T) {
	for _, how := range []string{"running", "down"} {
		t.Run(how, func(t *testing.T) {
			play(t, func(s *scene) {
				s.Tune = func(c *connector.Config) { c.Sources[0].Spec.HaltWhen = `segment_id == "truncate"` }
				s.begin()
				s.enter("P", "vip", x)
				s.list(42, time.Minute, x)
				s.say(Event{Person: "T", Segment: "truncate", Partition: 0})
				s.until("reading halts", time.Minute, func() bool { return s.halted("halt_when") || s.halted("source") })
				time.Sleep(time.Minute)
				if how == "down" {
					s.kill()
					s.until("running", 5*time.Minute, func() bool { return s.status().State == "running" })
				}
				s.awaits(s.again(commands.Range{From: time.Now().Add(-30 * time.Second)}), time.Hour)
				s.everywhere()
				s.converge(s.t, 30*time.Minute)
			})
		})
	}
}

// One partition's position is lost: the others go on, too, after a backfill.
func TestOthersGoOnAfterALostPosition(t *testing.T) {
	play(t, func(s *scene) {
		s.read(60)
		s.losesAPosition()
		s.awaits(s.again(commands.Range{}), time.Hour)
		time.Sleep(time.Minute)
		s.everywhere()
		s.converge(s.t, 30*time.Minute)
	})
}

// A new segment in the configuration while a backfill is under way: the backfill is done behind it.
func TestANewSegmentAndABackfill(t *testing.T) {
	play(t, func(s *scene) {
		s.read(300)
		s.down.Store(true)
		s.kill()
		g := s.again(commands.Range{Sweep: true})
		s.until("under way", 10*time.Minute, func() bool { return len(s.status().Backfills) == 1 && s.status().Backfills[0].Left > 0 })
		s.stop()
		s.Tune = func(c *connector.Config) {
			c.Sources[0].Spec.Segments = append(c.Sources[0].Spec.Segments, "extra")
			c.Exports[0].Segments = append(c.Exports[0].Segments, "extra")
		}
		s.down.Store(false)
		s.begin()
		if o := s.awaits(g, 2*time.Hour); strings.HasPrefix(o, "NONE") {
			s.t.Error("nothing comes of the backfill:", o, s.outcomesOf(g), s.status().Backfills)
		}
	})
}

// The log of an idle source forgets its beginning while it is read: everything that is left mends a table.
func TestEverythingOfAnIdleLogMendsTheTable(t *testing.T) {
	play(t, func(s *scene) {
		s.full(60)
		s.stop()
		s.halve()
		s.begin()
		s.until("the damage is told", time.Minute, func() bool { return s.halted("table_damaged") })
		time.Sleep(time.Minute)
		s.forgotten(3)
		time.Sleep(10 * time.Minute)
		s.awaits(s.again(commands.Range{}), time.Hour)
		time.Sleep(time.Minute)
		if s.halted("table_damaged") {
			s.t.Error("all was read, and it is damaged still")
		}
	})
}

// A command that is nearly as large as a record may be.
func TestALargeCommand(t *testing.T) {
	for _, n := range []int{28000, 28400} {
		for _, how := range []string{"running", "down"} {
			t.Run(fmt.Sprint(n, how), func(t *testing.T) {
				play(t, func(s *scene) {
					s.full(10)
					if how == "down" {
						s.stop()
					}
					var extras []string
					for i := range n {
						extras = append(extras, commands.HashOf(fmt.Sprint(i, "@example.com")))
					}
					g := s.order(commands.Command{Kind: commands.Audit, Export: "export-1", Repair: &commands.Repair{Extras: extras}})
					if how == "down" {
						s.begin()
					}
					o := s.awaits(g, 30*time.Minute)
					s.enter("P", "vip", x)
					time.Sleep(10 * time.Minute)
					if _, in := s.Sandbox.List(42)[x]; !in {
						s.t.Errorf("nothing goes on: %s; %+v", o, s.status())
					}
					s.kill()
					s.enter("Q", "vip", y)
					time.Sleep(10 * time.Minute)
					if _, in := s.Sandbox.List(42)[y]; !in {
						s.t.Errorf("nothing goes on after a kill: %s; %+v", o, s.status())
					}
				})
			})
		}
	}
}

// A second backfill that is given while nobody owns the connection: both have an outcome.
func TestASecondBackfillWhileNobodyRuns(t *testing.T) {
	play(t, func(s *scene) {
		s.read(300)
		s.down.Store(true)
		s.kill()
		g := s.again(commands.Range{Resend: true})
		s.until("under way", 10*time.Minute, func() bool { return len(s.status().Backfills) == 1 && s.status().Backfills[0].Left > 0 })
		s.stop()
		h := s.again(commands.Range{From: time.Now().Add(-time.Second)})
		s.down.Store(false)
		s.begin()
		s.awaits(h, time.Hour)
		if o := s.awaits(g, 2*time.Hour); strings.HasPrefix(o, "NONE") {
			s.t.Error("nothing comes of the first:", s.outcomesOf(g))
		}
	})
}

// The commands' topic is deleted and made again while an owner runs: commands are read on, and outcomes told.
func TestTheCommandsTopicIsMadeAgain(t *testing.T) {
	play(t, func(s *scene) {
		s.full(10)
		s.outcome(s.give(commands.Retry, "export-1"), commands.Done)
		time.Sleep(time.Minute)
		s.admin(func(ctx context.Context, adm *kadm.Client) error {
			_, err := adm.DeleteTopic(ctx, commandsTopic)
			return err
		})
		time.Sleep(time.Minute)
		time.Sleep(time.Minute)
		g := s.give(commands.Pause, "")
		if o := s.awaits(g, time.Hour); !strings.HasPrefix(o, "done") {
			s.t.Error("pause:", o)
		}
		s.enter("P", "vip", x)
		time.Sleep(10 * time.Minute)
		if _, in := s.Sandbox.List(42)[x]; in {
			s.t.Error("sent while paused", s.status().Halted)
		}
		s.kill()
		if o := s.awaits(g, time.Hour); !strings.HasPrefix(o, "done") {
			s.t.Error("pause, after a kill:", o)
		}
		s.outcome(s.give(commands.Resume, ""), commands.Done)
		s.list(42, time.Hour, append([]string{x}, crowdOf(10)...)...)
	})
}

// read lets a crowd come in, and waits until nothing is owed.
func (s *scene) read(n int) {
	s.t.Helper()
	s.crowd(n)
	s.begin()
	s.converge(s.t, 20*time.Minute)
	s.settled()
}

// losesAPosition lets the log of one partition forget what was not read of it, so that its source halts.
func (s *scene) losesAPosition() {
	s.t.Helper()
	s.stop()
	for range 3 {
		s.say(Event{Person: "lost", Segment: "other", Partition: 1})
	}
	if err := s.Cluster.DeleteRecords(Topic, 1, -1); err != nil {
		s.t.Fatal(err)
	}
	s.begin()
	s.until("it halts", time.Minute, func() bool { return len(s.status().Halted) > 0 })
}

// everywhere lets somebody enter by each partition.
func (s *scene) everywhere() {
	s.t.Helper()
	for i := range int32(3) {
		s.say(Event{Person: fmt.Sprint("Q-", i), Segment: "vip", In: true, Partition: i, Profile: &Profile{Email: fmt.Sprintf("q%d@example.com", i)}})
	}
}

func crowdOf(n int) (all []string) {
	for i := range n {
		all = append(all, fmt.Sprintf("c%d@example.com", i))
	}
	return all
}

// A backfill of a log of which nothing is left.
func TestALogThatIsEmptiedMeanwhile(t *testing.T) {
	play(t, func(s *scene) {
		s.read(300)
		s.down.Store(true)
		s.kill()
		g := s.again(commands.Range{})
		s.until("under way", 10*time.Minute, func() bool { return len(s.status().Backfills) == 1 && s.status().Backfills[0].Left > 0 })
		s.stop()
		s.forgotten(1 << 40)
		s.begin()
		if o := s.awaits(g, 50*time.Minute); !strings.HasPrefix(o, "done") {
			s.t.Error("backfill:", o, s.status().Backfills)
		}
	})
}

// A backfill that meets a record of halt_when fails, and live reading goes on.
func TestABackfillMeetsARecordThatHalts(t *testing.T) {
	play(t, func(s *scene) {
		s.Tune = func(c *connector.Config) { c.Sources[0].Spec.HaltWhen = `segment_id == "truncate"` }
		s.read(300)
		s.say(Event{Person: "T", Segment: "truncate", Partition: 0})
		s.until("reading halts", time.Minute, func() bool { return len(s.status().Halted) > 0 })
		time.Sleep(time.Minute)
		s.outcome(s.again(commands.Range{From: time.Now()}), commands.Done)
		s.kill()
		s.settled()
		g := s.again(commands.Range{}) // meets the record again
		s.outcome(g, commands.Failed, "halt_when holds")
		s.say(Event{Person: "Q", Segment: "vip", In: true, Partition: 1, Profile: &Profile{Email: x}})
		time.Sleep(time.Minute)
		s.outcome(s.again(commands.Range{From: time.Now()}), commands.Done)
		if o := s.awaits(g, time.Hour); strings.HasPrefix(o, "NONE") {
			s.t.Error("nothing comes of the first:", s.outcomesOf(g))
		}
		s.kill()
		s.converge(s.t, 20*time.Minute)
	})
}
