package deadletter

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"
)

// From is where a letter's record came from, and why it is one.
type From struct {
	Topic      string
	Partition  int32
	Offset     int64
	Connection string
	Export     string
	Class      Class
	Message    string
	Code       string
	Masked     string // an address
	nullKey    bool
}

// Told reads what a letter's headers say.
func Told(d *kgo.Record) (f From) {
	for _, h := range d.Headers {
		name, ours := strings.CutPrefix(h.Key, prefix)
		if !ours {
			continue
		}
		v := string(h.Value)
		switch name {
		case "topic":
			f.Topic = v
		case "partition":
			n, _ := strconv.ParseInt(v, 10, 32)
			f.Partition = int32(n)
		case "offset":
			f.Offset, _ = strconv.ParseInt(v, 10, 64)
		case "connector.name":
			f.Connection = v
		case "export":
			f.Export = v
		case "class":
			f.Class = Class(v)
		case "exception.message":
			f.Message = v
		case "code":
			f.Code = v
		case "address":
			f.Masked = v
		case "key.null":
			f.nullKey = true
		}
	}
	return f
}

// Headers are those of the letter's record itself.
func Headers(d *kgo.Record) map[string][]byte {
	all := map[string][]byte{}
	for _, h := range d.Headers {
		if !strings.HasPrefix(h.Key, prefix) {
			all[h.Key] = h.Value
		}
	}
	return all
}

// Each reads the letters that a topic holds now, partition by partition in order. The letter's key is that of its record.
func Each(ctx context.Context, client []kgo.Opt, topic string, each func(d *kgo.Record, from From)) error {
	cl, err := kgo.NewClient(append(append([]kgo.Opt(nil), client...), kgo.FetchIsolationLevel(kgo.ReadCommitted()), kgo.KeepControlRecords())...)
	if err != nil {
		return err
	}
	defer cl.Close()
	adm := kadm.NewClient(cl)
	topics, err := adm.ListTopics(ctx)
	if err != nil || !topics.Has(topic) {
		return err // none was ever written
	}
	starts, err := adm.ListStartOffsets(ctx, topic)
	ends, err2 := adm.ListCommittedOffsets(ctx, topic)
	if err = errors.Join(err, err2, starts.Error(), ends.Error()); err != nil {
		return fmt.Errorf("listing the offsets of topic %s: %w", topic, err)
	}
	left, offsets := map[int32]int64{}, map[int32]kgo.Offset{}
	ends.Each(func(o kadm.ListedOffset) {
		if start, ok := starts.Lookup(topic, o.Partition); ok && start.Offset < o.Offset {
			left[o.Partition], offsets[o.Partition] = o.Offset, kgo.NewOffset().At(start.Offset)
		}
	})
	if len(left) == 0 {
		return nil
	}
	cl.AddConsumePartitions(map[string]map[int32]kgo.Offset{topic: offsets})
	for len(left) > 0 {
		fetches := cl.PollFetches(ctx)
		if err := errors.Join(ctx.Err(), fetches.Err()); err != nil {
			return fmt.Errorf("reading topic %s: %w", topic, err)
		}
		fetches.EachRecord(func(r *kgo.Record) {
			end, reading := left[r.Partition]
			if reading && r.Offset+1 >= end {
				delete(left, r.Partition)
			}
			if !reading || r.Attrs.IsControl() || r.Offset >= end {
				return
			}
			from := Told(r)
			if from.nullKey {
				r.Key = nil
			}
			each(r, from)
		})
	}
	return nil
}
