package engine

import (
	"context"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
	"go.uber.org/zap"

	"segsync/connector/backoff"
	"segsync/connector/changelog"
	"segsync/connector/commands"
	"segsync/connector/state"
)

// control carries out what people ask of the connection (package commands). A command is folded as an event is: what it
// changes in the table, the position behind it, and what came of it are of one cut. So it takes effect once, whoever owns
// the connection by then, and one that was given while nobody did takes effect before anything is read or sent.
//
// Races: a command is carried out, its checkpoint is not committed, the owner dies: its successor carries it out, for the
// position stands before it. An audit is asked for, the owner dies: the successor does it, for the table says that it is owed.
//
// +checklocksalias:holds.mu=mu
// +checklocksalias:audits.mu=mu
// +checklocksalias:history.mu=mu
// +checklocksalias:schedules.mu=mu
type control struct {
	*core
	holds     *holds
	audits    *audits
	history   *history
	changes   *changelog.Log
	schedules *schedules

	// +checklocks:mu
	reader *commands.Reader // set by the take-over
	// +checklocks:mu
	position commands.Position
	// +checklocks:mu
	waiting []*kgo.Record // what came of commands, for the next checkpoint
	// +checklocks:mu
	rests time.Time // until then it is not told
}

// Rows of what people have asked for.
const (
	commandsKey = "commands" // the position behind the last command that was carried out
	pausedKey   = "paused/"  // and an export's name; none: the whole connection
)

// paused is who has paused an export, and why.
type paused struct {
	By     string    `json:"by"`
	At     time.Time `json:"at"`
	Reason string    `json:"reason,omitempty"`
}

// catchUp carries out what was asked since the last owner has: before anything is read or sent.
func (c *control) catchUp() error {
	ctx, cancel := context.WithTimeout(c.ctx, time.Minute)
	defer cancel()
	c.mu.Lock()
	c.pauseLocked(c.now())
	from := decodePosition(c.table.Meta(commandsKey))
	c.mu.Unlock()
	if err := changelog.Ensure(ctx, c.cl, commands.Topic(c.cfg.Prefix)); err != nil {
		return err
	}
	r, at, end, err := commands.Open(ctx, c.cfg.Kafka, c.cfg.Prefix, c.cfg.Name, from)
	if err != nil {
		return fmt.Errorf("reading commands: %w", err)
	}
	var all []*commands.Command
	for next := at.Next; next < end; {
		err := r.Read(ctx, func(cmd *commands.Command, behind int64) {
			if next = behind; cmd != nil {
				all = append(all, cmd)
			}
		})
		if err != nil {
			r.Close()
			return fmt.Errorf("reading commands: %w", err)
		}
		at.Next = next
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.reader, c.position = r, at
	if anew := from.Topic != at.Topic; anew {
		c.allLocked(all)
	} else {
		for _, cmd := range all {
			if cmd.Outcome == nil {
				c.carryOutLocked(cmd, at.Next)
			}
		}
	}
	if at != from {
		c.behindLocked(at)
	}
	return nil
}

// allLocked carries out all that the topic holds, for a table that does not know what was carried out of it: the topic does. What
// is over is not done again; but what was paused is paused, whether the command or what came of it is left by compaction, and who
// was erased is erased.
//
// +checklocks:c.mu
func (c *control) allLocked(all []*commands.Command) {
	over := map[string]bool{}
	for _, cmd := range all {
		over[cmd.ID] = over[cmd.ID] || cmd.Outcome.Over()
	}
	for _, cmd := range all {
		switch state := cmd.Kind == commands.Pause || cmd.Kind == commands.Resume; {
		case over[cmd.ID] && state && (cmd.Outcome == nil || cmd.Outcome.State == commands.Done):
			c.doLocked(cmd, c.now())
		case cmd.Kind == commands.Erase && cmd.Outcome != nil && cmd.Outcome.State == commands.Done: // what is read again must not bring them back
			c.eraseLocked(cmd, c.position.Next-1, cmd.Outcome.At, c.now())
		case !over[cmd.ID] && cmd.Outcome == nil:
			c.carryOutLocked(cmd, c.position.Next)
		}
	}
}

// follow carries out what is asked from now on. Where the topic does not hold the position any more, or was made again, it is
// opened anew.
func (c *control) follow() {
	for try := 0; !c.ended(); {
		err := c.current().Read(c.ctx, func(cmd *commands.Command, behind int64) {
			try = 0
			c.takeUp(cmd, behind)
		})
		if err == nil || c.ended() {
			continue
		}
		if try++; try%5 == 0 {
			c.log.Warn("commands cannot be read: they wait", zap.Error(err))
		}
		backoff.Sleep(c.ctx, backoff.Pause(time.Second, 15*time.Second, try))
		c.close()
		for err := c.catchUp(); err != nil && !c.ended(); err = c.catchUp() {
			try++
			backoff.Sleep(c.ctx, backoff.Pause(time.Second, 15*time.Second, try))
		}
	}
}

// takeUp carries a command out that was just given.
func (c *control) takeUp(cmd *commands.Command, behind int64) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if behind <= c.position.Next || c.ended() {
		return
	}
	if cmd != nil && cmd.Outcome == nil {
		c.carryOutLocked(cmd, behind)
	}
	c.behindLocked(commands.Position{Topic: c.position.Topic, Next: behind})
}

func (c *control) current() *commands.Reader {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.reader
}

// close ends reading.
func (c *control) close() {
	if r := c.current(); r != nil {
		r.Close()
	}
}

// behindLocked notes the position behind what was carried out.
//
// +checklocks:c.mu
func (c *control) behindLocked(at commands.Position) {
	c.position = at
	c.table.SetMeta(commandsKey, binary.AppendVarint(at.Topic[:], at.Next))
	c.changedLocked(c.now())
	c.nudge()
}

func decodePosition(row []byte) (at commands.Position) {
	if len(row) > len(at.Topic) {
		copy(at.Topic[:], row)
		at.Next, _ = binary.Varint(row[len(at.Topic):])
	}
	return at
}

// carryOutLocked carries a command out that lies before a position, and notes what came of it.
//
// +checklocks:c.mu
func (c *control) carryOutLocked(cmd *commands.Command, behind int64) {
	now := c.now()
	var detail any
	state, text := "", ""
	if cmd.Kind == commands.Erase {
		state, text, detail = c.eraseLocked(cmd, behind-1, time.Now(), now)
	} else {
		state, text = c.doLocked(cmd, now)
	}
	c.log.Info("a command", zap.String("command", string(cmd.Kind)), zap.String("id", cmd.ID), zap.String("export", cmd.Export), zap.String("by", cmd.By), zap.String("reason", cmd.Reason),
		zap.String("state", state), zap.String("outcome", text))
	c.toldLocked(cmd, state, text, detail)
}

// toldLocked notes what came of a command, for the next checkpoint.
//
// +checklocks:c.mu
func (c *control) toldLocked(cmd *commands.Command, state, text string, detail any) {
	done := *cmd
	done.Outcome = &commands.Outcome{State: state, Text: text, At: c.now().UTC(), Owner: c.cfg.Instance}
	if detail != nil {
		done.Outcome.Detail, _ = json.Marshal(detail)
	}
	c.waiting = append(c.waiting, done.Record(c.cfg.Prefix))
	c.changedLocked(c.now())
	c.nudge()
}

// doLocked does what is asked, and says what came of it.
//
// +checklocks:c.mu
func (c *control) doLocked(cmd *commands.Command, now time.Time) (state, text string) {
	lists, ok := c.listsLocked(cmd.Export)
	decides := cmd.Kind == commands.Approve || cmd.Kind == commands.Refuse
	if decides && slices.Contains(slices.Collect(maps.Values(retiredLists(c.table))), cmd.Export) { // of a list that it once fed
		ok = true
	}
	if !ok && cmd.Kind != commands.Forget {
		return commands.Refused, fmt.Sprintf("the owner's configuration has no export %s", cmd.Export)
	}
	if cmd.Kind != commands.Pause && cmd.Kind != commands.Resume && cmd.Kind != commands.Backfill && cmd.Kind != commands.Cancel && c.holds.hasLocked(tableDamaged) {
		return commands.Refused, "the table is not whole: run segsync backfill --from earliest first, for an export of each source"
	}
	switch cmd.Kind {
	case commands.Pause:
		row, _ := json.Marshal(paused{By: cmd.By, At: cmd.At, Reason: cmd.Reason})
		c.table.SetMeta(pausedKey+cmd.Export, row)
		c.pauseLocked(now)
		return commands.Done, "paused: events are read, and nothing is sent until segsync resume"
	case commands.Resume:
		was := c.table.Meta(pausedKey+cmd.Export) != nil
		c.table.SetMeta(pausedKey+cmd.Export, nil)
		c.pauseLocked(now)
		switch {
		case cmd.Export != "" && c.table.Meta(pausedKey) != nil:
			return commands.Done, "the connection as a whole is paused: segsync resume without --export ends that"
		case !was:
			return commands.Done, "it was not paused"
		}
		return commands.Done, "resumed"
	case commands.Approve, commands.Refuse:
		n := c.decideLocked(cmd.Export, lists, cmd.Kind == commands.Approve, now)
		if cmd.Kind == commands.Approve {
			return commands.Done, fmt.Sprintf("approved: %d people leave the list", n)
		}
		return commands.Done, fmt.Sprintf("refused: %d people stay in the list until newer events say otherwise", n)
	case commands.Retry:
		return commands.Done, c.retryLocked(lists, now)
	case commands.Audit:
		return c.audits.askLocked(cmd, lists, now)
	case commands.Backfill:
		return c.history.askLocked(cmd)
	case commands.Cancel:
		return c.history.cancelLocked(cmd)
	case commands.Forget:
		return c.forgetLocked(cmd, now)
	case commands.Erase: // eraseLocked
	case commands.RunNow:
		return c.schedules.runNowLocked(cmd)
	}
	return commands.Refused, fmt.Sprintf("this version knows no command %s", cmd.Kind)
}

// listsLocked are the lists of an export, or of all.
//
// +checklocks:c.mu
func (c *control) listsLocked(export string) (lists []int64, ok bool) {
	for _, x := range c.cfg.Exports {
		if export == "" || x.Name == export {
			lists = append(lists, x.List)
		}
	}
	return lists, len(lists) > 0
}

// pauseLocked holds what is paused, and lets go what is not any more.
//
// +checklocks:c.mu
func (c *control) pauseLocked(now time.Time) {
	why := pausedLists(c.cfg, c.table)
	for _, list := range slices.Concat(c.table.Lists(), []int64{0}) {
		k := holdKey{place{list: list}, codePaused}
		if why[list] == "" {
			c.holds.releaseLocked(k, now)
			continue
		}
		c.holds.addLocked(k, hold{mend: why[list], chosen: true}, now)
		c.holds.retellLocked(k, why[list])
	}
}

// pausedLists are the lists that are paused (0: the account), and what to say of it.
func pausedLists(cfg *Config, t *state.Table) map[int64]string {
	why := map[int64]string{}
	note := func(list int64, row []byte, command string) {
		var p paused
		if why[list] != "" || row == nil || json.Unmarshal(row, &p) != nil {
			return
		}
		reason := ""
		if p.Reason != "" {
			reason = " (" + p.Reason + ")"
		}
		why[list] = fmt.Sprintf("paused by %s at %s%s; %s ends that", p.By, p.At.UTC().Format(time.RFC3339), reason, command)
	}
	note(0, t.Meta(pausedKey), "segsync resume")
	for _, x := range cfg.Exports {
		note(x.List, t.Meta(pausedKey+x.Name), "segsync resume --export "+x.Name)
	}
	return why
}

// decideLocked lets withheld removals go, or keeps them: of an export's lists, and of lists that it once fed.
//
// +checklocks:c.mu
func (c *control) decideLocked(export string, lists []int64, approved bool, now time.Time) (n int) {
	for _, list := range lists {
		n += c.table.Decide(list, approved, now)
	}
	for list, of := range retiredLists(c.table) {
		if export == "" || of == export {
			n += c.table.Decide(list, approved, now)
		}
	}
	return n
}

// retryLocked lets rejected contacts try again, and those go that wait for an import that does not end.
//
// +checklocks:c.mu
func (c *control) retryLocked(lists []int64, now time.Time) string {
	rejected, absent, freed, contacts := 0, 0, 0, 0
	for _, list := range lists {
		r, a := c.table.RetryRejected(list, now)
		rejected, absent = rejected+r, absent+a
		i, n := c.table.ToFree(list, now.Add(-c.cfg.Times.ImportStuck))
		freed, contacts = freed+i, contacts+n
	}
	text := fmt.Sprintf("%d rejected contacts are tried again", rejected)
	if absent > 0 {
		text += fmt.Sprintf(", and %d that the account did not have", absent)
	}
	if freed > 0 {
		text += fmt.Sprintf("; %d contacts of %d imports that were begun more than %s ago are sent again, and once more when the imports end, should they not have ended", contacts, freed, c.cfg.Times.ImportStuck)
	}
	return text
}

// cutLocked hands out what came of commands, unless their topic does not take it for a moment.
//
// +checklocks:c.mu
func (c *control) cutLocked() []*kgo.Record {
	if !c.toldLaterLocked() {
		return nil
	}
	all := c.waiting
	c.waiting = nil
	return all
}

// toldLaterLocked says whether something waits that can be told now.
//
// +checklocks:c.mu
func (c *control) toldLaterLocked() bool { return len(c.waiting) > 0 && !c.now().Before(c.rests) }

// giveBackLocked takes it back from a checkpoint that was not committed.
//
// +checklocks:c.mu
func (c *control) giveBackLocked(all []*kgo.Record) { c.waiting = append(all, c.waiting...) }

// tellAgain is how long what came of commands rests that its topic did not take: rows and offsets do not wait for it.
const tellAgain = 10 * time.Second

// refusedLocked says what of it goes into the next checkpoint, and keeps for later what its topic does not take for a moment.
// What it never takes is dropped: what was done is done, and only not told.
//
// +checklocks:c.mu
func (c *control) refusedLocked(all []*kgo.Record, refused *changelog.RecordError) (kept []*kgo.Record) {
	if kerr.IsRetriable(refused.Err) || errors.Is(refused, kgo.ErrRecordTimeout) || errors.Is(refused, kgo.ErrRecordRetries) {
		if errors.Is(refused, kerr.UnknownTopicOrPartition) || errors.Is(refused, kerr.UnknownTopicID) { // it was deleted, or made again
			c.spawn(func() { c.changes.Forget(commands.Topic(c.cfg.Prefix)) })
		}
		c.rests = c.now().Add(tellAgain)
		c.waiting = append(all, c.waiting...)
		return nil
	}
	for _, r := range all {
		if !slices.Contains(refused.Records, r) {
			kept = append(kept, r)
		}
	}
	c.log.Warn("what came of commands could not be told", zap.Int("count", len(all)-len(kept)), zap.Error(refused))
	return kept
}
