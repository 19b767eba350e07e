package connector

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"segsync/connector/state"
	"segsync/sink"
)

// AuditReport is what an audit found of an export's list.
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

// Audit compares the lists of exports (all, if none is named) with what was delivered, while no replica runs. What an
// import has lost is sent again when segsync runs; with repair so are those whom somebody took out, and attributes that
// somebody has changed. tell is told of each list before it is read.
func (c *Connection) Audit(ctx context.Context, exports []string, repair bool, tell func(export string, list int64)) (all []AuditReport, err error) {
	repair = repair || c.cfg.Audit.Repair
	var failed []error // of single lists: the others' findings count
	err = c.Offline(ctx, func(t *state.Table, _ time.Time) error {
		if err := c.trust(ctx, t); err != nil {
			return err
		}
		sender := c.cfg.Sender(func() bool { return true })
		types := c.cfg.lastTypes(t)
		for i := range c.cfg.Exports {
			x := &c.cfg.Exports[i]
			if len(exports) > 0 && !slices.Contains(exports, x.Name) {
				continue
			}
			tell(x.Name, x.List)
			r, err := c.auditOffline(ctx, t, sender, x, c.cfg.auditable(x.List, types), repair)
			if err != nil {
				failed = append(failed, fmt.Errorf("export %s: %w", x.Name, err))
				continue
			}
			all = append(all, r)
		}
		return ctx.Err()
	})
	return all, errors.Join(append(failed, err)...)
}

func (c *Connection) auditOffline(ctx context.Context, t *state.Table, sender sink.Sender, x *Export, attributes []string, repair bool) (AuditReport, error) {
	a := t.BeginAudit(x.List, repair, time.Now())
	defer t.EndAudit()
	run := comparison{a: a, mu: &sync.Mutex{}, sender: sender, pages: true, now: time.Now, after: func() {}}
	if err := run.run(ctx, x.List, attributes, awaitExport(sender)); err != nil {
		return AuditReport{}, fmt.Errorf("%w: %w", ErrEnvironment, err)
	}
	r := AuditReport{Connection: c.cfg.Name, Export: x.Name, List: x.List, Delivered: t.In(x.List), Began: a.Began, Took: time.Since(a.Began), Pending: t.Counts.Pending, Repair: repair, Findings: a.Found}
	a.Close()
	return r, nil
}

// awaitExport looks at an export until it has ended.
func awaitExport(sender sink.Sender) func(context.Context, int64) (sink.Process, error) {
	return func(ctx context.Context, process int64) (sink.Process, error) {
		x := &exporting{process: process, began: time.Now()}
		for time.Since(x.began) < exportMost {
			if sleep(ctx, time.Until(x.due())); ctx.Err() != nil {
				return sink.Process{}, ctx.Err()
			}
			p, err := sender.Process(ctx, process)
			switch {
			case err != nil && !errors.Is(err, sink.ErrNoRoom):
				return p, err
			case err == nil && p.Done:
				return p, nil
			}
			x.last = time.Now()
		}
		return sink.Process{}, fmt.Errorf("the export (process %d) has not ended within %s", process, exportMost)
	}
}

// trust lets the configured key be used, if it belongs to the account that the table was built for.
func (c *Connection) trust(ctx context.Context, t *state.Table) error {
	if c.cfg.Account == nil {
		return nil
	}
	var was builtAccount
	if row := t.Meta(accountKey); row != nil && json.Unmarshal(row, &was) != nil {
		was = builtAccount{}
	}
	mark := c.cfg.Account.Mark()
	if was.Mark != mark {
		ctx, cancel := context.WithTimeout(ctx, askCall)
		defer cancel()
		owner, asked, err := c.cfg.Account.Owner(ctx)
		switch {
		case err != nil:
			return fmt.Errorf("%w: the account behind the key could not be asked for: %w", ErrEnvironment, err)
		case was.Name != "" && was.Name != owner.ID:
			return fmt.Errorf("%w: the key belongs to another account than the lists were delivered to", ErrEnvironment)
		}
		mark = asked
	}
	if !c.cfg.Account.Trust(mark) {
		return fmt.Errorf("%w: the key has changed meanwhile: try again", ErrEnvironment)
	}
	return nil
}
