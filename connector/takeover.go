package connector

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"
	"go.uber.org/zap"

	"segsync/connector/changelog"
	"segsync/connector/state"
	"segsync/mapping"
)

// takeOver makes this process the connection's owner in deed: the sentinel behind everything a predecessor wrote, the
// table read back to it, open requests told, offsets found. Partitions are not read meanwhile; heartbeats go on.
func (e *engine) takeOver() error {
	began := time.Now()
	cfg := e.cfg.tableConfig(e.sender)
	cfg.RowMost, cfg.PartMost = rowRoom(e.rowMost), rowRoom(e.rowMost)
	table := state.New(cfg)
	e.mu.Lock()
	e.table, e.holds.table = table, table
	e.mu.Unlock()
	// Until ready is set this goroutine alone touches the table: nothing else of the engine runs yet.
	if err := e.restore(); err != nil {
		return err
	}
	now := e.now()
	if err := e.checkWhole(); err != nil {
		return err
	}
	e.configure(now)
	imports, err := e.table.Ready(now)
	if err == nil {
		e.restorePace()
		e.adopt(imports, now)
		for _, x := range e.cfg.Exports {
			if !x.Enabled {
				e.holds.add(holdKey{place{list: x.List}, codeDisabled}, hold{mend: "export " + x.Name + " is off in the configuration (enabled: false): what is owed stays in the table", chosen: true}, now)
			}
		}
	}
	if err != nil {
		return fmt.Errorf("restoring the table: %w", err)
	}
	e.watchKey()
	e.claimAccount()
	if err := e.makeMappers(); err != nil {
		return err
	}
	if err := e.locate(); err != nil {
		return err
	}
	e.tellChange(now)
	e.log.Info("took the connection over", zap.String("account", e.key.owner), zap.Int("people", e.table.Counts.People), zap.Int("contacts", e.table.Counts.Contacts),
		zap.Int("pending", e.table.Counts.Pending), zap.Duration("took", time.Since(began)))
	return nil
}

func (e *engine) restore() error {
	target, err := e.changes.Sentinel(e.ctx)
	if err != nil {
		return err
	}
	if target > 0 { // there was a predecessor, who may have made calls until now
		e.sender.Rest()
	}
	last := time.Now()
	return changelog.Restore(e.ctx, e.cfg.Kafka, e.changes.Topic(), target, func(key, v []byte) error {
		return e.table.Apply(key, v)
	}, func(p changelog.Progress) {
		e.mu.Lock()
		e.restoring = p
		e.mu.Unlock()
		if time.Since(last) > 5*time.Second {
			last = time.Now()
			e.log.Info("restoring the table", zap.Int64("rows", p.Rows), zap.Int64("offset", p.At), zap.Int64("of", p.Target))
		}
	})
}

// holdDisabled keeps the lists of disabled exports from being sent to. A list of several exports is one list: it is
// refused by the configuration.
func (c *Connection) holdDisabled(t *state.Table, now time.Time) {
	for _, x := range c.cfg.Exports {
		if !x.Enabled {
			t.Hold(x.List, codeDisabled, now)
		}
	}
}

// makeMappers compiles the mappings with the account's attribute types.
func (e *engine) makeMappers() error {
	types, err := e.knowTypes()
	if err != nil {
		return err
	}
	e.types = types
	for i := range e.cfg.Sources {
		s := &e.cfg.Sources[i]
		spec := s.Spec
		spec.Attributes = slices.Clone(spec.Attributes)
		for j := range spec.Attributes {
			spec.Attributes[j].Type = mapping.AttributeType(types[spec.Attributes[j].Name])
		}
		m, err := mapping.NewMapper(spec, s.Value, s.Key)
		if err != nil {
			return fmt.Errorf("source %s: %w", s.Name, err)
		}
		e.mappers = append(e.mappers, m)
	}
	for range workers {
		e.queues = append(e.queues, make(chan *batch, batchesMost))
	}
	return nil
}

// workers decode, map and fold; more than processors gain nothing.
const workers = 4

// sourceOf finds the source that a topic belongs to.
func (e *engine) sourceOf(topic string) (int, bool) { return e.cfg.sourceOf(topic) }

func (c *Config) sourceOf(topic string) (int, bool) {
	if c.Owns(topic) {
		return 0, false
	}
	for i, s := range c.Sources {
		if slices.Contains(s.Topics, topic) || s.Regex != "" && matches(s.Regex, topic) {
			return i, true
		}
	}
	return 0, false
}

// locate finds where each partition is read from. A source that is read for the first time has its start committed,
// with a row that says so, before anything is announced; later, a partition without a commit begins at its beginning.
func (e *engine) locate() error {
	topics := slices.Sorted(maps.Keys(e.assigned))
	p, err := e.positions(topics)
	if err != nil {
		return err
	}
	bySource := map[int][]partition{}
	for t, ps := range e.assigned {
		if s, ok := e.sourceOf(t); ok {
			for _, n := range ps {
				bySource[s] = append(bySource[s], partition{t, n})
			}
		}
	}
	for s, parts := range bySource {
		if err := e.locateSource(s, parts, p); err != nil {
			return err
		}
	}
	back, err := e.validate(p)
	if err != nil {
		return err
	}
	for at, b := range back {
		e.logWentBack(at, e.cursors[at], b)
	}
	return e.begin()
}

// cursorAt makes the cursor of a partition.
func (e *engine) cursorAt(s int, at partition, p *positions, next int64, epoch int32) *cursor {
	c := &cursor{id: p.ids[at.topic], source: s, next: next, epoch: epoch}
	if o, ok := p.end.Lookup(at.topic, at.n); ok {
		c.end = o.Offset
	}
	if o, ok := p.start.Lookup(at.topic, at.n); ok {
		c.start = o.Offset
	}
	e.cursors[at] = c
	return c
}

// locateSource finds the positions of one source's partitions.
func (e *engine) locateSource(s int, parts []partition, p *positions) error {
	src := &e.cfg.Sources[s]
	recreated := e.recreated(parts, p)
	row := e.table.Meta(sourceKey(src.Name))
	commits := 0
	for _, at := range parts {
		next, epoch := p.committedAt(at)
		commits += int(one(next >= 0))
		e.cursorAt(s, at, p, next, epoch)
	}
	again := "run segsync backfill --from earliest (or a time) for one of its exports"
	switch {
	case recreated != "":
		e.haltSource(s, "recreated", "topic "+recreated+" was deleted and made again: its offsets mean other records now; "+again)
	case row == nil && commits > 0:
		e.haltSource(s, "no_table", "the group has offsets of the source, but the table has never read it: the table's topic is gone, or another program uses the group; "+again)
	case row != nil && commits == 0:
		e.haltSource(s, "no_offsets", "the table has read the source, but the group's offsets are gone (idle longer than the broker keeps them?); "+again)
	case row == nil:
		e.numberTopics(parts)
		return e.firstStart(s, parts)
	default:
		e.numberTopics(parts)
		e.continueSource(parts, p)
	}
	return nil
}

// numberTopics gives the topics of partitions their numbers: those that are read, for a number says that one was.
func (e *engine) numberTopics(parts []partition) {
	for _, at := range parts {
		c := e.cursors[at]
		c.topic = e.table.Topic(c.id, at.topic)
		c.era = e.eraOf(c.topic, at.n)
	}
}

// firstStart sets a source's partitions to its configured start.
func (e *engine) firstStart(s int, parts []partition) error {
	starts, err := e.startOffsets(e.cfg.Sources[s].Start, parts)
	if err != nil {
		return err
	}
	for _, at := range parts {
		c := e.cursors[at]
		c.next, c.epoch, c.changed = starts[at], -1, true
	}
	return nil
}

// continueSource goes on where the table stands. Under the lock.
func (e *engine) continueSource(parts []partition, p *positions) {
	for _, at := range parts {
		c := e.cursors[at]
		if c.next < 0 { // a partition that came later
			c.next, c.changed = c.start, true
			continue
		}
		if stands := e.table.Position(c.topic, at.n); stands >= 0 && stands < c.next {
			e.damaged(c.source, fmt.Sprintf("it says that %s/%d was read to offset %d, the group's offsets say %d", at.topic, at.n, stands, c.next))
		}
		if c.next < c.start || c.next > max(c.end, endOf(p, at)) {
			e.outOfRange(at, c)
		}
	}
}

// begin commits what the take-over has decided, before anything is announced: first starts, a rewind, the rows of the
// configuration.
func (e *engine) begin() error {
	now := e.now()
	if err := e.rewind(now); err != nil {
		return err
	}
	for s := range e.cfg.Sources {
		if !e.sourceHeld(s) && e.reads(s) {
			e.table.SetMeta(sourceKey(e.cfg.Sources[s].Name), e.sourceRow(s))
		}
	}
	c := &cut{}
	e.cutPositions(c)
	c.table = e.table.Cut(nil)
	if err := e.changes.Commit(e.ctx, changelog.Checkpoint{Rows: c.table.Rows, Offsets: c.offsets}); err != nil {
		return err
	}
	e.c.mu.Lock()
	defer e.c.mu.Unlock()
	e.cfg.Rewind = nil // a later epoch of this process goes on where this one stands
	e.c.begun = true
	return nil
}

// reads says whether a source has partitions: one without has not been begun.
func (e *engine) reads(s int) bool {
	for _, c := range e.cursors {
		if c.source == s {
			return true
		}
	}
	return false
}

// readFirst is how long nothing is sent while reading begins: what was owed may not be wanted any more.
const readFirst = 500 * time.Millisecond

// resume begins to read where the table stands, with a client of its own: the group's decides who owns, not where.
func (e *engine) resume() error {
	e.mu.Lock()
	offsets := map[string]map[int32]kgo.Offset{}
	for p, c := range e.cursors {
		if !c.stopped {
			add(offsets, p, c)
		}
	}
	e.ready = true
	e.again = e.now().Add(readFirst)
	e.mu.Unlock()
	d, err := newDecompressor()
	if err != nil {
		return err
	}
	opts := append(slices.Clone(e.cfg.Kafka),
		kgo.ConsumePartitions(offsets), kgo.FetchIsolationLevel(kgo.ReadCommitted()), kgo.KeepControlRecords(),
		kgo.ConsumeResetOffset(kgo.NoResetOffset()), kgo.FetchMaxPartitionBytes(256<<10), kgo.FetchMaxBytes(8<<20),
		kgo.WithDecompressor(d),
	)
	reader, err := kgo.NewClient(opts...)
	if err != nil {
		return err
	}
	e.mu.Lock()
	e.reader, e.decompressor = reader, d
	e.mu.Unlock()
	return nil
}

func add(offsets map[string]map[int32]kgo.Offset, p partition, c *cursor) {
	if offsets[p.topic] == nil {
		offsets[p.topic] = map[int32]kgo.Offset{}
	}
	offsets[p.topic][p.n] = kgo.NewOffset().At(c.next).WithEpoch(-1) // its epoch was validated (era.go): here that would wait for metadata
}

// join takes partitions that came later into the engine. It never waits.
func (e *engine) join(given map[string][]int32) {
	select {
	case e.later <- given:
	default: // more than a group ever gives
		e.kill(errors.New("partitions came faster than they can be taken in"))
	}
}

// joins takes them in, once the engine is running.
func (e *engine) joins() {
	for {
		select {
		case <-e.ctx.Done():
			return
		case given := <-e.later:
			if err := e.takeIn(given); err != nil {
				e.kill(err)
				return
			}
		}
	}
}

func (e *engine) takeIn(given map[string][]int32) error {
	p, err := e.positions(slices.Sorted(maps.Keys(given)))
	if err != nil {
		return err
	}
	offsets := map[string]map[int32]kgo.Offset{}
	e.mu.Lock()
	for t, ps := range given {
		s, ok := e.sourceOf(t)
		for _, n := range ps {
			at := partition{t, n}
			if _, have := e.cursors[at]; have || !ok {
				continue
			}
			next, epoch := p.committedAt(at)
			c := e.cursorAt(s, at, p, next, epoch)
			if c.stopped = e.sourceHeld(s); !c.stopped {
				e.numberTopics([]partition{at})
				e.continueSource([]partition{at}, p)
			}
			if !c.stopped {
				add(offsets, at, c)
			}
		}
	}
	e.changed(e.now())
	e.mu.Unlock()
	e.reader.AddConsumePartitions(offsets)
	e.nudge()
	return nil
}

func (e *engine) isReady() bool {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.ready && e.reader != nil
}
