package engine

import (
	"errors"
	"hash/fnv"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
	"go.uber.org/zap"
)

// Bounds of what waits in memory, in bytes. At the upper ones fetching pauses, polling goes on.
const (
	heldMost    = 16 << 20 // taken from Kafka and not folded
	heldResume  = 4 << 20
	batchBytes  = 4 << 10                   // what a batch counts for beside its records
	batchesMost = 2 * heldMost / batchBytes // a queue has room for more than can be held, so that polling does not wait
	cutAt       = 32 << 20                  // changed rows and dead letters: a checkpoint is due
	changesMost = 64 << 20                  // fetching pauses
)

// batch is what one fetch brought of a partition; or, without records, a batch that is too large to be read.
type batch struct {
	reader   *reader
	p        partition
	records  []*kgo.Record
	bytes    int64
	tooLarge *kgo.ErrDecompressTooLarge
}

// poll takes records until the epoch ends. It waits for nothing else.
func (r *reader) poll() {
	client := r.reading()
	for r.life.Err() == nil {
		fetches := client.PollFetches(r.life)
		r.decompressor.polled()
		r.accept(fetches)
	}
}

// accept takes what a poll brought and hands it to the workers. It never waits.
func (r *reader) accept(fetches kgo.Fetches) {
	fetches.EachError(func(topic string, n int32, err error) { r.fetchFailed(partition{topic, n}, err) })
	fetches.EachPartition(func(f kgo.FetchTopicPartition) {
		p := partition{f.Topic, f.Partition}
		defer r.skipTooLarge(p, f.Err)
		r.mu.Lock()
		c, ok := r.cursors[p]
		if ok && f.Err == nil {
			c.end, c.start = max(f.LastStableOffset, c.end), f.LogStartOffset
		}
		read := ok && !c.stopped
		r.mu.Unlock()
		if !read || len(f.Records) == 0 {
			return
		}
		b := &batch{reader: r, p: p, records: f.Records, bytes: batchBytes}
		for _, x := range f.Records {
			b.bytes += int64(len(x.Key) + len(x.Value) + 100)
			for _, h := range x.Headers {
				b.bytes += int64(len(h.Key) + len(h.Value))
			}
		}
		r.queue(b)
	})
	r.throttle()
}

// queue hands a batch to the worker of its partition.
func (r *reader) queue(b *batch) {
	r.held.Add(b.bytes)
	select {
	case r.queues[b.p.worker(len(r.queues))] <- b:
	case <-r.life.Done():
	}
}

// skipTooLarge lets reading go on behind a batch that is too large to be read; it becomes one dead letter.
func (r *reader) skipTooLarge(p partition, err error) {
	var large *kgo.ErrDecompressTooLarge
	if !errors.As(err, &large) {
		return
	}
	r.queue(&batch{reader: r, p: p, bytes: batchBytes, tooLarge: large})
	r.reading().SetOffsets(map[string]map[int32]kgo.EpochOffset{p.topic: {p.n: {Epoch: large.Epoch, Offset: large.NextOffset}}})
}

// worker keeps a partition's records in order: one worker has them all.
func (p partition) worker(n int) int {
	h := fnv.New32a()
	_, _ = h.Write([]byte(p.topic))
	return int((h.Sum32() + uint32(p.n)) % uint32(n))
}

// fetchFailed looks at a partition that cannot be read. A position that the log has lost is never skipped in silence.
func (r *reader) fetchFailed(p partition, err error) {
	var back *kgo.ErrDataLoss
	var large *kgo.ErrDecompressTooLarge
	switch {
	case errors.As(err, &back):
		r.kill(err) // the log has gone back: the next life asks how far (era.go), and nothing of the old log waits in it
	case errors.As(err, &large): // skipped behind what came before it
	case errors.Is(err, errFetchMost): // fetched again
	case errors.Is(err, kerr.OffsetOutOfRange):
		r.lost(p)
	case errors.Is(err, kerr.UnknownTopicID), errors.Is(err, kerr.InconsistentTopicID):
		r.kill(err) // the topic was deleted, or made again: a restore finds out which
	case errors.Is(err, kerr.FencedInstanceID):
		r.kill(err) // the lease with it
	case r.life.Err() == nil && p.topic != "":
		r.log.Warn("reading is hindered", zap.String("topic", p.topic), zap.Int32("partition", p.n), zap.Error(err))
	}
}
