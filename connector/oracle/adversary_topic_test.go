package oracle

import (
	"strings"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"

	"segsync/connector"
	"segsync/connector/commands"
)

// A new segment whose reading waits for a halt's end is not called read by a backfill of another segment.
func TestANewSegmentOfAHaltedSource(t *testing.T) {
	play(t, func(s *scene) {
		s.enter("Q", "extra", y)
		s.crowd(60)
		s.begin()
		s.settled()
		s.stop()
		for range 3 {
			s.say(Event{Person: "lost", Segment: "other", Partition: 1})
		}
		if err := s.Cluster.DeleteRecords(Topic, 1, s.Cluster.PartitionInfo(Topic, 1).HighWatermark-1); err != nil {
			s.t.Fatal(err)
		}
		s.Tune = func(c *connector.Config) {
			c.Sources[0].Spec.Segments = append(c.Sources[0].Spec.Segments, "extra")
			c.Exports[0].Segments = append(c.Exports[0].Segments, "extra")
		}
		s.begin()
		s.until("it halts", time.Minute, func() bool { return len(s.status().Halted) > 0 })
		s.awaits(s.again(commands.Range{Segments: []string{"vip"}}), time.Hour)
		s.kill()
		s.until("running", 5*time.Minute, func() bool { return s.status().State == "running" })
		time.Sleep(10 * time.Minute)
		if _, in := s.Sandbox.List(42)[y]; !in {
			s.t.Error("the new segment's history is not read, and nothing tells of it", s.status().Halted, s.status().Backfills)
		}
	})
}

// A topic of a source is deleted while the source is read again: the rest ends.
func TestATopicIsGoneInABackfill(t *testing.T) {
	play(t, func(s *scene) {
		if err := s.Cluster.CreateTopic("cdp.other", 1, nil); err != nil {
			s.t.Fatal(err)
		}
		s.Tune = func(c *connector.Config) {
			c.Sources[0].Topics, c.Sources[0].Regex = nil, `^cdp\.(segment-membership|other)$`
		}
		cl := s.client()
		r, _ := s.record(Event{Person: "O", Segment: "vip", In: true, Profile: &Profile{Email: z}, At: time.Now()})
		r.Topic, r.Partition = "cdp.other", 0
		if err := cl.ProduceSync(s.t.Context(), r).FirstErr(); err != nil {
			s.t.Fatal(err)
		}
		cl.Close()
		s.crowd(60)
		s.begin()
		s.until("in", 10*time.Minute, func() bool { return len(s.Sandbox.List(42)) == 61 })
		s.settled()
		s.down.Store(true)
		s.kill()
		g := s.again(commands.Range{})
		s.until("under way", 10*time.Minute, func() bool { return len(s.status().Backfills) == 1 && s.status().Backfills[0].Left > 0 })
		s.stop()
		if err := s.Cluster.DeleteTopic("cdp.other"); err != nil {
			s.t.Fatal(err)
		}
		s.down.Store(false)
		s.begin()
		if o := s.awaits(g, time.Hour); !strings.HasPrefix(o, "done") {
			s.t.Errorf("backfill: %s %+v %+v %s %s %s", o, s.status().Backfills, s.status().Halted, s.status().State, s.status().Why, s.outcomesOf(g))
		}
		_ = kgo.NewOffset
	})
}
