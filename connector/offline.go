package connector

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"

	"segsync/connector/changelog"
	"segsync/connector/engine"
)

// ErrRunning says that replicas of the connection run: what was asked for needs that none does.
var ErrRunning = errors.New("replicas of the connection are running: stop them first")

// Idle says whether no process is a member of the connection's group; the error is ErrRunning if one is.
func (c *Connection) Idle(ctx context.Context) error {
	cl, err := kgo.NewClient(c.cfg.Kafka...)
	if err != nil {
		return err
	}
	defer cl.Close()
	groups, err := kadm.NewClient(cl).DescribeGroups(ctx, c.cfg.Group())
	if err != nil {
		return fmt.Errorf("%w: Kafka does not tell whether replicas run: %w", ErrEnvironment, err)
	}
	if g := groups[c.cfg.Group()]; len(g.Members) > 0 {
		return fmt.Errorf("%w (%d in group %s; one that was killed counts until its session ends)", ErrRunning, len(g.Members), c.cfg.Group())
	}
	return nil
}

// takeIdle makes a client and names the table's topic, if no replica runs.
func (c *Connection) takeIdle(ctx context.Context) (*kgo.Client, string, error) {
	if err := c.Idle(ctx); err != nil {
		return nil, "", err
	}
	cl, err := kgo.NewClient(c.cfg.Kafka...)
	return cl, changelog.Name(c.cfg.Prefix, c.cfg.Name), err
}

// offline changes the table while no replica runs: the table is read, f changes it, and one transaction writes what
// changed.
func (c *Connection) offline(ctx context.Context, f func(o *engine.Operator, now time.Time) error) error {
	cl, topic, err := c.takeIdle(ctx)
	if err != nil {
		return err
	}
	defer cl.Close()
	if err := changelog.Check(ctx, kadm.NewClient(cl), topic); err != nil {
		return fmt.Errorf("%w: %w", ErrEnvironment, err)
	}
	log, err := changelog.Open(ctx, changelog.Options{Topic: topic, ID: c.cfg.Group(), Client: c.cfg.Kafka})
	if err != nil {
		return err
	}
	defer log.Close()
	end, err := log.Sentinel(ctx)
	if err != nil {
		return err
	}
	start, err := changelog.Start(ctx, kadm.NewClient(cl), topic)
	if err != nil {
		return err
	}
	now := time.Now()
	o, err := engine.Open(&c.cfg, func(apply func(key, v []byte) error) error {
		return changelog.Restore(ctx, c.cfg.Kafka, topic, end, apply, nil)
	}, now)
	if err != nil {
		return err
	}
	if !o.Whole(start) {
		return fmt.Errorf("%w: the table is not whole: run segsync backfill --from earliest first, for an export of each source", ErrHalted)
	}
	if err := f(o, now); err != nil {
		return err
	}
	return log.Commit(ctx, changelog.Checkpoint{Rows: o.Table.Cut(nil).Rows})
}

// Decide approves or refuses, while no replica runs, the removals that the guard withholds of an export's list, and of
// lists that the export once fed. It says how many people that concerns.
func (c *Connection) Decide(ctx context.Context, export string, approved bool) (n int, err error) {
	err = c.offline(ctx, func(o *engine.Operator, now time.Time) error {
		n = o.Decide(export, approved, now)
		return nil
	})
	return n, err
}

// Retry lets, while no replica runs, the rejected contacts of a list try again, and those go that wait for an import that
// does not end.
func (c *Connection) Retry(ctx context.Context, list int64) (r Retried, err error) {
	err = c.offline(ctx, func(o *engine.Operator, now time.Time) error {
		r = o.Retry(list, now)
		return nil
	})
	return r, err
}

// Forget removes everything that segsync holds of an export: its row, and with the connection's last export the whole
// table.
func (c *Connection) Forget(ctx context.Context) error {
	cl, topic, err := c.takeIdle(ctx)
	if err != nil {
		return err
	}
	defer cl.Close()
	adm := kadm.NewClient(cl)
	if _, err := adm.DeleteTopic(ctx, topic); err != nil {
		return fmt.Errorf("deleting topic %s: %w", topic, err)
	}
	if _, err := adm.DeleteGroup(ctx, c.cfg.Group()); err != nil {
		return fmt.Errorf("deleting group %s: %w", c.cfg.Group(), err)
	}
	return nil
}
