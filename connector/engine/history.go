package engine

import (
	"maps"
	"slices"
	"time"

	"go.uber.org/zap"

	"segsync/connector/commands"
)

// history reads sources again beside live reading: each by a reader with cursors of its own, through the same workers and the
// same fold, but after live reading. Each partition is read until it meets the live cursor, so that in the end its
// records were folded in their order. Where it stands is in the table's rows; the group's offsets are live reading's.
//
// Races: live reading goes on while its past is read: what is older changes nothing, and the last records are read twice. The
// owner dies in the middle: the next one goes on where the rows stand.
//
// +checklocksalias:live.mu=mu
// +checklocksalias:positions.mu=mu
// +checklocksalias:holds.mu=mu
// +checklocksalias:damage.mu=mu
// +checklocksalias:control.mu=mu
// +checklocksalias:runs.mu=mu
type history struct {
	*core
	live      *reader
	queues    []chan *batch // of its readers
	positions *positions
	holds     *holds
	damage    *damage
	control   *control
	runs      *runs
	wanted    chan struct{} // something is to be done that takes its time

	// +checklocks:mu
	open map[int]*rewind // by source
	// +checklocks:mu
	rereads []int // sources to be read again from their start, for the configuration
}

func (h *history) wake() {
	select {
	case h.wanted <- struct{}{}:
	default:
	}
}

// load takes up the rewinds that were under way. At a take-over, before anything is asked.
func (h *history) load() {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.loadLocked()
	h.forgetStrayLocked()
	h.holdUnreadLocked()
}

// begin begins the rewinds that are owed. At a take-over, before its transaction.
func (h *history) begin() error {
	h.mu.Lock()
	rereads := h.rereads
	h.rereads = nil
	h.mu.Unlock()
	for _, s := range rereads {
		h.mu.Lock()
		held := h.live.sourceHeldLocked(s)
		h.mu.Unlock()
		if held {
			continue
		}
		if err := h.start(s, h.cfg.Sources[s].Start, rewindRow{}); err != nil {
			return err
		}
	}
	return h.beginAsked()
}

// start begins to read a source again. One without partitions waits for them.
func (h *history) start(s int, from Start, row rewindRow) error {
	var parts []partition
	var topics []string
	for at, c := range h.live.snapshot() {
		if c.source == s {
			parts, topics = append(parts, at), append(topics, at.topic)
		}
	}
	if len(parts) == 0 {
		return nil
	}
	slices.Sort(topics)
	l, err := h.positions.ask(slices.Compact(topics))
	if err != nil {
		return err
	}
	starts, err := h.positions.offsets(from, parts)
	if err != nil {
		return err
	}
	h.mu.Lock()
	if cmd := row.Command; cmd != nil && cmd.ID != "" { // else it is planned only
		if asked := h.askedLocked(s); asked == nil || asked.ID != cmd.ID { // it was cancelled meanwhile
			h.mu.Unlock()
			return nil
		}
	}
	for at := range starts {
		l.bounds(at, h.live.cursors[at])
	}
	moved := h.startLocked(s, row, starts)
	total := h.open[s].Total
	h.mu.Unlock()
	h.log.Info("reading a source again", zap.String("source", h.cfg.Sources[s].Name), zap.Int64("records", total), zap.Bool("resend", row.Forget))
	h.live.goOn(s, moved)
	return nil
}

// run does what takes its time, as long as the epoch lasts: it begins backfills, forgets what was delivered, sweeps, and ends
// rewinds.
func (h *history) run() {
	again := time.NewTimer(time.Hour)
	defer again.Stop()
	for try := 0; ; try++ {
		if err := h.work(); err == nil {
			try = -1
		} else if try%20 == 0 && !h.ended() {
			h.log.Warn("a backfill waits", zap.Error(err))
		}
		if h.owed() {
			again.Reset(time.Second)
		}
		select {
		case <-h.ctx.Done():
			return
		case <-h.wanted:
		case <-again.C:
		}
	}
}

func (h *history) owed() bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.owedLocked()
}

func (h *history) work() error {
	err := h.beginAsked() // one that cannot begin does not keep others waiting
	if err := h.read(); err != nil {
		return err
	}
	h.throttle()
	h.look()
	for s := range h.cfg.Sources {
		h.forget(s)
		h.sweep(s)
		h.end(s)
	}
	return err
}

// close ends all readers.
func (h *history) close() {
	for _, r := range h.all() {
		r.reader.close()
	}
}

// all are the rewinds under way.
func (h *history) all() []*rewind {
	h.mu.Lock()
	defer h.mu.Unlock()
	return slices.Collect(maps.Values(h.open))
}

// look lets lists go whose segments were read for the first time.
func (h *history) look() {
	h.mu.Lock()
	defer h.mu.Unlock()
	if !h.ended() {
		h.holdUnreadLocked()
	}
}

// read lets the readers read what has a cursor and is not read yet.
func (h *history) read() error {
	for _, r := range h.all() {
		if r.reader.reading() != nil {
			r.reader.addNew()
			continue
		}
		if err := r.reader.begin(); err != nil {
			return err
		}
		h.spawn(r.reader.poll)
		h.spawn(r.reader.tails)
	}
	return nil
}

// throttle pauses the readers where they would hinder, and lets them go on.
func (h *history) throttle() {
	for _, r := range h.all() {
		r.reader.throttle()
	}
}

// waitsLocked says whether something that was fetched is not folded, nor waits for the registry.
//
// +checklocks:h.mu
func (h *history) waitsLocked() bool {
	for _, r := range h.open {
		if r.reader.held.Load() != r.reader.parked.Load() {
			return true
		}
	}
	return false
}

// due is the rewind of a source, if it wants something: wants is asked under the lock.
func (h *history) due(s int, wants func(r *rewind) bool) *rewind {
	h.mu.Lock()
	defer h.mu.Unlock()
	if r := h.open[s]; r != nil && wants(r) {
		return r
	}
	return nil
}

// forget makes what was delivered to a list unknown, in parts: a successor begins anew, and some are sent twice.
func (h *history) forget(s int) {
	r := h.due(s, func(r *rewind) bool { return r.Forget })
	for from, more := uint32(0), r != nil; more; more = from != 0 {
		from = h.forgetSome(s, r, from)
	}
}

func (h *history) forgetSome(s int, r *rewind, from uint32) (next uint32) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if !h.underWayLocked(s, r) {
		return 0
	}
	next = h.table.MakeUnknown(r.List, from, h.now())
	r.Forget = next != 0
	h.didSomeLocked(s)
	return next
}

// sweep lets those leave whom nothing that was read has mentioned, in parts, through the guard.
func (h *history) sweep(s int) {
	r := h.due(s, func(r *rewind) bool { return r.Sweep && !r.Forget && len(r.parts) == 0 })
	for from, more := uint32(0), r != nil; more; more = from != 0 {
		from = h.sweepSome(s, r, from)
	}
}

func (h *history) sweepSome(s int, r *rewind, from uint32) (next uint32) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if !h.underWayLocked(s, r) {
		return 0
	}
	segments := r.only
	if segments == nil {
		for i := range h.cfg.Exports {
			if h.cfg.Exports[i].Name == r.Command.Export {
				segments = h.places(s, h.cfg.Exports[i].Segments)
			}
		}
	}
	next, n := h.table.Sweep(s, segments, h.mentionedLocked(r), from, h.now())
	r.Done.Swept += uint64(n)
	r.Sweep = next != 0
	h.didSomeLocked(s)
	return next
}

// underWayLocked says whether a rewind is under way still: it may have been cancelled.
//
// +checklocks:h.mu
func (h *history) underWayLocked(s int, r *rewind) bool { return !h.ended() && h.open[s] == r }

// didSomeLocked keeps how far a rewind is.
//
// +checklocks:h.mu
func (h *history) didSomeLocked(s int) {
	h.writeLocked(s)
	h.changedLocked(h.now())
	h.nudge()
}

// mentionedLocked says of positions whether a rewind, or live reading, has read the records there. A partition that came later
// was read from its beginning.
//
// +checklocks:h.mu
func (h *history) mentionedLocked(r *rewind) func(topic uint32, n int32, offset int64) bool {
	read := map[string]bool{}
	for at, c := range h.live.cursors {
		read[partKey(c.topic, at.n)] = true
	}
	return func(topic uint32, n int32, offset int64) bool {
		part := partKey(topic, n)
		start, again := r.From[part]
		return again && offset >= start || !again && read[part]
	}
}

// end ends a rewind that has nothing left to do.
func (h *history) end(s int) {
	h.mu.Lock()
	defer h.mu.Unlock()
	r := h.open[s]
	if r == nil || len(r.parts) > 0 || r.Forget || r.Sweep || h.ended() {
		return
	}
	h.dropLocked(s)
	if r.Whole {
		h.damage.mendedLocked(s)
	}
	if r.Command != nil {
		h.runs.endLocked(r.Command.ID, commands.Done, r.text())
		h.control.toldLocked(r.Command, commands.Done, r.text(), r.Done)
	}
	h.log.Info("a source was read again", zap.String("source", h.cfg.Sources[s].Name), zap.Uint64("records", r.Done.Records), zap.Uint64("moved", r.Done.Moved), zap.Uint64("dead_letters", r.Done.Letters),
		zap.Duration("took", h.now().Sub(r.Began).Round(time.Millisecond)))
	h.changedLocked(h.now())
	h.nudge()
}

// ofLocked is the rewind that a reader reads for; nil: it is live reading, or over.
//
// +checklocks:h.mu
func (h *history) ofLocked(r *reader) *rewind {
	for _, x := range h.open {
		if x.reader == r {
			return x
		}
	}
	return nil
}

// cursorLocked is a reader's cursor of a partition; nil: it is not read any more.
//
// +checklocks:h.mu
func (h *history) cursorLocked(r *reader, at partition) *cursor {
	if r == h.live {
		return h.live.cursors[at]
	}
	if x := h.ofLocked(r); x != nil {
		return h.cursorsLocked(x)[at]
	}
	return nil
}

// owedLocked says whether a source is to be read again still.
//
// +checklocks:h.mu
func (h *history) owedLocked() bool {
	for s := range h.cfg.Sources {
		if h.open[s] != nil || h.askedLocked(s) != nil || h.unreadLocked(s) != nil {
			return true
		}
	}
	return false
}

// restart puts a partition whose log no longer holds where reading again stands to the log's beginning.
func (h *history) restart(r *rewind, at partition) {
	l, err := h.positions.ask([]string{at.topic})
	if err != nil {
		h.kill(err)
		return
	}
	if next, ok := h.beginning(r, at, l); ok {
		r.reader.restart(offsetsOf(map[string]map[int32]int64{at.topic: {at.n: next}}))
	}
}

func (h *history) beginning(r *rewind, at partition, l *logs) (next int64, ok bool) {
	h.mu.Lock()
	defer h.mu.Unlock()
	c := h.cursorsLocked(r)[at]
	if c == nil {
		return 0, false
	}
	l.bounds(at, c)
	c.next, c.changed = max(c.next, c.start), true
	h.changedLocked(h.now())
	h.nudge()
	return c.next, true
}
