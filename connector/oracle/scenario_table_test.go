package oracle

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"

	"segsync/connector"
	"segsync/connector/changelog"
	"segsync/connector/commands"
	"segsync/sink/sandbox"
)

// client is one of somebody else's.
func (s *scene) client(opts ...kgo.Opt) *kgo.Client {
	s.t.Helper()
	cl, err := kgo.NewClient(append([]kgo.Opt{kgo.SeedBrokers(s.Brokers()...), kgo.Dialer(s.own.DialContext), kgo.RecordPartitioner(kgo.ManualPartitioner())}, opts...)...)
	if err != nil {
		s.t.Fatal(err)
	}
	return cl
}

func (s *scene) admin(f func(ctx context.Context, adm *kadm.Client) error) {
	s.t.Helper()
	cl := s.client()
	defer cl.Close()
	if err := f(s.t.Context(), kadm.NewClient(cl)); err != nil {
		s.t.Fatal(err)
	}
}

var table = changelog.Name("segsync", "demo")

// again asks that export-1's source be read again.
func (s *scene) again(r commands.Range) *commands.Given {
	s.t.Helper()
	return s.order(commands.Command{Kind: commands.Backfill, Export: "export-1", Range: &r})
}

// backfill reads again while nobody runs, as segsync backfill does.
func (s *scene) backfill(r commands.Range) error {
	s.t.Helper()
	s.again(r)
	c, err := s.Prepare("b", func(*connector.Config) {})
	if err != nil {
		s.t.Fatal(err)
	}
	return c.Once(s.t.Context(), nil)
}

// S66: the table's topic has lost its beginning. Nobody is taken out; nothing is sent; what the hold names mends it.
func TestS66ATableThatHasLostItsBeginning(t *testing.T) {
	for _, part := range []string{"half", "all"} {
		t.Run(part, func(t *testing.T) {
			play(t, func(s *scene) {
				s.full(60)
				s.stop()
				s.admin(func(ctx context.Context, adm *kadm.Client) error {
					ends, err := adm.ListEndOffsets(ctx, table)
					if err != nil {
						return err
					}
					end, _ := ends.Lookup(table, 0)
					at := end.Offset
					if part == "half" {
						at /= 2
					}
					offsets := kadm.Offsets{}
					offsets.Add(kadm.Offset{Topic: table, Partition: 0, At: at})
					_, err = adm.DeleteRecords(ctx, offsets)
					return err
				})
				s.begin()
				s.until("the damage is told", time.Minute, func() bool { return s.halted("table_damaged") })
				s.exit("crowd-1", "vip")
				time.Sleep(10 * time.Minute)
				if n := len(s.Sandbox.List(42)); n != 60 {
					s.t.Errorf("%d are left", n)
				}
				s.stop()
				if err := s.backfill(commands.Range{}); err != nil {
					s.t.Fatal(err)
				}
				s.begin()
				s.until("it is mended", time.Minute, func() bool { return s.status().State == "running" && !s.halted("table_damaged") })
				s.converge(s.t, 10*time.Minute)
			})
		})
	}
}

// halve takes the beginning of the table's topic away.
func (s *scene) halve() {
	s.t.Helper()
	s.admin(func(ctx context.Context, adm *kadm.Client) error {
		offsets := kadm.Offsets{}
		offsets.Add(kadm.Offset{Topic: table, Partition: 0, At: s.Cluster.PartitionInfo(table, 0).HighWatermark / 2})
		_, err := adm.DeleteRecords(ctx, offsets)
		return err
	})
}

// S66: what does not read a source whole does not mend the table, and no command hides that it is not whole.
func TestS66OnlyReadingAllMendsTheTable(t *testing.T) {
	play(t, func(s *scene) {
		s.full(60)
		s.stop()
		s.halve()
		decision := s.give(commands.Approve, "export-1")
		time.Sleep(10 * time.Minute)
		if err := s.backfill(commands.Range{From: time.Now().Add(-time.Minute)}); !errors.Is(err, connector.ErrHalted) {
			s.t.Errorf("a backfill of a minute ends with %v", err)
		}
		s.outcome(decision, commands.Refused, "the table is not whole")
		s.Tune = func(c *connector.Config) { // is read again from its start, which is the end
			c.Sources[0].Start.Latest = true
			c.Sources[0].Spec.Segments = append(c.Sources[0].Spec.Segments, "extra")
			c.Exports[0].Segments = append(c.Exports[0].Segments, "extra")
		}
		for range 2 {
			s.begin()
			s.until("it is told", time.Minute, func() bool { return s.halted("table_damaged") })
			time.Sleep(5 * time.Minute)
			s.stop()
		}
		if n := len(s.Sandbox.List(42)); n != 60 {
			s.t.Errorf("%d are left", n)
		}
		if err := s.backfill(commands.Range{}); err != nil {
			s.t.Fatal(err)
		}
		s.begin()
		s.converge(s.t, 10*time.Minute)
	})
}

// S72: an older copy of the table is put back. It says so, and reading everything again mends it.
func TestS72AnOlderCopyOfTheTable(t *testing.T) {
	play(t, func(s *scene) {
		s.enter("P", "vip", x)
		s.begin()
		s.list(42, time.Minute, x)
		s.settled()
		s.stop()
		copied := s.rows()
		s.begin()
		s.exit("P", "vip")
		s.enter("Q", "vip", y)
		s.list(42, time.Minute, y)
		s.settled()
		s.stop()
		s.admin(func(ctx context.Context, adm *kadm.Client) error { _, err := adm.DeleteTopic(ctx, table); return err })
		s.admin(func(ctx context.Context, adm *kadm.Client) error {
			policy := "compact"
			_, err := adm.CreateTopic(ctx, 1, 1, map[string]*string{"cleanup.policy": &policy}, table)
			return err
		})
		cl := s.client()
		defer cl.Close()
		for _, r := range copied {
			if err := cl.ProduceSync(s.t.Context(), &kgo.Record{Topic: table, Key: r.Key, Value: r.Value}).FirstErr(); err != nil {
				s.t.Fatal(err)
			}
		}
		s.begin()
		s.until("the damage is told", time.Minute, func() bool { return s.halted("table_damaged") })
		s.stop()
		if err := s.backfill(commands.Range{Resend: true}); err != nil {
			s.t.Fatal(err)
		}
		s.begin()
		s.converge(s.t, 10*time.Minute)
		s.list(42, 0, y)
	})
}

// rows are the table's, as they lie in its topic.
func (s *scene) rows() (all []*kgo.Record) {
	s.t.Helper()
	cl := s.client(kgo.ConsumePartitions(map[string]map[int32]kgo.Offset{table: {0: kgo.NewOffset().AtStart()}}), kgo.KeepControlRecords())
	defer cl.Close()
	end := s.Cluster.PartitionInfo(table, 0).HighWatermark
	for at := int64(0); at < end; {
		cl.PollFetches(s.t.Context()).EachRecord(func(r *kgo.Record) {
			if at = r.Offset + 1; !r.Attrs.IsControl() {
				all = append(all, r)
			}
		})
	}
	return all
}

// S67, S68: a segment is taken out of an export, or the export with it, and comes back; who has left meanwhile is not
// put in again, nor kept, once that is read; of whom nothing is read is left as they are.
func TestS67ASegmentThatIsNamedAgain(t *testing.T) {
	for _, latest := range []bool{false, true} {
		t.Run(fmt.Sprint("latest=", latest), func(t *testing.T) {
			storm(t, func(s *scene) {
				start := func(c *connector.Config) { c.Sources[0].Start.Latest = latest }
				s.Tune = start
				s.begin()
				s.until("running", time.Minute, func() bool { return s.status().State == "running" })
				s.enter("P", "vip", x)
				s.enter("Q", "vip", y)
				s.enter("R", "gold", z)
				s.list(42, 5*time.Minute, x, y, z)
				s.settled()
				s.stop()
				s.Tune = func(c *connector.Config) { // without vip
					start(c)
					c.Exports[0].Segments = []string{"gold"}
					c.Sources[0].Spec.Segments = slices.DeleteFunc(c.Sources[0].Spec.Segments, func(g string) bool { return g == "vip" })
				}
				s.begin()
				s.list(42, 10*time.Minute, z) // its people leave
				s.exit("P", "vip")
				s.until("it is read", 5*time.Minute, func() bool { return s.status().Lag == 0 })
				s.settled()
				s.stop()
				s.Tune = start
				s.begin()
				s.until("running", time.Minute, func() bool { return s.status().State == "running" && s.status().Lag == 0 })
				time.Sleep(10 * time.Minute)
				want := []string{y, z} // Q's entry is read again
				if latest {
					want = []string{z}
				}
				s.list(42, 10*time.Minute, want...)
				if latest {
					s.Truth.people["Q"].in["vip"] = false // nobody knows
					s.stop()
					if err := s.backfill(commands.Range{}); err != nil {
						s.t.Fatal(err)
					}
					s.begin()
					s.list(42, 10*time.Minute, y, z)
				}
			})
		})
	}
}

// S68: an export is taken out of the configuration and comes back; its people stay meanwhile, and who has left is taken
// out once it is back. Nobody is taken out while that is being read.
func TestS68AnExportThatComesBack(t *testing.T) {
	storm(t, func(s *scene) {
		s.begin()
		s.enter("P", "vip", x)
		s.enter("Q", "vip", y)
		s.enter("R", "news", z)
		s.list(42, 5*time.Minute, x, y)
		s.list(43, 5*time.Minute, z)
		s.settled()
		s.stop()
		s.Tune = func(c *connector.Config) {
			c.Exports = c.Exports[1:]
			c.Sources[0].Spec.Segments = []string{"gold", "news"}
		}
		s.begin()
		s.exit("P", "vip")
		s.until("it is read", 5*time.Minute, func() bool { return s.status().State == "running" && s.status().Lag == 0 })
		s.settled()
		s.list(42, 0, x, y)
		s.stop()
		s.Tune = nil
		removes := s.count("POST /contacts/lists/{id}/contacts/remove")
		s.begin()
		s.list(42, 10*time.Minute, y)
		if n := s.count("POST /contacts/lists/{id}/contacts/remove") - removes; n > 1 && s.calm() {
			s.t.Errorf("%d removals", n)
		}
		s.stays(42, y)
	})
}

// S71: segsync was away for two days; a backfill of one day does not skip the other.
func TestS71ABackfillDoesNotSkip(t *testing.T) {
	play(t, func(s *scene) {
		s.begin()
		s.enter("P", "vip", x)
		s.list(42, time.Minute, x)
		s.settled()
		s.stop()
		s.exit("P", "vip")
		time.Sleep(48 * time.Hour)
		s.enter("Q", "vip", y)
		if err := s.backfill(commands.Range{From: time.Now().Add(-24 * time.Hour)}); err != nil {
			s.t.Fatal(err)
		}
		s.list(42, time.Minute, y)
		s.begin()
	})
}

// S72: a broker that takes its time to answer a fetch is no end of a partition.
func TestS72ASlowFetchIsNoEnd(t *testing.T) {
	play(t, func(s *scene) {
		s.crowd(20)
		id := s.Cluster.TopicInfo(Topic).TopicID
		s.Tune = func(c *connector.Config) {
			dial := s.Cutter().DialContext
			c.Kafka = append(c.Kafka, kgo.Dialer(func(ctx context.Context, network, address string) (net.Conn, error) {
				conn, err := dial(ctx, network, address)
				return &slowFetches{conn, id[:]}, err
			}))
		}
		began := time.Now()
		if err := s.backfill(commands.Range{}); err != nil {
			s.t.Fatal(err)
		}
		if n := len(s.Sandbox.List(42)); n != 20 || time.Since(began) < 8*time.Second {
			s.t.Errorf("%d of 20 are in after %s", n, time.Since(began))
		}
		s.begin()
	})
}

// slowFetches holds fetches of a topic back.
type slowFetches struct {
	net.Conn
	topic []byte
}

func (c *slowFetches) Write(b []byte) (int, error) {
	if KafkaRequest(int16(kmsg.Fetch))(b) && bytes.Contains(b, c.topic) {
		time.Sleep(8 * time.Second)
	}
	return c.Conn.Write(b)
}

// S70: a log goes back, and is written on, up to the position or past it. Nothing is skipped: reading halts, and what
// the hold names mends it.
func TestS70ALogThatGoesBack(t *testing.T) {
	for _, c := range []struct {
		past   bool
		epochs int // by how many the leader's epoch is ahead of the one that the copy knows
		policy connector.OutOfRange
		read   bool // a life reads meanwhile
	}{
		{true, 2, connector.OutOfRangeHalt, false}, {false, 2, connector.OutOfRangeHalt, false}, {false, 1, connector.OutOfRangeHalt, false}, {false, 0, connector.OutOfRangeHalt, false},
		{true, 2, connector.OutOfRangeEarliest, false}, {false, 1, connector.OutOfRangeEarliest, false}, {false, 0, connector.OutOfRangeEarliest, false},
		{true, 2, connector.OutOfRangeHalt, true}, {false, 2, connector.OutOfRangeHalt, true}, {true, 2, connector.OutOfRangeEarliest, true}, {false, 2, connector.OutOfRangeEarliest, true},
		{false, 0, connector.OutOfRangeHalt, true}, {false, 0, connector.OutOfRangeEarliest, true},
	} {
		t.Run(fmt.Sprintf("%+v", c), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) { goesBack(t, c.past, c.epochs, c.policy, c.read) })
		})
	}
}

func goesBack(t *testing.T, past bool, epochs int, policy connector.OutOfRange, read bool) {
	dir, old, vn := t.TempDir(), t.TempDir(), &kfake.VirtualNetwork{}
	w, err := NewWorld(WorldOptions{
		Network: vn, APIAddr: "127.0.0.1:8080", RegAddr: "127.0.0.1:8081", Partitions: 1, DataDir: dir, Ports: []int{9092}, Log: testLog(t),
		Sandbox: sandbox.Options{Latency: 20 * time.Millisecond, ImportTime: 2 * time.Second},
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(w.Close)
	s := &scene{World: w, t: t, patient: 1}
	s.Tune = func(c *connector.Config) { c.Sources[0].OutOfRange = policy }
	log := filepath.Join("partitions", Topic+"-0")
	between := func(epochs int, f func() error) { // while the broker is down; its leader has a new epoch afterwards
		t.Helper()
		w.Cluster.Close()
		if err := f(); err != nil {
			t.Fatal(err)
		}
		if w.Cluster, err = kfake.NewCluster(kfake.NumBrokers(1), kfake.ListenFn(vn.Listen), kfake.DataDir(dir), kfake.Ports(9092)); err != nil {
			t.Fatal(err)
		}
		for range epochs {
			if err := w.Cluster.MoveTopicPartition(Topic, 0, w.Cluster.LeaderFor(Topic, 0)); err != nil {
				t.Fatal(err)
			}
		}
	}
	s.begin()
	s.enter("P", "vip", x)
	s.list(42, time.Minute, x)
	s.settled()
	s.stop()
	between(1, func() error { return os.CopyFS(filepath.Join(old, "log"), os.DirFS(filepath.Join(dir, log))) })
	s.begin()
	for i := range 4 { // what will be lost
		s.enter("Q", "vip", fmt.Sprintf("q%d@example.com", i))
	}
	s.list(42, 10*time.Minute, x, "q3@example.com")
	s.settled()
	if !read {
		s.stop()
	}
	between(epochs, func() error {
		if err := os.RemoveAll(filepath.Join(dir, log)); err != nil {
			return err
		}
		return os.CopyFS(filepath.Join(dir, log), os.DirFS(filepath.Join(old, "log")))
	})
	s.exit("P", "vip")
	s.exit("Q", "vip")
	s.enter("R", "vip", z)
	for i := range 8 {
		if past {
			s.enter(fmt.Sprint("S", i), "news", fmt.Sprintf("s%d@example.com", i))
		}
	}
	if !read {
		s.begin()
	}
	if policy == connector.OutOfRangeHalt {
		s.until("it is told", 2*time.Minute, func() bool { return s.halted("source") })
		time.Sleep(time.Minute)
		s.stop()
		if err := s.backfill(commands.Range{}); err != nil {
			t.Fatal(err)
		}
		s.begin()
	}
	s.list(42, 10*time.Minute, z)
	s.stop()
}

// S69: records whose own time is 2099, 0 or -1: an entry in the one partition does not stand against a later exit in
// another (H9).
func TestS69RecordsOfAnAbsurdTime(t *testing.T) {
	for name, at := range map[string]time.Time{"2099": time.Date(2099, 1, 1, 0, 0, 0, 0, time.UTC), "0": time.UnixMilli(0), "-1": time.UnixMilli(-1)} {
		t.Run(name, func(t *testing.T) {
			play(t, func(s *scene) {
				s.begin()
				raw := func(e Event) {
					s.t.Helper()
					v, err := s.Encode(e)
					if err == nil {
						err = s.producer.ProduceSync(s.t.Context(), &kgo.Record{Topic: Topic, Partition: e.Partition, Value: v, Timestamp: at}).FirstErr()
					}
					if err != nil {
						s.t.Fatal(err)
					}
					time.Sleep(2 * time.Second)
				}
				raw(Event{Person: "P", Segment: "vip", In: true, At: at, Partition: 2, Profile: &Profile{Email: x}}) // the event's own clock is as wrong
				raw(Event{Person: "Q", Segment: "vip", In: true, At: time.Now(), Partition: 2, Profile: &Profile{Email: y}})
				s.list(42, time.Minute, x, y)
				s.say(Event{Person: "P", Segment: "vip", Partition: 0}) // by a good clock
				raw(Event{Person: "Q", Segment: "vip", At: time.Now(), Partition: 0})
				if name == "2099" {
					time.Sleep(10 * time.Minute) // an event is believed five minutes ahead
					s.say(Event{Person: "P", Segment: "vip", Partition: 0})
				}
				s.list(42, 5*time.Minute)
			})
		})
	}
}
