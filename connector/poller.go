package connector

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
	p        partition
	records  []*kgo.Record
	bytes    int64
	tooLarge *kgo.ErrDecompressTooLarge
}

// poll takes records until the epoch ends. It waits for nothing else.
func (e *engine) poll() {
	for e.ctx.Err() == nil {
		fetches := e.reader.PollFetches(e.ctx)
		e.decompressor.polled()
		e.accept(fetches)
	}
}

// accept takes what a poll brought and hands it to the workers. It never waits.
func (e *engine) accept(fetches kgo.Fetches) {
	fetches.EachError(func(topic string, n int32, err error) { e.fetchFailed(partition{topic, n}, err) })
	fetches.EachPartition(func(f kgo.FetchTopicPartition) {
		p := partition{f.Topic, f.Partition}
		defer e.skipTooLarge(p, f.Err)
		e.mu.Lock()
		c, ok := e.cursors[p]
		if ok && f.Err == nil {
			c.end, c.start = max(f.LastStableOffset, c.end), f.LogStartOffset
		}
		read := ok && e.ready && !c.stopped
		e.mu.Unlock()
		if !read || len(f.Records) == 0 {
			return
		}
		b := &batch{p: p, records: f.Records, bytes: batchBytes}
		for _, r := range f.Records {
			b.bytes += int64(len(r.Key) + len(r.Value) + 100)
			for _, h := range r.Headers {
				b.bytes += int64(len(h.Key) + len(h.Value))
			}
		}
		e.queue(b)
	})
	e.throttle()
}

// queue hands a batch to the worker of its partition.
func (e *engine) queue(b *batch) {
	e.held.Add(b.bytes)
	select {
	case e.queues[b.p.worker(len(e.queues))] <- b:
	case <-e.ctx.Done():
	}
}

// skipTooLarge lets reading go on behind a batch that is too large to be read; it becomes one dead letter.
func (e *engine) skipTooLarge(p partition, err error) {
	var large *kgo.ErrDecompressTooLarge
	if !errors.As(err, &large) {
		return
	}
	e.queue(&batch{p: p, bytes: batchBytes, tooLarge: large})
	e.reader.SetOffsets(map[string]map[int32]kgo.EpochOffset{p.topic: {p.n: {Epoch: large.Epoch, Offset: large.NextOffset}}})
}

// worker keeps a partition's records in order: one worker has them all.
func (p partition) worker(n int) int {
	h := fnv.New32a()
	_, _ = h.Write([]byte(p.topic))
	return int((h.Sum32() + uint32(p.n)) % uint32(n))
}

// throttle pauses fetching at the bound and lets it go again below.
func (e *engine) throttle() {
	if !e.isReady() {
		return
	}
	e.throttling.Lock()
	defer e.throttling.Unlock()
	e.mu.Lock()
	waiting := e.table.ChangedBytes() + e.deadBytes
	all := e.partitions()
	broken := e.breaker.open
	e.mu.Unlock()
	held := e.held.Load() - min(e.parked.Load(), heldMost) // what waits for the registry holds nobody up, to a bound
	switch {
	case !e.paused.Load() && (held > heldMost || waiting > changesMost || broken || e.draining.Load()):
		e.paused.Store(true)
		e.reader.PauseFetchPartitions(all)
	case e.paused.Load() && held < heldResume && waiting < cutAt && !broken && !e.draining.Load():
		e.paused.Store(false)
		e.reader.ResumeFetchPartitions(all)
	}
}

// partitions are those that are read. Under the lock.
func (e *engine) partitions() map[string][]int32 {
	m := map[string][]int32{}
	for p, c := range e.cursors {
		if !c.stopped && !c.parked {
			m[p.topic] = append(m[p.topic], p.n)
		}
	}
	return m
}

// park stops fetching of a partition that waits for the registry, or lets it go on.
func (e *engine) park(p partition, parked bool) {
	e.throttling.Lock()
	defer e.throttling.Unlock()
	e.mu.Lock()
	c := e.cursors[p]
	c.parked = parked
	stopped := c.stopped
	e.mu.Unlock()
	one := map[string][]int32{p.topic: {p.n}}
	switch {
	case parked:
		e.reader.PauseFetchPartitions(one)
	case !stopped && !e.paused.Load():
		e.reader.ResumeFetchPartitions(one)
	}
}

// fetchFailed looks at a partition that cannot be read. A position that the log has lost is never skipped in silence.
func (e *engine) fetchFailed(p partition, err error) {
	var back *kgo.ErrDataLoss
	var large *kgo.ErrDecompressTooLarge
	switch {
	case errors.As(err, &back):
		e.kill(err) // the log has gone back: the next life asks how far (era.go), and nothing of the old log waits in it
	case errors.As(err, &large): // skipped behind what came before it
	case errors.Is(err, errFetchMost): // fetched again
	case errors.Is(err, kerr.OffsetOutOfRange):
		e.lostPosition(p)
	case errors.Is(err, kerr.UnknownTopicID), errors.Is(err, kerr.InconsistentTopicID):
		e.kill(err) // the topic was deleted, or made again: a restore finds out which
	case errors.Is(err, kerr.FencedInstanceID):
		e.lease.End()
		e.kill(err)
	case e.ctx.Err() == nil && p.topic != "":
		e.log.Warn("reading is hindered", zap.String("topic", p.topic), zap.Int32("partition", p.n), zap.Error(err))
	}
}
