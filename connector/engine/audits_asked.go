package engine

import (
	"encoding/json"
	"fmt"
	"strconv"
	"time"

	"segsync/connector/commands"
	"segsync/connector/state"
)

// Audits that somebody has asked for. The table says that one is owed, until it is done or has failed for good: a take-over
// in between does it.

const askedKey = "asked/" // and a list: the command that asks for an audit of it

func askedKeyOf(list int64) string { return askedKey + strconv.FormatInt(list, 10) }

// AuditReport is what an audit found that somebody has asked for.
type AuditReport struct {
	Connection string         `json:"connection"`
	Export     string         `json:"export"`
	List       int64          `json:"list"`
	Delivered  int            `json:"delivered"` // contacts that should be in, by what was delivered
	Began      time.Time      `json:"began"`
	Took       time.Duration  `json:"took_ns"`
	Pending    int            `json:"pending"` // contacts of the connection that are not as wanted, and known not to be
	Repair     bool           `json:"repair"`
	Findings   state.Findings `json:"findings"`
}

// askLocked notes that an audit of an export's list is asked for.
//
// +checklocks:a.mu
func (a *audits) askLocked(cmd *commands.Command, lists []int64, now time.Time) (outcome, text string) {
	if cmd.Export == "" {
		return commands.Refused, "an audit is of one export: name it"
	}
	list := lists[0]
	if was := a.askedLocked(list); was != nil && was.ID != cmd.ID {
		a.runs.endLocked(was.ID, commands.Failed, "another command has asked for the same")
		a.control.toldLocked(was, commands.Refused, "another command has asked for the same audit since: "+cmd.ID, nil)
	}
	row, _ := json.Marshal(cmd)
	a.table.SetMeta(askedKeyOf(list), row)
	a.runs.beginLocked("audit", cmd.Export, cmd)
	delete(a.failures, list) // it is tried at once
	a.changedLocked(now)
	return commands.Begun, fmt.Sprintf("list %d is read, and compared with what was delivered", list)
}

// askedLocked is the command that asks for an audit of a list; nil: none does.
//
// +checklocks:a.mu
func (a *audits) askedLocked(list int64) *commands.Command {
	var cmd commands.Command
	if row := a.table.Meta(askedKeyOf(list)); row == nil || json.Unmarshal(row, &cmd) != nil {
		return nil
	}
	return &cmd
}

// askedForLocked picks a list of which an audit is asked for, and can be made now; 0: there is none.
//
// +checklocks:a.mu
func (a *audits) askedForLocked(now time.Time) int64 {
	for _, l := range a.table.Lists() {
		if a.askedLocked(l) != nil && !a.holds.atLocked(place{list: l}) && !now.Before(a.failures[l].again) {
			return l
		}
	}
	return 0
}

// answerLocked says what an audit has found to whoever asked for it before it began.
//
// +checklocks:a.mu
func (a *audits) answerLocked(list int64, asked *commands.Command, run *state.Audit) {
	now := a.askedLocked(list)
	if asked == nil || now == nil || now.ID != asked.ID {
		return
	}
	a.table.SetMeta(askedKeyOf(list), nil)
	f := &run.Found
	text := "nothing is wrong"
	if f.Wrong() > 0 {
		text = fmt.Sprintf("%d contacts are not as they were delivered: %d lost by imports, %d missing, %d changed, %d extra; %d of them are mended", f.Wrong(), f.Lost, f.Missing, f.Changed, f.Extra, f.Lost+f.Repaired)
	}
	a.runs.endLocked(asked.ID, commands.Done, text)
	a.control.toldLocked(asked, commands.Done, text, AuditReport{
		Connection: a.cfg.Name, Export: asked.Export, List: list, Delivered: a.table.In(list), Began: run.Began, Took: a.now().Sub(run.Began),
		Pending: a.table.Counts().Pending, Repair: asked.Repair != nil || a.cfg.Audit.Repair, Findings: *f,
	})
}

// failLocked gives up an audit that was asked for.
//
// +checklocks:a.mu
func (a *audits) failLocked(list int64, err error) {
	if asked := a.askedLocked(list); asked != nil {
		a.table.SetMeta(askedKeyOf(list), nil)
		a.runs.endLocked(asked.ID, commands.Failed, err.Error())
		a.control.toldLocked(asked, commands.Failed, err.Error(), nil)
	}
}
