//go:build !integration && !bench

package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"segsync/connector"
	"segsync/connector/oracle"
	"segsync/sink/sandbox"
)

// desk is a world with a configuration, and perhaps a program that runs with it.
type desk struct {
	*oracle.World
	t      *testing.T
	config string
	end    func()
}

func newDesk(t *testing.T, more string) *desk {
	t.Helper()
	w, err := oracle.NewWorld(oracle.WorldOptions{
		Network: oracle.Loopback{}, Partitions: 3, Sandbox: sandbox.Options{ExportTime: 100 * time.Millisecond},
		Exports: []oracle.Export{{List: 42, Segments: []string{"vip"}, Attributes: []string{"FIRSTNAME"}}},
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(w.Close)
	d := &desk{World: w, t: t, config: filepath.Join(t.TempDir(), "segsync.yaml"), end: func() {}}
	text := configOf(w, "FIRSTNAME: profile.first_name", "audit: { every: 12h }\nadmin: { addr: \"\" }\n"+more)
	if err := os.WriteFile(d.config, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return d
}

// begin lets the program run.
func (d *desk) begin() {
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		root := newRoot()
		root.SetArgs([]string{"run", "-c", d.config, "--log-level", "error"})
		root.SetOut(&bytes.Buffer{})
		root.SetErr(&bytes.Buffer{})
		_ = root.ExecuteContext(ctx)
	}()
	d.end = func() { cancel(); <-ended; d.end = func() {} }
	d.t.Cleanup(func() { d.end() })
}

// says runs a command, and fails unless it ends with a code and says these parts.
func (d *desk) says(code int, args []string, parts ...string) string {
	d.t.Helper()
	out, got := command(append([]string{args[0], "-c", d.config, "--log-level", "error"}, args[1:]...)...)
	if got != code {
		d.t.Errorf("%v ends with %d, not %d:\n%s", args, got, code, out)
	}
	for _, part := range parts {
		if !strings.Contains(out, part) {
			d.t.Errorf("%v does not say %q:\n%s", args, part, out)
		}
	}
	return out
}

func (d *desk) enter(from, to int) {
	d.t.Helper()
	for i := from; i < to; i++ {
		e := oracle.Event{Person: fmt.Sprint(i), Segment: "vip", In: true, At: time.Now(), Partition: -1, Profile: &oracle.Profile{Email: fmt.Sprintf("p%d@example.com", i), First: "Ann"}}
		if err := d.Produce(d.t.Context(), e); err != nil {
			d.t.Fatal(err)
		}
	}
}

func (d *desk) until(what string, f func() bool) {
	d.t.Helper()
	for end := time.Now().Add(time.Minute); !f(); time.Sleep(50 * time.Millisecond) {
		if time.Now().After(end) {
			d.t.Fatal("not within a minute: " + what)
		}
	}
}

// Everything that can be asked of a connection, while it runs and while it does not.
func TestWhatIsAskedOfARunningConnection(t *testing.T) {
	d := newDesk(t, "")
	d.enter(0, 6)
	d.says(0, split("plan --export vip"), "6 records read", "vip     42    6      0", "calls: 6 upsert")
	d.says(0, split("status"), "away", "no segsync reports")
	d.says(0, split("pause --export vip --reason for-ann@example.com-cleaning --by ann"), "no segsync runs", "takes effect when one does")
	d.begin()
	d.until("it reports that it is paused", func() bool {
		out, _ := command("status", "-c", d.config, "--log-level", "error")
		return strings.Contains(out, "paused by ann") && strings.Contains(out, "(f***@example.com-cleaning); segsync resume --export vip ends that")
	})
	if n := len(d.Sandbox.List(42)); n != 0 {
		t.Errorf("%d are sent in a pause", n)
	}
	d.says(0, split("resume --export vip"), "resumed")
	d.until("they are in", func() bool { return len(d.Sandbox.List(42)) == 6 })
	d.says(0, split("pause"), "paused: events are read")
	d.says(0, split("resume --export vip"), "segsync resume without --export ends that")
	d.says(0, split("resume"), "resumed")
	d.says(0, split("resume"), "it was not paused")
	d.says(exitUsage, split("status --addr localhost:1"), "give one of them")
	d.says(0, split("approve --export vip"), "approved: 0 people")
	d.says(0, split("retry --export vip"), "0 rejected contacts")
	d.says(0, split("run-now --export vip"), "no schedule")
	d.says(exitUsage, split("pause --export vap"), `no export is named "vap" (did you mean "vip"?)`)
	d.says(0, split("audit"), "export vip, list 42: 6 contacts", "nothing is wrong")
	out := d.says(0, split("backfill --export vip --from -1d"), "6 records read: 0 changes were newer", "export vip, list 42: 6 people in")
	if strings.Contains(out, "\r") || strings.Contains(out, "\x1b") {
		t.Errorf("no terminal is at hand, and it draws: %q", out)
	}
	d.says(exitUsage, split("backfill --export vip --segments vap"), `no segment "vap" (did you mean "vip"?)`)
	d.says(exitFailed, split("backfill --export vip --cancel"), "refused: no backfill of it is under way")
	d.says(0, split("plan --export vip"), "0 changes are newer", "vip     42    0      0", "no call would be made")
	var planned connector.Planned
	if err := json.Unmarshal([]byte(d.says(0, split("plan --export vip --json"))), &planned); err != nil || planned.Lists[0].Unchanged != 6 {
		t.Errorf("%v, %+v", err, planned)
	}
	d.until("runs are told", func() bool {
		out, _ := command("runs", "-c", d.config, "--export", "vip", "--log-level", "error")
		return strings.Contains(out, "backfill") && strings.Contains(out, "audit") && strings.Contains(out, "nothing is wrong") && !strings.Contains(out, "skipped")
	})
	var told struct {
		Connections []standing `json:"connections"`
	}
	if err := json.Unmarshal([]byte(d.says(0, split("status --json"))), &told); err != nil || len(told.Connections) != 1 || !told.Connections[0].Owns || told.Connections[0].Exports[0].In != 6 || told.Connections[0].Exports[0].Freshness <= 0 {
		t.Errorf("%v, %+v", err, told)
	}
	d.end()
	d.enter(6, 8)
	d.says(0, split("backfill --export vip --resend"), "records read", "added or updated 8", "8 people in")
	d.says(0, split("forget --export vip --yes"), "the table, the group and the commands")
	d.says(0, split("forget --export vip --yes"), "the table, the group and the commands")
	d.says(0, split("status"), "away")
}

// An erasure, its receipt, and the check afterwards.
func TestErase(t *testing.T) {
	d := newDesk(t, "")
	d.enter(0, 3)
	d.begin()
	d.until("they are in", func() bool { return len(d.Sandbox.List(42)) == 3 })
	d.says(exitUsage, split("erase"), "name the person")
	d.says(exitUsage, split("erase 1 --verify 00"), "it takes no person")
	d.says(exitFailed, split("erase p1@example.com"), "nothing was held of anybody of this id", "nobody is erased")
	d.says(exitUsage, split("erase --source crm 1"), `no connection exports a source "crm"`)
	d.says(exitUsage, split("erase --verify 00"), `no erasure has the id "00"`)
	out := d.says(0, split("erase 1 --delete-contact --reason request --json"))
	if strings.Contains(out, "p1@example.com") {
		t.Errorf("an address is shown: %s", out)
	}
	var all []erasure
	if err := json.Unmarshal([]byte(out), &all); err != nil || len(all) != 1 || all[0].State != "done" || all[0].Receipt.Memberships != 1 || all[0].Receipt.Address != "p***@example.com" {
		t.Fatalf("%v, %s", err, out)
	}
	d.until("it has left", func() bool { return len(d.Sandbox.List(42)) == 2 })
	d.until("old rows wait", func() bool {
		out, code := command("erase", "-c", d.config, "--verify", all[0].Command, "--log-level", "error")
		return code == exitFailed && strings.Contains(out, "holds nothing of theirs") && strings.Contains(out, "old rows of its topic wait for Kafka to compact them away")
	})
	d.until("nothing is left", func() bool {
		d.Cluster.Compact()
		out, code := command("erase", "-c", d.config, "--verify", all[0].Command, "--log-level", "error")
		return code == 0 && strings.Contains(out, "nothing is left of them")
	})
	d.end()
	d.says(exitFailed, split("erase 2"), "given", "by the next owner")
	d.says(exitEnvironment, []string{"erase", "--verify", lastGiven(t, d)}, "not carried out yet")
	d.says(0, split("run --once"), "1 people in")
}

// lastGiven is the id of an erasure that nobody has carried out yet.
func lastGiven(t *testing.T, d *desk) string {
	t.Helper()
	out, _ := command("erase", "-c", d.config, "2", "--json", "--log-level", "error")
	var all []erasure
	if err := json.Unmarshal([]byte(out[:strings.LastIndexByte(out, ']')+1]), &all); err != nil {
		t.Fatal(err, out)
	}
	return all[0].Command
}

// Who is told: a test message, and, while it runs, a run that has ended and what an audit has found.
func TestNotify(t *testing.T) {
	var mu sync.Mutex
	var told []string
	hook := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		b, _ := io.ReadAll(r.Body)
		mu.Lock()
		defer mu.Unlock()
		told = append(told, string(b))
	}))
	defer hook.Close()
	all := func() string {
		mu.Lock()
		defer mu.Unlock()
		return strings.Join(told, "\n")
	}
	d := newDesk(t, "notify: [ { webhook: \""+hook.URL+"\", format: slack } ]\n")
	d.says(0, split("notify test"), "target 1: told")
	d.until("the test is told", func() bool { return strings.Contains(all(), "this is a test") })
	d.enter(0, 3)
	d.begin()
	d.until("they are in", func() bool { return len(d.Sandbox.List(42)) == 3 })
	time.Sleep(6 * time.Second) // it has looked once
	d.Sandbox.TakeOut("p1@example.com", 42)
	d.says(exitFailed, split("audit"), "missing")
	d.until("losses and the run are told", func() bool { return strings.Contains(all(), "1 missing") && strings.Contains(all(), "audit done") })
	if strings.Contains(all(), "@example.com") {
		t.Errorf("an address is told: %s", all())
	}
}

// Why somebody is in a list, or is not.
func TestTrace(t *testing.T) {
	d := newDesk(t, "")
	d.enter(0, 3)
	say := func(e oracle.Event) {
		t.Helper()
		e.At, e.Partition = time.Now(), -1
		if err := d.Produce(t.Context(), e); err != nil {
			t.Fatal(err)
		}
	}
	say(oracle.Event{Person: "1", Segment: "vip"})
	say(oracle.Event{Person: "5", Segment: "vip", In: true}) // of whom no address is known
	d.says(0, split("runs"), "nothing was done yet")
	d.says(0, split("plan --export vip"), "dead letters: 1 of class no_address", `such as { "change": "E***"`)
	d.says(0, split("run --once"), "2 people in")
	if out := d.says(0, split("runs"), "once  done"); strings.Contains(out, "begun") || strings.Contains(out, "live") {
		t.Errorf("a bounded run has not ended: %s", out)
	}
	out := d.says(0, split("trace --export vip 0"), "enters vip, address p***@example.com, FIRSTNAME=…  [stands]", "in vip since", "list 42: in since", "wanted in lists [42]", "the account says: in the lists [42]", "calls (1, as far as", "upsert into [42]  [done, within")
	if strings.Contains(out, "p0@example.com") || strings.Contains(out, "Ann") {
		t.Errorf("something is shown:\n%s", out)
	}
	d.says(0, split("trace --export vip p0@example.com --show"), "enters vip, address p0@example.com, FIRSTNAME=\"Ann\"  [stands]", "contact p0@example.com")
	d.says(0, split("trace --export vip 1"), "events (2)", "leaves vip  [stands]", "out of vip since")
	d.says(0, split("trace --export vip 5"), "[stands]", "address -", "dead letter segsync-dlq/0/0", "no_address", "no address is known")
	d.says(0, split("trace --export vip nobody"), "events (0)", "the table knows nobody of that name")
	d.says(exitUsage, split("trace --export vap 1"), "no export is named")
	var told connector.Traced
	if err := json.Unmarshal([]byte(d.says(0, split("trace --export vip 0 --json"))), &told); err != nil || len(told.Events) != 1 || !told.Events[0].Stands || told.Account == nil {
		t.Errorf("%v, %+v", err, told)
	}
}

// An export with a schedule: what it says of itself, a run of it alone, and what it refuses.
func TestRunOnceOfAnExportWithASchedule(t *testing.T) {
	d := newDesk(t, "")
	b, err := os.ReadFile(d.config)
	if err != nil {
		t.Fatal(err)
	}
	text := strings.Replace(string(b), "guard: { share: 0 }", `guard: { share: 0 }, schedule: "0 6 * * 1-5 Europe/Paris"`, 1)
	if err := os.WriteFile(d.config, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	d.enter(0, 5)
	d.says(0, split("run --once"), "contacts still pending 5")
	if n := len(d.Sandbox.List(42)); n != 0 {
		t.Errorf("%d are sent before it is due", n)
	}
	d.says(exitUsage, split("run --export vip"), "--once")
	d.says(0, split("run --once --export vip"), "5 people are in the list", "added or updated 5")
	d.begin()
	d.until("it is told when it is due", func() bool {
		out, _ := command("status", "-c", d.config, "--log-level", "error")
		return strings.Contains(out, "not due") && strings.Contains(out, "next 20")
	})
}

// An export that was taken out of the configuration is emptied, and forgotten, while the others go on.
func TestForgetAnExportBesideOthers(t *testing.T) {
	d := newDesk(t, "")
	text, err := os.ReadFile(d.config)
	if err != nil {
		t.Fatal(err)
	}
	two := strings.Replace(string(text), "exports:\n", fmt.Sprintf("exports:\n  - { name: old, connection: main, source: cdp, segments: [vip], list: %d }\n", oracle.SpareList), 1)
	write := func(text string) {
		if err := os.WriteFile(d.config, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	write(two)
	d.enter(0, 3)
	d.begin()
	d.until("they are in both", func() bool { return len(d.Sandbox.List(42)) == 3 && len(d.Sandbox.List(oracle.SpareList)) == 3 })
	d.says(exitUsage, split("forget --export old"), "say --yes")
	d.says(exitUsage, split("forget --export old --yes"), "take export old out of the configuration")
	d.end()
	write(string(text))
	d.begin()
	d.says(exitUsage, split("forget --export old --yes --connection other"), "there are: main")
	d.says(exitFailed, split("forget --export olt --yes"), "nothing is held of an export olt", "old")
	d.says(0, split("forget --export old --empty-list --yes"), "3 people leave list 44")
	d.until("they have left", func() bool { return len(d.Sandbox.List(oracle.SpareList)) == 0 })
	d.until("it is forgotten", func() bool {
		out, code := command("forget", "-c", d.config, "--export", "old", "--yes", "--log-level", "error")
		return code == 0 && strings.Contains(out, "forgotten: what was delivered to list 44 of 3 contacts, 0 memberships")
	})
	if n := len(d.Sandbox.List(42)); n != 3 {
		t.Errorf("%d are in the other list", n)
	}
}
