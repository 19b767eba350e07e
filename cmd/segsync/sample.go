package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
	"go.uber.org/zap"

	"segsync/cmd/segsync/config"
	"segsync/connector"
	"segsync/mapping"
)

// sampleFlags are those of check that show how one record is mapped.
type sampleFlags struct {
	of     string
	source string
	show   bool
}

func (f *sampleFlags) add(cmd *cobra.Command) {
	cmd.Flags().StringVar(&f.of, "sample", "", "show how a record is mapped: TOPIC/PARTITION@OFFSET, a file with a record's value as Kafka holds it, or - for the standard input")
	cmd.Flags().StringVar(&f.source, "source", "", "the source that the sample is of, where there are several")
	cmd.Flags().BoolVar(&f.show, "show", false, "show the sample's texts, numbers and dates, which are masked otherwise")
}

// Bounds of what a sample may take.
const (
	sampleMost      = 16 << 20         // bytes
	samplePatience  = 10 * time.Second // of Kafka
	accountPatience = 2 * time.Second  // of the account
)

func (f *sampleFlags) run(cmd *cobra.Command, c *config.Config, offline bool) error {
	w, err := newWiring(c, zap.NewNop())
	if err != nil {
		return &exitError{exitUsage, err}
	}
	defer w.release()
	configs, err := w.connections()
	if err != nil {
		return &exitError{exitUsage, err}
	}
	record, err := f.read(cmd, w)
	if err != nil {
		return &exitError{exitEnvironment, err}
	}
	name, err := f.sourceOf(configs, record)
	if err != nil {
		return &exitError{exitUsage, err}
	}
	var failed error
	for i := range configs {
		cfg := &configs[i]
		at := slices.IndexFunc(cfg.Sources, func(s connector.Source) bool { return s.Name == name })
		if at < 0 {
			continue
		}
		s := &sample{out: &terminal{cmd.OutOrStdout()}, cfg: cfg, source: at, masked: !f.show}
		if err := s.tell(cmd.Context(), w, record, offline); err != nil && failed == nil {
			failed = &exitError{exitFailed, err}
		}
	}
	return failed
}

var recordForm = regexp.MustCompile(`^([A-Za-z0-9._-]+)/(\d+)@(\d+)$`)

// read gets the sample's bytes.
func (f *sampleFlags) read(cmd *cobra.Command, w *wiring) (*mapping.Record, error) {
	now := time.Now().UnixNano()
	if m := recordForm.FindStringSubmatch(f.of); m != nil {
		partition, err := strconv.ParseInt(m[2], 10, 32)
		if err != nil {
			return nil, fmt.Errorf("sample %s: %w", f.of, err)
		}
		offset, err := strconv.ParseInt(m[3], 10, 64)
		if err != nil {
			return nil, fmt.Errorf("sample %s: %w", f.of, err)
		}
		return fetch(cmd.Context(), w.kafka, m[1], int32(partition), offset)
	}
	in := cmd.InOrStdin()
	if f.of != "-" {
		file, err := os.Open(f.of)
		if err != nil {
			return nil, fmt.Errorf("sample: %w: give a file, TOPIC/PARTITION@OFFSET, or -", err)
		}
		defer func() { _ = file.Close() }()
		in = file
	}
	b, err := io.ReadAll(io.LimitReader(in, sampleMost))
	if err != nil {
		return nil, fmt.Errorf("sample: %w", err)
	}
	if len(b) == 0 {
		return nil, errors.New("sample: there are no bytes")
	}
	return &mapping.Record{Value: b, Time: now, Read: now}, nil
}

// fetch reads one record of a topic.
func fetch(ctx context.Context, kafka []kgo.Opt, topic string, partition int32, offset int64) (*mapping.Record, error) {
	opts := slices.Concat(kafka, []kgo.Opt{
		kgo.ConsumePartitions(map[string]map[int32]kgo.Offset{topic: {partition: kgo.NewOffset().At(offset)}}),
		kgo.ConsumeResetOffset(kgo.NoResetOffset()),
	})
	cl, err := kgo.NewClient(opts...)
	if err != nil {
		return nil, err
	}
	defer cl.Close()
	ctx, cancel := context.WithTimeout(ctx, samplePatience)
	defer cancel()
	name := fmt.Sprintf("%s/%d@%d", topic, partition, offset)
	if err := holds(ctx, kadm.NewClient(cl), topic, partition, offset); err != nil {
		return nil, fmt.Errorf("sample %s: %w", name, err)
	}
	fetches := cl.PollRecords(ctx, 1)
	switch err := fetches.Err(); {
	case errors.Is(err, context.DeadlineExceeded), err == nil && fetches.NumRecords() == 0:
		return nil, fmt.Errorf("sample %s: there is no such record any more, or Kafka does not answer", name)
	case err != nil:
		return nil, fmt.Errorf("sample %s: %w", name, err)
	}
	r := fetches.Records()[0]
	if r.Offset != offset {
		return nil, fmt.Errorf("sample %s: there is no such record; the next one is %s/%d@%d", name, topic, partition, r.Offset)
	}
	out := &mapping.Record{
		Key: r.Key, Value: r.Value, Topic: topic, Partition: partition, Offset: offset, Headers: map[string][]byte{},
		Time: r.Timestamp.UnixNano(), Read: time.Now().UnixNano(),
	}
	for _, h := range r.Headers {
		out.Headers[h.Key] = h.Value
	}
	return out, nil
}

// holds says whether a partition has an offset.
func holds(ctx context.Context, adm *kadm.Client, topic string, partition int32, offset int64) error {
	first, err := adm.ListStartOffsets(ctx, topic)
	if err != nil {
		return err
	}
	end, err := adm.ListEndOffsets(ctx, topic)
	if err != nil {
		return err
	}
	from, known := first.Lookup(topic, partition)
	to, _ := end.Lookup(topic, partition)
	switch {
	case !known || errors.Is(from.Err, kerr.UnknownTopicOrPartition):
		return errors.New("the topic has no such partition, or may not be described")
	case from.Err != nil:
		return from.Err
	case to.Err != nil:
		return to.Err
	case offset < from.Offset || offset >= to.Offset:
		return fmt.Errorf("the partition holds the offsets from %d up to %d", from.Offset, to.Offset-1)
	}
	return nil
}

// sourceOf names the source that a sample is of: the one that was asked for, that reads its topic, or that is the only one.
func (f *sampleFlags) sourceOf(configs []connector.Config, r *mapping.Record) (string, error) {
	names := map[string]bool{}
	for i := range configs {
		for _, s := range configs[i].Sources {
			if f.source == "" && r.Topic != "" && !reads(&s, r.Topic) {
				continue
			}
			names[s.Name] = true
		}
	}
	switch {
	case f.source != "" && names[f.source]:
		return f.source, nil
	case f.source != "":
		return "", fmt.Errorf("source %s: no export uses one of that name", f.source)
	case len(names) == 1:
		return slices.Collect(maps.Keys(names))[0], nil
	case len(names) == 0 && r.Topic != "":
		return "", fmt.Errorf("no source that an export uses reads topic %s: name one with --source", r.Topic)
	case len(names) == 0:
		return "", errors.New("no export uses a source")
	}
	return "", fmt.Errorf("which source is the sample of? Give --source, one of %s", strings.Join(slices.Sorted(maps.Keys(names)), ", "))
}

func reads(s *connector.Source, topic string) bool {
	if s.Regex == "" {
		return slices.Contains(s.Topics, topic)
	}
	re, err := regexp.Compile(s.Regex)
	return err == nil && re.MatchString(topic)
}
