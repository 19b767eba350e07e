package engine

import (
	"context"
	"sync"
	"sync/atomic"

	"github.com/twmb/franz-go/pkg/kgo"

	"segsync/connector/changelog"
)

// partition names a source partition.
type partition struct {
	topic string
	n     int32
}

// cursor is a position in a source partition: everything before next is folded.
type cursor struct {
	id      [16]byte
	topic   uint32 // the topic's durable number
	source  int
	next    int64
	epoch   int32
	end     int64 // the last stable offset, as last seen
	start   int64
	era     int32 // what is added to its leader epochs (era.go)
	behind  int32 // how far the log's epochs have gone back, found when it was located
	lost    bool  // its position means nothing in the log as it is
	changed bool
	stopped bool // nothing is read from it: its source is halted
	parked  bool // nor is it now: its next record waits for the registry
	begun   bool // the client reads it
}

// reader is a client with its cursors: it brings the records of a source's partitions to the workers. The group's client
// decides who owns, not where reading stands.
//
// Races: a batch is queued, its source is halted, a worker takes the batch: it is dropped, for the cursor is stopped. Fetching
// is paused at the bound, a partition is parked, the bound is left: only those that are not parked go on (pausing).
//
// There is the live one, and one for each source that is read again, which yields to it (history.go).
//
// +checklocksalias:holds.mu=mu
// +checklocksalias:letters.mu=mu
// +checklocksalias:breaker.mu=mu
// +checklocksalias:first.mu=mu
type reader struct {
	*core
	holds   *holds
	letters *letters
	breaker *breaker
	life    context.Context // ends with the reader, at the latest with the epoch
	end     context.CancelFunc
	first   *reader            // that this one yields to; nil: it is the live one
	lost    func(at partition) // the log does not hold its position
	halted  func(source int)   // of the live one: a source is read no more

	queues []chan *batch // one per worker
	held   atomic.Int64  // bytes taken from Kafka and not folded
	parked atomic.Int64  // of these, those that wait for the registry

	pausing sync.Mutex
	paused  atomic.Bool // at the bound

	// +checklocks:mu
	cursors map[partition]*cursor
	// +checklocks:mu
	client       *kgo.Client   // nil: reading has not begun
	decompressor *decompressor // the client's; set before polling begins
}

// newQueues are those of the workers.
func newQueues() (all []chan *batch) {
	for range workersMost {
		all = append(all, make(chan *batch, batchesMost))
	}
	return all
}

func newReader(c *core, h *holds, l *letters, b *breaker, queues []chan *batch) *reader {
	r := &reader{core: c, holds: h, letters: l, breaker: b, queues: queues, cursors: map[partition]*cursor{}}
	r.life, r.end = context.WithCancel(c.ctx)
	return r
}

// begin makes the client, and gives it the positions.
func (r *reader) begin() error {
	r.mu.Lock()
	offsets := map[string]map[int32]kgo.Offset{}
	for p, c := range r.cursors {
		if !c.stopped {
			addOffset(offsets, p, c)
			c.begun = true
		}
	}
	r.mu.Unlock()
	d, err := newDecompressor()
	if err != nil {
		return err
	}
	client, err := kgo.NewClient(append(append([]kgo.Opt(nil), r.cfg.Kafka...),
		kgo.ConsumePartitions(offsets), kgo.FetchIsolationLevel(kgo.ReadCommitted()), kgo.KeepControlRecords(),
		kgo.ConsumeResetOffset(kgo.NoResetOffset()), kgo.FetchMaxPartitionBytes(fetchPartition), kgo.FetchMaxBytes(fetchBytes),
		kgo.WithDecompressor(d),
	)...)
	if err != nil {
		return err
	}
	r.decompressor = d
	r.mu.Lock()
	defer r.mu.Unlock()
	r.client = client
	if r.life.Err() != nil { // meanwhile
		go client.Close()
	}
	return nil
}

// Bounds of a fetch, in bytes.
const (
	fetchPartition = 256 << 10
	fetchBytes     = 8 << 20
)

func addOffset(offsets map[string]map[int32]kgo.Offset, p partition, c *cursor) {
	if offsets[p.topic] == nil {
		offsets[p.topic] = map[int32]kgo.Offset{}
	}
	offsets[p.topic][p.n] = kgo.NewOffset().At(c.next).WithEpoch(-1) // its epoch was validated (era.go): here that would wait for metadata
}

// offsetsOf are positions as a client takes them.
func offsetsOf(all map[string]map[int32]int64) map[string]map[int32]kgo.Offset {
	offsets := map[string]map[int32]kgo.Offset{}
	for topic, parts := range all {
		for n, next := range parts {
			addOffset(offsets, partition{topic, n}, &cursor{next: next})
		}
	}
	return offsets
}

// reading is the client; nil before reading begins.
func (r *reader) reading() *kgo.Client {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.client
}

// close ends reading.
func (r *reader) close() {
	r.end()
	if client := r.reading(); client != nil {
		client.Close()
	}
}

// haltLocked stops reading a source, for a reason.
//
// +checklocks:r.mu
func (r *reader) haltLocked(source int, code, mend string) {
	r.holds.addLocked(holdKey{place{source: r.cfg.Sources[source].Name}, code}, hold{mend: mend}, r.now())
	r.stopLocked(source)
	r.halted(source)
}

// stopLocked stops reading a source.
//
// +checklocks:r.mu
func (r *reader) stopLocked(source int) {
	for at, c := range r.cursors {
		if c.source == source {
			c.stopped = true
			r.pauseLocked(at)
		}
	}
}

// pauseLocked stops fetching of a partition.
//
// +checklocks:r.mu
func (r *reader) pauseLocked(at partition) {
	if r.client != nil {
		r.client.PauseFetchPartitions(map[string][]int32{at.topic: {at.n}})
	}
}

// addNew lets the client read partitions that have a cursor since.
func (r *reader) addNew() {
	offsets, all := map[string]map[int32]kgo.Offset{}, map[string][]int32{}
	r.mu.Lock()
	for at, c := range r.cursors {
		if !c.begun && !c.stopped {
			c.begun = true
			addOffset(offsets, at, c)
			all[at.topic] = append(all[at.topic], at.n)
		}
	}
	r.mu.Unlock()
	if len(all) == 0 {
		return
	}
	r.pausing.Lock()
	defer r.pausing.Unlock()
	client := r.reading()
	if r.paused.Load() {
		client.PauseFetchPartitions(all)
	}
	client.AddConsumePartitions(offsets)
}

// sourceHeldLocked says whether reading of a source is stopped.
//
// +checklocks:r.mu
func (r *reader) sourceHeldLocked(source int) bool {
	return r.holds.atLocked(place{source: r.cfg.Sources[source].Name})
}

// throttle pauses fetching at the bound and lets it go again below.
func (r *reader) throttle() {
	if !r.isReady() {
		return
	}
	r.pausing.Lock()
	defer r.pausing.Unlock()
	r.mu.Lock()
	client := r.client
	waiting := r.table.ChangedBytes() + r.letters.bytes
	all := r.partitionsLocked()
	stops := r.breaker.openLocked() || r.draining.Load()
	goOn, most := int64(cutAt), int64(changesMost)
	if r.first != nil { // live reading first
		stops = stops || r.first.behindLocked()
		goOn, most = goOn/2, goOn
	}
	r.mu.Unlock()
	if client == nil {
		return
	}
	held := r.held.Load() - min(r.parked.Load(), heldMost) // what waits for the registry holds nobody up, to a bound
	switch {
	case !r.paused.Load() && (held > heldMost || int64(waiting) > most || stops):
		r.paused.Store(true)
		client.PauseFetchPartitions(all)
	case r.paused.Load() && held < heldResume && int64(waiting) < goOn && !stops:
		r.paused.Store(false)
		client.ResumeFetchPartitions(all)
	}
}

// partitionsLocked are those that are read.
//
// +checklocks:r.mu
func (r *reader) partitionsLocked() map[string][]int32 {
	m := map[string][]int32{}
	for p, c := range r.cursors {
		if !c.stopped && !c.parked {
			m[p.topic] = append(m[p.topic], p.n)
		}
	}
	return m
}

// park stops fetching of a partition that waits for the registry, or lets it go on.
func (r *reader) park(p partition, parked bool) {
	r.pausing.Lock()
	defer r.pausing.Unlock()
	r.mu.Lock()
	c, client := r.cursors[p], r.client
	stopped := c == nil || c.stopped
	if c != nil {
		c.parked = parked
	}
	r.mu.Unlock()
	one := map[string][]int32{p.topic: {p.n}}
	switch {
	case parked:
		client.PauseFetchPartitions(one)
	case !stopped && !r.paused.Load():
		client.ResumeFetchPartitions(one)
	}
}

// begun notes partitions that the client is given.
func (r *reader) begun(offsets map[string]map[int32]kgo.Offset) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for at, c := range r.cursors {
		if _, given := offsets[at.topic][at.n]; given {
			c.begun = true
		}
	}
}

// goOn lets a source be read whose halt has ended: its partitions are not paused any more, and those that were moved, or were
// never read, begin where they stand.
func (r *reader) goOn(source int, moved map[string]map[int32]int64) {
	client := r.reading()
	if client == nil {
		return // it has not begun
	}
	r.pausing.Lock()
	defer r.pausing.Unlock()
	read, anew := map[string][]int32{}, map[string]map[int32]kgo.Offset{}
	r.mu.Lock()
	for at, c := range r.cursors {
		if c.source != source || c.stopped {
			continue
		}
		if _, is := moved[at.topic][at.n]; is || !c.begun {
			c.begun = true
			addOffset(anew, at, c)
		}
		if !c.parked {
			read[at.topic] = append(read[at.topic], at.n)
		}
	}
	r.mu.Unlock()
	if len(anew) > 0 {
		r.restart(anew)
	}
	if r.paused.Load() {
		client.PauseFetchPartitions(read)
	} else {
		client.ResumeFetchPartitions(read)
	}
}

// restart reads a partition from where its cursor stands now.
func (r *reader) restart(offsets map[string]map[int32]kgo.Offset) {
	gone := map[string][]int32{}
	for topic, ps := range offsets {
		for n := range ps {
			gone[topic] = append(gone[topic], n)
		}
	}
	client := r.reading()
	client.RemoveConsumePartitions(gone)
	client.AddConsumePartitions(offsets)
}

// cutLocked takes the positions that have moved: as the group's offsets, and as rows, so that neither can be put back
// without the other unnoticed.
//
// +checklocks:r.mu
func (r *reader) cutLocked() (moved []*cursor, offsets []changelog.Offset) {
	for p, c := range r.cursors {
		if c.changed {
			c.changed = false
			moved = append(moved, c)
			offsets = append(offsets, changelog.Offset{Topic: p.topic, ID: c.id, Partition: p.n, Next: c.next, Epoch: c.epoch})
			r.table.SetPosition(c.topic, p.n, c.next)
		}
	}
	return moved, offsets
}

// lagLocked is how many records are not folded.
//
// +checklocks:r.mu
func (r *reader) lagLocked() (n int64) {
	for _, c := range r.cursors {
		n += max(0, c.end-c.next)
	}
	return n
}

// behindBy is how many records are much to read.
const behindBy = 5000

// behindLocked says whether there is much to read. What is not read for a fault does not count.
//
// +checklocks:r.mu
func (r *reader) behindLocked() bool {
	n := int64(0)
	for _, c := range r.cursors {
		if !c.stopped && !c.parked {
			n += max(0, c.end-c.next)
		}
	}
	return n > behindBy
}

// leftLocked is how many records before the ends are not folded.
//
// +checklocks:r.mu
func (r *reader) leftLocked(ends map[Partition]int64) (n int64) {
	for at, end := range ends {
		if c, ok := r.cursors[partition{at.Topic, at.Number}]; ok && c.next < end {
			n += end - c.next
		}
	}
	return n
}

// Partition names a source partition.
type Partition struct {
	Topic  string
	Number int32
}

// snapshot is a copy of the cursors.
func (r *reader) snapshot() map[partition]cursor {
	r.mu.Lock()
	defer r.mu.Unlock()
	all := make(map[partition]cursor, len(r.cursors))
	for at, c := range r.cursors {
		all[at] = *c
	}
	return all
}

// at is a copy of a partition's cursor; ok is false if it is not read any more.
func (r *reader) at(p partition) (c cursor, ok bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if have := r.cursors[p]; have != nil && !have.stopped {
		return *have, true
	}
	return c, false
}
