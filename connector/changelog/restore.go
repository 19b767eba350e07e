package changelog

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"

	"segsync/connector/backoff"
)

// Progress of a restore: rows read so far, and the changelog's offsets from the first to the last to be read.
type Progress struct {
	Rows             int64
	From, At, Target int64
}

// Restore reads the changelog up to and including the offset upTo, handing each row to apply in order. Keys and
// values are valid during the call only.
func Restore(ctx context.Context, opts []kgo.Opt, topic string, upTo int64, apply func(key, value []byte) error, progress func(Progress)) error {
	return Each(ctx, opts, topic, upTo, func(r *kgo.Record) error { return apply(r.Key, r.Value) }, progress)
}

// Each does the same with the rows' records.
func Each(ctx context.Context, opts []kgo.Opt, topic string, upTo int64, apply func(r *kgo.Record) error, progress func(Progress)) error {
	opts = append(append([]kgo.Opt{}, opts...),
		kgo.ConsumePartitions(map[string]map[int32]kgo.Offset{topic: {0: kgo.NewOffset().AtStart()}}),
		kgo.FetchIsolationLevel(kgo.ReadCommitted()), kgo.KeepControlRecords(),
		kgo.FetchMaxBytes(16<<20), kgo.FetchMaxPartitionBytes(8<<20), kgo.MaxConcurrentFetches(2),
	)
	cl, err := kgo.NewClient(opts...)
	if err != nil {
		return err
	}
	defer cl.Close()
	p := Progress{From: -1, Target: upTo}
	for {
		fetches := cl.PollFetches(ctx)
		if err := fetches.Err0(); err != nil && ctx.Err() != nil {
			return ctx.Err()
		}
		var failed error
		fetches.EachError(func(_ string, _ int32, err error) { failed = err })
		if failed != nil {
			return fmt.Errorf("reading the table from topic %s: %w", topic, failed)
		}
		done := false
		fetches.EachRecord(func(r *kgo.Record) {
			if p.From < 0 {
				p.From = r.Offset
			}
			p.At = r.Offset
			done = done || r.Offset >= upTo
			if failed != nil || r.Attrs.IsControl() || r.Offset > upTo {
				return
			}
			p.Rows++
			failed = apply(r)
		})
		if failed != nil {
			return fmt.Errorf("reading the table from topic %s: %w", topic, failed)
		}
		if progress != nil {
			progress(p)
		}
		if done {
			return nil
		}
	}
}

const (
	startTries = 10
	startPause = 5 * time.Millisecond // at first
)

// Start is the first offset of the changelog: above 0 it has lost its beginning, for compaction does not move it.
func Start(ctx context.Context, adm *kadm.Client, topic string) (int64, error) {
	return ask(ctx, "beginning", topic, adm.ListStartOffsets)
}

// End is the offset of the last entry of the changelog that a committed transaction has left (its marker), for a
// reader who does not own it; -1 if there is none.
func End(ctx context.Context, adm *kadm.Client, topic string) (int64, error) {
	end, err := ask(ctx, "end", topic, adm.ListCommittedOffsets)
	return end - 1, err
}

// ask asks for an offset of the changelog, again for a while: a topic that was made a moment ago is not known everywhere.
func ask(ctx context.Context, what, topic string, list func(context.Context, ...string) (kadm.ListedOffsets, error)) (int64, error) {
	for try := 0; ; try++ {
		listed, err := list(ctx, topic)
		if o, ok := listed.Lookup(topic, 0); err == nil && ok && o.Err == nil {
			return o.Offset, nil
		}
		if try == startTries || ctx.Err() != nil {
			return 0, fmt.Errorf("asking for the %s of topic %s: %w", what, topic, errors.Join(err, listed.Error(), errors.New("it was not told")))
		}
		time.Sleep(backoff.Pause(startPause, time.Minute, try))
	}
}
