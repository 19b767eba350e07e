package connector

import (
	"context"
	"errors"
	"fmt"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"

	"segsync/connector/changelog"
	"segsync/connector/commands"
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
	g := groups[c.cfg.Group()]
	if g.Err != nil && !errors.Is(g.Err, kerr.GroupIDNotFound) {
		return fmt.Errorf("%w: Kafka does not tell whether replicas run: %w", ErrEnvironment, g.Err)
	}
	if len(g.Members) > 0 {
		return fmt.Errorf("%w (%d in group %s; one that was killed counts until its session ends)", ErrRunning, len(g.Members), c.cfg.Group())
	}
	return nil
}

// Forget removes, while no replica runs, everything that segsync holds of a connection: its table, its group, and the
// commands that were given to it.
func (c *Connection) Forget(ctx context.Context) error {
	if err := c.Idle(ctx); err != nil {
		return err
	}
	cl, err := kgo.NewClient(c.cfg.Kafka...)
	if err != nil {
		return err
	}
	defer cl.Close()
	adm, topic := kadm.NewClient(cl), changelog.Name(c.cfg.Prefix, c.cfg.Name)
	if err := commands.Remove(ctx, c.cfg.Kafka, c.cfg.Prefix, c.cfg.Name); err != nil && !errors.Is(err, kerr.UnknownTopicOrPartition) {
		return err
	}
	if _, err := adm.DeleteTopic(ctx, topic); err != nil && !errors.Is(err, kerr.UnknownTopicOrPartition) {
		return fmt.Errorf("deleting topic %s: %w", topic, err)
	}
	if _, err := adm.DeleteGroup(ctx, c.cfg.Group()); err != nil && !errors.Is(err, kerr.GroupIDNotFound) {
		return fmt.Errorf("deleting group %s: %w", c.cfg.Group(), err)
	}
	return nil
}
