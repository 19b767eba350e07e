package engine

import (
	"context"
	"fmt"
	"time"

	"go.uber.org/zap"

	"segsync/connector/changelog"
	"segsync/connector/commands"
	"segsync/connector/deadletter"
	"segsync/connector/plan"
	"segsync/connector/state"

	"github.com/twmb/franz-go/pkg/kadm"
)

// Claim takes the connection over within the group's callback: a fresh lease, then the fencing of every predecessor.
func (e *Engine) Claim(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, 45*time.Second)
	defer cancel()
	if err := e.lease.Prove(ctx, e.cl, e.cfg.Group(), e.cfg.Instance); err != nil {
		return err
	}
	topic := changelog.Name(e.cfg.Prefix, e.cfg.Name)
	if err := changelog.Ensure(ctx, e.cl, topic); err != nil {
		return err
	}
	if err := changelog.Ensure(ctx, e.cl, commands.Topic(e.cfg.Prefix)); err != nil {
		return err
	}
	if e.cfg.DeadLetters != "" {
		if err := deadletter.Ensure(ctx, e.cl, e.cfg.DeadLetters); err != nil {
			return err
		}
	}
	var err error
	if e.epoch.rowMost, err = e.takes(ctx, topic); err != nil {
		return err
	}
	l, err := changelog.Open(ctx, changelog.Options{
		Topic: topic, ID: e.cfg.Group(), Client: e.cfg.Kafka, Instance: e.cfg.Instance, Member: e.cl.GroupMetadata, Most: e.epoch.rowMost,
	})
	e.checkpointer.changes, e.checkpointer.letters.changes, e.control.changes = l, l, l
	return err
}

// takes asks how large a record every topic takes that a checkpoint writes to, in bytes; 0: the usual.
func (e *Engine) takes(ctx context.Context, table string) (int, error) {
	most := 0
	for _, topic := range []string{table, e.cfg.DeadLetters} {
		if topic == "" {
			continue
		}
		settings, err := changelog.Settings(ctx, kadm.NewClient(e.cl), topic)
		if err != nil && topic == table {
			return 0, err
		}
		if n := changelog.Most(settings); n > 0 && (most == 0 || n < most) {
			most = n
		}
	}
	return most, nil
}

// rowRoom is how many of the bytes that a topic takes a row may have: the rest are a batch's own.
func rowRoom(most int) int {
	if most == 0 {
		return 0
	}
	return most - most/16 - 1024
}

// takeOver makes this process the connection's owner in deed: the sentinel behind everything a predecessor wrote, the
// table read back to it, open requests told, positions found. Nothing is read meanwhile; heartbeats go on.
func (e *Engine) takeOver(assigned map[string][]int32) error {
	began := time.Now()
	cfg := e.cfg.tableConfig()
	cfg.RowMost, cfg.PartMost = rowRoom(e.epoch.rowMost), rowRoom(e.epoch.rowMost)
	e.setTable(state.New(cfg))
	if err := e.restore(); err != nil {
		return err
	}
	if err := e.damage.find(); err != nil {
		return err
	}
	changed, err := e.join()
	if err != nil {
		return fmt.Errorf("restoring the table: %w", err)
	}
	e.account.watchKey()
	e.account.claim()
	types, err := e.account.knowTypes()
	if err != nil {
		return err
	}
	e.account.setTypes(types)
	if err := e.workers.compile(types); err != nil {
		return err
	}
	if err := e.positions.locate(assigned); err != nil {
		return err
	}
	e.history.load()
	if err := e.control.catchUp(); err != nil {
		return err
	}
	if err := e.history.begin(); err != nil {
		return err
	}
	e.noteSources()
	if err := e.checkpointer.begin(e.ctx); err != nil {
		return err
	}
	if changed {
		e.tellChange()
	}
	e.tellTakenOver(time.Since(began))
	return nil
}

func (e *Engine) setTable(t *state.Table) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.table = t
	e.checkpointer.planning.planner = plan.New(t, e.cfg.Limits, e.sender, e.sender)
}

func (e *Engine) restore() error {
	changes := e.checkpointer.changes
	target, err := changes.Sentinel(e.ctx)
	if err != nil {
		return err
	}
	if target > 0 { // there was a predecessor, who may have made calls until now
		e.sender.Rest()
	}
	last := time.Now()
	return changelog.Restore(e.ctx, e.cfg.Kafka, changes.Topic(), target, func(key, v []byte) error {
		e.mu.Lock()
		defer e.mu.Unlock()
		return e.table.Apply(key, v)
	}, func(p changelog.Progress) {
		e.epoch.restored.Store(p.Rows)
		if time.Since(last) > 5*time.Second {
			last = time.Now()
			e.log.Info("restoring the table", zap.Int64("rows", p.Rows), zap.Int64("offset", p.At), zap.Int64("of", p.Target))
		}
	})
}

// join joins the rows to a table, as the configuration says. It says whether that has changed since the table was last
// worked.
func (e *Engine) join() (changed bool, err error) {
	e.mu.Lock()
	defer e.mu.Unlock()
	now := e.now()
	changed = e.configureLocked()
	imports, err := e.table.Ready(now)
	if err != nil {
		return false, err
	}
	e.imports.watcher.restoreLocked()
	e.imports.adoptLocked(imports, now)
	e.runs.loadLocked()
	e.schedules.loadLocked(now)
	for _, x := range e.cfg.Exports {
		if !x.Enabled {
			e.holds.addLocked(holdKey{place{list: x.List}, codeDisabled}, hold{mend: "export " + x.Name + " is off in the configuration (enabled: false): what is owed stays in the table", chosen: true}, now)
		}
	}
	return changed, nil
}

// noteSources notes the sources that are read from now on, and for which segments.
func (e *Engine) noteSources() {
	read := map[int]bool{}
	for _, c := range e.reader.snapshot() {
		read[c.source] = true // one without partitions has not been begun
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	for s := range e.cfg.Sources {
		if src := &e.cfg.Sources[s]; read[s] && !e.reader.sourceHeldLocked(s) {
			e.table.SetMeta(sourceKey(src.Name), sourceRow(e.table, src))
		}
	}
}

func (e *Engine) tellTakenOver(took time.Duration) {
	e.mu.Lock()
	defer e.mu.Unlock()
	n := e.table.Counts()
	e.log.Info("took the connection over", zap.String("account", e.account.key.owner), zap.Int("people", n.People), zap.Int("contacts", n.Contacts),
		zap.Int("pending", n.Pending), zap.Duration("took", took))
}

// readFirst is how long nothing is sent while reading begins: what was owed may not be wanted any more.
const readFirst = 500 * time.Millisecond

// resume begins to work: reading goes on where the table stands.
func (e *Engine) resume() error {
	e.mu.Lock()
	e.checkpointer.planning.planner.Rest(e.now().Add(readFirst))
	e.mu.Unlock()
	if err := e.reader.begin(); err != nil {
		return err
	}
	e.ready.Store(true)
	return nil
}
