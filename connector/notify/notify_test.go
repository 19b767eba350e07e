package notify

import (
	"context"
	"encoding/json"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/zap"

	"segsync/connector"
)

// What is told of changes: each once, when it comes and when it ends; nothing of what is chosen, retried, or another process's.
func TestChanges(t *testing.T) {
	var w watched
	now := time.Unix(1e9, 0)
	silence := map[Expectation]time.Duration{{"crm", "vip"}: time.Hour}
	see := func(want string, s connector.Status) {
		t.Helper()
		s.Name, s.Owns = "crm", s.State != ""
		var got []string
		for _, m := range w.changes(&s, silence, now) {
			got = append(got, m.Kind+" "+m.Export)
		}
		if strings.Join(got, ", ") != want {
			t.Errorf("%q is told, not %q", strings.Join(got, ", "), want)
		}
	}
	vip := connector.ExportStatus{Name: "vip", List: 42, LastEvent: now}
	base := connector.Status{State: "running", Exports: []connector.ExportStatus{vip}}
	with := func(f func(s *connector.Status)) connector.Status {
		s := base
		s.Exports = append([]connector.ExportStatus(nil), base.Exports...)
		f(&s)
		return s
	}
	run := connector.Run{ID: "1", Kind: "backfill", Export: "vip", State: "done", Ended: now}
	see("", with(func(s *connector.Status) { s.Runs = []connector.Run{run} })) // what had ended before
	held := with(func(s *connector.Status) {
		s.Runs = []connector.Run{run}
		s.Halted = []connector.Halted{{List: 42, Code: "list_gone"}, {Code: "paused", Chosen: true}, {List: 42, Code: "guard"}}
	})
	see("held vip, withheld vip", held)
	see("", held)
	see("resumed vip, resumed vip", with(func(s *connector.Status) { s.Doing = connector.StateRetrying }))
	second := run
	second.ID = "2"
	see("run vip", with(func(s *connector.Status) {
		s.Runs = []connector.Run{second, run, {ID: "live", Kind: "live", Ended: now}, {ID: "3", Kind: "audit"}}
	}))
	see("losses vip", with(func(s *connector.Status) {
		s.Exports[0].Audited, s.Exports[0].Findings = now, &connector.Findings{Missing: 1}
	}))
	now = now.Add(2 * time.Hour)
	see("silent vip", base)
	see("", base)
	see("", connector.Status{}) // another process owns it
	see("silent vip", base)
}

// A webhook gets the message, signed; one that fails is tried again; the same is not told again at once.
func TestAWebhook(t *testing.T) {
	var mu sync.Mutex
	var bodies [][]byte
	failing := 1
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		mu.Lock()
		defer mu.Unlock()
		b, _ := io.ReadAll(r.Body)
		if failing > 0 {
			failing--
			w.WriteHeader(http.StatusServiceUnavailable)
			return
		}
		if r.Header.Get("X-Segsync-Signature") != Signature("s3cret", r.Header.Get("X-Segsync-Timestamp"), b) {
			t.Error("the signature is wrong")
		}
		bodies = append(bodies, b)
	}))
	defer s.Close()
	n := New([]Target{{Webhook: s.URL, Secret: func() (string, error) { return "s3cret", nil }}}, zap.NewNop(), nil)
	m := Message{Kind: "held", Connection: "crm", Export: "vip", List: 42, Text: "list_gone: make it again", At: time.Now()}
	if err := n.Tell(t.Context(), &n.targets[0], &m); err != nil {
		t.Fatal(err)
	}
	var got Message
	if len(bodies) != 1 || json.Unmarshal(bodies[0], &got) != nil || got.Export != "vip" || got.Text != m.Text {
		t.Errorf("%s", bodies)
	}
	n.targets[0].Slack = true
	_ = n.Tell(t.Context(), &n.targets[0], &m)
	if len(bodies) != 2 || string(bodies[1]) != `{"text":"segsync, connection crm, export vip: list_gone: make it again"}` {
		t.Errorf("%s", bodies[1])
	}
	later := m
	later.At, later.Text = m.At.Add(time.Minute), "again"
	if n.throttled(&m) || !n.throttled(&later) {
		t.Error("the same is told again at once, or not at all")
	}
	later.At = m.At.Add(time.Hour)
	if n.throttled(&later) {
		t.Error("it is not told an hour later")
	}
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	gone := Target{Webhook: "http://127.0.0.1:1/secret-path"}
	if err := n.Tell(ctx, &gone, &m); err == nil || strings.Contains(err.Error(), "secret-path") || gone.name() != "127.0.0.1:1" {
		t.Error(err)
	}
}

// A command gets the message on its standard input.
func TestACommand(t *testing.T) {
	file := filepath.Join(t.TempDir(), "told")
	n := New([]Target{{Command: []string{"sh", "-c", "cat >" + file}}}, zap.NewNop(), nil)
	if err := n.Tell(t.Context(), &n.targets[0], &Message{Kind: "test", Text: "hello"}); err != nil {
		t.Fatal(err)
	}
	if b, err := os.ReadFile(file); err != nil || !strings.Contains(string(b), `"text":"hello"`) {
		t.Errorf("%s, %v", b, err)
	}
}

// What is told last is how things stand: what came too soon is told when its time has come, unless it has ended by then.
func TestWhatCameTooSoonIsToldLater(t *testing.T) {
	n := New(nil, zap.NewNop(), nil)
	at := time.Unix(1e9, 0)
	told := func(kind string, after time.Duration, want bool) {
		t.Helper()
		if m := (Message{Kind: kind, Connection: "crm", Code: "key", Text: "x", At: at.Add(after)}); n.throttled(&m) == want {
			t.Errorf("%s after %s", kind, after)
		}
	}
	told("held", 0, true)
	told("resumed", time.Minute, true)
	told("held", 2*time.Minute, false) // for good
	if len(n.due(at.Add(again-time.Second))) != 0 {
		t.Error("it is told too soon")
	}
	if all := n.due(at.Add(again)); len(all) != 1 || all[0].Kind != "held" {
		t.Errorf("%+v", all)
	}
	told("resumed", again+2*time.Minute, true)
	told("held", again+3*time.Minute, false)
	told("resumed", again+4*time.Minute, false) // of what nobody has heard
	if all := n.due(at.Add(4 * again)); len(all) != 0 {
		t.Errorf("%+v", all)
	}
}
