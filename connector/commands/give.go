package commands

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"
)

// HashOf is the name of an address in a command: none lies in the topic.
func HashOf(address string) string {
	sum := sha256.Sum256([]byte(strings.ToLower(strings.TrimSpace(address))))
	return hex.EncodeToString(sum[:16])
}

// Given is a command that lies in the topic.
type Given struct {
	Command
	offset int64
	prefix string
	client []kgo.Opt
}

// giveWithin is how long Kafka may take for a command.
const giveWithin = 30 * time.Second

// Give writes a command. Its id, and when it was given, are filled in where they are not.
func Give(ctx context.Context, client []kgo.Opt, prefix string, c Command) (*Given, error) {
	if c.ID == "" {
		c.ID = NewID()
	}
	if c.At.IsZero() {
		c.At = time.Now().UTC().Truncate(time.Millisecond)
	}
	cl, err := kgo.NewClient(append(append([]kgo.Opt(nil), client...), kgo.RecordPartitioner(kgo.ManualPartitioner()), kgo.UnknownTopicRetries(-1))...) // one that was made a moment ago is not known everywhere
	if err != nil {
		return nil, err
	}
	defer cl.Close()
	ctx, cancel := context.WithTimeout(ctx, giveWithin)
	defer cancel()
	r, err := cl.ProduceSync(ctx, c.Record(prefix)).First()
	if err != nil {
		return nil, fmt.Errorf("writing the command into topic %s: %w", Topic(prefix), err)
	}
	return &Given{Command: c, offset: r.Offset, prefix: prefix, client: client}, nil
}

// ErrNoAnswer says that nobody has carried a command out yet: it stands, and takes effect when somebody does.
var ErrNoAnswer = errors.New("nobody has carried the command out yet")

// Await follows what comes of a command, until nothing more does or ctx ends (ErrNoAnswer). tell is told of each outcome.
func (g *Given) Await(ctx context.Context, tell func(Outcome)) (*Outcome, error) {
	cl, err := kgo.NewClient(append(append([]kgo.Opt(nil), g.client...),
		kgo.ConsumePartitions(map[string]map[int32]kgo.Offset{Topic(g.prefix): {0: kgo.NewOffset().At(g.offset)}}),
		kgo.FetchIsolationLevel(kgo.ReadCommitted()), kgo.ConsumeResetOffset(kgo.NewOffset().AtStart()),
	)...)
	if err != nil {
		return nil, err
	}
	defer cl.Close()
	r := &Reader{cl: cl, connection: g.Connection}
	var last *Outcome
	for !last.Over() {
		err := r.Read(ctx, func(c *Command, _ int64) {
			if c != nil && c.ID == g.ID && c.Outcome != nil && !last.Over() {
				last = c.Outcome
				if tell != nil {
					tell(*last)
				}
			}
		})
		switch {
		case last.Over():
		case ctx.Err() != nil:
			return last, ErrNoAnswer
		case err != nil:
			return last, err
		}
	}
	return last, nil
}

// Remove removes the commands of a connection.
func Remove(ctx context.Context, client []kgo.Opt, prefix, connection string) error {
	ids := map[string]bool{}
	if err := each(ctx, client, prefix, connection, func(c *Command) { ids[c.ID] = true }); err != nil {
		return err
	}
	cl, err := kgo.NewClient(append(append([]kgo.Opt(nil), client...), kgo.RecordPartitioner(kgo.ManualPartitioner()))...)
	if err != nil {
		return err
	}
	defer cl.Close()
	var gone []*kgo.Record
	for id := range ids {
		c := Command{Connection: connection, ID: id}
		gone = append(gone, &kgo.Record{Topic: Topic(prefix), Key: c.key()})
	}
	return cl.ProduceSync(ctx, gone...).FirstErr()
}

// Find finds a command by its id, with what came of it; nil: there is none.
func Find(ctx context.Context, client []kgo.Opt, prefix, connection, id string) (found *Command, err error) {
	all, err := Select(ctx, client, prefix, connection, func(c *Command) bool { return c.ID == id })
	for i := range all {
		if found == nil || all[i].Outcome != nil {
			found = &all[i]
		}
	}
	return found, err
}

// Select finds commands, and what came of them, in the order in which they were written.
func Select(ctx context.Context, client []kgo.Opt, prefix, connection string, which func(c *Command) bool) (all []Command, err error) {
	err = each(ctx, client, prefix, connection, func(c *Command) {
		if which(c) {
			all = append(all, *c)
		}
	})
	return all, err
}

// each reads all commands of a connection, and what came of them.
func each(ctx context.Context, client []kgo.Opt, prefix, connection string, f func(c *Command)) error {
	ctx, cancel := context.WithTimeout(ctx, giveWithin)
	defer cancel()
	r, at, end, err := Open(ctx, client, prefix, connection, Position{})
	if err != nil {
		return err
	}
	defer r.Close()
	for next := at.Next; next < end; {
		err := r.Read(ctx, func(c *Command, behind int64) {
			if next = behind; c != nil {
				f(c)
			}
		})
		if err != nil {
			return fmt.Errorf("reading topic %s: %w", Topic(prefix), err)
		}
	}
	return nil
}
