package connector

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"segsync/connector/engine"
)

// AuditReport is what an audit found of an export's list.
type AuditReport struct {
	Connection string        `json:"connection"`
	Export     string        `json:"export"`
	List       int64         `json:"list"`
	Delivered  int           `json:"delivered"` // contacts that should be in, by what was delivered
	Began      time.Time     `json:"began"`
	Took       time.Duration `json:"took_ns"`
	Pending    int           `json:"pending"` // contacts of the connection that are not as wanted, and known not to be
	Repair     bool          `json:"repair"`
	Findings   Findings      `json:"findings"`
}

// Audit compares the lists of exports (all, if none is named) with what was delivered, while no replica runs. What an
// import has lost is sent again when segsync runs; with repair so are those whom somebody took out, and attributes that
// somebody has changed. tell is told of each list before it is read.
func (c *Connection) Audit(ctx context.Context, exports []string, repair bool, tell func(export string, list int64)) (all []AuditReport, err error) {
	repair = repair || c.cfg.Audit.Repair
	var failed []error // of single lists: the others' findings count
	err = c.offline(ctx, func(o *engine.Operator, _ time.Time) error {
		if err := o.Trust(ctx); err != nil {
			return fmt.Errorf("%w: %w", ErrEnvironment, err)
		}
		reader := c.cfg.Sender(func() bool { return true })
		for i := range c.cfg.Exports {
			x := &c.cfg.Exports[i]
			if len(exports) > 0 && !slices.Contains(exports, x.Name) {
				continue
			}
			tell(x.Name, x.List)
			a, err := o.Audit(ctx, reader, x, repair)
			if err != nil {
				failed = append(failed, fmt.Errorf("export %s: %w: %w", x.Name, ErrEnvironment, err))
				continue
			}
			all = append(all, AuditReport{
				Connection: c.cfg.Name, Export: x.Name, List: x.List, Delivered: o.Table.In(x.List), Began: a.Began, Took: time.Since(a.Began),
				Pending: o.Table.Counts().Pending, Repair: repair, Findings: a.Found,
			})
		}
		return ctx.Err()
	})
	return all, errors.Join(append(failed, err)...)
}
