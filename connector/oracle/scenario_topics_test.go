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
