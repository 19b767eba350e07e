package connector

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
	a      *state.Audit
	mu     sync.Locker
	sender sink.Sender
	pages  bool // an export has failed before
	now    func() time.Time
	after  func() // what was found has changed the table; under the lock
}

// seenAtOnce is how many contacts are compared under one lock.
const seenAtOnce = 256

// run reads the list by an export or, where that is refused or fails, by pages.
func (c *comparison) run(ctx context.Context, list int64, attributes []string, await func(context.Context, int64) (sink.Process, error)) error {
	batch := make([]sink.Listed, 0, seenAtOnce)
	flush := func() {
		c.mu.Lock()
		defer c.mu.Unlock()
		for i := range batch {
			c.a.See(&batch[i], c.sender.Carries, c.now())
		}
		c.after()
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
	info, err := c.sender.List(ctx, list)
	var o *sink.OutcomeError
	switch {
	case errors.As(err, &o) && o.Outcome.Absent:
		return fmt.Errorf("list %d does not exist in the account: %w", list, err)
	case err != nil:
		return fmt.Errorf("asking for list %d: %w", list, err)
	}
	if err := c.export(ctx, list, attributes, await, each); err != nil {
		if ctx.Err() != nil || !c.pages && !errors.Is(err, errRefused) {
			return err
		}
		batch = batch[:0]
		c.mu.Lock()
		c.a.ByPages()
		c.mu.Unlock()
		if paged := c.sender.Members(ctx, list, attributes, each); paged != nil {
			return errors.Join(err, paged)
		}
	}
	flush()
	if listed := int64(c.a.Found.Listed); 2*listed < info.Contacts {
		return fmt.Errorf("the list was read in part: %d contacts, and the account says that it holds %d", listed, info.Contacts)
	}
	for from, more := uint32(0), true; more && ctx.Err() == nil; {
		c.mu.Lock()
		from = c.a.Finish(from, c.now())
		more = from != 0
		c.after()
		c.mu.Unlock()
	}
	return c.lookAtMissing(ctx)
}

// errRefused says that the account exports nothing.
var errRefused = errors.New("the export is refused")

func (c *comparison) export(ctx context.Context, list int64, attributes []string, await func(context.Context, int64) (sink.Process, error), each func(*sink.Listed)) error {
	id, err := c.sender.Export(ctx, list, attributes)
	var o *sink.OutcomeError
	switch {
	case errors.As(err, &o) && o.Outcome.Verdict != sink.Retry && !o.Outcome.Absent:
		return fmt.Errorf("%w: %w", errRefused, err)
	case err != nil:
		return fmt.Errorf("asking for an export: %w", err)
	}
	p, err := await(ctx, id)
	switch {
	case err != nil:
		return err
	case p.Failed || p.File == "":
		return fmt.Errorf("the export (process %d) failed", id)
	}
	return c.sender.Exported(ctx, p.File, attributes, each)
}

// lookAtMissing looks at everybody who was not seen before they are sent again.
func (c *comparison) lookAtMissing(ctx context.Context) error {
	for ctx.Err() == nil {
		c.mu.Lock()
		address, ok := c.a.Gone()
		c.mu.Unlock()
		if !ok {
			break
		}
		blocked, lists, err := c.sender.Lookup(ctx, address)
		if err != nil {
			return fmt.Errorf("looking at a contact that is missing: %w", err)
		}
		c.mu.Lock()
		c.a.Looked(blocked, lists, c.now())
		c.after()
		c.mu.Unlock()
	}
	return ctx.Err()
}
