package connector

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
	"go.uber.org/zap"

	"segsync/connector/changelog"
	"segsync/connector/deadletter"
)

// What Kafka refuses of a checkpoint. A dead letter must never keep rows and offsets from being written: it is cut,
// and if that does not help it is dropped, which is told. Rows are never dropped.

// takes asks how large a record every topic takes that a checkpoint writes to, in bytes; 0: the usual.
func (e *engine) takes(ctx context.Context, table string) (int, error) {
	most := 0
	for _, topic := range []string{table, e.cfg.DeadLetters} {
		if topic == "" {
			continue
		}
		settings, err := changelog.Settings(ctx, kadm.NewClient(e.cl), topic)
		if err != nil && topic == table {
			return 0, err
		}
		if n := changelog.Most(settings); n > 0 && (most == 0 || n < most) {
			most = n
		}
	}
	return most, nil
}

// rowRoom is how many of the bytes that a topic takes a row may have: the rest are a batch's own.
func rowRoom(most int) int {
	if most == 0 {
		return 0
	}
	return most - most/16 - 1024
}

// tellsRefusal is after how many refused checkpoints in a row somebody is told.
const tellsRefusal = 3

// passingMost is how often a checkpoint is repeated for dead letters whose topic is not well for a moment, before they are
// dropped; toldFor is for how long a loss of some is told.
const (
	passingMost = 5
	toldFor     = 10 * time.Minute
)

var (
	checkpointRefused  = holdKey{code: "checkpoint_refused"}
	deadLettersRefused = holdKey{code: "dead_letters_refused"}
)

// refusedCheckpoint draws the consequences of a checkpoint that Kafka refused, before it is made again. Under the lock.
func (e *engine) refusedCheckpoint(c *cut, err error, now time.Time) {
	var refused *changelog.RecordError
	if errors.As(err, &refused) && refused.Topic == e.cfg.DeadLetters {
		e.lessenDead(c, refused, now)
		return
	}
	if e.aborted++; e.aborted >= tellsRefusal {
		e.holds.add(checkpointRefused, hold{mend: "Kafka does not take what segsync has to write, so nothing is sent and no offset goes on: " + err.Error(), partial: true}, now)
	}
}

// committed ends what refusedCheckpoint has told. Under the lock.
func (e *engine) committed(c *cut, now time.Time) {
	e.aborted, e.waitsDead = 0, 0
	e.holds.release(checkpointRefused, now)
	if len(c.dead) > 0 {
		e.holds.release(deadLettersRefused, now)
	}
}

// lessenDead cuts the dead letters that their topic has refused, or drops those that cannot be cut.
func (e *engine) lessenDead(c *cut, refused *changelog.RecordError, now time.Time) {
	passing := kerr.IsRetriable(refused.Err) || errors.Is(refused, kgo.ErrRecordTimeout) || errors.Is(refused, kgo.ErrRecordRetries)
	gone := errors.Is(refused, kerr.UnknownTopicOrPartition) || errors.Is(refused, kerr.UnknownTopicID)
	switch {
	case gone && now.Sub(e.madeDead) > time.Minute: // deleted: it is made again
		e.madeDead = now
		e.parts.Go(e.makeDeadLetters) // from the checkpointer: the epoch does not end meanwhile
		return
	case !gone && passing && e.waitsDead < passingMost:
		e.waitsDead++
		return
	}
	kept := make([]*kgo.Record, 0, len(c.dead))
	var lost []string
	for _, d := range c.dead {
		if !slices.Contains(refused.Records, d) || !gone && !passing && deadletter.Cut(d) {
			kept = append(kept, d)
			continue
		}
		if len(lost) < 10 {
			lost = append(lost, deadletter.Position(d))
		}
		e.lostDead++
		e.cfg.Metrics.LostLetters.WithLabelValues(e.cfg.Name).Inc()
	}
	dropped := len(c.dead) - len(kept)
	c.dead = kept
	if dropped == 0 {
		return
	}
	e.log.Error("dead letters could not be written and are dropped", zap.Int("count", dropped), zap.Strings("records", lost), zap.Error(refused))
	e.holds.add(deadLettersRefused, hold{mend: fmt.Sprintf("topic %s refuses dead letters (%s): they are dropped, and counted; see to the topic", e.cfg.DeadLetters, refused.Err), partial: true, next: now.Add(toldFor)}, now)
}

// makeDeadLetters makes the topic again that somebody has deleted.
func (e *engine) makeDeadLetters() {
	ctx, cancel := context.WithTimeout(e.ctx, askCall)
	defer cancel()
	if err := deadletter.Ensure(ctx, e.cl, e.cfg.DeadLetters); err != nil {
		e.log.Warn("the topic of dead letters is gone, and cannot be made again", zap.Error(err))
		return
	}
	e.changes.Forget(e.cfg.DeadLetters)
}
