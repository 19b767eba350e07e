package engine

import (
	"encoding/json"
	"slices"
	"strconv"
	"strings"

	"segsync/connector/commands"
)

// An export with rules (all, none) says nothing sensible of people before its segments were read to their end once: whoever is
// suppressed would be added, and taken out again. Its list is held until then.

const unreadKey = "unread/" // and a source: what of it is read for the first time

// unread is what of a source is read for the first time.
type unread struct {
	Segments []string         `json:"segments,omitempty"` // new ones, by a rewind; none: all, by live reading
	Ends     map[string]int64 `json:"ends,omitempty"`     // "topic number/partition" to where the log ended then
}

// noteUnreadLocked notes segments that are new in a source.
//
// +checklocks:h.mu
func (h *history) noteUnreadLocked(s int, segments ...string) {
	u := h.unreadLocked(s)
	if u == nil {
		u = &unread{}
	}
	for _, g := range segments {
		if !slices.Contains(u.Segments, g) {
			u.Segments = append(u.Segments, g)
		}
	}
	h.keepUnreadLocked(s, u)
}

// noteFirstLocked notes that a source is read for the first time, from its start to where its logs end now.
//
// +checklocks:h.mu
func (h *history) noteFirstLocked(s int, parts []partition) {
	u := &unread{Ends: map[string]int64{}}
	for _, at := range parts {
		c := h.live.cursors[at]
		u.Ends[partKey(c.topic, at.n)] = c.end
	}
	h.keepUnreadLocked(s, u)
}

// keepUnreadLocked keeps what is read for the first time, where an export with rules cares.
//
// +checklocks:h.mu
func (h *history) keepUnreadLocked(s int, u *unread) {
	if slices.ContainsFunc(h.cfg.Exports, func(x Export) bool { return x.Source == s && x.ruled() }) {
		row, _ := json.Marshal(u)
		h.table.SetMeta(unreadKey+h.cfg.Sources[s].Name, row)
	}
}

// ruled says whether being in any segment is not enough.
func (x *Export) ruled() bool { return len(x.All)+len(x.None) > 0 }

// unreadLocked is what of a source is read for the first time; nil: nothing is.
//
// +checklocks:h.mu
func (h *history) unreadLocked(s int) *unread {
	var u unread
	if row := h.table.Meta(unreadKey + h.cfg.Sources[s].Name); row == nil || json.Unmarshal(row, &u) != nil {
		return nil
	}
	return &u
}

// holdUnreadLocked holds the lists of exports with rules whose segments are read for the first time, and lets them go when they
// were.
//
// +checklocks:h.mu
func (h *history) holdUnreadLocked() {
	for s := range h.cfg.Sources {
		u := h.unreadLocked(s)
		if u != nil && h.readLocked(s, u) {
			h.table.SetMeta(unreadKey+h.cfg.Sources[s].Name, nil)
			h.changedLocked(h.now())
			u = nil
		}
		for i := range h.cfg.Exports {
			x := &h.cfg.Exports[i]
			k := holdKey{place{list: x.List}, codeNotRead}
			switch held := u != nil && (u.Ends != nil || slices.ContainsFunc(x.Segments, func(g string) bool { return slices.Contains(u.Segments, g) })); {
			case x.Source != s || !x.ruled():
			case held:
				h.holds.addLocked(k, hold{mend: "export " + x.Name + " has rules, and its segments are read for the first time: nothing is sent before they were", chosen: true}, h.now())
			default:
				h.holds.releaseLocked(k, h.now())
			}
		}
	}
}

// readLocked says whether that was read.
//
// +checklocks:h.mu
func (h *history) readLocked(s int, u *unread) bool {
	for at, c := range h.live.cursors {
		if end, ok := u.Ends[partKey(c.topic, at.n)]; ok && c.next < end {
			return false
		}
	}
	if r := h.open[s]; r != nil && r.Command == nil {
		return false
	}
	was, _ := builtSourceOf(h.table, h.cfg.Sources[s].Name)
	return !slices.ContainsFunc(u.Segments, func(g string) bool {
		return !slices.Contains(was.Segments, g) && slices.Contains(h.cfg.Sources[s].Spec.Segments, g)
	})
}

// forgetStrayLocked fails backfills that were asked for of sources that nothing is exported of any more, and audits of lists that
// no export feeds.
//
// +checklocks:h.mu
func (h *history) forgetStrayLocked() {
	for _, k := range h.table.MetaKeys(backfillKey) {
		if !slices.ContainsFunc(h.cfg.Sources, func(s Source) bool { return backfillKey+s.Name == k }) {
			h.strayLocked(k)
		}
	}
	for _, k := range h.table.MetaKeys(askedKey) {
		if list, err := strconv.ParseInt(strings.TrimPrefix(k, askedKey), 10, 64); err != nil || !slices.Contains(h.table.Lists(), list) {
			h.strayLocked(k)
		}
	}
}

// strayLocked fails the command in a row, and forgets it.
//
// +checklocks:h.mu
func (h *history) strayLocked(k string) {
	var cmd commands.Command
	if json.Unmarshal(h.table.Meta(k), &cmd) == nil {
		h.failLocked(&cmd, "the owner's configuration exports nothing of it any more")
	}
	h.table.SetMeta(k, nil)
}
