package connector

import (
	"context"
	"encoding/hex"
	"encoding/json"
	"errors"
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

// MaskAddress hides all of an address but its first letter and domain.
func MaskAddress(address string) string { return state.Mask(address) }

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
	hashes, err := hashesOf(ctx, cfg, cmd.Person.Hash)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrEnvironment, err)
	}
	theirs := func(address string) bool { return hashes[commands.HashOf(address)] }
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

// hashesOf are the hashes of the addresses that all erasures of a person have found: the second one finds none.
func hashesOf(ctx context.Context, cfg *Config, person string) (map[string]bool, error) {
	hashes := map[string]bool{}
	all, err := commands.Select(ctx, cfg.Kafka, cfg.Prefix, cfg.Name, func(c *commands.Command) bool {
		return c.Person != nil && c.Person.Hash == person && c.Outcome != nil
	})
	for i := range all {
		var e Erased
		if json.Unmarshal(all[i].Outcome.Detail, &e) == nil {
			for _, h := range e.AddressHashes {
				hashes[h] = true
			}
		}
	}
	return hashes, err
}

// LettersOf finds the dead letters of a person: as topic/partition/offset of the topic of dead letters. They hold the bytes of
// their records, and go with that topic's retention.
//
// opaque is how many of the source cannot be decoded: whose they are is not known.
func LettersOf(ctx context.Context, cfg *Config, source int, person string) (all []string, opaque int, err error) {
	if cfg.DeadLetters == "" {
		return nil, 0, nil
	}
	s := cfg.Sources[source]
	m, err := mapping.NewMapper(s.Spec, s.Value, s.Key)
	if err != nil {
		return nil, 0, err
	}
	w := m.NewWorker()
	var failed error
	err = deadletter.Each(ctx, cfg.Kafka, cfg.DeadLetters, func(r *kgo.Record, from deadletter.From) {
		if at, ok := cfg.SourceOf(from.Topic); !ok || at != source {
			return
		}
		res, err := w.Map(&mapping.Record{Key: r.Key, Value: r.Value, Headers: deadletter.Headers(r), Topic: from.Topic, Partition: from.Partition, Offset: from.Offset, Time: r.Timestamp.UnixNano(), Read: r.Timestamp.UnixNano()})
		switch {
		case err != nil && !rejects(err):
			failed = err
		case err != nil && len(res.Changes) == 0:
			opaque++
		}
		if slices.ContainsFunc(res.Changes, func(c mapping.Change) bool { return c.Person == person }) {
			all = append(all, fmt.Sprintf("%s/%d/%d", r.Topic, r.Partition, r.Offset))
		}
	})
	return all, opaque, errors.Join(err, failed)
}

// rejects says whether an error is the record's own: it is a dead letter, or stops its source.
func rejects(err error) bool {
	_, rejected := errors.AsType[*mapping.RejectError](err)
	return rejected || errors.Is(err, mapping.ErrHalt)
}

// Erased is the receipt of an erasure.
type Erased = engine.Erased
