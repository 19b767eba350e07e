package engine

import (
	"encoding/binary"
	"encoding/json"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"go.uber.org/zap"

	"segsync/connector/commands"
)

// rewind is the reading of a source again, from an earlier point up to where live reading stands: a backfill that somebody
// has asked for, or one for a segment that is new in the configuration.
type rewind struct {
	rewindRow
	parts  map[string]int64 // "topic number/partition" to where reading of it stands; those that are read are gone
	only   []int            // segments, by place in the source's; nil: all
	reader *reader          // its own
}

// rewindRow is a rewind as it lies in the table. Where it stands lies in rows of its own, one for each partition.
type rewindRow struct {
	Command *commands.Command `json:"command,omitempty"` // that asks for it; nil: the configuration does
	Began   time.Time         `json:"began"`
	Whole   bool              `json:"whole"`            // everything that the log holds is read
	From    map[string]int64  `json:"from"`             // "topic number/partition" to where it began; nil: of an earlier version
	Until   map[string]int64  `json:"until"`            // likewise to where live reading stood then: dead letters behind that are live reading's
	Total   int64             `json:"total"`            // records to read, when it began
	Forget  bool              `json:"forget,omitempty"` // what was delivered to the list is still to be made unknown
	Sweep   bool              `json:"sweep,omitempty"`  // who was not mentioned is still to leave
	List    int64             `json:"list,omitempty"`   // for Forget, Sweep
	Done    rewound           `json:"done"`
}

// rewound is what a rewind has done so far.
type rewound struct {
	Records uint64 `json:"records"`
	Moved   uint64 `json:"moved"`   // changes that were newer than what stood
	Stale   uint64 `json:"stale"`   // that were not
	Ignored uint64 `json:"ignored"` // of people whom they neither put in nor out
	Letters uint64 `json:"letters"` // dead letters
	Swept   uint64 `json:"swept"`   // memberships that nothing mentioned
}

// asks is what was asked for; nothing of a rewind for the configuration.
func (r *rewindRow) asks() commands.Range {
	if r.Command == nil || r.Command.Range == nil {
		return commands.Range{}
	}
	return *r.Command.Range
}

// Rows of rewinds.
const (
	rewindKey = "rewind/" // and a source: one that is under way
	rereadKey = "reread/" // and a source, a topic's number, a partition: where reading again of it stands
)

func partKey(topic uint32, n int32) string { return fmt.Sprintf("%d/%d", topic, n) }

func rereadKeyOf(source, part string) string { return rereadKey + source + "/" + part }

// loadLocked reads the rewinds that were under way. Those of a version that moved the group's offsets instead are dropped:
// reading goes on where it stands.
//
// +checklocks:h.mu
func (h *history) loadLocked() {
	var read []string
	for at, c := range h.live.cursors {
		read = append(read, partKey(c.topic, at.n))
	}
	for s := range h.cfg.Sources {
		name := h.cfg.Sources[s].Name
		var row rewindRow
		b := h.table.Meta(rewindKey + name)
		if b == nil {
			continue
		}
		if json.Unmarshal(b, &row) != nil || row.From == nil {
			h.table.SetMeta(rewindKey+name, nil)
			continue
		}
		if why := h.impossibleLocked(s, row.Command); why != "" {
			h.failLocked(row.Command, why)
			h.dropLocked(s)
			continue
		}
		r := h.rewind(s, row)
		prefix := rereadKeyOf(name, "")
		for _, k := range h.table.MetaKeys(prefix) {
			part := strings.TrimPrefix(k, prefix)
			if !slices.Contains(read, part) { // all that there is is assigned: its topic is gone, or its like
				h.log.Warn("a partition that was to be read again is not there any more", zap.String("source", name), zap.String("partition", part))
				h.table.SetMeta(k, nil)
				continue
			}
			next, _ := binary.Varint(h.table.Meta(k))
			r.parts[part] = next
		}
		h.open[s] = r
	}
	h.joinLocked()
}

// impossibleLocked says why a backfill cannot be done with the configuration as it is; "": it can.
//
// +checklocks:h.mu
func (h *history) impossibleLocked(s int, cmd *commands.Command) string {
	if cmd == nil {
		return ""
	}
	at := slices.IndexFunc(h.cfg.Exports, func(x Export) bool { return x.Name == cmd.Export && x.Source == s })
	if at < 0 {
		return "export " + cmd.Export + " is not in the owner's configuration"
	}
	for _, g := range cmd.Range.Segments {
		if !slices.Contains(h.cfg.Exports[at].Segments, g) {
			return "the export has no segment " + g + " in the owner's configuration"
		}
	}
	return ""
}

// joinLocked gives a cursor to each partition that is to be read again, and is assigned.
//
// +checklocks:h.mu
func (h *history) joinLocked() {
	for at, live := range h.live.cursors {
		r := h.open[live.source]
		if r == nil {
			continue
		}
		cursors := h.cursorsLocked(r)
		if next, ok := r.parts[partKey(live.topic, at.n)]; ok && cursors[at] == nil {
			cursors[at] = &cursor{id: live.id, topic: live.topic, source: live.source, next: next, end: live.end, epoch: -1, era: live.era, stopped: live.stopped}
		}
	}
}

// rewind makes one, with a reader of its own: what another has brought is not taken for what it brings.
func (h *history) rewind(s int, row rewindRow) *rewind {
	r := &rewind{rewindRow: row, parts: map[string]int64{}, only: h.places(s, row.asks().Segments)}
	r.reader = newReader(h.core, h.holds, h.live.letters, h.live.breaker, h.queues)
	r.reader.first, r.reader.lost = h.live, func(at partition) { h.restart(r, at) }
	return r
}

// cursorsLocked are those of a rewind's reader. There is one lock for all, which the analyser cannot see here.
//
// +checklocks:h.mu
// +checklocksignore
func (h *history) cursorsLocked(r *rewind) map[partition]*cursor { return r.reader.cursors }

// places are those of segments in a source's; nil: all. What the source does not have any more is none.
func (h *history) places(source int, segments []string) (all []int) {
	for _, g := range segments {
		if all == nil {
			all = []int{}
		}
		if at := slices.Index(h.cfg.Sources[source].Spec.Segments, g); at >= 0 {
			all = append(all, at)
		}
	}
	return all
}

// startLocked begins to read a source again. Live reading stays where it is, unless its position means nothing any more:
// then it goes on at the log's present end, and what lies before that is read again. One transaction writes both.
//
// +checklocks:h.mu
func (h *history) startLocked(s int, row rewindRow, starts map[partition]int64) (moved map[string]map[int32]int64) {
	name := h.cfg.Sources[s].Name
	h.replaceLocked(s, row.Command)
	r := h.rewind(s, row)
	r.Whole, r.From, r.Until, r.Began = r.only == nil, map[string]int64{}, map[string]int64{}, h.now()
	astray := h.astrayLocked(s)
	moved = map[string]map[int32]int64{}
	for at, start := range starts {
		c := h.live.cursors[at]
		h.positions.numberLocked([]partition{at})
		if c.next < 0 || c.lost || astray {
			c.next, c.epoch = max(c.end, start), -1
			if moved[at.topic] == nil {
				moved[at.topic] = map[int32]int64{}
			}
			moved[at.topic][at.n] = c.next
		}
		c.changed, c.stopped, c.lost = true, false, false
		h.positions.newEraLocked(c, at.n)
		h.table.SetMeta(acceptKey(c.id), []byte{1}) // a topic that was made again is read from here on
		part := partKey(c.topic, at.n)
		r.Whole = r.Whole && start <= c.start
		r.From[part], r.Until[part] = start, c.next
		if start < c.next {
			r.parts[part] = start
			r.Total += c.next - start
			h.keepLocked(name, part, start)
		}
	}
	src := &h.cfg.Sources[s]
	if r.Whole || row.Command == nil || h.table.Meta(sourceKey(name)) == nil { // else a segment that is new is still to be read
		h.table.SetMeta(sourceKey(name), sourceRow(h.table, src))
	}
	if row.Command != nil {
		h.table.SetMeta(backfillKey+name, nil)
	}
	h.holds.releaseSourceLocked(name, h.now())
	h.open[s] = r
	h.writeLocked(s)
	h.joinLocked()
	h.changedLocked(h.now())
	h.nudge()
	return moved
}

// replaceLocked drops a rewind that another takes the place of. A backfill that somebody has asked for begins anew behind one
// that the configuration needs; of two, the first has failed.
//
// +checklocks:h.mu
func (h *history) replaceLocked(s int, by *commands.Command) {
	was := h.open[s]
	h.dropLocked(s)
	switch {
	case was == nil || was.Command == nil:
	case by == nil:
		row, _ := json.Marshal(was.Command)
		h.table.SetMeta(backfillKey+h.cfg.Sources[s].Name, row)
	default:
		h.failLocked(was.Command, "replaced by command "+by.ID+": "+was.text())
	}
}

// failLocked tells that a backfill has ended before its end.
//
// +checklocks:h.mu
func (h *history) failLocked(cmd *commands.Command, text string) {
	h.runs.endLocked(cmd.ID, commands.Failed, text)
	h.control.toldLocked(cmd, commands.Failed, text, nil)
}

// metLocked ends a rewind that has met a record for which halt_when holds. Live reading, which is past it, goes on; but where the
// configuration needs the rewind, somebody has to say where it may begin.
//
// +checklocks:h.mu
func (h *history) metLocked(r *rewind, s int, where string) {
	if r.Command != nil {
		h.failLocked(r.Command, "halt_when holds for the record "+where+": begin behind it; until then "+r.text())
		h.dropLocked(s)
		return
	}
	h.live.haltLocked(s, metHalt, "a new segment is to be read, and halt_when holds for the record "+where+": see to the lists, then run segsync backfill --from a time after it")
}

// metHalt is why a source is not read whose past holds a record that halts.
const metHalt = "met_halt"

// astrayLocked says whether a source is held for something that leaves no position to keep to: the topic was made again,
// the table or the offsets are gone, or halt_when holds, behind which reading is to go on.
//
// +checklocks:h.mu
func (h *history) astrayLocked(s int) bool {
	return slices.ContainsFunc(h.holds.sourceLocked(h.cfg.Sources[s].Name), func(code string) bool { return code != lostPosition && code != wentBackCode && code != metHalt })
}

// keepLocked notes where reading again of a partition stands.
//
// +checklocks:h.mu
func (h *history) keepLocked(source, part string, next int64) {
	h.table.SetMeta(rereadKeyOf(source, part), binary.AppendVarint(nil, next))
}

// writeLocked notes a rewind's row.
//
// +checklocks:h.mu
func (h *history) writeLocked(s int) {
	b, _ := json.Marshal(h.open[s].rewindRow)
	h.table.SetMeta(rewindKey+h.cfg.Sources[s].Name, b)
}

// dropLocked forgets a source's rewind.
//
// +checklocks:h.mu
func (h *history) dropLocked(s int) {
	name := h.cfg.Sources[s].Name
	for _, k := range h.table.MetaKeys(rereadKeyOf(name, "")) {
		h.table.SetMeta(k, nil)
	}
	if r := h.open[s]; r != nil {
		clear(h.cursorsLocked(r)) // what it has brought is dropped
		delete(h.open, s)
		h.spawn(r.reader.close)
	}
	if h.table.Meta(rewindKey+name) != nil {
		h.table.SetMeta(rewindKey+name, nil)
	}
}

// haltLocked stops reading a source again whose live reading is halted.
//
// +checklocks:h.mu
func (h *history) haltLocked(s int) {
	if r := h.open[s]; r != nil {
		for at, c := range h.cursorsLocked(r) {
			c.stopped = true
			h.pauseLocked(r, at)
		}
	}
}

// halted is haltLocked for the live reader, which holds the one lock.
//
// +checklocksignore
func (h *history) halted(s int) { h.haltLocked(s) }

// pauseLocked stops fetching of a partition.
//
// +checklocks:h.mu
// +checklocksignore
func (h *history) pauseLocked(r *rewind, at partition) { r.reader.pauseLocked(at) }

// cutLocked notes where reading again stands, and ends that of partitions which has met live reading.
//
// +checklocks:h.mu
func (h *history) cutLocked() {
	for s, r := range h.open {
		cursors := h.cursorsLocked(r)
		for at, c := range cursors {
			name, part, live := h.cfg.Sources[s].Name, partKey(c.topic, at.n), h.live.cursors[at]
			switch {
			case c.next >= live.next && !live.stopped:
				delete(cursors, at)
				delete(r.parts, part)
				h.table.SetMeta(rereadKeyOf(name, part), nil)
				h.writeLocked(s)
				h.pauseLocked(r, at)
			case c.changed:
				c.changed = false
				r.parts[part] = c.next
				h.keepLocked(name, part, c.next)
				h.writeLocked(s)
			}
		}
	}
}

// leftLocked is how many records of a source are to be read again; of all for a negative one.
//
// +checklocks:h.mu
func (h *history) leftLocked(source int) (n int64) {
	for s, r := range h.open {
		if source >= 0 && s != source {
			continue
		}
		for at, c := range h.cursorsLocked(r) {
			n += max(0, h.live.cursors[at].next-c.next)
		}
	}
	return n
}

// tells says whether a record's dead letter is the rewind's to write: what lies behind where live reading stood when it began
// is read by both.
func (r *rewind) tells(c *cursor, at partition, offset int64) bool {
	return r == nil || offset < r.Until[partKey(c.topic, at.n)]
}

// count counts what a rewind has read.
func (r *rewind) count(records int, folded, stale, ignored, letters uint64) {
	if r == nil {
		return
	}
	r.Done.Records += uint64(records)
	r.Done.Moved += folded - stale - ignored
	r.Done.Stale += stale
	r.Done.Ignored += ignored
	r.Done.Letters += letters
}

// text is what a rewind has done, for people.
func (r *rewind) text() string {
	d := r.Done
	text := fmt.Sprintf("%d records read: %d changes were newer than what stood, %d were not, %d concern nobody in a list; %d dead letters", d.Records, d.Moved, d.Stale, d.Ignored, d.Letters)
	if r.asks().Sweep {
		text += "; " + strconv.FormatUint(d.Swept, 10) + " memberships that nothing mentioned have ended"
	}
	return text
}
