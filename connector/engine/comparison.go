package engine

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"sync"
	"time"

	"segsync/connector/state"
	"segsync/sink"
)

// comparison runs an audit: the list is read beside everything else, and compared under short locks.
type comparison struct {
	audit  *state.Audit
	lock   sync.Locker // the table's
	reader sink.Reader
	pages  bool // an export has failed before
	now    func() time.Time
	after  func()                                                         // what was found has changed the table; under the lock
	await  func(ctx context.Context, process int64) (sink.Process, error) // the end of an export
}

// seenAtOnce is how many contacts are compared under one lock.
const seenAtOnce = 256

// run reads the list by an export or, where that is refused or fails, by pages.
func (c *comparison) run(ctx context.Context, list int64, attributes []string) error {
	batch := make([]sink.Listed, 0, seenAtOnce)
	flush := func() {
		c.find(func() {
			for i := range batch {
				c.audit.See(&batch[i], c.reader.Carries, c.now())
			}
		})
		batch = batch[:0]
	}
	each := func(l *sink.Listed) {
		batch = batch[:len(batch)+1]
		b := &batch[len(batch)-1]
		if b.Attributes == nil {
			b.Attributes = map[string]string{}
		}
		clear(b.Attributes)
		maps.Copy(b.Attributes, l.Attributes)
		b.Address, b.Blocked = l.Address, l.Blocked
		if len(batch) == cap(batch) {
			flush()
		}
	}
	info, err := c.reader.List(ctx, list)
	var o *sink.OutcomeError
	switch {
	case errors.As(err, &o) && o.Outcome.Absent:
		return fmt.Errorf("list %d does not exist in the account: %w", list, err)
	case err != nil:
		return fmt.Errorf("asking for list %d: %w", list, err)
	}
	if err := c.export(ctx, list, attributes, each); err != nil {
		if ctx.Err() != nil || !c.pages && !errors.Is(err, errRefused) {
			return err
		}
		batch = batch[:0]
		c.find(c.audit.ByPages)
		if paged := c.reader.Members(ctx, list, attributes, each); paged != nil {
			return errors.Join(err, paged)
		}
	}
	flush()
	if listed := int64(c.audit.Found.Listed); 2*listed < info.Contacts {
		return fmt.Errorf("the list was read in part: %d contacts, and the account says that it holds %d", listed, info.Contacts)
	}
	for from, more := uint32(0), true; more && ctx.Err() == nil; more = from != 0 {
		c.find(func() { from = c.audit.Finish(from, c.now()) })
	}
	return c.lookAtMissing(ctx)
}

// find takes up something that was found, under the lock.
func (c *comparison) find(f func()) {
	c.lock.Lock()
	f()
	c.lock.Unlock()
	c.after()
}

// errRefused says that the account exports nothing.
var errRefused = errors.New("the export is refused")

func (c *comparison) export(ctx context.Context, list int64, attributes []string, each func(*sink.Listed)) error {
	id, err := c.reader.Export(ctx, list, attributes)
	var o *sink.OutcomeError
	switch {
	case errors.As(err, &o) && o.Outcome.Verdict != sink.Retry && !o.Outcome.Absent:
		return fmt.Errorf("%w: %w", errRefused, err)
	case err != nil:
		return fmt.Errorf("asking for an export: %w", err)
	}
	p, err := c.await(ctx, id)
	switch {
	case err != nil:
		return err
	case p.Failed || p.File == "":
		return fmt.Errorf("the export (process %d) failed", id)
	}
	return c.reader.Exported(ctx, p.File, attributes, each)
}

// lookAtMissing looks at everybody who was not seen before they are sent again.
func (c *comparison) lookAtMissing(ctx context.Context) error {
	for ctx.Err() == nil {
		var address string
		var ok bool
		c.find(func() { address, ok = c.audit.Gone() })
		if !ok {
			break
		}
		blocked, lists, err := c.reader.Lookup(ctx, address)
		if err != nil {
			return fmt.Errorf("looking at a contact that is missing: %w", err)
		}
		c.find(func() { c.audit.Looked(blocked, lists, c.now()) })
	}
	return ctx.Err()
}
