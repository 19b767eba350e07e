// Package deadletter makes the records of what could not be delivered: the original bytes and headers, and headers
// that say where it came from and why it is here. Reading and redriving them is not here yet.
package deadletter

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
)

// Reason is why a record is a dead letter. None of it carries a person's data.
type Reason struct {
	Connection, Export string
	Stage              string // decode, map, fold, deliver
	Class              string // segsync's word for it
	Message            string
	Code               string // the API's exact code
	Masked             string // the address, masked
}

// prefix begins the headers, as Kafka Connect's do.
const prefix = "__connect.errors."

// most bounds key and value of a dead letter: a record of the largest size that a broker takes has no room for the
// headers, so it goes without its value.
const most = 900_000

// Of makes the dead letter of a record. The record's bytes are copied: keeping them would keep its whole fetched batch.
func Of(topic string, r *kgo.Record, why Reason) *kgo.Record {
	d := &kgo.Record{Topic: topic, Key: slices.Clone(r.Key)}
	size := len(r.Key) + len(r.Value)
	for _, h := range r.Headers {
		size += len(h.Key) + len(h.Value)
	}
	truncated := size > most
	if !truncated {
		d.Value = slices.Clone(r.Value)
		for _, h := range r.Headers {
			d.Headers = append(d.Headers, kgo.RecordHeader{Key: h.Key, Value: slices.Clone(h.Value)})
		}
	} else if len(r.Key) > most {
		d.Key = nil
	}
	d.Headers = append(d.Headers, headers(r.Topic, r.Partition, r.Offset, why)...)
	if truncated {
		d.Headers = append(d.Headers, header("value.omitted", strconv.Itoa(len(r.Value))+" bytes"))
	}
	return d
}

// At makes the dead letter of a contact that was refused: where its newest profile was read, without its bytes.
func At(topic, source string, partition int32, offset int64, why Reason) *kgo.Record {
	return &kgo.Record{Topic: topic, Headers: headers(source, partition, offset, why)}
}

func header(name, v string) kgo.RecordHeader {
	return kgo.RecordHeader{Key: prefix + name, Value: []byte(v)}
}

func headers(topic string, partition int32, offset int64, why Reason) []kgo.RecordHeader {
	all := []kgo.RecordHeader{
		header("topic", topic), header("partition", strconv.Itoa(int(partition))), header("offset", strconv.FormatInt(offset, 10)),
		header("connector.name", why.Connection), header("stage", why.Stage), header("class", why.Class),
		header("exception.message", why.Message),
	}
	for _, h := range []kgo.RecordHeader{header("export", why.Export), header("code", why.Code), header("address", why.Masked)} {
		if len(h.Value) > 0 {
			all = append(all, h)
		}
	}
	return all
}

// Size is roughly what a dead letter takes, in bytes.
func Size(r *kgo.Record) int {
	n := len(r.Key) + len(r.Value) + 200
	for _, h := range r.Headers {
		n += len(h.Key) + len(h.Value)
	}
	return n
}

// Ensure makes the topic of dead letters if it is not there.
func Ensure(ctx context.Context, cl *kgo.Client, topic string) error {
	adm := kadm.NewClient(cl)
	details, err := adm.ListTopics(ctx, topic)
	if err != nil {
		return fmt.Errorf("describing topic %s: %w", topic, err)
	}
	if !errors.Is(details[topic].Err, kerr.UnknownTopicOrPartition) {
		return details[topic].Err
	}
	if _, err := adm.CreateTopic(ctx, 1, -1, nil, topic); err != nil && !errors.Is(err, kerr.TopicAlreadyExists) {
		return fmt.Errorf("creating topic %s: %w; create it, or grant Create on it", topic, err)
	}
	return nil
}
