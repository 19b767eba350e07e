package engine

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
	"go.uber.org/zap"

	"segsync/connector/changelog"
	"segsync/connector/deadletter"
)

// letters are the dead letters that wait for the next checkpoint. One must never keep rows and offsets from being
// written: a letter that Kafka refuses is cut, and if that does not help it is dropped, which is told. Rows never are.
//
// Races: a checkpoint takes the letters, more come, it is refused: those that it held go before the others into the next.
//
// +checklocksalias:holds.mu=mu
// +checklocksalias:breaker.mu=mu
type letters struct {
	*core
	holds   *holds
	breaker *breaker
	changes *changelog.Log

	// +checklocks:mu
	waiting []*kgo.Record
	// +checklocks:mu
	bytes int
	// +checklocks:mu
	warned map[deadletter.Class]*repeated
	// +checklocks:mu
	remade time.Time // when their topic was last made again
	// +checklocks:mu
	repeats int // checkpoints that were repeated for them, in a row
}

// warnEvery throttles what repeats in the log.
const warnEvery = time.Minute

// repeated is something that is logged with its count.
type repeated struct {
	at time.Time
	n  int
}

// passingMost is how often a checkpoint is repeated for dead letters whose topic is not well for a moment, before they are
// dropped; toldFor is for how long a loss of some is told.
const (
	passingMost = 5
	toldFor     = 10 * time.Minute
)

var lettersRefused = holdKey{code: "dead_letters_refused"}

// ofLocked keeps the letter of a record. One that is read again, is no sign that something is wrong now.
//
// +checklocks:l.mu
func (l *letters) ofLocked(r *kgo.Record, class deadletter.Class, message string, again bool, now time.Time) {
	l.addLocked(deadletter.Of(l.cfg.DeadLetters, r, deadletter.Reason{Connection: l.cfg.Name, Class: class, Message: message}), class, class.Fault() && !again, now)
}

// addLocked keeps a letter for the next checkpoint; fault says that it counts as a reject.
//
// +checklocks:l.mu
func (l *letters) addLocked(d *kgo.Record, class deadletter.Class, fault bool, now time.Time) {
	l.counts.DeadLetters++
	l.meters.letters[class].Inc()
	l.warnLocked(class, now)
	if fault {
		l.breaker.rejectedLocked(now)
	}
	if l.cfg.DeadLetters == "" {
		return
	}
	l.waiting = append(l.waiting, d)
	l.bytes += deadletter.Size(d)
}

// warnLocked says that there are letters of a class, with their count, once in a while.
//
// +checklocks:l.mu
func (l *letters) warnLocked(class deadletter.Class, now time.Time) {
	w := l.warned[class]
	if w == nil {
		w = &repeated{}
		l.warned[class] = w
	}
	w.n++
	if now.Sub(w.at) >= warnEvery {
		l.log.Warn("dead letters", zap.String("class", string(class)), zap.Int("count", w.n), zap.String("topic", l.cfg.DeadLetters))
		w.at, w.n = now, 0
	}
}

// cutLocked hands out those of a checkpoint.
//
// +checklocks:l.mu
func (l *letters) cutLocked() []*kgo.Record {
	all := l.waiting
	l.waiting, l.bytes = nil, 0
	return all
}

// giveBackLocked takes those of a checkpoint back that was not committed.
//
// +checklocks:l.mu
func (l *letters) giveBackLocked(all []*kgo.Record) {
	l.waiting = append(all, l.waiting...)
	for _, d := range all {
		l.bytes += deadletter.Size(d)
	}
}

// committedLocked notes a checkpoint that held so many.
//
// +checklocks:l.mu
func (l *letters) committedLocked(n int, now time.Time) {
	l.repeats = 0
	if n > 0 {
		l.holds.releaseLocked(lettersRefused, now)
	}
}

// refusedLocked cuts the letters of a checkpoint that their topic has refused, drops those that cannot be cut, and
// returns those that remain.
//
// +checklocks:l.mu
func (l *letters) refusedLocked(all []*kgo.Record, refused *changelog.RecordError, now time.Time) []*kgo.Record {
	passing := kerr.IsRetriable(refused.Err) || errors.Is(refused, kgo.ErrRecordTimeout) || errors.Is(refused, kgo.ErrRecordRetries)
	gone := errors.Is(refused, kerr.UnknownTopicOrPartition) || errors.Is(refused, kerr.UnknownTopicID)
	switch {
	case gone && now.Sub(l.remade) > time.Minute: // deleted: it is made again
		l.remade = now
		l.spawn(l.remake)
		return all
	case !gone && passing && l.repeats < passingMost:
		l.repeats++
		return all
	}
	kept := make([]*kgo.Record, 0, len(all))
	var lost []string
	for _, d := range all {
		if !slices.Contains(refused.Records, d) || !gone && !passing && deadletter.Cut(d) {
			kept = append(kept, d)
			continue
		}
		if len(lost) < 10 {
			lost = append(lost, deadletter.Position(d))
		}
		l.meters.lost.Inc()
	}
	if dropped := len(all) - len(kept); dropped > 0 {
		l.log.Error("dead letters could not be written and are dropped", zap.Int("count", dropped), zap.Strings("records", lost), zap.Error(refused))
		l.holds.addLocked(lettersRefused, hold{mend: fmt.Sprintf("topic %s refuses dead letters (%s): they are dropped, and counted; see to the topic", l.cfg.DeadLetters, refused.Err), partial: true, next: now.Add(toldFor)}, now)
	}
	return kept
}

// remake makes the topic again that somebody has deleted.
func (l *letters) remake() {
	ctx, cancel := context.WithTimeout(l.ctx, askCall)
	defer cancel()
	if err := deadletter.Ensure(ctx, l.cl, l.cfg.DeadLetters); err != nil {
		l.log.Warn("the topic of dead letters is gone, and cannot be made again", zap.Error(err))
		return
	}
	l.changes.Forget(l.cfg.DeadLetters)
}
