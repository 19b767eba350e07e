package connector

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"sync"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"
	"go.uber.org/zap"

	"segsync/connector/changelog"
	"segsync/connector/commands"
)

// Report is what a process has told of a connection: each that works it, stands by or waits tells every few seconds, in the
// compacted topic <prefix>-status, so that anybody who reaches Kafka can ask how things stand.
type Report struct {
	Process string    `json:"process"` // its instance id
	At      time.Time `json:"at"`
	Status  Status    `json:"status"`
}

// reportWithin is how long a report may take; reportBusy how often there is one while a backfill is under way.
const (
	reportWithin = 5 * time.Second
	reportBusy   = time.Second
)

// ReportStale is how old a report may be before nothing is known of its process any more.
const ReportStale = 30 * time.Second

// ReportsTopic is where the processes of a prefix report.
func ReportsTopic(prefix string) string { return prefix + "-status" }

// report tells how the connection stands, until ctx ends. That it cannot hinders nothing.
func (c *Connection) report(ctx context.Context) {
	process := c.cfg.Instance
	if process == "" {
		process = "dynamic-" + commands.NewID()
	}
	key := []byte(c.cfg.Name + "/" + process)
	cl, err := kgo.NewClient(append(append([]kgo.Opt(nil), c.cfg.Kafka...), kgo.RecordPartitioner(kgo.ManualPartitioner()),
		kgo.DisableIdempotentWrite(), kgo.UnknownTopicRetries(-1), kgo.MaxBufferedRecords(4), kgo.RecordDeliveryTimeout(reportWithin))...) // nothing of it waits for Kafka
	if err != nil {
		return
	}
	defer cl.Close()
	topic, there := ReportsTopic(c.cfg.Prefix), false
	var told sync.Once
	tell := func(ctx context.Context, value []byte) {
		failed := func(err error) {
			told.Do(func() {
				c.cfg.Log.Warn("how the connection stands cannot be reported", zap.String("topic", topic), zap.Error(err))
			})
		}
		if !there {
			ctx, cancel := context.WithTimeout(ctx, reportWithin)
			defer cancel()
			if err := changelog.Ensure(ctx, cl, topic); err != nil {
				failed(err)
				return
			}
			there = true
		}
		cl.TryProduce(context.WithoutCancel(ctx), &kgo.Record{Topic: topic, Key: key, Value: value}, func(_ *kgo.Record, err error) {
			if err != nil && ctx.Err() == nil {
				failed(err)
			}
		})
	}
	again := time.NewTimer(0)
	defer again.Stop()
	sweep := time.NewTimer(time.Hour)
	defer sweep.Stop()
	for {
		select {
		case <-sweep.C:
			c.forgetDead(ctx, cl)
		case <-again.C:
			s := c.Status()
			value, _ := json.Marshal(Report{Process: process, At: time.Now().UTC(), Status: s})
			tell(ctx, value)
			pause := c.cfg.Times.Report
			if len(s.Backfills) > 0 { // somebody looks on
				pause = min(pause, reportBusy)
			}
			again.Reset(pause)
		case <-ctx.Done():
			if !there {
				return
			}
			tell(ctx, nil)
			ended, cancel := context.WithTimeout(context.WithoutCancel(ctx), reportWithin)
			defer cancel()
			_ = cl.Flush(ended)
			return
		}
	}
}

// reportDead is how old a report is of a process that will not come back.
const reportDead = 24 * time.Hour

// forgetDead takes away the reports of processes that have ended in disorder long ago: those without an instance id have a new
// name each time.
func (c *Connection) forgetDead(ctx context.Context, cl *kgo.Client) {
	bounded, cancel := context.WithTimeout(ctx, reportWithin)
	defer cancel()
	all, err := Reports(bounded, c.cfg.Kafka, c.cfg.Prefix)
	if err != nil {
		return // the next process does
	}
	for _, r := range all[c.cfg.Name] {
		if time.Since(r.At) > reportDead {
			cl.TryProduce(context.WithoutCancel(ctx), &kgo.Record{Topic: ReportsTopic(c.cfg.Prefix), Key: []byte(c.cfg.Name + "/" + r.Process)}, nil)
		}
	}
}

// Reports reads what processes tell of connections, by connection. Of processes that have ended in disorder the last report
// stays.
func Reports(ctx context.Context, client []kgo.Opt, prefix string) (map[string][]Report, error) {
	topic := ReportsTopic(prefix)
	cl, err := kgo.NewClient(append(append([]kgo.Opt(nil), client...),
		kgo.ConsumePartitions(map[string]map[int32]kgo.Offset{topic: {0: kgo.NewOffset().AtStart()}}), kgo.KeepControlRecords())...)
	if err != nil {
		return nil, err
	}
	defer cl.Close()
	topics, err := kadm.NewClient(cl).ListTopics(ctx)
	if err != nil {
		return nil, fmt.Errorf("asking Kafka for topic %s: %w", topic, err)
	}
	if !topics.Has(topic) {
		return nil, nil // nobody has run yet
	}
	end, err := changelog.End(ctx, kadm.NewClient(cl), topic)
	if err != nil {
		return nil, err
	}
	last := map[string]Report{}
	for at := int64(-1); at < end; {
		fetches := cl.PollFetches(ctx)
		if err := errors.Join(ctx.Err(), fetches.Err()); err != nil {
			return nil, fmt.Errorf("reading topic %s: %w", topic, err)
		}
		fetches.EachRecord(func(r *kgo.Record) {
			at = r.Offset
			if r.Attrs.IsControl() {
				return
			}
			var report Report
			if len(r.Value) == 0 || json.Unmarshal(r.Value, &report) != nil {
				delete(last, string(r.Key))
				return
			}
			last[string(r.Key)] = report
		})
	}
	all := map[string][]Report{}
	for key, report := range last {
		name, _, _ := strings.Cut(key, "/")
		all[name] = append(all[name], report)
	}
	return all, nil
}
