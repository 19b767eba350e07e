//go:build bench

package main

import (
	"context"
	"fmt"
	"math"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"

	"segsync/connector"
	"segsync/connector/oracle"
	"segsync/sink/sandbox"
)

// size of the end-to-end run: BENCH_PEOPLE people, twice as many events.
func size() int {
	if n, err := strconv.Atoi(os.Getenv("BENCH_PEOPLE")); err == nil {
		return n
	}
	return 500_000
}

// runs is how often the end-to-end run is made, each with lists and topics of its own.
func runs() int {
	if n, err := strconv.Atoi(os.Getenv("BENCH_RUNS")); err == nil {
		return n
	}
	return 5
}

// TestBenchEndToEnd measures the run process alone: events a second from the ownership won to the last contact
// delivered, calls against the fewest possible, peak memory, restore time, latency at low load.
func TestBenchEndToEnd(t *testing.T) {
	binary := benchBinary(t)
	t.Logf("machine: %s, %d cores", runtime.GOARCH, runtime.NumCPU())
	for n := range runs() {
		t.Run(fmt.Sprint("run=", n+1), func(t *testing.T) { benchEndToEnd(t, binary, n == 0) })
	}
}

func benchEndToEnd(t *testing.T, binary string, all bool) {
	people := size()
	dir := t.TempDir()
	w := benchWorld(t)
	left := produce(t, w, people)
	config := benchConfig(t, dir, w)
	began := time.Now()
	p := startBench(t, binary, config)
	p.waitOwned()
	owned := time.Since(began)
	want := people - left
	for !settledBench(p.admin, 2*people) || w.Sandbox.Len(42) != want {
		if time.Since(began) > 10*time.Minute {
			t.Fatalf("%d of %d are in the list; %s", w.Sandbox.Len(42), want, p.log.String())
		}
		if s, ok := statusBench(p.admin); ok && os.Getenv("BENCH_VERBOSE") != "" {
			t.Logf("%5.1fs events %d lag %d pending %d in flight %d imports %d list %d", time.Since(began).Seconds(), s.Counters.Events, s.Lag, s.Pending, s.InFlight, s.Imports, w.Sandbox.Len(42))
			time.Sleep(time.Second)
		}
		time.Sleep(50 * time.Millisecond)
	}
	took := time.Since(began) - owned
	for end := time.Now().Add(time.Minute); !benchAudited(p.admin) && time.Now().Before(end); {
		time.Sleep(100 * time.Millisecond)
	}
	s := w.Sandbox.Stats()
	imports, removes := s.Imports, s.Calls["POST /contacts/lists/{id}/contacts/remove"]
	single := s.Calls["POST /contacts"] + s.Calls["PUT /contacts/{id}"]
	rowBytes := float64(len("person-000000.0@example.com;First;Last")) + 3
	fewest := math.Ceil(float64(want)*rowBytes/8e6) + math.Ceil(float64(left)/150)
	calls := imports + removes + single + s.Exports
	if n := s.Calls["GET /contacts"] + s.Calls["GET /contacts/lists/{id}/contacts"]; n > 0 || float64(calls) > 1.02*fewest+1 || s.Exports != 1 {
		t.Errorf("lists were paged through, by %d calls; %d exports; %d calls where %.0f are the fewest", n, s.Exports, calls, fewest)
	}
	rss := p.peak(t)
	p.stop()
	cpu := p.cmd.ProcessState.UserTime() + p.cmd.ProcessState.SystemTime()
	restored := restoreBench(t, binary, config)
	t.Logf("| %d events, %d people | %.0f events/s end to end (%.1f s) |", 2*people, people, float64(2*people)/took.Seconds(), took.Seconds())
	t.Logf("| processor time of the run process | %.1f s: %.0f events/s on two cores of its own |", cpu.Seconds(), 2*float64(2*people)/cpu.Seconds())
	t.Logf("| from the start of the process to the ownership | %s |", owned.Round(time.Millisecond))
	t.Logf("| calls | %d imports + %d removals + %d single + %d export = %.2f × the fewest (%.0f) |", imports, removes, single, s.Exports, float64(calls)/fewest, fewest)
	t.Logf("| peak memory of the run process (0: not told here) | %d MiB |", rss)
	t.Logf("| restore | %s |", restored)
	if all {
		latency, call := latencyBench(t, w, binary, config)
		t.Logf("| median latency from event to delivered at low load | %s = %.2f × one API call (%s) |", latency, float64(latency)/float64(call), call)
	}
}

// benchBinary builds the program.
func benchBinary(t *testing.T) string {
	t.Helper()
	binary := filepath.Join(t.TempDir(), "segsync")
	if out, err := exec.Command("go", "build", "-o", binary, ".").CombinedOutput(); err != nil {
		t.Fatal(string(out))
	}
	return binary
}

// benchWorld is what the program runs against.
func benchWorld(t *testing.T) *oracle.World {
	t.Helper()
	w, err := oracle.NewWorld(oracle.WorldOptions{
		Network: oracle.Loopback{}, Partitions: 6, Sandbox: sandbox.Options{Latency: 20 * time.Millisecond, ImportTime: 500 * time.Millisecond, ExportTime: 500 * time.Millisecond},
		Exports: []oracle.Export{{List: 42, Segments: []string{"vip"}, Attributes: []string{"FIRSTNAME", "LASTNAME"}}},
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(w.Close)
	return w
}

// benchAudited says whether the list was audited, and found to be right.
func benchAudited(admin string) bool {
	s, ok := statusBench(admin)
	return ok && len(s.Exports) == 1 && s.Exports[0].Findings != nil && s.Exports[0].Findings.Wrong() == 0
}

// produce writes two events a person: an entry, then an exit for one in five and a change for the rest.
func produce(t *testing.T, w *oracle.World, people int) (left int) {
	t.Helper()
	at := time.Now().Add(-24 * time.Hour)
	const chunk = 20_000
	events := make([]oracle.Event, 0, chunk)
	flush := func() {
		if err := w.Produce(t.Context(), events...); err != nil {
			t.Fatal(err)
		}
		events = events[:0]
	}
	for round := range 2 {
		for i := range people {
			at = at.Add(time.Millisecond)
			e := oracle.Event{Person: strconv.Itoa(i), Segment: "vip", In: true, At: at, Partition: -1, Profile: &oracle.Profile{Email: fmt.Sprintf("person-%d@example.com", i), First: "First", Last: "Last"}}
			if round == 1 && i%5 == 0 {
				e.In, e.Profile = false, nil
				left++
			}
			if events = append(events, e); len(events) == chunk {
				flush()
			}
		}
	}
	flush()
	return left
}

func benchConfig(t *testing.T, dir string, w *oracle.World) string {
	t.Helper()
	text := configOf(w, "FIRSTNAME: profile.first_name, LASTNAME: profile.last_name", `admin: { addr: "ADMIN" }`)
	file := filepath.Join(dir, "segsync.yaml")
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return file
}

type benchRun struct {
	cmd   *exec.Cmd
	log   *text
	admin string
}

func startBench(t *testing.T, binary, config string) *benchRun {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	admin := l.Addr().String()
	_ = l.Close()
	b, err := os.ReadFile(config)
	if err != nil {
		t.Fatal(err)
	}
	file := config + "." + strings.ReplaceAll(admin, ":", "-")
	if err := os.WriteFile(file, []byte(strings.ReplaceAll(string(b), "ADMIN", admin)), 0o600); err != nil {
		t.Fatal(err)
	}
	p := &benchRun{cmd: exec.Command(binary, "run", "-c", file), log: &text{}, admin: admin}
	p.cmd.Stderr = p.log
	if prof := os.Getenv("BENCH_GODEBUG"); prof != "" {
		p.cmd.Env = append(os.Environ(), prof)
	}
	if err := p.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = p.cmd.Process.Kill() })
	return p
}

// peak is the most memory that the run has had until now, in MiB. What the system says of it once it has ended
// (ru_maxrss) counts the process that started it too.
func (p *benchRun) peak(t *testing.T) int {
	t.Helper()
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", p.cmd.Process.Pid))
	if err != nil {
		return 0 // a system without /proc
	}
	_, rest, _ := strings.Cut(string(b), "VmHWM:")
	kib, err := strconv.Atoi(strings.Fields(rest)[0])
	if err != nil {
		t.Fatal(err)
	}
	return kib >> 10
}

// waitOwned waits until the run has taken the connection over.
func (p *benchRun) waitOwned() {
	for !strings.Contains(p.log.String(), "took the connection over") {
		time.Sleep(20 * time.Millisecond)
	}
}

func (p *benchRun) stop() {
	_ = p.cmd.Process.Signal(syscall.SIGTERM)
	_ = p.cmd.Wait()
}

func settledBench(admin string, events int) bool {
	s, ok := statusBench(admin)
	return ok && s.Counters.Events >= uint64(events) && s.Pending == 0 && s.Imports == 0
}

func statusBench(admin string) (connector.Status, bool) {
	f := statusFlags{addr: admin}
	all, err := f.askProcess(context.Background())
	if err != nil || len(all) == 0 {
		return connector.Status{}, false
	}
	return all[0].Status, true
}

// restoreBench is how long a new owner takes to have the table back.
func restoreBench(t *testing.T, binary, config string) time.Duration {
	t.Helper()
	p := startBench(t, binary, config)
	p.waitOwned()
	_, rest, _ := strings.Cut(p.log.String(), `"took":`)
	seconds, _, _ := strings.Cut(rest, "}")
	f, _ := strconv.ParseFloat(strings.TrimSpace(seconds), 64)
	p.stop()
	return time.Duration(f * float64(time.Second)).Round(time.Millisecond)
}

// latencyBench is the median time from an event's production to the contact being in the list, one at a time.
func latencyBench(t *testing.T, w *oracle.World, binary, config string) (latency, call time.Duration) {
	t.Helper()
	p := startBench(t, binary, config)
	defer p.stop()
	p.waitRunning()
	time.Sleep(2 * time.Second)
	return median(latencies(t, w, "late", func(n int) bool { return n < 40 })), 20 * time.Millisecond
}

// waitRunning waits until the run owns the connection, and has its table.
func (p *benchRun) waitRunning() {
	for {
		if s, ok := statusBench(p.admin); ok && s.State == "running" {
			return
		}
		time.Sleep(50 * time.Millisecond)
	}
}

// latencies are the times from an event's production to the contact being in the list, one at a time, for as long as more says.
func latencies(t *testing.T, w *oracle.World, name string, more func(n int) bool) (all []time.Duration) {
	t.Helper()
	for i := 0; more(i); i++ {
		email := fmt.Sprintf("%s-%d@example.com", name, i)
		began := time.Now()
		e := oracle.Event{Person: name + "-" + strconv.Itoa(i), Segment: "vip", In: true, At: began, Partition: -1, Profile: &oracle.Profile{Email: email, First: "L"}}
		if err := w.Produce(t.Context(), e); err != nil {
			t.Fatal(err)
		}
		for {
			if _, in := w.Sandbox.Contact(email); in {
				break
			}
			time.Sleep(200 * time.Microsecond)
		}
		all = append(all, time.Since(began))
		time.Sleep(50 * time.Millisecond)
	}
	return all
}

func median(all []time.Duration) time.Duration {
	slices.Sort(all)
	return all[len(all)/2].Round(100 * time.Microsecond)
}

// TestBenchReplay measures a backfill of everything upon a full table, with nothing to send: records a second against those of a
// client that only reads, and the latency of live events beside it against the usual one. All processes share the machine.
func TestBenchReplay(t *testing.T) {
	binary := benchBinary(t)
	people := size()
	w := benchWorld(t)
	left := produce(t, w, people)
	config := benchConfig(t, t.TempDir(), w)
	p := startBench(t, binary, config)
	for !settledBench(p.admin, 2*people) || w.Sandbox.Len(42) != people-left || !benchAudited(p.admin) {
		time.Sleep(100 * time.Millisecond)
	}
	raw := rawRead(t, w, 2*people)
	usual := median(latencies(t, w, "usual", func(n int) bool { return n < 40 }))
	before := w.Sandbox.Stats().Calls["POST /contacts"]
	file := config + "." + strings.ReplaceAll(p.admin, ":", "-")
	backfill := exec.Command(binary, "backfill", "-c", file, "--export", "vip", "--from", "earliest", "--detach", "--log-level", "error")
	if err := backfill.Start(); err != nil {
		t.Fatal(err)
	}
	var run connector.Run
	beside := latencies(t, w, "beside", func(int) bool {
		s, _ := statusBench(p.admin)
		for _, r := range s.Runs {
			if r.Kind == "backfill" && !r.Ended.IsZero() {
				run = r
			}
		}
		return run.Ended.IsZero()
	})
	if err := backfill.Wait(); err != nil {
		t.Fatal(err)
	}
	if n := w.Sandbox.Stats().Calls["POST /contacts"] - before; n != len(beside) {
		t.Errorf("%d calls beside %d live events: a replay has nothing to send", n, len(beside))
	}
	rate, slow := float64(2*people)/run.Ended.Sub(run.Began).Seconds(), median(beside)
	t.Logf("| replay of %d events upon a full table, nothing to send | %.0f events/s = %.2f × a client that only reads (%.0f) |", 2*people, rate, rate/raw, raw)
	t.Logf("| median latency of %d live events beside it | %s = %.2f × the usual (%s) |", len(beside), slow, float64(slow)/float64(usual), usual)
	p.stop()
}

// rawRead is how many records a second a client reads that does nothing with them.
func rawRead(t *testing.T, w *oracle.World, records int) float64 {
	t.Helper()
	cl, err := kgo.NewClient(kgo.SeedBrokers(w.Brokers()...), kgo.ConsumeTopics(oracle.Topic), kgo.FetchIsolationLevel(kgo.ReadCommitted()))
	if err != nil {
		t.Fatal(err)
	}
	defer cl.Close()
	began := time.Now()
	for n := 0; n < records; {
		n += cl.PollFetches(t.Context()).NumRecords()
	}
	return float64(records) / time.Since(began).Seconds()
}
