package connector

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
	"go.uber.org/zap"
)

// positions are what Kafka says of the assigned partitions.
type positions struct {
	ids       map[string][16]byte
	committed kadm.OffsetResponses
	start     kadm.ListedOffsets
	end       kadm.ListedOffsets
	epochs    map[partition]int32 // of their leaders
}

func (e *engine) positions(topics []string) (*positions, error) {
	ctx, cancel := context.WithTimeout(e.ctx, time.Minute)
	defer cancel()
	adm := kadm.NewClient(e.cl)
	p := &positions{ids: map[string][16]byte{}, epochs: map[partition]int32{}}
	details, err := adm.ListTopics(ctx, topics...)
	if err != nil {
		return nil, fmt.Errorf("describing the sources' topics: %w", err)
	}
	for _, d := range details {
		if d.Err != nil {
			return nil, fmt.Errorf("describing topic %s: %w", d.Topic, d.Err)
		}
		p.ids[d.Topic] = d.ID
		for _, n := range d.Partitions {
			p.epochs[partition{d.Topic, n.Partition}] = n.LeaderEpoch
		}
	}
	// Stable: a predecessor's transaction may have been committed and not be visible yet.
	if p.committed, err = adm.FetchOffsets(kadm.RequireStable(ctx), e.cfg.Group()); err != nil {
		return nil, fmt.Errorf("fetching the group's offsets: %w", err)
	}
	p.start, err = adm.ListStartOffsets(ctx, topics...)
	if err = errors.Join(err, p.start.Error(), p.committed.Error()); err != nil {
		return nil, fmt.Errorf("listing the topics' first offsets: %w", err)
	}
	p.end, err = adm.ListCommittedOffsets(ctx, topics...)
	if err = errors.Join(err, p.end.Error()); err != nil {
		return nil, fmt.Errorf("listing the topics' last offsets: %w", err)
	}
	return p, nil
}

// recreated names a topic of the partitions whose id is not the one that was read before.
func (e *engine) recreated(parts []partition, p *positions) string {
	known := e.table.Topics()
	for _, at := range parts {
		id, ids := p.ids[at.topic], known[at.topic]
		if len(ids) > 0 && !slices.Contains(ids, id) && e.table.Meta(acceptKey(id)) == nil {
			return at.topic
		}
	}
	return ""
}

// startOffsets finds the offsets of a start.
func (e *engine) startOffsets(start Start, parts []partition) (map[partition]int64, error) {
	ctx, cancel := context.WithTimeout(e.ctx, time.Minute)
	defer cancel()
	var topics []string
	for _, at := range parts {
		topics = append(topics, at.topic)
	}
	slices.Sort(topics)
	topics = slices.Compact(topics)
	adm := kadm.NewClient(e.cl)
	var listed kadm.ListedOffsets
	var err error
	switch {
	case start.Latest:
		listed, err = adm.ListCommittedOffsets(ctx, topics...)
	case !start.At.IsZero():
		listed, err = adm.ListOffsetsAfterMilli(ctx, start.At.UnixMilli(), topics...)
	default:
		listed, err = adm.ListStartOffsets(ctx, topics...)
	}
	if err != nil {
		return nil, fmt.Errorf("finding where to start reading: %w", err)
	}
	all := map[partition]int64{}
	for _, at := range parts {
		o, ok := listed.Lookup(at.topic, at.n)
		if !ok || o.Err != nil || o.Offset < 0 {
			return nil, fmt.Errorf("finding where to start reading %s/%d: %w", at.topic, at.n, errors.Join(o.Err, errors.New("no offset was given")))
		}
		all[at] = o.Offset
	}
	return all, nil
}

// committedAt is where the group stands in a partition, and the leader epoch there; -1 where it has committed nothing.
func (p *positions) committedAt(at partition) (next int64, epoch int32) {
	if o, ok := p.committed.Lookup(at.topic, at.n); ok && o.Err == nil && o.At >= 0 {
		return o.At, o.LeaderEpoch
	}
	return -1, -1
}

func endOf(p *positions, at partition) int64 {
	o, _ := p.end.Lookup(at.topic, at.n)
	return o.Offset
}

// outOfRange applies a source's policy to a position that the log has lost. Under the lock.
func (e *engine) outOfRange(at partition, c *cursor) {
	src := &e.cfg.Sources[c.source]
	switch src.OutOfRange {
	case OutOfRangeEarliest:
		e.wentAstray(at, c)
		e.log.Warn("records were lost before they were read: going on at the log's beginning", zap.String("topic", at.topic), zap.Int32("partition", at.n), zap.Int64("from", c.next), zap.Int64("to", c.start))
		c.next, c.epoch, c.changed = c.start, -1, true
	case OutOfRangeLatest:
		e.wentAstray(at, c)
		e.log.Warn("records were lost before they were read: going on at the log's end", zap.String("topic", at.topic), zap.Int32("partition", at.n), zap.Int64("from", c.next), zap.Int64("to", c.end))
		c.next, c.epoch, c.changed = c.end, -1, true
	default:
		if c.next > c.end {
			c.behind = max(c.behind, 1) // its epochs do not tell: what is read again must count as newer all the same
		}
		c.lost = true
		e.haltSource(c.source, lostPosition, fmt.Sprintf("the log of %s/%d begins at offset %d, and reading stands at %d: records are lost; restore the truth with segsync backfill --from earliest, or set out_of_range", at.topic, at.n, c.start, c.next))
	}
}

// wentAstray begins an era where a position lies behind the log's end: the log has gone back, and what is read of it now
// counts as newer.
func (e *engine) wentAstray(at partition, c *cursor) {
	if c.next > c.end {
		c.behind = max(c.behind, 1)
		e.newEra(c, at.n)
	}
}

// lostPosition looks at a partition whose position the log has lost while it was read.
func (e *engine) lostPosition(at partition) {
	p, err := e.positions([]string{at.topic})
	if err != nil {
		e.kill(err)
		return
	}
	e.mu.Lock()
	c, ok := e.cursors[at]
	if !ok {
		e.mu.Unlock()
		return
	}
	if o, ok := p.start.Lookup(at.topic, at.n); ok {
		c.start = o.Offset
	}
	c.end = endOf(p, at)
	if c.start <= c.next { // the log has gone back: what waits to be folded may be of the old one
		e.mu.Unlock()
		e.kill(kerr.OffsetOutOfRange)
		return
	}
	e.outOfRange(at, c)
	stopped := c.stopped
	offsets := map[string]map[int32]kgo.Offset{}
	add(offsets, at, c)
	e.changed(e.now())
	e.mu.Unlock()
	if !stopped {
		e.reader.RemoveConsumePartitions(map[string][]int32{at.topic: {at.n}})
		e.reader.AddConsumePartitions(offsets)
	}
}
