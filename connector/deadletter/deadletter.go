// Package deadletter makes the records of what could not be delivered: the original bytes and headers, and headers
// that say where it came from and why it is here. Redriving them is not here yet.
package deadletter

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
)

// Reason is why a record is a dead letter. None of it carries a person's data.
type Reason struct {
	Connection, Export string
	Class              Class
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
	if r.Key == nil { // a compacted topic takes no record without one
		d.Key = key(r.Topic, r.Partition, r.Offset)
	}
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
	} else if len(r.Key) > keyMost {
		d.Key = d.Key[:keyMost]
	}
	d.Headers = append(d.Headers, headers(r.Topic, r.Partition, r.Offset, why)...)
	if r.Key == nil {
		d.Headers = append(d.Headers, header("key.null", "true"))
	}
	if truncated {
		d.Headers = append(d.Headers, header("value.omitted", strconv.Itoa(len(r.Value))+" bytes"))
	}
	return d
}

// At makes the dead letter of a contact that was refused: where its newest profile was read, without its bytes.
func At(topic, source string, partition int32, offset int64, why Reason) *kgo.Record {
	return &kgo.Record{Topic: topic, Key: key(source, partition, offset), Headers: headers(source, partition, offset, why)}
}

// key is that of a letter whose record has none.
func key(topic string, partition int32, offset int64) []byte {
	return fmt.Appendf(nil, "%s/%d/%d", topic, partition, offset)
}

// keyMost bounds the key of a letter that was cut, in bytes.
const keyMost = 1 << 10

// Cut takes off a letter what its record brought, so that it takes as little as a letter can: where it was, and why it
// is one, stays. It says whether there was anything to take off.
func Cut(d *kgo.Record) bool {
	before := Size(d)
	d.Value = nil
	if len(d.Key) > keyMost {
		d.Key = d.Key[:keyMost]
	}
	d.Headers = slices.DeleteFunc(d.Headers, func(h kgo.RecordHeader) bool { return !strings.HasPrefix(h.Key, prefix) })
	if Size(d) == before {
		return false
	}
	d.Headers = append(d.Headers, header("cut", "the topic takes no more of the record"))
	return true
}

// Position is where a letter's record lies, as topic/partition/offset.
func Position(d *kgo.Record) string {
	at := map[string]string{}
	for _, h := range d.Headers {
		at[strings.TrimPrefix(h.Key, prefix)] = string(h.Value)
	}
	return at["topic"] + "/" + at["partition"] + "/" + at["offset"]
}

func header(name, v string) kgo.RecordHeader {
	return kgo.RecordHeader{Key: prefix + name, Value: []byte(v)}
}

func headers(topic string, partition int32, offset int64, why Reason) []kgo.RecordHeader {
	all := []kgo.RecordHeader{
		header("topic", topic), header("partition", strconv.Itoa(int(partition))), header("offset", strconv.FormatInt(offset, 10)),
		header("connector.name", why.Connection), header("stage", why.Class.Stage()), header("class", string(why.Class)),
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
