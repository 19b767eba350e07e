package changelog

import (
	"errors"
	"fmt"
	"slices"
	"testing"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"

	"segsync/connector/state"
)

const (
	table  = "segsync-main-table"
	events = "events"
	group  = "segsync-main"
)

// cluster is an embedded broker with the table's topic.
type cluster struct {
	*testing.T
	*kfake.Cluster
	opts []kgo.Opt
	cl   *kgo.Client
}

func newCluster(t *testing.T) *cluster {
	t.Helper()
	k := kfake.MustCluster(kfake.NumBrokers(1), kfake.SeedTopics(2, events))
	t.Cleanup(k.Close)
	c := &cluster{T: t, Cluster: k, opts: []kgo.Opt{kgo.SeedBrokers(k.ListenAddrs()...)}}
	var err error
	if c.cl, err = kgo.NewClient(c.opts...); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.cl.Close)
	if err := Ensure(t.Context(), c.cl, table); err != nil {
		t.Fatal(err)
	}
	return c
}

// open makes a log, whose offsets a group's member commits, if one is given.
func (c *cluster) open(member func() (string, int32)) *Log {
	c.Helper()
	l, err := Open(c.Context(), Options{Topic: table, ID: group, Client: c.opts, Member: member})
	if err != nil {
		c.Fatal(err)
	}
	c.Cleanup(l.Close)
	return l
}

// member joins the group, with all partitions.
func (c *cluster) member() func() (string, int32) {
	c.Helper()
	cl, err := kgo.NewClient(append(slices.Clone(c.opts), kgo.ConsumerGroup(group), kgo.ConsumeTopics(events), kgo.DisableAutoCommit())...)
	if err != nil {
		c.Fatal(err)
	}
	c.Cleanup(cl.Close)
	for member, _ := cl.GroupMetadata(); member == ""; member, _ = cl.GroupMetadata() {
		if c.Context().Err() != nil {
			c.Fatal("the group is not joined")
		}
	}
	return cl.GroupMetadata
}

// at is a position in the events.
func (c *cluster) at(next int64) []Offset {
	c.Helper()
	topics, err := kadm.NewClient(c.cl).ListTopics(c.Context(), events)
	if err != nil {
		c.Fatal(err)
	}
	return []Offset{{Topic: events, ID: topics[events].ID, Next: next, Epoch: -1}}
}

// rows reads the table up to an offset.
func (c *cluster) rows(upTo int64) map[string]string {
	c.Helper()
	all := map[string]string{}
	err := Restore(c.Context(), c.opts, table, upTo, func(k, v []byte) error { all[string(k)] = string(v); return nil }, nil)
	if err != nil {
		c.Fatal(err)
	}
	return all
}

func row(k, v string) state.Row { return state.Row{Key: []byte(k), Value: []byte(v)} }

// A checkpoint is there as a whole: rows, records and offsets; a sentinel lies behind everything before it.
func TestACheckpointIsWritten(t *testing.T) {
	c := newCluster(t)
	l := c.open(c.member())
	first, err := l.Sentinel(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	err = l.Commit(t.Context(), Checkpoint{
		Rows: []state.Row{row("p/1", "a"), row("c/2", "b")}, Records: []*kgo.Record{{Topic: events, Partition: 1, Value: []byte("letter")}},
		Offsets: c.at(7),
	})
	if err != nil {
		t.Fatal(err)
	}
	last, err := l.Sentinel(t.Context())
	if err != nil || last <= first {
		t.Fatalf("the sentinels lie at %d and %d, %v", first, last, err)
	}
	if all := c.rows(last); all["p/1"] != "a" || all["c/2"] != "b" {
		t.Errorf("%v", all)
	}
	adm := kadm.NewClient(c.cl)
	offsets, err := adm.FetchOffsets(kadm.RequireStable(t.Context()), group)
	if o, ok := offsets.Lookup(events, 0); err != nil || !ok || o.At != 7 {
		t.Errorf("%+v, %v", offsets, err)
	}
	end, err := End(t.Context(), adm, table)
	if err != nil || end <= last {
		t.Errorf("the end is %d, behind %d; %v", end, last, err)
	}
	if start, err := Start(t.Context(), adm, table); err != nil || start != 0 {
		t.Errorf("the beginning is %d, %v", start, err)
	}
}

// Whoever opens the log fences its former owner: what that one writes is not there, and it hears that it is over.
func TestAFormerOwnerIsFenced(t *testing.T) {
	c := newCluster(t)
	former := c.open(nil)
	if err := former.Commit(t.Context(), Checkpoint{Rows: []state.Row{row("p/1", "a")}}); err != nil {
		t.Fatal(err)
	}
	owner := c.open(nil)
	if err := former.Commit(t.Context(), Checkpoint{Rows: []state.Row{row("p/1", "b")}}); !errors.Is(err, ErrEnded) {
		t.Errorf("it ends with %v", err)
	}
	at, err := owner.Sentinel(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if all := c.rows(at); all["p/1"] != "a" {
		t.Errorf("%v", all)
	}
}

// A checkpoint that Kafka refuses was not made: nothing of it is there, and the next one is.
func TestARefusedCheckpointWasNotMade(t *testing.T) {
	for name, key := range map[string]kmsg.Key{"its rows": kmsg.Produce, "its offsets": kmsg.TxnOffsetCommit} {
		t.Run(name, func(t *testing.T) {
			c := newCluster(t)
			l := c.open(c.member())
			checkpoint := func(v string, next int64) error {
				return l.Commit(t.Context(), Checkpoint{Rows: []state.Row{row("p/1", v)}, Offsets: c.at(next)})
			}
			c.Fault(kfake.Fault{Keys: []kmsg.Key{key}, Err: kerr.InvalidRecord, Count: 1})
			if err := checkpoint("refused", 1); !errors.Is(err, ErrAborted) {
				t.Fatalf("it ends with %v", err)
			}
			if err := checkpoint("taken", 2); err != nil {
				t.Fatal(err)
			}
			at, err := l.Sentinel(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			var seen []string
			err = Restore(t.Context(), c.opts, table, at, func(k, v []byte) error {
				if string(k) == "p/1" {
					seen = append(seen, string(v))
				}
				return nil
			}, nil)
			if err != nil || !slices.Equal(seen, []string{"taken"}) {
				t.Errorf("%v, %v", seen, err)
			}
		})
	}
}

// Whom the group does not know commits no offsets: the broker would take them from anybody without a member id.
func TestOffsetsAreAMembers(t *testing.T) {
	c := newCluster(t)
	l := c.open(func() (string, int32) { return "", -1 })
	err := l.Commit(t.Context(), Checkpoint{Offsets: c.at(1)})
	if !errors.Is(err, ErrEnded) {
		t.Errorf("it ends with %v", err)
	}
}

// A topic that would lose rows, or order, is refused, with the mend.
func TestATopicThatWillNotDo(t *testing.T) {
	text := func(s string) *string { return &s }
	for problem, make := range map[string]func(adm *kadm.Client, topic string) error{
		"has 2 partitions": func(adm *kadm.Client, topic string) error {
			_, err := adm.CreateTopic(t.Context(), 2, 1, map[string]*string{"cleanup.policy": text("compact")}, topic)
			return err
		},
		"has cleanup.policy=delete": func(adm *kadm.Client, topic string) error {
			_, err := adm.CreateTopic(t.Context(), 1, 1, map[string]*string{"cleanup.policy": text("delete")}, topic)
			return err
		},
		"takes 1000 bytes": func(adm *kadm.Client, topic string) error {
			_, err := adm.CreateTopic(t.Context(), 1, 1, map[string]*string{"cleanup.policy": text("compact"), "max.message.bytes": text("1000")}, topic)
			return err
		},
		"does not exist": func(*kadm.Client, string) error { return nil },
	} {
		t.Run(problem, func(t *testing.T) {
			c := newCluster(t)
			adm, topic := kadm.NewClient(c.cl), fmt.Sprintf("other-%d", len(problem))
			if err := make(adm, topic); err != nil {
				t.Fatal(err)
			}
			var wrong *TopicError
			if err := Check(t.Context(), adm, topic); !errors.As(err, &wrong) || wrong.Hint == "" || len(wrong.Problem) < len(problem) || wrong.Problem[:len(problem)] != problem || wrong.Missing() != (problem == "does not exist") {
				t.Errorf("%v", err)
			}
		})
	}
}
