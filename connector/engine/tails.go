package engine

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"
	"go.uber.org/zap"
)

// tailEvery is how often partitions are looked at that bring nothing though their end has not been reached.
const tailEvery = 5 * time.Second

// tails moves reading to the end of partitions whose last records do not come, because they were compacted away. Only
// what a broker has answered counts: one that is slow to answer is no end.
func (r *reader) tails() {
	was := map[partition]int64{}
	repeat(r.life, tailEvery, func() {
		for at, c := range r.quiet(was) {
			empty, err := r.tailEmpty(at, c.next, c.end)
			if err != nil && !r.ended() {
				r.log.Debug("looking at the end of a partition", zap.String("topic", at.topic), zap.Int32("partition", at.n), zap.Error(err))
			}
			if empty {
				r.passTail(at, c.next, c.end)
			}
		}
	})
}

// quiet are the partitions whose end was not reached, and that have brought nothing since the last time; was is where they
// stood then.
func (r *reader) quiet(was map[partition]int64) map[partition]cursor {
	quiet := map[partition]cursor{}
	idle := r.held.Load() == 0 && !r.paused.Load()
	for at, c := range r.snapshot() {
		if !c.stopped && c.next < c.end && c.next == was[at] && idle {
			quiet[at] = c
		}
		was[at] = c.next
	}
	return quiet
}

// passTail moves a cursor to an end before which nothing comes.
func (r *reader) passTail(at partition, from, end int64) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if c, ok := r.cursors[at]; ok && c.next == from && !r.ended() {
		c.next, c.changed = end, true
		r.changedLocked(r.now())
		r.nudge()
	}
}

// tailEmpty asks a partition's leader whether no record is left from an offset to an end.
func (r *reader) tailEmpty(at partition, next, end int64) (bool, error) {
	ctx, cancel := context.WithTimeout(r.ctx, time.Minute)
	defer cancel()
	meta, err := kadm.NewClient(r.cl).Metadata(ctx, at.topic)
	if err != nil {
		return false, err
	}
	topic := meta.Topics[at.topic]
	leader, ok := topic.Partitions[at.n]
	if err := errors.Join(topic.Err, leader.Err); err != nil || !ok {
		return false, errors.Join(errors.New("the partition is not there"), err)
	}
	for next < end {
		got, after, err := r.fetchOnce(ctx, topic, leader, next)
		switch {
		case err != nil:
			return false, err
		case len(got.Records) > 0:
			return got.Records[0].Offset >= end, nil
		case after == next: // nothing at all; what an open transaction holds back may come yet
			return got.LastStableOffset >= end, nil
		}
		next = after
	}
	return true, nil
}

// fetchOnce makes one fetch of a partition, outside any session, and says at which offset the next one begins.
func (r *reader) fetchOnce(ctx context.Context, topic kadm.TopicDetail, leader kadm.PartitionDetail, offset int64) (kgo.FetchPartition, int64, error) {
	p := kmsg.NewFetchRequestTopicPartition()
	p.Partition, p.FetchOffset, p.PartitionMaxBytes, p.CurrentLeaderEpoch = leader.Partition, offset, 1<<20, leader.LeaderEpoch
	t := kmsg.NewFetchRequestTopic()
	t.Topic, t.TopicID, t.Partitions = topic.Topic, topic.ID, append(t.Partitions, p)
	req := kmsg.NewPtrFetchRequest()
	req.MaxWaitMillis, req.MinBytes, req.MaxBytes, req.IsolationLevel = 500, 1, 1<<20, 1
	req.Topics = append(req.Topics, t)
	answer, err := r.cl.Broker(int(leader.Leader)).RetriableRequest(ctx, req)
	if err != nil {
		return kgo.FetchPartition{}, 0, err
	}
	resp, ok := answer.(*kmsg.FetchResponse)
	if !ok || len(resp.Topics) != 1 || len(resp.Topics[0].Partitions) != 1 {
		return kgo.FetchPartition{}, 0, fmt.Errorf("the answer to a fetch lacks the partition: %w", kerr.ErrorForCode(resp.ErrorCode))
	}
	got, after := kgo.ProcessFetchPartition(kgo.ProcessFetchPartitionOpts{
		Offset: offset, IsolationLevel: kgo.ReadCommitted(), Topic: topic.Topic, Partition: leader.Partition,
	}, &resp.Topics[0].Partitions[0], kgo.DefaultDecompressor(), nil)
	if resp.ThrottleMillis > 0 && len(got.Records) == 0 && got.Err == nil {
		got.Err = errors.New("the broker holds the fetch back") // an empty answer is no end then
	}
	return got, after, got.Err
}
