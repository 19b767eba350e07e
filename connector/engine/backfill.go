package engine

import (
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"time"

	"segsync/connector/commands"
)

// Backfills are rewinds that people ask for: asked, begun once nothing else reads the source again, cancelled.

const backfillKey = "backfill/" // and a source: the command that asks to read it again, until that has begun

// askLocked notes that a source is to be read again: the table says so until it has begun.
//
// +checklocks:h.mu
func (h *history) askLocked(cmd *commands.Command) (outcome, text string) {
	at := -1
	for i := range h.cfg.Exports {
		if h.cfg.Exports[i].Name == cmd.Export {
			at = i
		}
	}
	if at < 0 || cmd.Range == nil {
		return commands.Refused, "a backfill is of one export: name it"
	}
	x := &h.cfg.Exports[at]
	if why := h.impossibleLocked(x.Source, cmd); why != "" {
		return commands.Refused, why
	}
	if cmd.Range.Sweep && slices.ContainsFunc(cmd.Range.Segments, func(g string) bool { return slices.Contains(x.None, g) }) {
		return commands.Refused, "a segment that keeps people out of the list is not swept: nobody is let in because nothing is said of them"
	}
	name := h.cfg.Sources[x.Source].Name
	if r := h.open[x.Source]; r != nil && !h.live.sourceHeldLocked(x.Source) {
		who := "because the configuration has changed"
		if r.Command != nil {
			who = "by command " + r.Command.ID
		}
		return commands.Refused, fmt.Sprintf("source %s is being read again %s: wait for its end, or cancel it", name, who)
	}
	if h.askedLocked(x.Source) != nil {
		return commands.Refused, "a backfill of source " + name + " is about to begin"
	}
	row, _ := json.Marshal(cmd)
	h.table.SetMeta(backfillKey+name, row)
	h.runs.beginLocked("backfill", x.Name, cmd)
	h.changedLocked(h.now())
	h.wake()
	return commands.Begun, "source " + name + " is read again"
}

// cancelLocked ends the backfill of an export's source where it stands.
//
// +checklocks:h.mu
func (h *history) cancelLocked(cmd *commands.Command) (outcome, text string) {
	for _, x := range h.cfg.Exports {
		if x.Name != cmd.Export {
			continue
		}
		if asked := h.askedLocked(x.Source); asked != nil {
			h.table.SetMeta(backfillKey+h.cfg.Sources[x.Source].Name, nil)
			h.failLocked(asked, "cancelled by "+cmd.By+" before it began")
			return commands.Done, "cancelled: it had not begun"
		}
		r := h.open[x.Source]
		if r == nil || r.Command == nil {
			break
		}
		h.failLocked(r.Command, "cancelled by "+cmd.By+": "+r.text())
		text := "cancelled: " + r.text()
		h.dropLocked(x.Source)
		return commands.Done, text
	}
	return commands.Refused, "no backfill of it is under way"
}

// askedLocked is the command that asks to read a source again and has not begun; nil: there is none.
//
// +checklocks:h.mu
func (h *history) askedLocked(s int) *commands.Command {
	var cmd commands.Command
	if row := h.table.Meta(backfillKey + h.cfg.Sources[s].Name); row == nil || json.Unmarshal(row, &cmd) != nil {
		return nil
	}
	return &cmd
}

// beginAsked begins the backfills that were asked for. One waits behind a rewind that the configuration needs.
func (h *history) beginAsked() error {
	var failed []error
	for s := range h.cfg.Sources {
		if row := h.nextAsked(s); row != nil {
			failed = append(failed, h.start(s, Start{At: row.Command.Range.From}, *row))
		}
	}
	return errors.Join(failed...)
}

// nextAsked is the backfill of a source that is to begin now; nil: none is.
func (h *history) nextAsked(s int) *rewindRow {
	h.mu.Lock()
	defer h.mu.Unlock()
	cmd := h.askedLocked(s)
	if cmd == nil || h.open[s] != nil && !h.live.sourceHeldLocked(s) {
		return nil
	}
	if why := h.impossibleLocked(s, cmd); why != "" {
		h.table.SetMeta(backfillKey+h.cfg.Sources[s].Name, nil)
		h.failLocked(cmd, why)
		return nil
	}
	row := &rewindRow{Command: cmd, Forget: cmd.Range.Resend, Sweep: cmd.Range.Sweep}
	for i := range h.cfg.Exports {
		if h.cfg.Exports[i].Name == cmd.Export {
			row.List = h.cfg.Exports[i].List
		}
	}
	return row
}

// Backfill is a source that is read again.
type Backfill struct {
	ID      string    `json:"id,omitempty"` // of the command; "": for a configuration that has changed
	Source  string    `json:"source"`
	Export  string    `json:"export,omitempty"`
	By      string    `json:"by,omitempty"`
	Began   time.Time `json:"began"`
	Records uint64    `json:"records"` // read so far
	Left    int64     `json:"left"`    // to be read
	Total   int64     `json:"total"`   // when it began
	Phase   string    `json:"phase"`   // reading, forgetting, sweeping
}

// statusLocked tells of what is read again.
//
// +checklocks:h.mu
func (h *history) statusLocked() (all []Backfill) {
	for _, s := range slices.Sorted(maps.Keys(h.open)) {
		r := h.open[s]
		b := Backfill{Source: h.cfg.Sources[s].Name, Began: r.Began, Records: r.Done.Records, Left: h.leftLocked(s), Total: r.Total, Phase: "reading"}
		if r.Command != nil {
			b.ID, b.Export, b.By = r.Command.ID, r.Command.Export, r.Command.By
		}
		switch {
		case r.Forget:
			b.Phase = "forgetting"
		case len(r.parts) == 0 && r.Sweep:
			b.Phase = "sweeping"
		}
		all = append(all, b)
	}
	return all
}
