package connector

import (
	"errors"
	"fmt"
	"slices"
	"strconv"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"
	"go.uber.org/zap"

	"segsync/connector/deadletter"
	"segsync/connector/state"
	"segsync/mapping"
)

// mappedMost is how many records are mapped before they are folded under one lock.
const mappedMost = 512

// mapped is one record with what it says.
type mapped struct {
	record    *kgo.Record
	changes   []state.Change
	tombstone bool
	failed    int
	costly    []int // attributes that took too much work
	reject    *mapping.RejectError
	halt      bool
}

// worker decodes and maps batches, and folds them. A partition whose next record waits for the registry holds nobody up:
// its batches are parked, and tried again.
func (e *engine) worker(i int) {
	mappers := make([]*mapping.Worker, len(e.mappers))
	for s, m := range e.mappers {
		mappers[s] = m.NewWorker()
	}
	w := &foldWorker{e: e, mappers: mappers, parked: map[partition][]*batch{}}
	again := time.NewTicker(schemaAgain)
	defer again.Stop()
	for {
		select {
		case <-e.ctx.Done():
			return
		case b := <-e.queues[i]:
			w.take(b)
		case <-again.C:
			w.retry()
		}
	}
}

// schemaAgain is how often a record that waits for the registry is tried again.
const schemaAgain = time.Second

// foldWorker is one goroutine's scratch.
type foldWorker struct {
	e       *engine
	mappers []*mapping.Worker
	all     []mapped
	parked  map[partition][]*batch // of partitions that wait for the registry, in order
	rests   time.Time              // until then the registry is not asked: it takes its time
}

// take maps and folds a batch, or parks it behind those that wait.
func (w *foldWorker) take(b *batch) {
	waiting, parked := w.parked[b.p]
	if !parked && w.batch(b) {
		w.e.held.Add(-b.bytes)
		w.e.throttle()
		return
	}
	w.parked[b.p] = append(waiting, b)
	w.e.parked.Add(b.bytes)
	if !parked {
		w.e.park(b.p, true)
	}
	w.e.throttle()
}

// retry tries the parked batches again.
func (w *foldWorker) retry() {
	began := time.Now()
	if began.Before(w.rests) {
		return
	}
	defer func() { w.rests = time.Now().Add(4 * time.Since(began)) }() // others are mapped meanwhile
	for p, waiting := range w.parked {
		for len(waiting) > 0 && w.batch(waiting[0]) {
			w.e.parked.Add(-waiting[0].bytes)
			w.e.held.Add(-waiting[0].bytes)
			waiting = waiting[1:]
		}
		if w.parked[p] = waiting; len(waiting) == 0 {
			delete(w.parked, p)
			w.e.park(p, false)
			w.e.registryAnswers()
			w.e.throttle()
		}
	}
}

// profileMost bounds the attributes of a record, in bytes: a person's row must fit into a Kafka record.
const profileMost = 256 << 10

var errTooLarge = errors.New("the attributes are too large for a row of the table; the memberships were folded all the same")

// batch maps a batch and folds it, some hundred records at a time. It returns false if a record waits for the registry:
// what came before it is folded.
func (w *foldWorker) batch(b *batch) bool {
	e := w.e
	e.mu.Lock()
	c := e.cursors[b.p]
	source, next, topic, era, halted := c.source, c.next, c.topic, c.era, c.stopped
	e.mu.Unlock()
	if halted {
		return true
	}
	if l := b.tooLarge; l != nil && l.NextOffset > next {
		at := max(l.Offset, next)
		w.all = append(w.all, mapped{record: &kgo.Record{Topic: l.Topic, Partition: l.Partition, Offset: l.NextOffset - 1, LeaderEpoch: l.Epoch}, reject: &mapping.RejectError{
			Class: string(deadletter.TooLarge), Err: fmt.Errorf("the batch of offsets %d to %d becomes larger than %d MiB when it is decompressed: none of its records was read", at, l.NextOffset-1, batchMost>>20),
		}})
	}
	for _, r := range b.records {
		if e.ctx.Err() != nil {
			return true
		}
		if r.Offset < next {
			continue // read already
		}
		m := mapped{record: r}
		if !r.Attrs.IsControl() {
			if !w.mapOne(&m, source, topic, era) {
				w.fold(b.p, source)
				return false
			}
		}
		w.all = append(w.all, m)
		if len(w.all) >= mappedMost || m.halt {
			w.fold(b.p, source)
			if m.halt {
				return true
			}
		}
	}
	w.fold(b.p, source)
	return true
}

// mapOne maps a record. It returns false if the record waits: the registry cannot be asked, or does not know its schema
// id, and has not done so for less than a while.
func (w *foldWorker) mapOne(m *mapped, source int, topic uint32, era int32) bool {
	e, r := w.e, m.record
	err := w.translate(m, source, topic, era)
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
	case errors.Is(err, mapping.ErrNoSchema) && e.c.unknown.lasts(err) > e.cfg.Times.UnknownID:
		m.reject = &mapping.RejectError{Class: string(deadletter.SchemaUnknown), Err: err}
		return true
	}
	e.mu.Lock()
	e.registry.is(fmt.Sprintf("%s/%d at offset %d: %s", r.Topic, r.Partition, r.Offset, err), e.now())
	e.mu.Unlock()
	return false
}

// registryAnswers ends a wait for the registry.
func (e *engine) registryAnswers() {
	e.mu.Lock()
	defer e.mu.Unlock()
	if told, lasted := e.registry.over(e.now()); told {
		e.log.Info("the schema registry answers again", zap.Duration("after", lasted.Round(time.Second)))
	}
}

// translate maps a record into changes of the table.
func (w *foldWorker) translate(m *mapped, source int, topic uint32, era int32) error {
	read := w.e.now().UnixNano()
	r := m.record
	var headers map[string][]byte
	if len(r.Headers) > 0 {
		headers = make(map[string][]byte, len(r.Headers))
		for _, h := range r.Headers {
			headers[h.Key] = h.Value
		}
	}
	res, err := w.mappers[source].Map(&mapping.Record{
		Key: r.Key, Value: r.Value, Headers: headers, Topic: r.Topic, Partition: r.Partition, Offset: r.Offset, Time: r.Timestamp.UnixNano(), Read: read,
	})
	m.tombstone, m.failed, m.costly = res.Tombstone, res.Failed, slices.Clone(res.Costly)
	if err != nil {
		if _, ok := errors.AsType[*mapping.RejectError](err); !ok {
			return err
		}
	}
	var profile *state.Profile
	if len(res.Changes) > 0 && !res.Tombstone {
		profile = &state.Profile{Address: res.Address, Values: make([]state.Value, len(res.Values))}
		size := 0
		for i, v := range res.Values {
			profile.Values[i] = state.Value(v)
			size += len(v.JSON)
		}
		if size > profileMost && err == nil {
			profile.Values = nil
			err = &mapping.RejectError{Class: string(deadletter.TooLarge), Err: errTooLarge}
		}
	}
	for i := range res.Changes {
		c := &res.Changes[i]
		change := state.Change{
			Live:   max(c.Time, r.Timestamp.UnixNano()) >= read-state.LiveFor.Nanoseconds(),
			Source: source, Person: state.KeyOf(w.e.cfg.Sources[source].Name, c.Person), Whole: c.Whole,
			Stamp: state.Stamp{Topic: topic, Partition: r.Partition, Epoch: stampEpoch(r.LeaderEpoch, era), Offset: r.Offset, Time: c.Time},
		}
		for _, g := range c.Memberships {
			change.Memberships = append(change.Memberships, state.Membership(g))
		}
		if c.HasProfile {
			change.Profile = profile
		}
		m.changes = append(m.changes, change)
	}
	if err == nil && res.BadAddress {
		err = &mapping.RejectError{Class: string(deadletter.InvalidAddress), Err: errors.New("the e-mail address is none; the memberships were folded all the same")}
	}
	return err
}

// fold takes what was mapped into the table under one lock, with the cursor and the dead letters: a cut sees all of a
// record or nothing.
func (w *foldWorker) fold(p partition, source int) {
	if len(w.all) == 0 {
		return
	}
	e := w.e
	now := e.now()
	name := e.cfg.Name
	e.mu.Lock()
	defer e.nudge()
	defer e.mu.Unlock()
	if e.ctx.Err() != nil {
		return
	}
	c := e.cursors[p]
	before := e.table.Counts
	failed := 0
	for i := range w.all {
		m := &w.all[i]
		if m.halt {
			e.haltSource(source, "halt_when", "halt_when holds for the record at "+p.topic+"/"+strconv.Itoa(int(p.n))+" offset "+strconv.Itoa(int(m.record.Offset))+": see to the lists, then run segsync backfill --from a time after it")
			break
		}
		w.foldOne(m, source, now)
		failed += m.failed
		e.costs(source, m.costly, now)
		c.next, c.epoch, c.changed = m.record.Offset+1, m.record.LeaderEpoch, true
	}
	e.table.Refresh(now)
	after := e.table.Counts
	moved := after.Folded - before.Folded - (after.Stale - before.Stale) - (after.Ignored - before.Ignored)
	e.counts.Events += uint64(len(w.all))
	e.counts.Failed += uint64(failed)
	e.counts.Needed += after.Needed - before.Needed
	e.cfg.Metrics.Events.WithLabelValues(name).Add(float64(len(w.all)))
	e.cfg.Metrics.Changes.WithLabelValues(name, "moved").Add(float64(moved))
	e.cfg.Metrics.Changes.WithLabelValues(name, "stale").Add(float64(after.Stale - before.Stale))
	e.cfg.Metrics.Changes.WithLabelValues(name, "ignored").Add(float64(after.Ignored - before.Ignored))
	e.cfg.Metrics.AttrFailed.WithLabelValues(name).Add(float64(failed))
	e.changed(now)
	clear(w.all)
	w.all = w.all[:0]
}

// costlyMost is how many records an export's attribute may take too much work for before the export is held.
const costlyMost = 100

// costs counts attributes that took too much work: an export whose expressions cost so much holds everybody up. Under
// the lock.
func (e *engine) costs(source int, attributes []int, now time.Time) {
	for _, a := range attributes {
		name := e.cfg.Sources[source].Spec.Attributes[a].Name
		if e.costly[name]++; e.costly[name] != costlyMost {
			continue
		}
		for _, x := range e.cfg.Exports {
			if x.Source == source && slices.Contains(x.Attributes, name) {
				e.holds.add(holdKey{place{list: x.List}, codeBudget}, hold{mend: fmt.Sprintf("the expression of attribute %s of export %s took too much work for %d records: simplify it, and restart", name, x.Name, costlyMost)}, now)
			}
		}
	}
}

func (w *foldWorker) foldOne(m *mapped, source int, now time.Time) {
	e := w.e
	noAddress, tooLarge := false, false
	for i := range m.changes {
		ch := &m.changes[i]
		ch.Remap = e.resends(source)
		if m.tombstone {
			if t := e.cfg.Sources[source].Tombstone; t != TombstoneIgnore {
				ch.Erase, ch.Delete = true, t == TombstoneDelete
				e.table.Fold(ch, now)
			}
			continue
		}
		f := e.table.Fold(ch, now)
		noAddress, tooLarge = noAddress || f.NoAddress, tooLarge || f.TooLarge
	}
	if m.tombstone && e.cfg.Sources[source].Tombstone == TombstoneIgnore {
		m.reject = nil
	}
	switch {
	case m.reject != nil:
		e.deadLetter(m.record, deadletter.Class(m.reject.Class), m.reject.Err.Error(), now)
	case tooLarge:
		e.deadLetter(m.record, deadletter.TooLarge, errTooLarge.Error(), now)
	case noAddress:
		e.deadLetter(m.record, deadletter.NoAddress, "no address of the person is known; the membership was folded all the same", now)
	}
}

// deadLetter keeps a record's dead letter for the next checkpoint. Under the lock.
func (e *engine) deadLetter(r *kgo.Record, class deadletter.Class, message string, now time.Time) {
	e.keepDead(deadletter.Of(e.cfg.DeadLetters, r, deadletter.Reason{Connection: e.cfg.Name, Class: class, Message: message}), class)
	if class.Fault() {
		e.reject(now)
	}
}

// warnEvery throttles what repeats in the log.
const warnEvery = time.Minute

// warnDead says that there are dead letters of a class, with their count, once in a while. Under the lock.
func (e *engine) warnDead(class deadletter.Class) {
	w := e.warned[class]
	if w == nil {
		w = &repeated{}
		e.warned[class] = w
	}
	w.n++
	if now := e.now(); now.Sub(w.at) >= warnEvery {
		e.log.Warn("dead letters", zap.String("class", string(class)), zap.Int("count", w.n), zap.String("topic", e.cfg.DeadLetters))
		w.at, w.n = now, 0
	}
}

// repeated is something that is logged with its count.
type repeated struct {
	at time.Time
	n  int
}

func (e *engine) keepDead(d *kgo.Record, class deadletter.Class) {
	e.counts.DeadLetters++
	e.warnDead(class)
	e.cfg.Metrics.DeadLetters.WithLabelValues(e.cfg.Name, string(class)).Inc()
	if e.cfg.DeadLetters == "" {
		return
	}
	e.dead = append(e.dead, d)
	e.deadBytes += deadletter.Size(d)
}
