package engine

import (
	"errors"
	"maps"
	"slices"
	"time"

	"go.uber.org/zap"

	"segsync/connector/backoff"
	"segsync/connector/commands"
	"segsync/connector/state"
	"segsync/sink"
)

// Audit is when lists are compared with what was delivered into them.
type Audit struct {
	AfterImports bool          // when a phase of imports has ended
	Every        time.Duration // on a schedule; 0: not
	Repair       bool          // who is missing is put back, and attributes that others have changed
}

const (
	auditEvery   = time.Second      // how often it is asked what is due
	auditRest    = 10 * time.Minute // between two audits of a list after imports
	auditSettles = 2 * time.Second  // after an import
	auditLate    = time.Hour        // after this an audit waits for no end of reading and of imports any more
	auditTries   = 3                // in a row, before doubtful removals go by calls
	auditPause   = time.Minute      // after a failure, at first
	auditMost    = 30 * time.Minute
	exportMost   = time.Hour // how long an export may take
	doubtCalls   = 24        // more calls than this to take out whom others may have put in, and the list is read instead
)

// audits are the comparisons of lists with what was delivered: which are due, the one under way, and what was found.
//
// Races: an export begins, a contact is sent, answered or said something of, the file comes: of that contact it tells nothing
// (state.Audit). An import ends while a list is read: what it has brought stays unverified, and the next audit looks at it.
//
// +checklocksalias:holds.mu=mu
// +checklocksalias:reader.mu=mu
// +checklocksalias:imports.mu=mu
// +checklocksalias:watcher.mu=mu
// +checklocksalias:account.mu=mu
// +checklocksalias:planning.mu=mu
// +checklocksalias:control.mu=mu
// +checklocksalias:history.mu=mu
// +checklocksalias:runs.mu=mu
type audits struct {
	*core
	process  *Process
	holds    *holds
	reader   *reader
	imports  *imports
	watcher  *watcher
	account  *account
	planning *planning
	control  *control
	history  *history
	runs     *runs

	// +checklocks:mu
	exporting *exporting // for the audit under way
	// +checklocks:mu
	reading int64 // the list that is audited, or asked for its length; 0: none is
	// +checklocks:mu
	asked map[int64]time.Time // when a list was asked whether it is empty
	// +checklocks:mu
	failures map[int64]auditFailure // of auditing a list, in a row
	// +checklocks:mu
	byCalls map[int64]bool // lists that can only be read by pages: doubtful removals go by calls
	// +checklocks:mu
	found map[int64]state.Findings // by the last audit, with examples
}

func newAudits(a audits) *audits {
	a.asked, a.failures, a.byCalls, a.found = map[int64]time.Time{}, map[int64]auditFailure{}, map[int64]bool{}, map[int64]state.Findings{}
	return &a
}

// run audits one list at a time, live traffic first, as long as the epoch lasts.
func (a *audits) run() { a.every(auditEvery, a.next) }

func (a *audits) next() {
	switch list, asks, pages := a.due(); {
	case list == 0:
	case asks:
		a.askEmpty(list)
	default:
		a.note(list, a.audit(list, pages))
	}
}

// auditFailure is how often in a row a list could not be audited, and when that is tried again.
type auditFailure struct {
	tries int
	again time.Time
}

// note notes how an audit ended.
func (a *audits) note(list int64, err error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.ended() {
		return
	}
	if err == nil {
		delete(a.failures, list)
		return
	}
	a.meters.unaudited.Inc()
	f := a.failures[list]
	f.again = a.now().Add(backoff.Pause(auditPause, auditMost, f.tries))
	f.tries++
	if f.tries >= auditTries {
		a.failLocked(list, err)
	}
	a.failures[list] = f // after some tries doubtful removals go by calls
	a.log.Warn("a list could not be audited", zap.Int64("list", list), zap.Int("tries", f.tries), zap.Error(err))
}

// askEmpty asks whether a list is empty, into which nothing of ours is under way: then nobody is to be taken out of it.
func (a *audits) askEmpty(list int64) {
	asked := a.now()
	info, err := a.sender.List(a.ctx, list)
	still := a.beginAsk(list, asked) && err == nil && info.Contacts == 0
	for from, more := uint32(0), still; more && !a.ended(); more = from != 0 {
		from = a.settleEmpty(list, from, asked)
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	a.reading = 0
	a.nudge()
}

// beginAsk says whether nothing of ours is in a list, or under way into it.
func (a *audits) beginAsk(list int64, asked time.Time) bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.asked[list], a.reading = asked, list
	return a.table.Empty(list)
}

func (a *audits) settleEmpty(list int64, from uint32, asked time.Time) uint32 {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.changedLocked(a.now())
	return a.table.SettleEmpty(list, from, asked, a.now())
}

// audit reads a list and settles what is found.
func (a *audits) audit(list int64, pages bool) error {
	run, attributes, asked := a.begin(list)
	defer a.finish()
	c := comparison{audit: run, lock: a.mu, reader: a.sender, pages: pages, now: a.now, after: a.touched, await: a.awaitExport}
	if err := c.run(a.ctx, list, attributes); err != nil {
		a.gone(err)
		return err
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.ended() {
		return a.ctx.Err()
	}
	run.Close()
	a.byCalls[list] = run.Paged()
	a.found[list] = run.Found
	a.answerLocked(list, asked, run)
	a.changedLocked(a.now())
	a.meters.audited.Inc()
	tell := a.log.Info
	if run.Found.Wrong() > 0 {
		tell = a.log.Warn
	}
	f := run.Found
	tell("a list was audited", zap.Int64("list", list), zap.Int("listed", f.Listed), zap.Int("lost", f.Lost), zap.Int("missing", f.Missing), zap.Int("changed", f.Changed), zap.Int("extra", f.Extra),
		zap.Int("unsubscribed", f.Unsubscribed), zap.Int("settled", f.Settled), zap.Int("skipped", f.Skipped), zap.Duration("took", a.now().Sub(run.Began).Round(time.Second)))
	return nil
}

// begin begins an audit, and names the attributes of the list that can be compared.
func (a *audits) begin(list int64) (*state.Audit, []string, *commands.Command) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.reading = list
	repair, asked := state.Repair{PutBack: a.cfg.Audit.Repair}, a.askedLocked(list)
	if asked != nil && asked.Repair != nil {
		repair.PutBack, repair.Most = true, asked.Repair.Most
		if named := asked.Repair.Extras; len(named) > 0 {
			hashes := map[string]bool{}
			for _, h := range named {
				hashes[h] = true
			}
			repair.Extra = func(address string) bool { return hashes[commands.HashOf(address)] }
		}
	}
	return a.table.BeginAudit(list, repair, a.now()), a.cfg.auditable(list, a.account.types), asked
}

func (a *audits) finish() {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.exporting, a.reading = nil, 0
	a.table.EndAudit()
	a.nudge()
}

// touched notes that what was found has changed the table.
func (a *audits) touched() {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.changedLocked(a.now())
	a.nudge()
}

// gone holds a list that does not exist any more.
func (a *audits) gone(err error) {
	var o *sink.OutcomeError
	if errors.As(err, &o) && o.Outcome.Absent && o.Outcome.List != 0 {
		a.mu.Lock()
		defer a.mu.Unlock()
		a.holds.haltLocked(o.Outcome, a.now())
	}
}

// auditable are the attributes of a list's exports whose form in an export is known.
func (c *Config) auditable(list int64, types map[string]sink.AttributeInfo) []string {
	all := map[string]bool{}
	for _, x := range c.Exports {
		if x.List != list {
			continue
		}
		for _, a := range x.Attributes {
			switch types[a].Type {
			case sink.Text, sink.Date, sink.Float, sink.Boolean:
				all[a] = true
			case sink.Category, sink.MultipleChoice, sink.Calculated, sink.Global, sink.Transactional:
			}
		}
	}
	return slices.Sorted(maps.Keys(all))
}
