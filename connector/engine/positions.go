package engine

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
	"go.uber.org/zap"
)

// positions is the one way to where reading of a partition begins: a source's first start, going on where the table
// stands, partitions that come later, positions that a log has lost (era.go), topics that were made again. Reading
// again from an earlier point is history's (history.go).
//
// Races: partitions come while the table is restored: they wait in later until the engine works. A log goes back while it is
// read: the epoch ends, so that nothing of the old log waits to be folded, and the next one asks how far.
//
// +checklocksalias:holds.mu=mu
// +checklocksalias:reader.mu=mu
// +checklocksalias:damage.mu=mu
// +checklocksalias:history.mu=mu
type positions struct {
	*core
	holds   *holds
	reader  *reader
	damage  *damage
	history *history
	later   chan map[string][]int32 // partitions that came later

}

// logs are what Kafka says of partitions.
type logs struct {
	ids       map[string][16]byte
	committed kadm.OffsetResponses
	start     kadm.ListedOffsets
	end       kadm.ListedOffsets
	epochs    map[partition]int32 // of their leaders
}

// ask asks for the logs of topics.
func (p *positions) ask(topics []string) (*logs, error) {
	ctx, cancel := context.WithTimeout(p.ctx, time.Minute)
	defer cancel()
	adm := kadm.NewClient(p.cl)
	l := &logs{ids: map[string][16]byte{}, epochs: map[partition]int32{}}
	details, err := adm.ListTopics(ctx, topics...)
	if err != nil {
		return nil, fmt.Errorf("describing the sources' topics: %w", err)
	}
	for _, d := range details {
		if d.Err != nil {
			return nil, fmt.Errorf("describing topic %s: %w", d.Topic, d.Err)
		}
		l.ids[d.Topic] = d.ID
		for _, n := range d.Partitions {
			l.epochs[partition{d.Topic, n.Partition}] = n.LeaderEpoch
		}
	}
	// Stable: a predecessor's transaction may have been committed and not be visible yet.
	l.committed, err = adm.FetchOffsets(kadm.RequireStable(ctx), p.cfg.Group())
	if err != nil && !errors.Is(err, kerr.GroupIDNotFound) { // nobody has committed anything
		return nil, fmt.Errorf("fetching the group's offsets: %w", err)
	}
	l.start, err = adm.ListStartOffsets(ctx, topics...)
	if err = errors.Join(err, l.start.Error(), l.committed.Error()); err != nil {
		return nil, fmt.Errorf("listing the topics' first offsets: %w", err)
	}
	l.end, err = adm.ListCommittedOffsets(ctx, topics...)
	if err = errors.Join(err, l.end.Error()); err != nil {
		return nil, fmt.Errorf("listing the topics' last offsets: %w", err)
	}
	return l, nil
}

// committedAt is where the group stands in a partition, and the leader epoch there; -1 where it has committed nothing.
func (l *logs) committedAt(at partition) (next int64, epoch int32) {
	if o, ok := l.committed.Lookup(at.topic, at.n); ok && o.Err == nil && o.At >= 0 {
		return o.At, o.LeaderEpoch
	}
	return -1, -1
}

// cursor makes the cursor of a source's partition, where the group stands.
func (l *logs) cursor(source int, at partition) *cursor {
	c := &cursor{id: l.ids[at.topic], source: source}
	c.next, c.epoch = l.committedAt(at)
	l.bounds(at, c)
	return c
}

// bounds sets a cursor's idea of where the log begins and ends.
func (l *logs) bounds(at partition, c *cursor) {
	if o, ok := l.start.Lookup(at.topic, at.n); ok {
		c.start = o.Offset
	}
	if o, ok := l.end.Lookup(at.topic, at.n); ok {
		c.end = o.Offset
	}
}

// locate finds where each of the assigned partitions is read from, at a take-over.
func (p *positions) locate(assigned map[string][]int32) error {
	l, err := p.ask(slices.Sorted(maps.Keys(assigned)))
	if err != nil {
		return err
	}
	first, _ := p.place(assigned, l, true)
	for s, parts := range first {
		starts, err := p.offsets(p.cfg.Sources[s].Start, parts)
		if err != nil {
			return err
		}
		p.start(starts)
		p.first(s, parts)
	}
	back, err := p.validate(l)
	if err != nil {
		return err
	}
	p.mu.Lock()
	for at, b := range back {
		p.wentBackLocked(at, p.reader.cursors[at], b)
	}
	p.mu.Unlock()
	return nil
}

// join takes partitions that came later into a running engine. It never waits.
func (p *positions) join(given map[string][]int32) {
	select {
	case p.later <- given:
	default: // more than a group ever gives
		p.kill(errors.New("partitions came faster than they can be taken in"))
	}
}

// joins takes them in, as long as the epoch lasts.
func (p *positions) joins() {
	for {
		select {
		case <-p.ctx.Done():
			return
		case given := <-p.later:
			if err := p.takeIn(given); err != nil {
				p.kill(err)
				return
			}
		}
	}
}

func (p *positions) takeIn(given map[string][]int32) error {
	l, err := p.ask(slices.Sorted(maps.Keys(given)))
	if err != nil {
		return err
	}
	_, offsets := p.place(given, l, false)
	p.reader.begun(offsets)
	p.reader.reading().AddConsumePartitions(offsets)
	p.nudge()
	return nil
}

// place makes the cursors of partitions, by source. It returns the partitions of sources that are read for the first time,
// whose start is to be found, and the positions of the others, but of those that are not read.
func (p *positions) place(given map[string][]int32, l *logs, takeOver bool) (first map[int][]partition, offsets map[string]map[int32]kgo.Offset) {
	bySource, have := map[int][]partition{}, p.reader.snapshot()
	for topic, numbers := range given {
		s, ok := p.cfg.SourceOf(topic)
		for _, n := range numbers {
			at := partition{topic, n}
			if _, placed := have[at]; ok && !placed {
				bySource[s] = append(bySource[s], at)
			}
		}
	}
	first, offsets = map[int][]partition{}, map[string]map[int32]kgo.Offset{}
	p.mu.Lock()
	defer p.mu.Unlock()
	for s, parts := range bySource {
		for _, at := range parts {
			p.reader.cursors[at] = l.cursor(s, at)
		}
		if p.placeSourceLocked(s, parts, l, takeOver) {
			first[s] = parts
			continue
		}
		for _, at := range parts {
			if c := p.reader.cursors[at]; !c.stopped {
				addOffset(offsets, at, c)
			}
		}
	}
	p.history.joinLocked()
	p.changedLocked(p.now())
	return first, offsets
}

// placeSourceLocked decides where partitions of a source, whose cursors stand where the group does, are read from. It
// returns true if the source is read for the first time. A partition that comes later begins at its beginning.
//
// +checklocks:p.mu
func (p *positions) placeSourceLocked(s int, parts []partition, l *logs, takeOver bool) (first bool) {
	src := &p.cfg.Sources[s]
	row := p.table.Meta(sourceKey(src.Name))
	commits := 0
	for _, at := range parts {
		if p.reader.cursors[at].next >= 0 {
			commits++
		}
	}
	again := "run segsync backfill --from earliest (or a time) for one of its exports"
	recreated := p.recreatedLocked(parts, l)
	switch {
	case p.reader.sourceHeldLocked(s):
		for _, at := range parts {
			p.reader.cursors[at].stopped = true
		}
	case recreated != "":
		p.reader.haltLocked(s, "recreated", "topic "+recreated+" was deleted and made again: its offsets mean other records now; "+again)
	case takeOver && row == nil && commits > 0:
		p.reader.haltLocked(s, "no_table", "the group has offsets of the source, but the table has never read it: the table's topic is gone, or another program uses the group; "+again)
	case takeOver && row != nil && commits == 0:
		p.reader.haltLocked(s, "no_offsets", "the table has read the source, but the group's offsets are gone (idle longer than the broker keeps them?); "+again)
	case takeOver && row == nil:
		p.numberLocked(parts)
		return true
	default:
		if row == nil { // its first topic has come after the take-over
			p.table.SetMeta(sourceKey(src.Name), sourceRow(p.table, src))
		}
		p.numberLocked(parts)
		p.continueLocked(parts)
	}
	return false
}

// recreatedLocked names a topic of the partitions whose id is not the one that was read before.
//
// +checklocks:p.mu
func (p *positions) recreatedLocked(parts []partition, l *logs) string {
	known := p.table.Topics()
	for _, at := range parts {
		id, ids := l.ids[at.topic], known[at.topic]
		if len(ids) > 0 && !slices.Contains(ids, id) && p.table.Meta(acceptKey(id)) == nil {
			return at.topic
		}
	}
	return ""
}

// numberLocked gives the topics of partitions their numbers: those that are read, for a number says that one was.
//
// +checklocks:p.mu
func (p *positions) numberLocked(parts []partition) {
	for _, at := range parts {
		c := p.reader.cursors[at]
		c.topic = p.table.Topic(c.id, at.topic)
		c.era = p.eraLocked(c.topic, at.n)
	}
}

// first notes that a source is read for the first time.
func (p *positions) first(s int, parts []partition) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.history.noteFirstLocked(s, parts)
}

// start sets partitions to where their source's first reading begins.
func (p *positions) start(starts map[partition]int64) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for at, next := range starts {
		c := p.reader.cursors[at]
		c.next, c.epoch, c.changed = next, -1, true
	}
}

// continueLocked goes on where the table stands.
//
// +checklocks:p.mu
func (p *positions) continueLocked(parts []partition) {
	for _, at := range parts {
		c := p.reader.cursors[at]
		if c.next < 0 { // a partition that came later
			c.next, c.changed = c.start, true
			continue
		}
		if stands := p.table.Position(c.topic, at.n); stands >= 0 && stands < c.next {
			p.damage.addLocked(c.source, fmt.Sprintf("it says that %s/%d was read to offset %d, the group's offsets say %d", at.topic, at.n, stands, c.next))
		}
		if c.next < c.start || c.next > c.end {
			p.outOfRangeLocked(at, c)
		}
	}
}

// offsets finds the offsets of a start.
func (p *positions) offsets(start Start, parts []partition) (map[partition]int64, error) {
	ctx, cancel := context.WithTimeout(p.ctx, time.Minute)
	defer cancel()
	var topics []string
	for _, at := range parts {
		topics = append(topics, at.topic)
	}
	slices.Sort(topics)
	topics = slices.Compact(topics)
	adm := kadm.NewClient(p.cl)
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

// outOfRangeLocked applies a source's policy to a position that the log has lost.
//
// +checklocks:p.mu
func (p *positions) outOfRangeLocked(at partition, c *cursor) {
	src := &p.cfg.Sources[c.source]
	switch src.OutOfRange {
	case OutOfRangeEarliest:
		p.wentAstrayLocked(at, c)
		p.log.Warn("records were lost before they were read: going on at the log's beginning", zap.String("topic", at.topic), zap.Int32("partition", at.n), zap.Int64("from", c.next), zap.Int64("to", c.start))
		c.next, c.epoch, c.changed = c.start, -1, true
	case OutOfRangeLatest:
		p.wentAstrayLocked(at, c)
		p.log.Warn("records were lost before they were read: going on at the log's end", zap.String("topic", at.topic), zap.Int32("partition", at.n), zap.Int64("from", c.next), zap.Int64("to", c.end))
		c.next, c.epoch, c.changed = c.end, -1, true
	default:
		if c.next > c.end {
			c.behind = max(c.behind, 1) // its epochs do not tell: what is read again must count as newer all the same
		}
		c.lost = true
		p.reader.haltLocked(c.source, lostPosition, fmt.Sprintf("the log of %s/%d begins at offset %d, and reading stands at %d: records are lost; restore the truth with segsync backfill --from earliest, or set out_of_range", at.topic, at.n, c.start, c.next))
	}
}

// wentAstrayLocked begins an era where a position lies behind the log's end: the log has gone back, and what is read of it now
// counts as newer.
//
// +checklocks:p.mu
func (p *positions) wentAstrayLocked(at partition, c *cursor) {
	if c.next > c.end {
		c.behind = max(c.behind, 1)
		p.newEraLocked(c, at.n)
	}
}

// lost looks at a partition whose position the log has lost while it was read.
func (p *positions) lost(at partition) {
	l, err := p.ask([]string{at.topic})
	if err != nil {
		p.kill(err)
		return
	}
	if offsets, read := p.relocate(at, l); read {
		p.reader.restart(offsets)
	}
}

// relocate applies the policy of a lost position, and says from where on the partition is read.
func (p *positions) relocate(at partition, l *logs) (offsets map[string]map[int32]kgo.Offset, read bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	c, ok := p.reader.cursors[at]
	if !ok {
		return nil, false
	}
	l.bounds(at, c)
	if c.start <= c.next { // the log has gone back: what waits to be folded may be of the old one
		p.kill(kerr.OffsetOutOfRange)
		return nil, false
	}
	p.outOfRangeLocked(at, c)
	p.changedLocked(p.now())
	offsets = map[string]map[int32]kgo.Offset{}
	addOffset(offsets, at, c)
	return offsets, !c.stopped
}
