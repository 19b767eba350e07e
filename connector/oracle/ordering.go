package oracle

import (
	"context"

	"github.com/twmb/franz-go/pkg/kgo"

	"segsync/connector/changelog"
	"segsync/connector/commands"
)

// Give gives a command, whether anybody runs or not.
func (w *World) Give(ctx context.Context, c commands.Command) (*commands.Given, error) {
	opts := []kgo.Opt{kgo.SeedBrokers(w.brokers...), kgo.Dialer(w.own.DialContext), kgo.DisableClientMetrics()}
	cl, err := kgo.NewClient(opts...)
	if err != nil {
		return nil, err
	}
	defer cl.Close()
	if err := changelog.Ensure(ctx, cl, commands.Topic(prefix)); err != nil {
		return nil, err
	}
	c.Connection, c.By = connection, "ann"
	return commands.Give(ctx, opts, prefix, c)
}

// How segsync is called in a world.
const (
	prefix     = "segsync"
	connection = "demo"
)
