package changelog

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
)

// compactionLag bounds how long an old row (and so a forgotten address) stays in the topic.
const compactionLag = 24 * time.Hour

// Name is the changelog topic of a connection.
func Name(prefix, connection string) string { return prefix + "-" + connection + "-table" }

// TopicError says what is wrong with a topic that segsync needs, and the mend.
type TopicError struct {
	Topic, Problem, Hint string
}

func (e *TopicError) Error() string {
	return fmt.Sprintf("topic %s %s: %s", e.Topic, e.Problem, e.Hint)
}

// Ensure makes the changelog topic, or checks the one that is there.
func Ensure(ctx context.Context, cl *kgo.Client, topic string) error {
	adm := kadm.NewClient(cl)
	err := Check(ctx, adm, topic)
	var missing *TopicError
	if err == nil || !errors.As(err, &missing) || missing.Problem != problemMissing {
		return err
	}
	value := func(s string) *string { return &s }
	_, err = adm.CreateTopic(ctx, 1, -1, map[string]*string{
		"cleanup.policy":        value("compact"),
		"max.compaction.lag.ms": value(strconv.FormatInt(compactionLag.Milliseconds(), 10)),
	}, topic)
	if err != nil && !errors.Is(err, kerr.TopicAlreadyExists) {
		return &TopicError{topic, problemMissing, "creating it: " + err.Error() + "; let segsync create it (ACL Create on topics with its prefix) or run segsync check --create-topics as somebody who may"}
	}
	return nil
}

const problemMissing = "does not exist"

// Missing says that the topic is not there, which segsync mends itself.
func (e *TopicError) Missing() bool { return e.Problem == problemMissing }

// Check looks at the changelog topic: one partition, compacted.
func Check(ctx context.Context, adm *kadm.Client, topic string) error {
	details, err := adm.ListTopics(ctx, topic)
	if err != nil {
		return fmt.Errorf("describing topic %s: %w", topic, err)
	}
	d := details[topic]
	switch {
	case errors.Is(d.Err, kerr.UnknownTopicOrPartition):
		return &TopicError{topic, problemMissing, "segsync makes it when it starts, or segsync check --create-topics"}
	case d.Err != nil:
		return fmt.Errorf("describing topic %s: %w", topic, d.Err)
	case len(d.Partitions) != 1:
		return &TopicError{topic, fmt.Sprintf("has %d partitions", len(d.Partitions)), "it must have one; choose another kafka.prefix or delete the topic"}
	}
	settings, err := Settings(ctx, adm, topic)
	if err != nil {
		return err
	}
	if policy := settings["cleanup.policy"]; policy != "" && policy != "compact" {
		return &TopicError{topic, "has cleanup.policy=" + policy, "set cleanup.policy=compact: retention would delete rows of people"}
	}
	if most := Most(settings); most > 0 && most < leastMost {
		return &TopicError{topic, fmt.Sprintf("takes %d bytes at most", most), fmt.Sprintf("set max.message.bytes to %d or more", usualBatch)}
	}
	return nil
}

// leastMost is what a topic of rows must take, in bytes: a row of a contact with its lists, or of an announcement.
const leastMost = 16 << 10

// Settings are a topic's.
func Settings(ctx context.Context, adm *kadm.Client, topic string) (map[string]string, error) {
	configs, err := adm.DescribeTopicConfigs(ctx, topic)
	if err != nil {
		return nil, fmt.Errorf("reading the configuration of topic %s: %w", topic, err)
	}
	all := map[string]string{}
	for _, c := range configs {
		if c.Err != nil {
			return nil, fmt.Errorf("reading the configuration of topic %s: %w", topic, c.Err)
		}
		for _, kv := range c.Configs {
			all[kv.Key] = kv.MaybeValue()
		}
	}
	return all, nil
}

// Most is how large a record, or a batch, a topic of these settings takes, in bytes; 0: they do not tell.
func Most(settings map[string]string) int {
	n, _ := strconv.Atoi(settings["max.message.bytes"])
	return n
}
