package oracle

import (
	"context"
	"encoding/json"
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"segsync/connector"
	"segsync/connector/commands"
	"segsync/connector/notify"
	"segsync/sink/sandbox"
)

// lives is whatever life there is, as one that is asked how it stands.
type lives struct{ *scene }

func (l lives) Status() connector.Status {
	if p := l.life(); p != nil {
		return p.Connection.Status()
	}
	return connector.Status{}
}

// inbox is a webhook that takes each message at its second try.
type inbox struct {
	mu    sync.Mutex
	tries int
	all   []notify.Message
}

func (i *inbox) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	i.mu.Lock()
	defer i.mu.Unlock()
	var m notify.Message
	if i.tries++; i.tries%2 == 1 || json.NewDecoder(r.Body).Decode(&m) != nil {
		w.WriteHeader(http.StatusServiceUnavailable)
		return
	}
	i.all = append(i.all, m)
}

// has says whether somebody was told of a kind, with a code.
func (i *inbox) has(kind, code string) bool {
	i.mu.Lock()
	defer i.mu.Unlock()
	return slices.ContainsFunc(i.all, func(m notify.Message) bool {
		return m.Kind == kind && strings.HasPrefix(m.Code, code) && m.Connection == connection && m.Text != ""
	})
}

// told begins to tell.
func (s *scene) told() *inbox {
	s.t.Helper()
	in := &inbox{}
	url, err := s.serve("127.0.0.1:9911", in)
	if err != nil {
		s.t.Fatal(err)
	}
	n := notify.New([]notify.Target{{Webhook: url}}, s.Log, s.Network.DialContext)
	ctx, stop := context.WithCancel(context.Background())
	var running sync.WaitGroup
	running.Go(func() {
		n.Run(ctx, []connector.Told{lives{s}}, map[notify.Expectation]time.Duration{{Connection: connection, Export: "export-2"}: 2 * time.Hour})
	})
	s.t.Cleanup(func() { stop(); running.Wait() })
	return in
}

// Whatever fails meanwhile: what needs somebody is told, and when it goes on; what is being tried again is not.
func TestWhatNeedsSomebodyIsTold(t *testing.T) {
	storm(t, func(s *scene) {
		in := s.told()
		until := func(kind, code string) {
			s.t.Helper()
			if s.calm() || kind != "resumed" && kind != "run" { // what ends with its owner is told by nobody
				s.until(kind+" "+code, 30*time.Minute, func() bool { return in.has(kind, code) })
			}
		}
		s.guarded()
		s.full(40)
		s.enter("N", "news", x)
		s.list(43, 20*time.Minute, x)
		s.Sandbox.Order(sandbox.Fault{Status: 503, Count: 6, Endpoint: "/contacts"})
		s.leaves("vip", 0, 30)
		until("withheld", "guard")
		s.outcome(s.give(commands.Approve, "export-1"), commands.Done, "approved")
		until("resumed", "guard")
		s.until("they have left", 20*time.Minute, func() bool { return len(s.Sandbox.List(42)) == 10 })
		s.outcome(s.again(commands.Range{}), commands.Done, "records read")
		until("run", "backfill")
		s.Sandbox.RemoveList(43)
		s.enter("M", "news", y)
		until("held", "list_gone")
		s.Sandbox.AddList(43)
		until("resumed", "list_gone")
		time.Sleep(2 * time.Hour)
		until("silent", "")
		in.mu.Lock()
		defer in.mu.Unlock()
		for _, m := range in.all {
			if m.Kind == "held" && m.Code != "list_gone" {
				s.t.Errorf("it is told: %+v", m)
			}
			if text, _ := json.Marshal(m); strings.Contains(string(text), "@example.com") {
				s.t.Errorf("an address is told: %s", text)
			}
		}
		clear(s.Truth.people) // the list was emptied
	})
}
