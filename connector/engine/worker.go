package engine

import (
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"
	"go.uber.org/zap"

	"segsync/connector/deadletter"
	"segsync/connector/state"
	"segsync/mapping"
	"segsync/sink"
)

// mappedMost is how many records and changes are mapped before they are folded under one lock.
const mappedMost = 1024

// mapped is one record with what it says.
type mapped struct {
	record    *kgo.Record
	changes   []state.Change
	tombstone bool
	failed    []mapping.Failure
	costly    []int // attributes that took too much work
	reject    *mapping.RejectError
	halt      bool
}

// workers decode, map and fold. Each partition's records are one worker's.
//
// +checklocksalias:live.mu=mu
// +checklocksalias:history.mu=mu
// +checklocksalias:holds.mu=mu
// +checklocksalias:letters.mu=mu
// +checklocksalias:troubles.mu=mu
type workers struct {
	*core
	process  *Process
	live     *reader
	history  *history
	holds    *holds
	letters  *letters
	troubles *troubles
	mappers  []*mapping.Mapper // by source; set by the take-over

	// +checklocks:mu
	heard [][]time.Time // by source and segment: when an event was last read of it
	// +checklocks:mu
	since time.Time // when this began to work
	// +checklocks:mu
	costly map[string]int // attributes that took too much work, by how many records
}

// workersMost: more workers than processors gain nothing.
const workersMost = 4

// compile compiles the mappings with the types of the account's attributes.
func (w *workers) compile(types map[string]sink.AttributeInfo) error {
	for i := range w.cfg.Sources {
		s := &w.cfg.Sources[i]
		spec := s.Spec
		spec.Attributes = slices.Clone(spec.Attributes)
		for j := range spec.Attributes {
			of := types[spec.Attributes[j].Name]
			spec.Attributes[j].Type, spec.Attributes[j].Options = mapping.AttributeType(of.Type), of.Options
		}
		m, err := mapping.NewMapper(spec, s.Value, s.Key)
		if err != nil {
			return fmt.Errorf("source %s: %w", s.Name, err)
		}
		w.mappers = append(w.mappers, m)
	}
	return nil
}

// work is a worker: live batches go first. A partition whose next record waits for the registry holds nobody up: its batches
// are parked, and tried again.
func (w *workers) work(live, behind <-chan *batch) {
	f := &folder{workers: w, parked: map[reading][]*batch{}}
	for _, m := range w.mappers {
		f.mappers = append(f.mappers, m.NewWorker())
	}
	again := time.NewTicker(schemaAgain)
	defer again.Stop()
	for {
		select {
		case <-again.C:
			f.retry()
		default:
		}
		select {
		case b := <-live:
			f.take(b)
			continue
		default:
		}
		select {
		case <-w.ctx.Done():
			return
		case b := <-live:
			f.take(b)
		case b := <-behind:
			f.take(b)
		case <-again.C:
			f.retry()
		}
	}
}

// schemaAgain is how often a record that waits for the registry is tried again.
const schemaAgain = time.Second

// reading is a partition as one of the readers reads it.
type reading struct {
	reader *reader
	partition
}

// folder is one worker's scratch.
//
// +checklocksalias:workers.mu=mu
type folder struct {
	*workers
	mappers []*mapping.Worker
	all     []mapped
	parked  map[reading][]*batch // of partitions that wait for the registry, in order
	rests   time.Time            // until then the registry is not asked: it takes its time
}

// take maps and folds a batch, or parks it behind those that wait.
func (f *folder) take(b *batch) {
	at := reading{b.reader, b.p}
	waiting, parked := f.parked[at]
	if !parked && f.batch(b) {
		b.reader.held.Add(-b.bytes)
		b.reader.throttle()
		return
	}
	f.parked[at] = append(waiting, b)
	b.reader.parked.Add(b.bytes)
	if !parked {
		b.reader.park(b.p, true)
	}
	b.reader.throttle()
}

// retry tries the parked batches again.
func (f *folder) retry() {
	began := time.Now()
	if began.Before(f.rests) {
		return
	}
	defer func() { f.rests = time.Now().Add(4 * time.Since(began)) }() // others are mapped meanwhile
	for p, waiting := range f.parked {
		for len(waiting) > 0 && f.batch(waiting[0]) {
			p.reader.parked.Add(-waiting[0].bytes)
			p.reader.held.Add(-waiting[0].bytes)
			waiting = waiting[1:]
		}
		if f.parked[p] = waiting; len(waiting) == 0 {
			delete(f.parked, p)
			p.reader.park(p.partition, false)
			f.troubles.registryAnswers()
			p.reader.throttle()
		}
	}
}

// profileMost bounds the attributes of a record, in bytes: a person's row must fit into a Kafka record.
const profileMost = 256 << 10

var errTooLarge = errors.New("the attributes are too large for a row of the table; the memberships were folded all the same")

// batch maps a batch and folds it, some hundred records at a time. It returns false if a record waits for the registry:
// what came before it is folded.
func (f *folder) batch(b *batch) bool {
	c, ok := b.reader.at(b.p)
	if !ok {
		return true
	}
	next := c.next
	if l := b.tooLarge; l != nil && l.NextOffset > next {
		at := max(l.Offset, next)
		f.all = append(f.all, mapped{record: &kgo.Record{Topic: l.Topic, Partition: l.Partition, Offset: l.NextOffset - 1, LeaderEpoch: l.Epoch}, reject: &mapping.RejectError{
			Class: string(deadletter.TooLarge), Err: fmt.Errorf("the batch of offsets %d to %d becomes larger than %d MiB when it is decompressed: none of its records was read", at, l.NextOffset-1, batchMost>>20),
		}})
	}
	changes := 0 // and records without any
	for _, r := range b.records {
		if f.ended() {
			return true
		}
		if r.Offset < next {
			continue // read already
		}
		m := mapped{record: r}
		if !r.Attrs.IsControl() {
			if !f.mapOne(&m, &c) {
				f.fold(b.reader, b.p)
				return false
			}
		}
		f.all = append(f.all, m)
		changes += 1 + len(m.changes)
		if changes >= mappedMost || m.halt {
			changes = 0
			f.fold(b.reader, b.p)
			if m.halt {
				return true
			}
		}
	}
	f.fold(b.reader, b.p)
	return true
}

// mapOne maps a record. It returns false if the record waits: the registry cannot be asked, or does not know its schema
// id, and has not done so for less than a while.
func (f *folder) mapOne(m *mapped, c *cursor) bool {
	r := m.record
	err := f.translate(m, c)
	var reject *mapping.RejectError
	switch {
	case err == nil:
		return true
	case errors.As(err, &reject):
		m.reject = reject
		return true
	case errors.Is(err, mapping.ErrHalt):
		m.halt = true
		return true
	case errors.Is(err, mapping.ErrNoSchema) && f.process.unknown.lasts(err) > f.cfg.Times.UnknownID:
		m.reject = &mapping.RejectError{Class: string(deadletter.SchemaUnknown), Err: err}
		return true
	}
	f.troubles.waitForRegistry(fmt.Sprintf("%s/%d at offset %d: %s", r.Topic, r.Partition, r.Offset, err))
	return false
}

// translate maps a record into changes of the table.
func (f *folder) translate(m *mapped, c *cursor) error {
	read := f.now().UnixNano()
	r := m.record
	var headers map[string][]byte
	if len(r.Headers) > 0 {
		headers = make(map[string][]byte, len(r.Headers))
		for _, h := range r.Headers {
			headers[h.Key] = h.Value
		}
	}
	res, err := f.mappers[c.source].Map(&mapping.Record{
		Key: r.Key, Value: r.Value, Headers: headers, Topic: r.Topic, Partition: r.Partition, Offset: r.Offset, Time: r.Timestamp.UnixNano(), Read: read,
	})
	if len(res.Lacks) > 0 {
		f.log.Warn("expressions name fields that a record's schema does not have: they are null there", zap.String("topic", r.Topic), zap.Int32("partition", r.Partition), zap.Int64("offset", r.Offset), zap.Strings("fields", res.Lacks))
	}
	m.tombstone, m.failed, m.costly = res.Tombstone, slices.Clone(res.Failures), slices.Clone(res.Costly)
	if err != nil {
		if _, ok := errors.AsType[*mapping.RejectError](err); !ok {
			return err
		}
	}
	profiles, fit := profilesOf(res)
	if !fit && err == nil {
		err = &mapping.RejectError{Class: string(deadletter.TooLarge), Err: errTooLarge}
	}
	for i := range res.Changes {
		said := &res.Changes[i]
		change := state.Change{
			Live:   max(said.Time, r.Timestamp.UnixNano()) >= read-state.LiveFor.Nanoseconds(),
			Source: c.source, Person: state.KeyOf(f.cfg.Sources[c.source].Name, said.Person), Whole: said.Whole,
			Stamp: state.Stamp{Topic: c.topic, Partition: r.Partition, Epoch: stampEpoch(r.LeaderEpoch, c.era), Offset: r.Offset, Time: said.Time},
		}
		for _, g := range said.Memberships {
			change.Memberships = append(change.Memberships, state.Membership(g))
		}
		if said.Profile >= 0 {
			change.Profile = profiles[said.Profile]
		}
		m.changes = append(m.changes, change)
	}
	if err == nil && res.BadAddress() {
		err = &mapping.RejectError{Class: string(deadletter.InvalidAddress), Err: errors.New("the e-mail address is none; the memberships were folded all the same")}
	}
	return err
}

// profilesOf are the table's profiles of a result; fit is false if the attributes of one are too large, and left out.
func profilesOf(res *mapping.Result) (all []*state.Profile, fit bool) {
	fit = true
	for i := range res.Profiles {
		from := &res.Profiles[i]
		p := &state.Profile{Address: from.Address, Values: make([]state.Value, len(from.Values))}
		size := 0
		for j, v := range from.Values {
			p.Values[j] = state.Value(v)
			size += len(v.JSON)
		}
		if size > profileMost {
			p.Values, fit = nil, false
		}
		all = append(all, p)
	}
	return all, fit
}

// fold takes what was mapped into the table under one lock, with the cursor and the dead letters: a cut sees all of a
// record or nothing.
func (f *folder) fold(r *reader, p partition) {
	if len(f.all) == 0 {
		return
	}
	now := f.now()
	failed, source := map[Failure]int{}, 0
	defer func() { f.process.failures.add(f.cfg, f.log, source, failed, now) }() // when the lock is let go
	f.mu.Lock()
	defer f.nudge()
	defer f.mu.Unlock()
	if f.ended() {
		return
	}
	c := f.history.cursorLocked(r, p)
	if c == nil { // meanwhile
		f.all = f.all[:0]
		return
	}
	source = c.source
	again := f.history.ofLocked(r)
	before, letters := f.table.Counts(), f.counts.DeadLetters
	for i := range f.all {
		m := &f.all[i]
		if m.record.Offset < c.next {
			continue // its position was moved meanwhile
		}
		if m.halt && again != nil {
			f.history.metLocked(again, c.source, fmt.Sprintf("%s/%d at offset %d", p.topic, p.n, m.record.Offset))
			break
		}
		if m.halt {
			f.live.haltLocked(c.source, "halt_when", fmt.Sprintf("halt_when holds for the record at %s/%d offset %d: see to the lists, then run segsync backfill --from a time after it", p.topic, p.n, m.record.Offset))
			break
		}
		f.foldOneLocked(m, c.source, again, again.tells(c, p, m.record.Offset), now)
		for _, x := range m.failed {
			failed[Failure{Attribute: f.cfg.Sources[c.source].Spec.Attributes[x.Attribute].Name, Cause: x.Cause}]++
			f.counts.Failed++
		}
		f.costsLocked(c.source, m.costly, now)
		c.next, c.epoch, c.changed = m.record.Offset+1, m.record.LeaderEpoch, true
	}
	f.table.Refresh(now)
	after := f.table.Counts()
	stale, ignored := after.Stale-before.Stale, after.Ignored-before.Ignored
	f.counts.Events += uint64(len(f.all))
	f.counts.Needed += after.Needed - before.Needed
	f.meters.events.Add(float64(len(f.all)))
	f.meters.moved.Add(float64(after.Folded - before.Folded - stale - ignored))
	f.meters.stale.Add(float64(stale))
	f.meters.ignored.Add(float64(ignored))
	again.count(len(f.all), after.Folded-before.Folded, stale, ignored, f.counts.DeadLetters-letters)
	f.changedLocked(now)
	clear(f.all)
	f.all = f.all[:0]
}

// foldOneLocked folds a record; again is the rewind that reads it, if it is not live reading. tells says that its dead letter is
// to be written.
//
// +checklocks:f.mu
func (f *folder) foldOneLocked(m *mapped, source int, again *rewind, tells bool, now time.Time) {
	noAddress, tooLarge := false, false
	onTombstone := f.cfg.Sources[source].Tombstone
	for i := range m.changes {
		ch := &m.changes[i]
		if again != nil {
			ch.Remap, ch.Only = again.asks().Resend, again.only
		}
		if m.tombstone {
			if onTombstone != TombstoneIgnore {
				ch.Erase, ch.Delete = true, onTombstone == TombstoneDelete
				f.table.Fold(ch, now)
			}
			continue
		}
		if again == nil {
			f.hearLocked(source, ch, now)
		}
		did := f.table.Fold(ch, now)
		noAddress, tooLarge = noAddress || did.NoAddress, tooLarge || did.TooLarge
	}
	if m.tombstone && onTombstone == TombstoneIgnore {
		m.reject = nil
	}
	switch {
	case !tells: // live reading tells
	case m.reject != nil:
		f.letters.ofLocked(m.record, deadletter.Class(m.reject.Class), m.reject.Err.Error(), again != nil, now)
	case tooLarge:
		f.letters.ofLocked(m.record, deadletter.TooLarge, errTooLarge.Error(), again != nil, now)
	case noAddress && !f.cfg.Sources[source].profilesApart():
		f.letters.ofLocked(m.record, deadletter.NoAddress, "no address of the person is known; the membership was folded all the same", again != nil, now)
	}
}

// newHeard has room for every segment.
func newHeard(cfg *Config) (all [][]time.Time) {
	for i := range cfg.Sources {
		all = append(all, make([]time.Time, len(cfg.Sources[i].Spec.Segments)))
	}
	return all
}

// hearLocked notes that something was said of segments.
//
// +checklocks:w.mu
func (w *workers) hearLocked(source int, ch *state.Change, now time.Time) {
	for _, m := range ch.Memberships {
		w.heard[source][m.Segment] = now
	}
}

// heardLocked is when something was last said of a segment of an export.
//
// +checklocks:w.mu
func (w *workers) heardLocked(x *Export) time.Time {
	last := w.since
	for i, g := range w.cfg.Sources[x.Source].Spec.Segments {
		if at := w.heard[x.Source][i]; at.After(last) && slices.Contains(x.Segments, g) {
			last = at
		}
	}
	return last
}

// costlyMost is how many records an export's attribute may take too much work for before the export is held.
const costlyMost = 100

// costsLocked counts attributes that took too much work: an export whose expressions cost so much holds everybody up.
//
// +checklocks:w.mu
func (w *workers) costsLocked(source int, attributes []int, now time.Time) {
	for _, a := range attributes {
		name := w.cfg.Sources[source].Spec.Attributes[a].Name
		if w.costly[name]++; w.costly[name] != costlyMost {
			continue
		}
		for _, x := range w.cfg.Exports {
			if x.Source == source && slices.Contains(x.Attributes, name) {
				w.holds.addLocked(holdKey{place{list: x.List}, codeBudget}, hold{mend: fmt.Sprintf("the expression of attribute %s of export %s took too much work for %d records: simplify it, and restart", name, x.Name, costlyMost)}, now)
			}
		}
	}
}
