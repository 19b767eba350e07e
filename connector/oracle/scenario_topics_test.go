package oracle

import (
	"bytes"
	"context"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"
)

// S74: what dead letters' topic takes none of is cut, then dropped and told; everything else goes on (K2).
func TestS74DeadLettersThatCannotBeWritten(t *testing.T) {
	refuse := func(s *scene, err *kerr.Error) {
		s.Cluster.Fault(kfake.Fault{Keys: []kmsg.Key{kmsg.Produce}, Topic: DeadLetters, Err: err, Count: -1})
	}
	for name, breaks := range map[string]func(s *scene){
		"too large":   func(s *scene) { refuse(s, kerr.MessageTooLarge) },
		"no key":      func(s *scene) { refuse(s, kerr.InvalidRecord) },
		"not allowed": func(s *scene) { refuse(s, kerr.TopicAuthorizationFailed) },
		"large headers": func(s *scene) {
			cl := s.client()
			defer cl.Close()
			r := &kgo.Record{Topic: Topic, Value: []byte{1, 2, 3}, Headers: []kgo.RecordHeader{{Key: "h", Value: make([]byte, 980_000)}}}
			if err := cl.ProduceSync(s.t.Context(), r).FirstErr(); err != nil {
				s.t.Fatal(err)
			}
		},
		"deleted": func(s *scene) {
			s.admin(func(ctx context.Context, adm *kadm.Client) error {
				_, err := adm.DeleteTopic(ctx, DeadLetters)
				return err
			})
		},
	} {
		t.Run(name, func(t *testing.T) {
			play(t, func(s *scene) {
				s.begin()
				s.say(Event{Poison: []byte{1, 2, 3}, Partition: 0})
				s.until("a letter", time.Minute, s.letters)
				breaks(s)
				s.say(Event{Poison: []byte{4, 5, 6}, Partition: 0})
				s.enter("P", "vip", x)
				s.list(42, 5*time.Minute, x)
				refused := name != "large headers" && name != "deleted"
				if got := s.halted("dead_letters_refused"); got != refused {
					s.t.Errorf("that letters are dropped is told: %v", got)
				}
				if name == "deleted" {
					s.until("the topic is there again, with its letter", 5*time.Minute, s.letters)
				}
			})
		})
	}
}

// S75: topics that take little: rows, announcements and letters fit (K3).
func TestS75TopicsThatTakeLittle(t *testing.T) {
	play(t, func(s *scene) {
		little, policy := "20000", "compact"
		s.admin(func(ctx context.Context, adm *kadm.Client) error {
			_, err := adm.CreateTopic(ctx, 1, 1, map[string]*string{"cleanup.policy": &policy, "max.message.bytes": &little}, table)
			if err == nil {
				_, err = adm.CreateTopic(ctx, 1, 1, map[string]*string{"max.message.bytes": &little}, DeadLetters)
			}
			return err
		})
		s.begin()
		s.enterAll("crowd", "vip", 3000) // an import: its announcement has many parts
		s.say(Event{Poison: bytes.Repeat([]byte{1}, 100_000), Partition: 0})
		s.converge(s.t, 20*time.Minute)
		s.until("the letter", time.Minute, s.letters)
		s.kill()
		s.enter("P", "vip", x)
		s.converge(s.t, 20*time.Minute)
	})
}

// S84: a small batch that becomes enormous is one dead letter; what comes before and after it is read (ADVERSARY S8).
func TestS84ABatchThatBecomesEnormous(t *testing.T) {
	play(t, func(s *scene) {
		s.begin()
		s.say(Event{Person: "P", Segment: "vip", In: true, Partition: 0, Profile: &Profile{Email: x}})
		cl := s.client( /* not zstd: its finalizers do not know bubbles */ kgo.ProducerBatchCompression(kgo.GzipCompression()), kgo.ProducerBatchMaxBytes(200<<20), kgo.BrokerMaxWriteBytes(300<<20))
		defer cl.Close()
		if err := cl.ProduceSync(s.t.Context(), &kgo.Record{Topic: Topic, Partition: 0, Value: make([]byte, 70<<20)}).FirstErr(); err != nil {
			s.t.Fatal(err)
		}
		s.say(Event{Person: "Q", Segment: "vip", In: true, Partition: 0, Profile: &Profile{Email: y}})
		s.list(42, 2*time.Minute, x, y)
		s.until("the letter", time.Minute, s.letters)
	})
}

// S66: a retention that somebody sets on the table's topic is told while it runs.
func TestS66ARetentionOnTheTablesTopicIsTold(t *testing.T) {
	play(t, func(s *scene) {
		s.begin()
		s.enter("P", "vip", x)
		s.list(42, time.Minute, x)
		set := func(policy string) {
			s.admin(func(ctx context.Context, adm *kadm.Client) error {
				_, err := adm.AlterTopicConfigs(ctx, []kadm.AlterConfig{{Op: kadm.SetConfig, Name: "cleanup.policy", Value: &policy}}, table)
				return err
			})
		}
		set("delete")
		s.until("it is told", 10*time.Minute, func() bool { return s.halted("table_topic") })
		s.enter("Q", "vip", y) // and nothing is held for it
		s.list(42, time.Minute, x, y)
		set("compact")
		s.until("it is over", 10*time.Minute, func() bool { return !s.halted("table_topic") })
	})
}

// S74: one letter that its topic does not take costs no other letter anything.
func TestS74OneLargeLetterIsCutAlone(t *testing.T) {
	play(t, func(s *scene) {
		little := "20000"
		s.admin(func(ctx context.Context, adm *kadm.Client) error {
			_, err := adm.CreateTopic(ctx, 1, 1, map[string]*string{"max.message.bytes": &little}, DeadLetters)
			return err
		})
		s.begin()
		s.until("running", time.Minute, func() bool { return s.status().State == "running" })
		for _, n := range []int{3, 100_000, 3} {
			s.say(Event{Poison: bytes.Repeat([]byte{1}, n), Partition: 0})
		}
		s.until("the letters", 2*time.Minute, func() bool {
			p := s.Cluster.PartitionInfo(DeadLetters, 0)
			return p != nil && p.HighWatermark >= 4
		})
		cl := s.client(kgo.FetchIsolationLevel(kgo.ReadCommitted()), kgo.ConsumePartitions(map[string]map[int32]kgo.Offset{DeadLetters: {0: kgo.NewOffset().AtStart()}}))
		defer cl.Close()
		whole := 0
		for n := 0; n < 3; {
			cl.PollFetches(s.t.Context()).EachRecord(func(r *kgo.Record) {
				n++
				if len(r.Value) == 3 {
					whole++
				}
			})
		}
		if whole != 2 {
			s.t.Errorf("%d of two letters have their value", whole)
		}
	})
}
