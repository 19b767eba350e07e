package engine

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"segsync/connector/state"
	"segsync/sink"
)

// Operator is a connection's table in the hands of somebody who asks something of it while nobody owns it.
type Operator struct {
	cfg   *Config
	Table *state.Table

	missing bool // rows are known to be, or a source was found to lack some
	counted bool // the table says how many it must have
}

// Open makes a table of the rows that restore applies.
func Open(cfg *Config, restore func(apply func(key, v []byte) error) error, now time.Time) (*Operator, error) {
	t := state.New(cfg.tableConfig())
	if err := restore(t.Apply); err != nil {
		return nil, err
	}
	have, want, counted := t.Missing() // as it was written: the configuration may name more
	o := &Operator{cfg: cfg, Table: t, missing: counted && have != want || len(t.MetaKeys(damageKey)) > 0, counted: counted}
	cfg.follow(t)
	for _, x := range cfg.Exports {
		if !x.Enabled { // first: what lies in a queue already is held when it is taken from there
			t.Hold(x.List, codeDisabled, now)
		}
	}
	return o, t.Peek(now)
}

// Whole says whether no row of the table is known to be missing. start is where its topic begins.
func (o *Operator) Whole(start int64) bool { return !o.missing && (o.counted || start <= 0) }

// Decide approves or refuses the removals that the guard withholds of an export's list, and of lists that the export once
// fed. It says how many people that concerns.
func (o *Operator) Decide(export string, approved bool, now time.Time) (n int) {
	for _, x := range o.cfg.Exports {
		if x.Name == export {
			n += o.Table.Decide(x.List, approved, now)
		}
	}
	for list, of := range retiredLists(o.Table) {
		if of == export {
			n += o.Table.Decide(list, approved, now)
		}
	}
	return n
}

// Retried is what is tried again.
type Retried struct {
	Rejected          int // contacts
	Imports, Contacts int // that do not end, and that wait for them
}

// Retry lets the rejected contacts of a list try again, and those go that wait for an import that does not end.
func (o *Operator) Retry(list int64, now time.Time) (r Retried) {
	r.Rejected = o.Table.RetryRejected(list, now)
	r.Imports, r.Contacts = o.Table.ToFree(list, now.Add(-o.cfg.Times.ImportStuck))
	return r
}

// Trust lets the configured key be used, if it belongs to the account that the table was built for.
func (o *Operator) Trust(ctx context.Context) error {
	account := o.cfg.Account
	if account == nil {
		return nil
	}
	was, mark := builtFor(o.Table), account.Mark()
	if was.Mark != mark {
		ctx, cancel := context.WithTimeout(ctx, askCall)
		defer cancel()
		owner, asked, err := account.Owner(ctx)
		switch {
		case err != nil:
			return fmt.Errorf("the account behind the key could not be asked for: %w", err)
		case was.Name != "" && was.Name != owner.ID:
			return errors.New("the key belongs to another account than the lists were delivered to")
		}
		mark = asked
	}
	if !account.Trust(mark) {
		return errors.New("the key has changed meanwhile: try again")
	}
	return nil
}

// Audit compares an export's list with what was delivered.
func (o *Operator) Audit(ctx context.Context, reader sink.Reader, x *Export, repair bool) (*state.Audit, error) {
	a := o.Table.BeginAudit(x.List, repair, time.Now())
	defer o.Table.EndAudit()
	c := comparison{audit: a, lock: &sync.Mutex{}, reader: reader, pages: true, now: time.Now, after: func() {}, await: pollExport(reader)}
	if err := c.run(ctx, x.List, o.cfg.auditable(x.List, o.cfg.lastTypes(o.Table))); err != nil {
		return nil, err
	}
	a.Close()
	return a, nil
}
