package oracle

import (
	"fmt"
	"math"
	"os"
	"runtime"
	"testing"
	"testing/synctest"
	"time"

	"github.com/twmb/franz-go/pkg/kfake"

	"segsync/connector"
	"segsync/sink/sandbox"
)

// heap is what is in use once the garbage is gone, in bytes: the least of several looks, for buffers come and go.
func heap() int64 {
	least := int64(math.MaxInt64)
	for range 5 {
		time.Sleep(time.Second)
		runtime.GC()
		runtime.GC()
		var m runtime.MemStats
		runtime.ReadMemStats(&m)
		least = min(least, int64(m.HeapAlloc))
	}
	return least
}

// onDisk is a world whose Kafka keeps its logs in files, so that what is measured is segsync.
func onDisk(t *testing.T) *World {
	t.Helper()
	w, err := NewWorld(WorldOptions{
		Network: &kfake.VirtualNetwork{}, APIAddr: "127.0.0.1:8080", RegAddr: "127.0.0.1:8081", Partitions: 3, Log: testLog(t), DataDir: t.TempDir(),
		Sandbox: sandbox.Options{Latency: 20 * time.Millisecond, ImportTime: 2 * time.Second},
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(w.Close)
	w.Tune = func(c *connector.Config) { c.Breaker = connector.Breaker{Rejects: 1 << 30, OfLast: 1} }
	return w
}

// say produces n events of some people, made by f.
func (w *World) say(t *testing.T, n int, f func(i int) Event) {
	t.Helper()
	const chunk = 2000
	for i := 0; i < n; i += chunk {
		var events []Event
		for j := range min(chunk, n-i) {
			events = append(events, f(i+j))
		}
		if err := w.Produce(t.Context(), events...); err != nil {
			t.Fatal(err)
		}
	}
}

// read waits until everything is read.
func (w *World) read(t *testing.T, p *Process, events uint64) {
	t.Helper()
	for end := time.Now().Add(time.Hour); ; time.Sleep(time.Second) {
		s := p.Connection.Status()
		if s.State == "running" && s.Lag == 0 && s.Counters.Events >= events {
			return
		}
		if time.Now().After(end) {
			t.Fatalf("not read: %+v", s)
		}
	}
}

// grows fails if memory has grown by more than a bound, in bytes.
func grows(t *testing.T, before, most int64) {
	t.Helper()
	if grown := heap() - before; grown > most {
		t.Errorf("memory has grown by %d bytes, more than %d", grown, most)
	} else {
		t.Logf("memory has grown by %d bytes", grown)
	}
}

// hotEvents is how many events the hot person has: ten million where there is time (SEGSYNC_SOAK), else fewer.
func hotEvents() int {
	switch {
	case os.Getenv("SEGSYNC_SOAK") != "":
		return 10_000_000
	case slower > 1:
		return 30_000
	}
	return 200_000
}

// S20: events of one person, while the API does not answer, take no memory.
func TestS20AHotPersonInAnOutage(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := onDisk(t)
		w.Sandbox.Order(sandbox.Fault{Status: 503, Endpoint: "/contacts", Method: "POST", Count: -1})
		p := w.start(t, "a")
		hot := func(i int) Event {
			return Event{Person: "hot", Segment: "vip", In: i%3 > 0, At: time.Now(), Partition: 0, Profile: &Profile{Email: fmt.Sprintf("hot%d@example.com", i%4), First: fmt.Sprint(i)}}
		}
		n := 20_000
		w.say(t, n, hot)
		w.read(t, p, uint64(n))
		before := heap()
		w.say(t, hotEvents(), hot)
		w.read(t, p, uint64(n+hotEvents()))
		grows(t, before, 8<<20)
		w.Sandbox.Mend()
		p.Stop()
	})
}

// Promise 8: an outage of six hours takes as much memory as the people in it, however often they change.
func TestASixHourOutage(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := onDisk(t)
		p := w.start(t, "a")
		const people = 300
		n := 0
		change := func(i int) Event {
			n++
			return Event{Person: fmt.Sprint(i % people), Segment: "vip", In: n%5 > 0, At: time.Now(), Partition: -1, Profile: &Profile{Email: fmt.Sprintf("p%d@example.com", i%people), First: fmt.Sprint(n)}}
		}
		w.say(t, people, change)
		w.converge(t, 10*time.Minute)
		w.Sandbox.Order(sandbox.Fault{Hang: true, Endpoint: "/contacts", Count: -1})
		hour := func() {
			for range 60 / slower {
				time.Sleep(time.Minute)
				w.say(t, people/6, change)
			}
		}
		hour()
		before := heap()
		for range max(1, 5/slower) {
			hour()
		}
		grows(t, before, 8<<20)
		if s := p.Connection.Status(); s.Lag > 0 || s.Pending == 0 {
			t.Errorf("an outage of the API stops reading: %+v", s)
		}
		w.Sandbox.Mend()
		w.converge(t, time.Hour)
		p.Stop()
	})
}

// A hundred thousand dead letters leave nothing behind but the letters.
func TestAHundredThousandDeadLetters(t *testing.T) {
	letters := 100_000 / slower
	synctest.Test(t, func(t *testing.T) {
		w := onDisk(t)
		p := w.start(t, "a")
		bad := func(int) Event { return Event{Poison: []byte{9, 9, 9}, Partition: 0} }
		w.say(t, 2000, bad)
		w.read(t, p, 2000)
		before := heap() - int64(len(w.poison)*64)
		w.say(t, letters, bad)
		w.read(t, p, uint64(2000+letters))
		time.Sleep(5 * time.Second)
		grows(t, before, 8<<20+int64(len(w.poison)*64)) // the world remembers where they lie
		untold, err := w.Untold(t.Context())
		if err != nil || len(untold) > 0 {
			t.Errorf("%d records have no dead letter, %v", len(untold), err)
		}
		p.Stop()
	})
}
