package engine

import (
	"encoding/json"
	"fmt"

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

// rewind sets the cursors of the sources that are to be read again. The offsets and the progress rows are committed by
// one transaction, with which the epoch begins.
func (p *positions) rewind() error {
	if r := p.process.owed(); r != nil {
		if err := p.rewindSource(r.Source, r.From, r.Resend, false); err != nil {
			return err
		}
		if r.Resend {
			p.makeUnknown(r.Lists)
		}
	}
	p.mu.Lock()
	rereads := p.rereads
	p.rereads = nil
	p.mu.Unlock()
	for _, s := range rereads {
		p.mu.Lock()
		held := p.reader.sourceHeldLocked(s)
		p.mu.Unlock()
		if held {
			continue
		}
		if err := p.rewindSource(s, p.cfg.Sources[s].Start, false, true); err != nil {
			return err
		}
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	for i := range p.cfg.Sources {
		var row rewindRow
		if b := p.table.Meta(rewindKeyOf(p.cfg.Sources[i].Name)); b != nil && json.Unmarshal(b, &row) == nil {
			p.rewinds[i] = &row
		}
	}
	return nil
}

func (p *positions) makeUnknown(lists []int64) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, l := range lists {
		p.table.MakeUnknown(l, p.now())
	}
}

// rewindSource sets the cursors of a source back. Reading again because of the configuration (unread) skips nothing
// that has not been read.
func (p *positions) rewindSource(s int, from Start, resend, unread bool) error {
	var parts []partition
	for at, c := range p.reader.snapshot() {
		if c.source == s {
			parts = append(parts, at)
		}
	}
	starts, err := p.offsets(from, parts)
	if err != nil {
		return err
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	row := rewindRow{Resend: resend, Whole: true, Ends: map[string]int64{}}
	astray := p.meanNothingLocked(s)
	for _, at := range parts {
		c := p.reader.cursors[at]
		next := starts[at]
		if c.next >= 0 && (unread || !astray && !c.lost) { // what was not read yet is not skipped
			next = min(next, c.next)
		}
		c.next, c.epoch, c.changed, c.stopped, c.lost = next, -1, true, false, false
		row.Whole = row.Whole && next <= c.start
		p.numberLocked([]partition{at})
		p.newEraLocked(c, at.n)
		row.Ends[endKey(at)] = c.end
		p.table.SetMeta(acceptKey(c.id), []byte{1}) // a topic that was made again is read from here on
	}
	p.holds.releaseSourceLocked(p.cfg.Sources[s].Name, p.now())
	b, err := json.Marshal(row)
	if err != nil {
		return err
	}
	p.table.SetMeta(rewindKeyOf(p.cfg.Sources[s].Name), b)
	p.log.Info("reading a source again", zap.String("source", p.cfg.Sources[s].Name), zap.Bool("resend", resend))
	return nil
}

// meanNothingLocked says whether a source is held for something that leaves no position to keep to: the topic was made
// again, the table or the offsets are gone, or halt_when holds, behind which reading is to go on.
//
// +checklocks:p.mu
func (p *positions) meanNothingLocked(s int) bool {
	for _, code := range p.holds.sourceLocked(p.cfg.Sources[s].Name) {
		if code != lostPosition && code != wentBackCode {
			return true
		}
	}
	return false
}

// resendsLocked says whether records of a source are mapped anew at their standing position: while a rewind with resend
// is under way.
//
// +checklocks:p.mu
func (p *positions) resendsLocked(s int) bool {
	r := p.rewinds[s]
	return r != nil && r.Resend
}

// endRewindsLocked forgets the rewinds whose partitions have passed their ends.
//
// +checklocks:p.mu
func (p *positions) endRewindsLocked() {
	for s, r := range p.rewinds {
		over := true
		for at, c := range p.reader.cursors {
			if end, ok := r.Ends[endKey(at)]; ok && c.next < end {
				over = false
			}
		}
		if over {
			delete(p.rewinds, s)
			p.table.SetMeta(rewindKeyOf(p.cfg.Sources[s].Name), nil)
			if r.Whole {
				p.damage.mendedLocked(s)
			}
		}
	}
}
