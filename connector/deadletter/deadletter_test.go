package deadletter

import (
	"bytes"
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kgo"
)

func headerOf(d *kgo.Record, name string) string {
	for _, h := range d.Headers {
		if h.Key == prefix+name {
			return string(h.Value)
		}
	}
	return ""
}

var why = Reason{Connection: "main", Export: "vip", Class: Decode, Message: "why", Code: "code", Masked: "a***@example.com"}

// A letter holds its record's bytes and headers, and where it was and why it is one.
func TestALetterHoldsItsRecord(t *testing.T) {
	r := &kgo.Record{Topic: "events", Partition: 3, Offset: 7, Key: []byte("k"), Value: []byte("v"), Headers: []kgo.RecordHeader{{Key: "own", Value: []byte("h")}}}
	d := Of("dlq", r, why)
	if d.Topic != "dlq" || string(d.Key) != "k" || string(d.Value) != "v" || d.Headers[0].Key != "own" || Position(d) != "events/3/7" {
		t.Errorf("%+v", d)
	}
	for name, want := range map[string]string{"connector.name": "main", "export": "vip", "stage": "decode", "class": "decode", "exception.message": "why", "code": "code", "address": "a***@example.com", "key.null": ""} {
		if got := headerOf(d, name); got != want {
			t.Errorf("%s is %q, not %q", name, got, want)
		}
	}
	r.Value[0] = 'x'
	if string(d.Value) != "v" {
		t.Error("it keeps the fetched batch")
	}
}

// A record without a key gets one, for a compacted topic takes none without.
func TestALetterHasAKey(t *testing.T) {
	d := Of("dlq", &kgo.Record{Topic: "events", Partition: 3, Offset: 7}, why)
	if string(d.Key) != "events/3/7" || headerOf(d, "key.null") != "true" {
		t.Errorf("%+v", d)
	}
	if d = At("dlq", "events", 3, 7, why); string(d.Key) != "events/3/7" || d.Value != nil {
		t.Errorf("%+v", d)
	}
}

// What is too large for any topic goes without its value; what a topic does not take is cut further, once.
func TestALetterIsCut(t *testing.T) {
	r := &kgo.Record{Topic: "events", Key: bytes.Repeat([]byte("k"), 2*keyMost), Value: make([]byte, most+1), Headers: []kgo.RecordHeader{{Key: "own"}}}
	d := Of("dlq", r, why)
	if d.Value != nil || len(d.Key) != keyMost || headerOf(d, "value.omitted") == "" || headerOf(d, "own") != "" {
		t.Errorf("%d bytes of a key, %d of a value", len(d.Key), len(d.Value))
	}
	small := Of("dlq", &kgo.Record{Topic: "events", Key: []byte("k"), Value: []byte("v"), Headers: r.Headers}, why)
	before := Size(small)
	if !Cut(small) || small.Value != nil || Size(small) == before || slices.ContainsFunc(small.Headers, func(h kgo.RecordHeader) bool { return h.Key == "own" }) || Position(small) != "events/0/0" {
		t.Errorf("%+v", small)
	}
	bare := At("dlq", "events", 0, 0, why)
	if Cut(bare) {
		t.Error("there was nothing to cut off")
	}
}

// Every class says where it comes about, and is told of in the README.
func TestEveryClassIsKnown(t *testing.T) {
	readme, err := os.ReadFile("../../README.md")
	if err != nil {
		t.Fatal(err)
	}
	for class, stage := range stages {
		if class.Stage() != stage || stage == "" || !strings.Contains(string(readme), "`"+string(class)+"`") {
			t.Errorf("%s: %q", class, stage)
		}
	}
	if len(stages) != 12 || NoAddress.Fault() || !Rejected.Fault() {
		t.Errorf("%d classes", len(stages))
	}
}

func TestTheTopicIsMadeOnce(t *testing.T) {
	c := kfake.MustCluster(kfake.NumBrokers(1))
	defer c.Close()
	cl, err := kgo.NewClient(kgo.SeedBrokers(c.ListenAddrs()...))
	if err != nil {
		t.Fatal(err)
	}
	defer cl.Close()
	for range 2 {
		if err := Ensure(t.Context(), cl, "dlq"); err != nil {
			t.Fatal(err)
		}
	}
	if c.PartitionInfo("dlq", 0) == nil {
		t.Error("there is none")
	}
}
