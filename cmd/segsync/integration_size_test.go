//go:build integration

package main

import (
	"fmt"
	"os"
	"regexp"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"

	"segsync/connector/oracle"
)

// peak is the most memory that a program has had, in bytes, as the kernel counts it.
func (r *program) peak() int64 {
	r.t.Helper()
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", r.cmd.Process.Pid))
	if err != nil {
		r.t.Fatal(err)
	}
	m := regexp.MustCompile(`VmHWM:\s+(\d+) kB`).FindSubmatch(text)
	if m == nil {
		r.t.Fatalf("no peak in %s", text)
	}
	n, _ := strconv.ParseInt(string(m[1]), 10, 64)
	return n << 10
}

// S84: batches of 60 or 200 kB that become 60 or 200 MiB each: 3 GB of them take less than the 2 GiB of the sidecar's
// example, and who comes after them is delivered.
func TestIntegrationBatchesThatBecomeLarge(t *testing.T) {
	if why != "" {
		t.Skip(why)
	}
	const partitions = 12
	p := newPlaceAt(t, brokers, fast(), partitions)
	config := p.config(freePort())
	value, err := p.Encode(oracle.Event{Person: "large", Segment: "another", At: time.Now(), Profile: &oracle.Profile{First: strings.Repeat("x", 1<<20)}})
	if err != nil {
		t.Fatal(err)
	}
	for mib, records := range map[int]int{60: 2400, 200: 600} {
		cl, err := kgo.NewClient(kgo.SeedBrokers(p.Brokers()...), kgo.RecordPartitioner(kgo.ManualPartitioner()),
			kgo.ProducerBatchCompression(kgo.GzipCompression()), kgo.ProducerLinger(time.Second), kgo.MaxBufferedRecords(1300),
			kgo.ProducerBatchMaxBytes(int32(mib+1)<<20), kgo.BrokerMaxWriteBytes(1<<30), kgo.BrokerMaxReadBytes(1<<30))
		if err != nil {
			t.Fatal(err)
		}
		defer cl.Close()
		for i := range records {
			cl.Produce(t.Context(), &kgo.Record{Topic: p.prefix + ".events", Partition: int32(i/mib) % partitions, Value: value}, func(_ *kgo.Record, err error) {
				if err != nil {
					t.Error(err)
				}
			})
		}
		if err := cl.Flush(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	p.produce(oracle.History(35, shape(30, 100)))
	t.Setenv("GOMEMLIMIT", "1600MiB") // as in the example
	r := p.start("run", "-c", config)
	p.converge(3 * time.Minute)
	r.says(`"class":"too_large"`, 10*time.Second)
	if most := r.peak(); most > 2<<30 {
		t.Errorf("it took %d MiB", most>>20)
	} else {
		t.Logf("it took %d MiB", most>>20)
	}
	r.end(syscall.SIGTERM)
}
