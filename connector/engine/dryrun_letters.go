package engine

import (
	"cmp"
	"fmt"
	"slices"
	"strings"

	"github.com/twmb/franz-go/pkg/kgo"

	"segsync/connector/deadletter"
	"segsync/mapping"
)

// PlannedLetters are dead letters of one class and message that would be written.
type PlannedLetters struct {
	Class    string   `json:"class"`
	Message  string   `json:"message"`
	Count    int      `json:"count"`
	Examples []string `json:"examples"` // topic/partition/offset
	Sample   string   `json:"sample"`   // the first one's value, masked
}

// examplesMost is how many records are named of dead letters of a kind.
const examplesMost = 3

// letterKind is what dead letters are grouped by.
type letterKind struct{ class, message string }

// countLetters counts the dead letters that would be written, and lets them go.
func (d *dryRun) countLetters() {
	d.mu.Lock()
	defer d.mu.Unlock()
	for _, r := range d.checkpointer.letters.cutLocked() {
		from := deadletter.Told(r)
		k := letterKind{string(from.Class), from.Message}
		x := d.lettersBy[k]
		if x == nil {
			x = &PlannedLetters{Class: k.class, Message: k.message, Sample: d.sample(r, from)}
			d.lettersBy[k] = x
		}
		if x.Count++; len(x.Examples) < examplesMost {
			x.Examples = append(x.Examples, deadletter.Position(r))
		}
	}
}

// sampleMost is how long a sample may be, in bytes.
const sampleMost = 400

// sample is the value of a dead letter's record, masked, in one line.
func (d *dryRun) sample(r *kgo.Record, from deadletter.From) string {
	x := d.workers.mappers[d.source].Explain(&mapping.Record{
		Key: r.Key, Value: r.Value, Headers: deadletter.Headers(r), Topic: from.Topic, Partition: from.Partition, Offset: from.Offset, Time: r.Timestamp.UnixNano(), Read: r.Timestamp.UnixNano(),
	})
	if x.Decoded == nil {
		return fmt.Sprintf("%d bytes that are not decoded", len(r.Value))
	}
	s := strings.Join(strings.Fields(mapping.Render(x.Decoded, true)), " ")
	if len(s) > sampleMost {
		s = strings.ToValidUTF8(s[:sampleMost], "") + "…"
	}
	return s
}

// planned are the dead letters that would be written, the most frequent first.
func (d *dryRun) planned() (all []PlannedLetters) {
	for _, x := range d.lettersBy {
		all = append(all, *x)
	}
	slices.SortFunc(all, func(a, b PlannedLetters) int {
		return cmp.Or(cmp.Compare(b.Count, a.Count), cmp.Compare(a.Class+a.Message, b.Class+b.Message))
	})
	return all
}
