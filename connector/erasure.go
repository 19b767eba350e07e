package connector

import (
	"context"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"slices"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"

	"segsync/connector/changelog"
	"segsync/connector/commands"
	"segsync/connector/deadletter"
	"segsync/connector/engine"
	"segsync/connector/state"
	"segsync/mapping"
)

// PersonHash is a person as commands and the table name them.
func PersonHash(source, person string) string {
	key := state.KeyOf(source, person)
	return hex.EncodeToString(key[:])
}

// ErasureCheck says what is left of somebody who was erased.
type ErasureCheck struct {
	Connection string  `json:"connection"`
	Command    string  `json:"command"`
	Receipt    *Erased `json:"receipt"`
	Holds      int     `json:"rows_that_hold_them"`       // of the table as it is: they have come back by newer events
	Old        int     `json:"old_rows_until_compaction"` // of its topic, that newer ones have taken the place of
}

// Clean says whether nothing is left.
func (c *ErasureCheck) Clean() bool { return c.Holds+c.Old == 0 }

// CheckErasure looks through the topic of a connection's table for what is left of somebody whom a command has erased.
func CheckErasure(ctx context.Context, cfg *Config, id string) (*ErasureCheck, error) {
	cmd, err := commands.Find(ctx, cfg.Kafka, cfg.Prefix, cfg.Name, id)
	switch {
	case err != nil:
		return nil, fmt.Errorf("%w: %w", ErrEnvironment, err)
	case cmd == nil || cmd.Person == nil:
		return nil, nil
	case cmd.Outcome == nil:
		return nil, fmt.Errorf("%w: the erasure %s is not carried out yet", ErrHalted, id)
	}
	check := &ErasureCheck{Connection: cfg.Name, Command: id, Receipt: &Erased{}}
	if len(cmd.Outcome.Detail) > 0 {
		if err := json.Unmarshal(cmd.Outcome.Detail, check.Receipt); err != nil {
			return nil, err
		}
	}
	b, err := hex.DecodeString(cmd.Person.Hash)
	if err != nil || len(b) != len(state.PersonKey{}) {
		return nil, fmt.Errorf("the command names nobody: %w", err)
	}
	theirs := func(address string) bool { return commands.HashOf(address) == check.Receipt.AddressHash }
	cl, err := kgo.NewClient(cfg.Kafka...)
	if err != nil {
		return nil, err
	}
	defer cl.Close()
	topic := changelog.Name(cfg.Prefix, cfg.Name)
	end, err := changelog.End(ctx, kadm.NewClient(cl), topic)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrEnvironment, err)
	}
	last := map[string]bool{}
	err = changelog.Restore(ctx, cfg.Kafka, topic, end, func(key, row []byte) error {
		about, holds := state.Holds(key, row, state.PersonKey(b), theirs)
		if _, known := last[string(key)]; !about && (len(row) > 0 || !known) {
			return nil
		}
		if last[string(key)] {
			check.Old++
		}
		last[string(key)] = holds
		return nil
	}, nil)
	for _, holds := range last {
		if holds {
			check.Holds++
		}
	}
	return check, err
}

// LettersOf finds the dead letters of a person: as topic/partition/offset of the topic of dead letters. They hold the bytes of
// their records, and go with that topic's retention.
func LettersOf(ctx context.Context, cfg *Config, source int, person string) (all []string, err error) {
	if cfg.DeadLetters == "" {
		return nil, nil
	}
	s := cfg.Sources[source]
	m, err := mapping.NewMapper(s.Spec, s.Value, s.Key)
	if err != nil {
		return nil, err
	}
	w := m.NewWorker()
	err = deadletter.Each(ctx, cfg.Kafka, cfg.DeadLetters, func(r *kgo.Record, from deadletter.From) {
		if at, ok := cfg.SourceOf(from.Topic); !ok || at != source {
			return
		}
		res, _ := w.Map(&mapping.Record{Key: r.Key, Value: r.Value, Topic: from.Topic, Partition: from.Partition, Offset: from.Offset, Time: r.Timestamp.UnixNano(), Read: r.Timestamp.UnixNano()})
		if slices.ContainsFunc(res.Changes, func(c mapping.Change) bool { return c.Person == person }) {
			all = append(all, fmt.Sprintf("%s/%d/%d", r.Topic, r.Partition, r.Offset))
		}
	})
	return all, err
}

// Erased is the receipt of an erasure.
type Erased = engine.Erased
