package oracle

import (
	"context"
	"fmt"
	"math/rand/v2"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"

	"segsync/connector/commands"
	"segsync/sink/sandbox"
)

// S10: sources are read again, from random points at random times, beside live events, while owners die: as if only live
// events had been read. A last reading of everything makes no call.
func TestS10BackfillsBesideLiveEvents(t *testing.T) {
	seeds(t, 40, func(t *testing.T, seed uint64) {
		w := newWorld(t, sandbox.Options{Latency: 20 * time.Millisecond, ImportTime: 5 * time.Second, Seed: seed}, seed%2*(seed+1))
		s := &scene{World: w, t: t, patient: 1}
		r := rand.New(rand.NewPCG(seed, 11))
		began := time.Now()
		shape := DefaultShape(began)
		if seed%2 == 1 {
			shape = shape.inWays()
		}
		all := History(seed, shape)
		s.begin()
		for len(all) > 0 {
			n := min(len(all), 1+r.IntN(60))
			if err := w.Produce(t.Context(), all[:n]...); err != nil {
				t.Fatal(err)
			}
			all = all[n:]
			time.Sleep(time.Duration(r.IntN(3000)) * time.Millisecond)
			switch r.IntN(8) {
			case 0:
				s.kill()
			case 1:
				s.stop()
				s.anyBackfill(r, began)
				s.begin()
			case 2, 3:
				s.anyBackfill(r, began)
			}
		}
		w.converge(t, 20*time.Minute)
		time.Sleep(15 * time.Minute)
		w.converge(t, 0)
		w.promises(t)
		s.noCalls(func() { s.outcome(s.again(commands.Range{}), commands.Done, "records read") })
		s.stop()
	})
}

// anyBackfill reads again from a random point.
func (s *scene) anyBackfill(r *rand.Rand, began time.Time) {
	all := commands.Range{Resend: r.IntN(4) == 0}
	switch r.IntN(3) {
	case 0:
		all.From = began.Add(time.Duration(r.Int64N(int64(time.Since(began) + 1))))
	case 1:
		all.Segments = []string{"vip"}
	default:
		all.Sweep = r.IntN(2) == 0 // the log holds everything: nobody leaves
	}
	s.again(all)
}

// noCalls fails if what is done makes a call that changes the account.
func (s *scene) noCalls(do func()) {
	s.t.Helper()
	before := s.Sandbox.Stats()
	do()
	time.Sleep(5 * time.Minute)
	for name, n := range s.Sandbox.Stats().Calls {
		if n != before.Calls[name] && name[:3] != "GET" {
			s.t.Errorf("%s was called %d times more", name, n-before.Calls[name])
		}
	}
}

// forgotten lets the log forget its oldest records.
func (s *scene) forgotten(before int64) {
	s.t.Helper()
	s.admin(func(ctx context.Context, adm *kadm.Client) error {
		offsets := kadm.Offsets{}
		for p := range int32(3) {
			offsets.Add(kadm.Offset{Topic: Topic, Partition: p, At: min(before, s.Cluster.PartitionInfo(Topic, p).HighWatermark)})
		}
		_, err := adm.DeleteRecords(ctx, offsets)
		return err
	})
}

// A sweep lets those leave whom nothing that was read has mentioned, through the guard; who is mentioned stays.
func TestABackfillSweeps(t *testing.T) {
	storm(t, func(s *scene) {
		s.guarded()
		s.full(40)
		s.settled()
		var ends int64
		for p := range int32(3) {
			ends = max(ends, s.Cluster.PartitionInfo(Topic, p).HighWatermark)
		}
		s.forgotten(ends)
		for i := range 10 { // these are mentioned since
			s.say(Event{Person: fmt.Sprint("crowd-", i), Segment: "vip", In: true, Partition: -1, Profile: &Profile{Email: fmt.Sprintf("c%d@example.com", i), First: "C"}})
		}
		s.outcome(s.again(commands.Range{Segments: []string{"gold"}, Sweep: true}), commands.Done, "0 memberships that nothing mentioned")
		g := s.again(commands.Range{Sweep: true})
		s.kill()
		s.outcome(g, commands.Done, "memberships that nothing mentioned have ended")
		s.until("removals are withheld", 20*time.Minute, s.withheld)
		if n := len(s.Sandbox.List(42)); n != 40 {
			s.t.Errorf("%d are in", n)
		}
		s.outcome(s.give(commands.Approve, "export-1"), commands.Done, "30 people leave")
		s.until("they have left", 30*time.Minute, func() bool { return len(s.Sandbox.List(42)) == 10 })
		for i := 10; i < 40; i++ {
			delete(s.Truth.people, fmt.Sprint("crowd-", i))
		}
	})
}

// A backfill hears only segments of its export.
func TestABackfillOfAnothersSegment(t *testing.T) {
	play(t, func(s *scene) {
		s.begin()
		s.enter("P", "vip", x)
		s.enter("Q", "news", y)
		s.list(42, time.Minute, x)
		s.list(43, time.Minute, y)
		s.settled()
		s.outcome(s.again(commands.Range{Segments: []string{"news"}}), commands.Refused, "no segment news") // export-1's source has it, for export-2
	})
}

// One backfill of a source at a time; one that is cancelled stays where it stands, whoever owns the connection.
func TestABackfillIsCancelled(t *testing.T) {
	play(t, func(s *scene) {
		s.read(3000)
		s.down.Store(true) // no schema is known after a restart: reading waits
		s.kill()
		g := s.again(commands.Range{Resend: true})
		s.until("it is under way", 10*time.Minute, func() bool { return len(s.status().Backfills) == 1 && s.status().Backfills[0].Left == 3000 })
		s.outcome(s.again(commands.Range{}), commands.Refused, "is being read again by command "+g.ID)
		s.kill()
		s.until("it is under way still", 10*time.Minute, func() bool { return len(s.status().Backfills) == 1 })
		s.outcome(s.give(commands.Cancel, "export-1"), commands.Done, "cancelled: 0 records read")
		s.outcome(g, commands.Failed, "cancelled by ann")
		s.down.Store(false)
		s.outcome(s.give(commands.Cancel, "export-1"), commands.Refused, "no backfill")
		s.enter("P", "vip", x)
		s.converge(s.t, 20*time.Minute)
		s.outcome(s.again(commands.Range{}), commands.Done, "3001 records read")
	})
}

// The log holds nothing any more: a backfill ends at once.
func TestABackfillOfAnEmptyLog(t *testing.T) {
	play(t, func(s *scene) {
		s.full(30)
		s.settled()
		s.forgotten(1 << 30)
		s.outcome(s.again(commands.Range{}), commands.Done, "0 records read")
	})
}
