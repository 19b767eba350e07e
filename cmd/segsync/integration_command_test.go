//go:build integration

package main

import (
	"bytes"
	"io"
	"os/exec"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/creack/pty"

	"segsync/connector/oracle"
)

// S10, S15, S31: what may be asked of a running connection, on a real Kafka, over kill -9 and take-overs.
func TestIntegrationCommandsBesideLiveEvents(t *testing.T) {
	p := newPlace(t, fast())
	port := freePort()
	config := p.config(port)
	says := func(want int, args []string, parts ...string) string {
		t.Helper()
		out, code := p.command(append([]string{args[0], "-c", config, "--log-level", "error"}, args[1:]...)...)
		for _, part := range parts {
			if code != want || !strings.Contains(out, part) {
				t.Errorf("%v ends with %d, and does not say %q:\n%s", args, code, part, out)
			}
		}
		return out
	}
	all := oracle.History(7, shape(150, 780))
	p.produce(all[:600])
	says(0, split("plan --export vip --json"), `"add"`, `"records": 6`)
	says(0, split("pause --export news --reason cleaning"), "no segsync runs")
	r := p.start("run", "-c", config)
	p.until("list 42 is filled", 90*time.Second, func() bool { return len(p.Sandbox.List(42)) > 0 })
	p.until("it is told that the other is paused", 30*time.Second, func() bool {
		return strings.Contains(says(0, split("status")), "(cleaning); segsync resume --export news ends that")
	})
	if n := len(p.Sandbox.List(43)); n != 0 {
		t.Errorf("%d are sent in a pause", n)
	}
	r.end(syscall.SIGKILL)
	p.start("run", "-c", config)
	p.start("run", "-c", p.config(freePort())) // stands by
	says(0, split("resume --export news"), "resumed")
	p.converge(90 * time.Second)
	before := p.calls()
	for i := range 3 { // beside live events
		p.produce(all[600+60*i:][:60])
		says(0, split("backfill --export vip"), "records read", "export vip, list 42")
	}
	p.converge(90 * time.Second)
	says(0, split("audit"), "nothing is wrong")
	if n := p.calls(); n > before+600 {
		t.Errorf("%d calls for three backfills", n-before)
	}
	says(0, split("plan --export vip"), "no call would be made")
	p.until("runs are told", 30*time.Second, func() bool {
		out, _ := p.command("runs", "-c", config, "--export", "vip")
		return strings.Count(out, "backfill") == 3 && strings.Contains(out, "audit")
	})
	says(0, split("erase nobody --source cdp"), "nothing was held of anybody of this id")
}

// What a person at a terminal sees of a backfill: a bar, and the outcome behind it. Ctrl-C leaves it running, though its owner
// stands still for a while.
func TestIntegrationABackfillAtATerminal(t *testing.T) {
	p := newPlace(t, fast())
	config := p.config(freePort())
	p.produce(oracle.History(9, shape(2000, 3000)))
	r := p.start("run", "-c", config)
	p.until("it is read", 90*time.Second, func() bool {
		out, _ := p.command("status", "-c", config, "--json")
		return len(p.Sandbox.List(42)) > 0 && strings.Contains(out, `"lag_records": 0`) && strings.Contains(out, `"pending_contacts": 0`)
	})
	seen, code := atTerminal(t, nil, "backfill", "-c", config, "--export", "vip", "--log-level", "error")
	if code != 0 || !strings.Contains(seen, "\r") || !strings.Contains(seen, "records/") || !strings.Contains(seen, "3000 records read") {
		t.Errorf("it ends with %d, and shows:\n%q", code, seen)
	}
	_ = r.cmd.Process.Signal(syscall.SIGSTOP) // the owner is slow
	seen, code = atTerminal(t, []byte{3}, "backfill", "-c", config, "--export", "vip", "--resend", "--log-level", "error")
	if code != exitFailed || !strings.Contains(seen, "goes on") {
		t.Errorf("Ctrl-C ends it with %d: %q", code, seen)
	}
	_ = r.cmd.Process.Signal(syscall.SIGCONT)
	p.until("it has gone on", 90*time.Second, func() bool {
		out, _ := p.command("runs", "-c", config, "--export", "vip", "--log-level", "error")
		return strings.Count(out, "records read") == 2
	})
	seen, code = atTerminal(t, nil, "status", "-c", config, "--log-level", "error")
	if code != 0 || !strings.Contains(seen, "EXPORT") || strings.Contains(seen, "\x1b") {
		t.Errorf("%d: %q", code, seen)
	}
}

// atTerminal runs the program at a pseudo-terminal, types something when it shows something, and returns what it has shown.
func atTerminal(t *testing.T, types []byte, args ...string) (string, int) {
	t.Helper()
	cmd := exec.Command(binary, args...)
	f, err := pty.StartWithSize(cmd, &pty.Winsize{Rows: 40, Cols: 160})
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = f.Close() }()
	stop := time.AfterFunc(2*time.Minute, func() { _ = cmd.Process.Kill() })
	defer stop.Stop()
	var mu sync.Mutex
	var seen bytes.Buffer
	done := make(chan struct{})
	go func() {
		defer close(done)
		b := make([]byte, 4096)
		for {
			n, err := f.Read(b)
			mu.Lock()
			seen.Write(b[:n])
			mu.Unlock()
			if err != nil {
				return
			}
		}
	}()
	if len(types) > 0 {
		time.Sleep(3 * time.Second)
		_, _ = io.Copy(f, bytes.NewReader(types))
	}
	_ = cmd.Wait()
	<-done
	mu.Lock()
	defer mu.Unlock()
	return seen.String(), cmd.ProcessState.ExitCode()
}
