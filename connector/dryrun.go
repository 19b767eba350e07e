package connector

import (
	"context"
	"fmt"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"

	"segsync/connector/changelog"
	"segsync/connector/commands"
	"segsync/connector/engine"
)

// Plan says what a backfill of an export's source would do now, and writes nothing anywhere. tell is told how many records
// are left of how many.
func Plan(ctx context.Context, cfg *Config, export string, of commands.Range, tell func(left, total int64)) (*Planned, error) {
	full := cfg.WithDefaults()
	if _, err := FindLists(ctx, &full); err != nil {
		return nil, fmt.Errorf("%w: %w", ErrEnvironment, err)
	}
	cl, err := kgo.NewClient(full.Kafka...)
	if err != nil {
		return nil, err
	}
	defer cl.Close()
	topic, end := changelog.Name(full.Prefix, full.Name), int64(-1)
	topics, err := kadm.NewClient(cl).ListTopics(ctx)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrEnvironment, err)
	}
	if topics.Has(topic) {
		if end, err = changelog.End(ctx, kadm.NewClient(cl), topic); err != nil {
			return nil, fmt.Errorf("%w: %w", ErrEnvironment, err)
		}
	}
	p, err := engine.DryRun(ctx, &full, export, of, func(apply func(key, v []byte) error) error {
		if end < 0 {
			return nil
		}
		return changelog.Restore(ctx, full.Kafka, topic, end, apply, nil)
	}, tell)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrEnvironment, err)
	}
	return p, nil
}
