package connector

import (
	"encoding/json"
	"fmt"
	"time"

	"go.uber.org/zap"
)

// Rewind asks an engine to begin by reading a source again from an earlier point, through the same fold: what is
// stale changes nothing.
type Rewind struct {
	Source int
	From   Start
	// Resend makes what was delivered to these lists unknown, and lets records at their standing position be mapped anew.
	Resend bool
	Lists  []int64
}

// rewindRow is the progress of a rewind: it is over when every partition has passed its end.
type rewindRow struct {
	Resend bool             `json:"resend"`
	Whole  bool             `json:"whole"` // everything that the log holds is read
	Ends   map[string]int64 `json:"ends"`  // "topic/partition" to the end when it began
}

func endKey(p partition) string { return fmt.Sprintf("%s/%d", p.topic, p.n) }

// rewind sets the cursors of the sources that are to be read again. The offsets and the progress row are committed by
// one transaction. Under the lock.
func (e *engine) rewind(now time.Time) error {
	if r := e.cfg.Rewind; r != nil {
		if err := e.rewindSource(r.Source, r.From, r.Resend, false, now); err != nil {
			return err
		}
		if r.Resend {
			for _, l := range r.Lists {
				e.table.MakeUnknown(l, now)
			}
		}
	}
	for _, s := range e.rereads {
		if !e.sourceHeld(s) {
			if err := e.rewindSource(s, e.cfg.Sources[s].Start, false, true, now); err != nil {
				return err
			}
		}
	}
	e.rereads = nil
	return nil
}

// rewindSource sets the cursors of a source back. Reading again because of the configuration (unread) skips nothing
// that has not been read.
func (e *engine) rewindSource(s int, from Start, resend, unread bool, now time.Time) error {
	var parts []partition
	for p, c := range e.cursors {
		if c.source == s {
			parts = append(parts, p)
		}
	}
	starts, err := e.startOffsets(from, parts)
	if err != nil {
		return err
	}
	row := rewindRow{Resend: resend, Whole: true, Ends: map[string]int64{}}
	astray := e.positionsMeanNothing(s)
	for _, p := range parts {
		c := e.cursors[p]
		next := starts[p]
		if c.next >= 0 && (unread || !astray && !c.lost) { // what was not read yet is not skipped
			next = min(next, c.next)
		}
		c.next, c.epoch, c.changed, c.stopped, c.lost = next, -1, true, false, false
		row.Whole = row.Whole && next <= c.start
		c.topic = e.table.Topic(c.id, p.topic)
		c.era = e.eraOf(c.topic, p.n)
		e.newEra(c, p.n)
		row.Ends[endKey(p)] = c.end
		e.table.SetMeta(acceptKey(c.id), []byte{1}) // a topic that was made again is read from here on
	}
	e.holds.releaseSource(e.cfg.Sources[s].Name, now)
	b, err := json.Marshal(row)
	if err != nil {
		return err
	}
	e.table.SetMeta(rewindKeyOf(e.cfg.Sources[s].Name), b)
	e.log.Info("reading a source again", zap.String("source", e.cfg.Sources[s].Name), zap.Bool("resend", resend), zap.Time("now", now))
	return nil
}

// positionsMeanNothing says whether a source is held for something that leaves no position to keep to: the topic was
// made again, the table or the offsets are gone, or halt_when holds, behind which reading is to go on.
func (e *engine) positionsMeanNothing(s int) bool {
	for k := range e.holds.all {
		if k.source == e.cfg.Sources[s].Name && k.code != lostPosition && k.code != wentBackCode {
			return true
		}
	}
	return false
}

// resends says whether records of a source are mapped anew at their standing position: while a rewind with resend is
// under way. Under the lock.
func (e *engine) resends(s int) bool {
	if e.rewinds == nil {
		e.rewinds = map[int]*rewindRow{}
		for i := range e.cfg.Sources {
			var row rewindRow
			if b := e.table.Meta(rewindKeyOf(e.cfg.Sources[i].Name)); b != nil && json.Unmarshal(b, &row) == nil {
				e.rewinds[i] = &row
			}
		}
	}
	r := e.rewinds[s]
	return r != nil && r.Resend
}

// endRewinds forgets the rewinds whose partitions have passed their ends. Under the lock.
func (e *engine) endRewinds() {
	e.resends(0)
	for s, r := range e.rewinds {
		over := true
		for p, c := range e.cursors {
			if end, ok := r.Ends[endKey(p)]; ok && c.next < end {
				over = false
			}
		}
		if over {
			delete(e.rewinds, s)
			e.table.SetMeta(rewindKeyOf(e.cfg.Sources[s].Name), nil)
			if r.Whole {
				e.mended(s)
			}
		}
	}
}
