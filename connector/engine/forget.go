package engine

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"time"

	"segsync/connector/commands"
)

// forgetLocked drops what the table holds on account of an export that was taken out of the configuration; or, as a first step,
// takes its people out of its list.
//
// +checklocks:c.mu
func (c *control) forgetLocked(cmd *commands.Command, now time.Time) (state, text string) {
	if slices.ContainsFunc(c.cfg.Exports, func(x Export) bool { return x.Name == cmd.Export || x.row() == exportKey(cmd.Export) }) {
		return commands.Refused, "the owner's configuration has the export still: take it out there first, and run segsync with that"
	}
	var was builtExport
	key := exportKey(cmd.Export)
	if row := c.table.Meta(key); row == nil || json.Unmarshal(row, &was) != nil {
		return commands.Refused, fmt.Sprintf("nothing is held of an export %s; of these that are not configured: %s", cmd.Export, strings.Join(c.removedLocked(), ", "))
	}
	retired, feeding := retiredLists(c.table)[was.List], ""
	for _, x := range c.cfg.Exports {
		if x.List == was.List {
			feeding = x.Name
		}
	}
	held, left := c.table.Unsettled(was.List, now)
	switch {
	case feeding == "" && held > 0:
		return commands.Refused, fmt.Sprintf("requests or imports hold %d contacts of list %d: try again when these have ended", held, was.List)
	case cmd.Empty && feeding != "":
		return commands.Refused, fmt.Sprintf("export %s feeds list %d: it is not emptied", feeding, was.List)
	case cmd.Empty:
		c.table.SetMeta(retiredKey(was.List), []byte(cmd.Export))
		return commands.Done, fmt.Sprintf("%d people leave list %d; when they have left, segsync forget without --empty-list drops what is held of the export", c.table.Vacate(was.List, now), was.List)
	}
	switch emptied, gone := retired == cmd.Export, c.holds.hasLocked(holdKey{place{list: was.List}, "list_gone"}); {
	case emptied && left > 0 && !gone:
		return commands.Refused, fmt.Sprintf("%d people are to leave list %d yet, or have left it by calls of which some had no answer: try again in a quarter of an hour", left, was.List)
	case emptied:
		c.table.SetMeta(retiredKey(was.List), nil)
		c.table.Unretire(was.List)
	}
	f := c.table.Forget(was.Source, c.ownSegmentsLocked(key, &was), was.List, now)
	text = fmt.Sprintf("forgotten: what was delivered to list %d of %d contacts, %d memberships, %d attributes, %d addresses", was.List, f.Contacts, f.Memberships, f.Attributes, f.Addresses)
	for _, k := range []string{key, pausedKey + cmd.Export, scheduleKey + cmd.Export} {
		c.table.SetMeta(k, nil)
	}
	return commands.Done, text
}

// ownSegmentsLocked are the segments of an export that no other one names which is not configured either.
//
// +checklocks:c.mu
func (c *control) ownSegmentsLocked(key string, was *builtExport) []string {
	own := slices.Clone(was.Segments)
	for _, k := range c.table.MetaKeys(exportKey("")) {
		var other builtExport
		if k != key && json.Unmarshal(c.table.Meta(k), &other) == nil && other.Source == was.Source {
			own = slices.DeleteFunc(own, func(g string) bool { return slices.Contains(other.Segments, g) })
		}
	}
	return own
}

// removedLocked are the exports that the table knows and the configuration does not.
//
// +checklocks:c.mu
func (c *control) removedLocked() (all []string) {
	for _, k := range c.table.MetaKeys(exportKey("")) {
		if !slices.ContainsFunc(c.cfg.Exports, func(x Export) bool { return x.row() == k }) {
			all = append(all, strings.TrimPrefix(k, exportKey("")))
		}
	}
	if len(all) == 0 {
		return []string{"none"}
	}
	return all
}
