package engine

import (
	"encoding/json"
	"slices"
	"time"

	"segsync/connector/state"
)

// Peek makes a table of the rows that restore applies, to be looked at by a process that does not own it.
func Peek(cfg *Config, restore func(apply func(key, v []byte) error) error, now time.Time) (*state.Table, error) {
	t := state.New(cfg.tableConfig())
	if err := restore(t.Apply); err != nil {
		return nil, err
	}
	cfg.follow(t)
	for _, x := range cfg.Exports {
		if !x.Enabled { // first: what lies in a queue already is held when it is taken from there
			t.Hold(x.List, codeDisabled, now)
		}
	}
	for list := range pausedLists(cfg, t) {
		t.Hold(list, codePaused, now)
	}
	for _, x := range cfg.Exports {
		if x.Schedule != "" && !letGo(t, x.Name) {
			t.Hold(x.List, codeNotDue, now)
		}
	}
	return t, t.Peek(now)
}

// Owes says whether a table says that something that was asked for is to be done: a source to be read again, a list to be
// audited, an export that was let go to be worked off.
func Owes(cfg *Config, t *state.Table) bool {
	if slices.ContainsFunc(cfg.Exports, func(x Export) bool { return x.Schedule != "" && letGo(t, x.Name) }) {
		return true
	}
	return len(t.MetaKeys(rewindKey))+len(t.MetaKeys(backfillKey))+len(t.MetaKeys(askedKey)) > 0
}

// letGo says whether an export with a schedule is let go, by its row.
func letGo(t *state.Table, export string) bool {
	var row scheduleRow
	b := t.Meta(scheduleKey + export)
	return b != nil && json.Unmarshal(b, &row) == nil && !row.Open.IsZero()
}
