// Package commands is what people ask of a connection while it runs, or before it does: a small compacted topic,
// <prefix>-commands, that whoever owns a connection reads as it reads its sources. A command's effect, the position behind
// it and what came of it are committed by one checkpoint of the owner: it takes effect once, whoever owns the connection by
// then.
//
// What came of a command is written under the command's own key, so that the compacted topic keeps, of each, who gave it,
// when, why, and what came of it.
package commands

import (
	"cmp"
	"context"
	"crypto/rand"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"strings"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"

	"segsync/connector/backoff"
)

// Kind is what is asked for.
type Kind string

// The kinds of commands.
const (
	Pause    Kind = "pause"    // nothing is sent for the export, or for any of the connection
	Resume   Kind = "resume"   // ends that
	Approve  Kind = "approve"  // the removals that the guard withholds go
	Refuse   Kind = "refuse"   // they stay, until newer events say otherwise
	Retry    Kind = "retry"    // rejected contacts are tried again, and those go that wait for an import that does not end
	Audit    Kind = "audit"    // the list is compared with what was delivered
	Backfill Kind = "backfill" // the source is read again from an earlier point
	Cancel   Kind = "cancel"   // ends a backfill where it stands
	Erase    Kind = "erase"    // all that is held of a person is removed, and they leave the lists
	RunNow   Kind = "run-now"  // an export that is sent at times is sent now
	Forget   Kind = "forget"   // what is held on account of an export that is not configured any more is dropped
)

// Command is one thing that somebody asks of a connection.
type Command struct {
	ID         string    `json:"id"`
	Kind       Kind      `json:"kind"`
	Connection string    `json:"connection"`
	Export     string    `json:"export,omitempty"` // "": the whole connection
	By         string    `json:"by"`
	At         time.Time `json:"at"`
	Reason     string    `json:"reason,omitempty"`
	Repair     *Repair   `json:"repair,omitempty"`     // of an audit
	Range      *Range    `json:"range,omitempty"`      // of a backfill
	Person     *Person   `json:"person,omitempty"`     // of an erasure
	Empty      bool      `json:"empty_list,omitempty"` // forget: its people leave its list, first
	Outcome    *Outcome  `json:"outcome,omitempty"`
}

// Repair is what an audit may mend.
type Repair struct {
	Most   int      `json:"most,omitempty"`   // contacts that are put back at most; 0: all
	Extras []string `json:"extras,omitempty"` // hashes (HashOf) of addresses that nobody of ours wants, to be taken out
}

// Range is what a backfill reads, and what it does beside.
type Range struct {
	From     time.Time `json:"from,omitzero"`      // zero: the log's beginning
	Segments []string  `json:"segments,omitempty"` // only what is said of these; none: all of the source
	Resend   bool      `json:"resend,omitempty"`   // what was delivered is sent again, records are mapped anew
	Sweep    bool      `json:"sweep,omitempty"`    // who is not mentioned leaves
}

// Person is somebody who is to be erased.
type Person struct {
	Source string `json:"source"`
	Hash   string `json:"hash"`             // of source and id, as the table has it, in hexadecimal digits
	Delete bool   `json:"delete,omitempty"` // the contact is deleted from the account, if nobody else carries the address
}

// States of an outcome.
const (
	Begun   = "begun"   // it is under way
	Done    = "done"    // it was carried out
	Refused = "refused" // it was not: the text says why
	Failed  = "failed"  // it could not be carried out
)

// Outcome is what came of a command.
type Outcome struct {
	State  string          `json:"state"`
	Text   string          `json:"text"` // for people
	At     time.Time       `json:"at"`
	Owner  string          `json:"owner,omitempty"` // the process that carried it out
	Detail json.RawMessage `json:"detail,omitempty"`
}

// Over says whether nothing more comes of the command.
func (o *Outcome) Over() bool { return o != nil && o.State != Begun }

// Topic is where the commands of all connections of a prefix are.
func Topic(prefix string) string { return prefix + "-commands" }

// NewID makes the id of a command.
func NewID() string {
	var b [6]byte
	_, _ = rand.Read(b[:]) // it does not fail
	return hex.EncodeToString(b[:])
}

// key keeps a connection's commands apart, and what came of one beside it.
func (c *Command) key() []byte { return []byte(c.Connection + "/" + c.ID) }

// Record is the command as it lies in the topic.
func (c *Command) Record(prefix string) *kgo.Record {
	v, _ := json.Marshal(c) // it has nothing that cannot be encoded
	return &kgo.Record{Topic: Topic(prefix), Key: c.key(), Value: v}
}

// Parse reads a record of the topic. ok is false if it is none of the connection's, or cannot be read.
func Parse(r *kgo.Record, connection string) (c Command, ok bool) {
	if !strings.HasPrefix(string(r.Key), connection+"/") || json.Unmarshal(r.Value, &c) != nil {
		return Command{}, false
	}
	return c, c.Connection == connection && c.ID != "" && string(c.key()) == string(r.Key)
}

// Position is a place in the commands' topic, which may be made again.
type Position struct {
	Topic [16]byte
	Next  int64
}

// Reader reads the commands of a connection in order.
type Reader struct {
	cl         *kgo.Client
	topic      string
	connection string
}

// Open reads a connection's commands from a position on. A topic that was made again is read from its beginning. end is
// how far it goes now.
func Open(ctx context.Context, client []kgo.Opt, prefix, connection string, from Position) (r *Reader, at Position, end int64, err error) {
	topic := Topic(prefix)
	ask, err := kgo.NewClient(client...)
	if err != nil {
		return nil, at, 0, err
	}
	defer ask.Close()
	adm := kadm.NewClient(ask)
	var last int64
	for try := 0; ; try++ {
		at, last, err = look(ctx, adm, topic)
		if err == nil || try == lookTries || ctx.Err() != nil || !kerr.IsRetriable(err) {
			break // one that was made a moment ago is not known everywhere
		}
		backoff.Sleep(ctx, backoff.Pause(100*time.Millisecond, 2*time.Second, try))
	}
	if err != nil {
		return nil, at, 0, fmt.Errorf("asking for the offsets of topic %s: %w", topic, err)
	}
	first := at.Next
	if from.Topic == at.Topic {
		at.Next = max(first, min(from.Next, last))
	}
	cl, err := kgo.NewClient(append(append([]kgo.Opt(nil), client...),
		kgo.ConsumePartitions(map[string]map[int32]kgo.Offset{topic: {0: kgo.NewOffset().At(at.Next)}}),
		kgo.FetchIsolationLevel(kgo.ReadCommitted()), kgo.KeepControlRecords(), kgo.ConsumeResetOffset(kgo.NoResetOffset()),
	)...)
	if err != nil {
		return nil, at, 0, err
	}
	return &Reader{cl: cl, topic: topic, connection: connection}, at, last, nil
}

// lookTries is how often a topic is looked at that is not known yet.
const lookTries = 8

// look asks where the topic begins and ends.
func look(ctx context.Context, adm *kadm.Client, topic string) (first Position, end int64, err error) {
	details, err := adm.ListTopics(ctx, topic)
	if err == nil {
		err = details[topic].Err
	}
	if err != nil {
		return first, 0, err
	}
	starts, err := adm.ListStartOffsets(ctx, topic)
	ends, err2 := adm.ListCommittedOffsets(ctx, topic)
	if err = cmp.Or(err, err2, starts.Error(), ends.Error()); err != nil {
		return first, 0, err
	}
	start, _ := starts.Lookup(topic, 0)
	last, _ := ends.Lookup(topic, 0)
	return Position{Topic: details[topic].ID, Next: start.Offset}, last.Offset, nil
}

// Read waits for what comes next, and hands each record of the connection to f; next is the position behind it. Records of
// others come as nil.
func (r *Reader) Read(ctx context.Context, f func(c *Command, next int64)) error {
	fetches := r.cl.PollFetches(ctx)
	if err := ctx.Err(); err != nil {
		return err
	}
	fetches.EachRecord(func(rec *kgo.Record) {
		if c, ok := Parse(rec, r.connection); ok && !rec.Attrs.IsControl() {
			f(&c, rec.Offset+1)
			return
		}
		f(nil, rec.Offset+1)
	})
	return fetches.Err()
}

// Close ends reading.
func (r *Reader) Close() { r.cl.Close() }
