package engine

import (
	"encoding/hex"
	"encoding/json"
	"maps"
	"slices"
	"strconv"

	"go.uber.org/zap"

	"segsync/connector/state"
)

// Rows of the connection itself, below k/ in the changelog.
const (
	accountKey = "account"
)

func sourceKey(name string) string { return "source/" + name }
func exportKey(name string) string { return "export/" + name }
func retiredKey(list int64) string { return "retired/" + strconv.FormatInt(list, 10) }
func acceptKey(id [16]byte) string { return "accepted/" + hex.EncodeToString(id[:]) }

// builtExport is what the table was built for: a list that an export no longer feeds is retired, its people leave
// through the guard.
type builtExport struct {
	List     int64    `json:"list"`
	Source   string   `json:"source"`
	Segments []string `json:"segments"`
	All      []string `json:"all,omitempty"`
	None     []string `json:"none,omitempty"`
}

// builtSource is a source that has been read from its start, for these segments. Renamed is how often each segment was
// taken out and named again: what was said of it while it was not followed is not known.
type builtSource struct {
	Segments []string       `json:"segments"`
	Renamed  map[string]int `json:"renamed,omitempty"`
}

func builtSourceOf(t *state.Table, name string) (was builtSource, ok bool) {
	row := t.Meta(sourceKey(name))
	return was, row != nil && json.Unmarshal(row, &was) == nil
}

// configureLocked compares the restored rows with the configuration, before the table is made ready: lists that moved are
// retired, sources with new segments are read again from their start. It says whether the configuration has changed.
//
// +checklocks:e.mu
func (e *Engine) configureLocked() (changed bool) {
	fed := map[int64]bool{}
	for _, x := range e.cfg.Exports {
		fed[x.List] = true
	}
	for _, x := range e.cfg.Exports {
		var was builtExport
		if row := e.table.Meta(x.row()); row != nil && json.Unmarshal(row, &was) == nil && was.List != x.List && !fed[was.List] {
			e.log.Info("the list of an export changed: people leave the old one, through the guard", zap.String("export", x.Name), zap.Int64("from", was.List), zap.Int64("to", x.List))
			e.table.SetMeta(retiredKey(was.List), []byte(x.Name))
		}
		row, _ := json.Marshal(builtExport{x.List, e.cfg.Sources[x.Source].Name, x.Segments, x.All, x.None})
		if string(row) != string(e.table.Meta(x.row())) {
			changed = changed || e.table.Meta(x.row()) != nil || e.table.Counts().People > 0
			e.table.SetMeta(x.row(), row)
		}
	}
	for l := range retiredLists(e.table) {
		if fed[l] {
			e.table.SetMeta(retiredKey(l), nil)
		}
	}
	e.dropSegmentsLocked()
	for s := range e.cfg.Sources {
		src := &e.cfg.Sources[s]
		was, ok := builtSourceOf(e.table, src.Name)
		for _, g := range src.Spec.Segments {
			if ok && !slices.Contains(was.Segments, g) {
				if was.Renamed[g] == 0 && e.table.KnowsSegment(src.Name, g) { // dropped by a version that did not note it
					if was.Renamed == nil {
						was.Renamed = map[string]int{}
					}
					was.Renamed[g] = 1
					row, _ := json.Marshal(was)
					e.table.SetMeta(sourceKey(src.Name), row)
				}
				e.log.Info("a source has a new segment: it is read again from its start", zap.String("source", src.Name), zap.String("segment", g))
				if was.Renamed[g] > 0 {
					e.log.Warn("a segment is named again: whoever was in it, and of whom nothing is read now, is left as they are; segsync backfill --from earliest reads its history", zap.String("source", src.Name), zap.String("segment", g))
				}
				e.history.noteUnreadLocked(s, g)
				if !slices.Contains(e.history.rereads, s) {
					e.history.rereads = append(e.history.rereads, s)
				}
			}
		}
	}
	e.cfg.follow(e.table)
	return changed
}

// tellChange says what a configuration that has changed does to the lists, before any of it is done.
func (e *Engine) tellChange() {
	e.mu.Lock()
	defer e.mu.Unlock()
	for _, list := range e.table.Lists() {
		enter, leave := 0, 0
		e.table.Walk(list, e.now(), func(_ string, wanted, delivered bool) {
			switch {
			case wanted && !delivered:
				enter++
			case delivered && !wanted:
				leave++
			}
		})
		if enter+leave > 0 {
			e.log.Warn("the configuration has changed: people enter or leave a list by it, through the guard", zap.Int64("list", list), zap.Int("enter", enter), zap.Int("leave", leave))
		}
	}
}

// dropSegmentsLocked notes the segments that are followed no more: of those who are in them it is not known, should they be
// named again, who has left meanwhile.
//
// +checklocks:e.mu
func (e *Engine) dropSegmentsLocked() {
	for _, k := range e.table.MetaKeys("source/") {
		name := k[len("source/"):]
		was, ok := builtSourceOf(e.table, name)
		at := slices.IndexFunc(e.cfg.Sources, func(s Source) bool { return s.Name == name })
		if !ok {
			continue
		}
		kept := slices.DeleteFunc(slices.Clone(was.Segments), func(g string) bool {
			return at < 0 || !slices.Contains(e.cfg.Sources[at].Spec.Segments, g)
		})
		if len(kept) == len(was.Segments) {
			continue
		}
		if was.Renamed == nil {
			was.Renamed = map[string]int{}
		}
		for _, g := range was.Segments {
			if !slices.Contains(kept, g) {
				was.Renamed[g]++
				e.log.Info("a segment is followed no more", zap.String("source", name), zap.String("segment", g))
			}
		}
		was.Segments = kept
		row, _ := json.Marshal(was)
		e.table.SetMeta(k, row)
	}
}

// retiredLists are those that exports once fed and feed no more, with the export's name (of a table of version 2: none).
func retiredLists(t *state.Table) map[int64]string {
	all := map[int64]string{}
	for _, k := range t.MetaKeys("retired/") {
		if l, err := strconv.ParseInt(k[len("retired/"):], 10, 64); err == nil {
			all[l] = string(t.Meta(k))
		}
	}
	return all
}

// follow tells a table what its rows say of the configuration: lists that are fed no more, and how often segments were
// named again. Before it is made ready.
func (c *Config) follow(t *state.Table) {
	t.Retire(slices.Sorted(maps.Keys(retiredLists(t))))
	for s := range c.Sources {
		was, _ := builtSourceOf(t, c.Sources[s].Name)
		renamed := make([]int, len(c.Sources[s].Spec.Segments))
		for i, g := range c.Sources[s].Spec.Segments {
			renamed[i] = was.Renamed[g]
		}
		t.Follow(s, renamed)
	}
}

// sourceRow says what a source has been read for.
func sourceRow(t *state.Table, src *Source) []byte {
	was, _ := builtSourceOf(t, src.Name)
	was.Segments = slices.Sorted(slices.Values(src.Spec.Segments))
	row, _ := json.Marshal(was)
	return row
}
