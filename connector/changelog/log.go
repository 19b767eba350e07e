package changelog

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"
	"github.com/twmb/franz-go/pkg/kversion"

	"segsync/connector/state"
)

// ErrAborted says that a checkpoint was certainly not committed: what it held belongs to the next one.
var ErrAborted = errors.New("the checkpoint was not committed")

// ErrEnded says that the log has another owner, or that the end of a checkpoint is not known: the ownership is over,
// and the log cannot be written again by this client.
var ErrEnded = errors.New("the table's ownership has ended")

// Timeouts of a checkpoint's transaction. A broker that is away longer ends the ownership, not the process.
const (
	transactionTimeout = time.Minute
	deliveryTimeout    = 45 * time.Second
)

// usualBatch is how large a batch may be that any topic takes by default, in bytes.
const usualBatch = 1_000_012

// RecordError says that a record was refused, and of which topic it was.
type RecordError struct {
	Topic   string
	Err     error
	Records []*kgo.Record // of the topic: all that were refused
}

func (e *RecordError) Error() string { return "topic " + e.Topic + ": " + e.Err.Error() }
func (e *RecordError) Unwrap() error { return e.Err }

const sentinel = "sentinel"

// Log writes one connection's rows, and nobody else's can be among them: its transactional id is the connection's.
type Log struct {
	cl      *kgo.Client
	topic   string
	group   string
	v2      bool // the cluster runs transactions of version 2 (KIP-890)
	groupID func() (member string, generation int32)
	static  string
}

// Options of a Log.
type Options struct {
	Topic    string
	ID       string                 // transactional id and group
	Client   []kgo.Opt              // brokers, security, dialer
	Instance string                 // static instance id of the group's member; "" none
	Member   func() (string, int32) // of the group, for the offsets
	Most     int                    // bytes of a batch that every topic written to takes; 0: the usual
}

// Open makes the writing client and fences every predecessor, whose open transaction is aborted by it.
func Open(ctx context.Context, o Options) (*Log, error) {
	l := &Log{topic: o.Topic, group: o.ID, groupID: o.Member, static: o.Instance}
	var err error
	if l.v2, err = transactionsV2(ctx, o.Client); err != nil {
		return nil, fmt.Errorf("asking the cluster for its transaction version: %w", err)
	}
	opts := []kgo.Opt{kgo.ProducerBatchCompression(kgo.Lz4Compression(), kgo.NoCompression())} // unless the client has another
	opts = append(opts, o.Client...)
	opts = append(opts,
		kgo.TransactionalID(o.ID), kgo.TransactionTimeout(transactionTimeout), kgo.RecordDeliveryTimeout(deliveryTimeout),
		kgo.ProducerLinger(0), kgo.RecordPartitioner(kgo.ManualPartitioner()), kgo.MaxBufferedRecords(1<<20),
	)
	if o.Most > 0 {
		opts = append(opts, kgo.ProducerBatchMaxBytes(int32(min(o.Most, usualBatch))))
	}
	if !l.v2 {
		v := kversion.Stable()
		v.SetMaxKeyVersion(int16(kmsg.TxnOffsetCommit), 4) // 5 means that the offsets' partition needs no adding first
		opts = append(opts, kgo.MaxVersions(v))
	}
	if l.cl, err = kgo.NewClient(opts...); err != nil {
		return nil, err
	}
	if _, _, err := l.cl.ProducerID(ctx); err != nil {
		l.cl.Close()
		return nil, fmt.Errorf("fencing the connection's previous owner (transactional id %s): %w", o.ID, err)
	}
	return l, nil
}

// transactionsV2 asks whether the cluster has finalized transaction.version 2.
func transactionsV2(ctx context.Context, opts []kgo.Opt) (bool, error) {
	cl, err := kgo.NewClient(opts...)
	if err != nil {
		return false, err
	}
	defer cl.Close()
	req := kmsg.NewPtrApiVersionsRequest()
	req.ClientSoftwareName, req.ClientSoftwareVersion = "segsync", "1"
	resp, err := req.RequestWith(ctx, cl)
	if err != nil {
		return false, err
	}
	for _, f := range resp.FinalizedFeatures {
		if f.Name == "transaction.version" {
			return f.MaxVersionLevel >= 2, nil
		}
	}
	return false, nil
}

// Forget lets the client look a topic up anew that was made again.
func (l *Log) Forget(topic string) { l.cl.PurgeTopicsFromProducing(topic) }

// Close ends the client; an open transaction is left for the successor's fencing to abort.
func (l *Log) Close() { l.cl.Close() }

// Topic is the changelog's.
func (l *Log) Topic() string { return l.topic }

// Sentinel commits a row behind everything that any predecessor wrote and returns its offset: a restore that has
// read it has read all.
func (l *Log) Sentinel(ctx context.Context) (offset int64, err error) {
	err = l.whole(ctx, func(ctx context.Context) error {
		if err := l.cl.BeginTransaction(); err != nil {
			return fmt.Errorf("%w: %w", ErrEnded, err)
		}
		r, err := l.cl.ProduceSync(ctx, &kgo.Record{Topic: l.topic, Key: []byte(sentinel), Value: []byte{state.Version}}).First()
		if err != nil {
			return fmt.Errorf("%w: writing the sentinel: %w", ErrEnded, err)
		}
		if err := l.cl.EndTransaction(ctx, kgo.TryCommit); err != nil {
			return fmt.Errorf("%w: committing the sentinel: %w", ErrEnded, err)
		}
		offset = r.Offset
		return nil
	})
	return offset, err
}

// transactionMost bounds the wait for a transaction: one that has taken longer is over for the broker.
const transactionMost = 2 * time.Minute

// whole makes a transaction. Its requests must not be cancelled, for they might be carried out unseen: when ctx ends, or
// the wait is over, the whole client goes, and with it the ownership.
func (l *Log) whole(ctx context.Context, transaction func(context.Context) error) error {
	done := make(chan error, 1)
	go func() { done <- transaction(context.WithoutCancel(ctx)) }()
	most := time.NewTimer(transactionMost)
	defer most.Stop()
	select {
	case err := <-done:
		return err
	case <-ctx.Done():
	case <-most.C:
	}
	l.cl.Close()
	return fmt.Errorf("%w: a transaction did not end: %w", ErrEnded, <-done)
}

// Offset is a position in a source partition: everything before Next is in the table.
type Offset struct {
	Topic     string
	ID        [16]byte
	Partition int32
	Next      int64
	Epoch     int32
}

// Checkpoint is what one transaction holds.
type Checkpoint struct {
	Rows    []state.Row
	Records []*kgo.Record // dead letters
	Offsets []Offset
}

// Commit writes a checkpoint: all of it or nothing. The error is ErrAborted or ErrEnded.
func (l *Log) Commit(ctx context.Context, c Checkpoint) error {
	return l.whole(ctx, func(ctx context.Context) error { return l.commit(ctx, c) })
}

func (l *Log) commit(ctx context.Context, c Checkpoint) error {
	if err := l.cl.BeginTransaction(); err != nil {
		return fmt.Errorf("%w: beginning a transaction: %w", ErrEnded, err)
	}
	if err := l.produce(ctx, c); err != nil {
		return l.abort(ctx, err)
	}
	if err := l.commitOffsets(ctx, c.Offsets); err != nil {
		return l.abort(ctx, err)
	}
	err := l.cl.EndTransaction(ctx, kgo.TryCommit)
	switch {
	case err == nil:
		return nil
	case errors.Is(err, kerr.OperationNotAttempted), errors.Is(err, kerr.TransactionAbortable):
		return l.abort(ctx, err)
	}
	return fmt.Errorf("%w: ending a transaction: %w", ErrEnded, err)
}

// produce writes rows and dead letters. With nothing changed it writes the sentinel: offsets alone would open no
// transaction, and EndTransaction would say nothing of it.
func (l *Log) produce(ctx context.Context, c Checkpoint) error {
	var first firstError
	if len(c.Rows) == 0 && len(c.Records) == 0 {
		c.Rows = []state.Row{{Key: []byte(sentinel), Value: []byte{state.Version}}}
	}
	for _, r := range c.Rows {
		l.cl.Produce(ctx, &kgo.Record{Topic: l.topic, Key: r.Key, Value: r.Value}, first.keep)
	}
	for _, r := range c.Records {
		r.Timestamp = time.Time{} // of a try that was aborted: its time to be written would be over
		l.cl.Produce(ctx, r, first.keep)
	}
	if err := l.cl.Flush(ctx); err != nil {
		return err
	}
	return first.get()
}

// abort ends a transaction that is not to be. Only if the broker says that it did is it certain.
func (l *Log) abort(ctx context.Context, cause error) error {
	if err := l.cl.AbortBufferedRecords(ctx); err != nil {
		return fmt.Errorf("%w: %w; dropping its records: %w", ErrEnded, cause, err)
	}
	if err := l.cl.EndTransaction(ctx, kgo.TryAbort); err != nil {
		return fmt.Errorf("%w: %w; aborting: %w", ErrEnded, cause, err)
	}
	var refused *RecordError
	if elsewhere := errors.As(cause, &refused) && refused.Topic != l.topic; ended(cause) && !elsewhere { // another topic that is gone is no successor
		return fmt.Errorf("%w: %w", ErrEnded, cause)
	}
	return fmt.Errorf("%w: %w", ErrAborted, cause)
}

// ended says whether an error means that another owner has taken over. Which code says so differs by call and broker.
func ended(err error) bool {
	for _, e := range []error{
		kerr.InvalidProducerEpoch, kerr.ProducerFenced, kerr.InvalidTxnState, kerr.InvalidProducerIDMapping,
		kerr.FencedInstanceID, kerr.UnknownMemberID, kerr.FencedMemberEpoch, kerr.UnknownTopicID,
	} {
		if errors.Is(err, e) {
			return true
		}
	}
	return false
}
