package engine

import (
	"cmp"
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"segsync/connector/commands"
)

// Run is one piece of work that people recognise: a backfill, what a schedule or somebody has let go, an audit, a bounded run,
// an hour of live work.
type Run struct {
	ID     string    `json:"id"`
	Kind   string    `json:"kind"` // backfill, schedule, run-now, audit, live, once
	Export string    `json:"export,omitempty"`
	By     string    `json:"by,omitempty"`
	Reason string    `json:"reason,omitempty"`
	Began  time.Time `json:"began"`
	Ended  time.Time `json:"ended,omitzero"` // zero: it is under way
	State  string    `json:"state"`          // begun, done, failed
	Text   string    `json:"text,omitempty"`
	Did    RunCounts `json:"did"`
}

// RunCounts is what the connection has done while a run was under way, live work beside it included.
type RunCounts struct {
	Events      uint64 `json:"events"`
	Upserted    uint64 `json:"upserted"`
	Updated     uint64 `json:"updated"`
	Removed     uint64 `json:"removed"`
	Rejected    uint64 `json:"rejected"`
	DeadLetters uint64 `json:"dead_letters"`
}

// did is what counters say of it.
func (c *Counters) did() RunCounts {
	return RunCounts{c.Events, c.Upserted, c.Updated, c.Removed, c.Rejected, c.DeadLetters}
}

// add adds what was done between two readings of the counters.
func (r *RunCounts) add(now, before RunCounts) {
	r.Events += now.Events - before.Events
	r.Upserted += now.Upserted - before.Upserted
	r.Updated += now.Updated - before.Updated
	r.Removed += now.Removed - before.Removed
	r.Rejected += now.Rejected - before.Rejected
	r.DeadLetters += now.DeadLetters - before.DeadLetters
}

// runs are the last pieces of work, each a row of the table: they outlive owners.
type runs struct {
	*core
	process *Process

	// +checklocks:mu
	open map[string]*Run // under way, by id
	// +checklocks:mu
	read RunCounts // the counters, when the open ones were last brought up to date
}

const (
	runKey    = "run/"           // and when it began, and its id
	runsMost  = 200              // are kept, and as many hours of live work
	runsTold  = 50               // are told in the status, likewise
	keepEvery = 10 * time.Second // how often what is under way is written
	liveRun   = "live"           // an hour of live work: kind and id
	onceRun   = "once"           // the live work of a bounded run, likewise
)

func (r *Run) key() string { return fmt.Sprintf("%s%020d/%s", runKey, r.Began.UnixMilli(), r.ID) }

// loadLocked reads those that were under way.
//
// +checklocks:r.mu
func (r *runs) loadLocked() {
	r.read = r.counts.did()
	for _, k := range r.table.MetaKeys(runKey) {
		var x Run
		if json.Unmarshal(r.table.Meta(k), &x) == nil && x.Ended.IsZero() {
			r.open[x.ID] = &x
		}
	}
	r.endLocked(onceRun, commands.Failed, "its process ended before it was done")
	if r.process.Bounded {
		r.endLocked(liveRun, commands.Done, "")
	}
}

// ownWork is the run that what nobody has asked for belongs to.
func (r *runs) ownWork() string {
	if r.process.Bounded {
		return onceRun
	}
	return liveRun
}

// drain notes what was done until now, and what came of a bounded run.
func (r *runs) drain() {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.ended() {
		return
	}
	r.keepLocked(time.Now().UTC())
	if why := r.process.Failed.Load(); why != nil {
		r.endLocked(onceRun, commands.Failed, *why)
		return
	}
	r.endLocked(onceRun, commands.Done, "")
}

// keep brings what is under way up to date, as long as the epoch lasts, and tells live work apart by the hour.
func (r *runs) keep() {
	r.every(keepEvery, func() {
		r.mu.Lock()
		defer r.mu.Unlock()
		r.keepLocked(time.Now().UTC())
	})
}

// keepLocked does so.
//
// +checklocks:r.mu
func (r *runs) keepLocked(now time.Time) {
	did := r.counts.did()
	moved := did != r.read
	hour := now.Truncate(time.Hour)
	if live := r.open[liveRun]; live != nil && !live.Began.Truncate(time.Hour).Equal(hour) {
		r.endLocked(liveRun, commands.Done, "")
	}
	if own := r.ownWork(); moved && r.open[own] == nil {
		r.open[own] = &Run{ID: own, Kind: own, Began: now, State: commands.Begun}
	}
	if moved {
		for _, x := range r.open {
			x.Did.add(did, r.read)
			r.writeLocked(x)
		}
		r.read = did
	}
}

// writeLocked keeps a run's row.
//
// +checklocks:r.mu
func (r *runs) writeLocked(x *Run) {
	row, _ := json.Marshal(x)
	if r.table.Meta(x.key()) == nil {
		r.trimLocked()
	}
	r.table.SetMeta(x.key(), row)
	r.changedLocked(r.now())
}

// beginLocked notes that a run begins.
//
// +checklocks:r.mu
func (r *runs) beginLocked(kind, export string, cmd *commands.Command) {
	x := &Run{ID: commands.NewID(), Kind: kind, Export: export, Began: time.Now().UTC(), State: commands.Begun}
	if cmd != nil {
		x.ID, x.By, x.Reason = cmd.ID, cmd.By, cmd.Reason
	}
	r.keepLocked(x.Began) // what was done before is none of it
	r.open[x.ID] = x
	r.writeLocked(x)
}

// trimLocked makes room for a run: the oldest that are over go.
//
// +checklocks:r.mu
func (r *runs) trimLocked() {
	under := map[string]bool{}
	for _, x := range r.open {
		under[x.key()] = true
	}
	kept, keys := map[bool]int{}, r.table.MetaKeys(runKey)
	slices.Reverse(keys)
	for _, k := range keys {
		live := isLive(r.table.Meta(k))
		if kept[live]++; kept[live] >= runsMost && !under[k] {
			r.table.SetMeta(k, nil)
		}
	}
}

// isLive says whether a row is of an hour of live work. There are many: they take no room of others.
func isLive(row []byte) bool {
	var x Run
	return json.Unmarshal(row, &x) == nil && x.Kind == liveRun
}

// endLocked notes that a run has ended.
//
// +checklocks:r.mu
func (r *runs) endLocked(id, state, text string) {
	x := r.open[id]
	if x == nil {
		return
	}
	did := r.counts.did()
	for _, o := range r.open {
		o.Did.add(did, r.read)
	}
	r.read = did
	x.Ended, x.State, x.Text = time.Now().UTC(), state, text
	delete(r.open, id)
	r.writeLocked(x)
}

// findLocked is the id of the run of a kind for an export that is under way; "": there is none.
//
// +checklocks:r.mu
func (r *runs) findLocked(export string, kinds ...string) string {
	for id, x := range r.open {
		if x.Export == export && slices.Contains(kinds, x.Kind) {
			return id
		}
	}
	return ""
}

// listLocked are the last ones, the newest first.
//
// +checklocks:r.mu
func (r *runs) listLocked() (all []Run) {
	var rows [][]byte
	for _, k := range r.table.MetaKeys(runKey) {
		rows = append(rows, r.table.Meta(k))
	}
	return runsOf(rows)
}

// runsOf reads rows of runs: the last ones, the newest first.
func runsOf(rows [][]byte) (all []Run) {
	told := map[bool]int{}
	for _, row := range slices.Backward(rows) {
		var x Run
		if told[isLive(row)]++; told[isLive(row)] <= runsTold && json.Unmarshal(row, &x) == nil {
			all = append(all, x)
		}
	}
	slices.SortStableFunc(all, func(a, b Run) int { return cmp.Compare(b.Began.UnixMilli(), a.Began.UnixMilli()) })
	return all
}

// Runs are those of a table that restore brings, read by a process that does not own it.
func Runs(restore func(apply func(key, v []byte) error) error) ([]Run, error) {
	last := map[string][]byte{}
	err := restore(func(key, v []byte) error {
		if k, ok := strings.CutPrefix(string(key), "k/"+runKey); ok {
			last[k] = slices.Clone(v)
		}
		return nil
	})
	var rows [][]byte
	for _, k := range slices.Sorted(maps.Keys(last)) {
		if last[k] != nil {
			rows = append(rows, last[k])
		}
	}
	return runsOf(rows), err
}
