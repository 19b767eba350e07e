package changelog

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"
)

// firstError keeps the first error of many produced records.
type firstError struct {
	mu  sync.Mutex
	err *RecordError
}

func (f *firstError) keep(r *kgo.Record, err error) {
	if err == nil {
		return
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.err == nil {
		f.err = &RecordError{Topic: r.Topic, Err: err}
	}
	if f.err.Topic == r.Topic {
		f.err.Records = append(f.err.Records, r)
	}
}

func (f *firstError) get() error {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.err == nil {
		return nil
	}
	return f.err
}

const offsetTries = 50

// commitOffsets adds the source offsets to the open transaction, as the group's member: an owner whom the group no
// longer knows is refused. A standby's joining raises the generation, so a stale one is read again.
func (l *Log) commitOffsets(ctx context.Context, offsets []Offset) error {
	if len(offsets) == 0 {
		return nil
	}
	pid, epoch, err := l.cl.ProducerID(ctx)
	if err != nil {
		return err
	}
	if !l.v2 {
		if err := l.addOffsets(ctx, pid, epoch); err != nil {
			return err
		}
	}
	for try := 0; ; try++ {
		err := l.commitOffsetsOnce(ctx, offsets, pid, epoch)
		if err == nil || !worthRepeating(err) || try == offsetTries {
			return err
		}
		select {
		case <-time.After(time.Duration(min(try+1, 20)) * 10 * time.Millisecond):
		case <-ctx.Done():
			return err
		}
	}
}

func worthRepeating(err error) bool {
	return errors.Is(err, kerr.IllegalGeneration) || errors.Is(err, kerr.RebalanceInProgress) ||
		errors.Is(err, kerr.ConcurrentTransactions) || kerr.IsRetriable(err)
}

func (l *Log) commitOffsetsOnce(ctx context.Context, offsets []Offset, pid int64, epoch int16) error {
	req := kmsg.NewPtrTxnOffsetCommitRequest()
	req.TransactionalID, req.Group = l.group, l.group
	req.ProducerID, req.ProducerEpoch = pid, epoch
	req.MemberID, req.Generation = l.groupID()
	if l.static != "" {
		req.InstanceID = new(l.static)
	}
	if req.MemberID == "" {
		return fmt.Errorf("committing offsets: %w", kerr.UnknownMemberID) // the broker would take it from anybody
	}
	at := map[string]int{}
	for _, o := range offsets {
		i, ok := at[o.Topic]
		if !ok {
			t := kmsg.NewTxnOffsetCommitRequestTopic()
			t.Topic, t.TopicID = o.Topic, o.ID
			req.Topics = append(req.Topics, t)
			i = len(req.Topics) - 1
			at[o.Topic] = i
		}
		p := kmsg.NewTxnOffsetCommitRequestTopicPartition()
		p.Partition, p.Offset, p.LeaderEpoch = o.Partition, o.Next, o.Epoch
		req.Topics[i].Partitions = append(req.Topics[i].Partitions, p)
	}
	resp, err := req.RequestWith(ctx, l.cl)
	if err != nil {
		return fmt.Errorf("committing offsets: %w", err)
	}
	seen := 0
	for _, t := range resp.Topics {
		for _, p := range t.Partitions {
			seen++
			if err := kerr.ErrorForCode(p.ErrorCode); err != nil {
				return fmt.Errorf("committing the offset of partition %d: %w", p.Partition, err)
			}
		}
	}
	if seen != len(offsets) {
		return fmt.Errorf("committing offsets: %d of %d partitions were answered", seen, len(offsets))
	}
	return nil
}

// addOffsets makes the group's offsets part of the transaction, on brokers that need it said.
func (l *Log) addOffsets(ctx context.Context, pid int64, epoch int16) error {
	req := kmsg.NewPtrAddOffsetsToTxnRequest()
	req.TransactionalID, req.Group = l.group, l.group
	req.ProducerID, req.ProducerEpoch = pid, epoch
	for try := 0; ; try++ {
		resp, err := req.RequestWith(ctx, l.cl)
		if err == nil {
			err = kerr.ErrorForCode(resp.ErrorCode)
		}
		if err == nil || !worthRepeating(err) || try == offsetTries {
			return err
		}
		select {
		case <-time.After(20 * time.Millisecond):
		case <-ctx.Done():
			return err
		}
	}
}
