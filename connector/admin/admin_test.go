package admin

import (
	"context"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"segsync/connector"
)

type told connector.Status

func (t told) Status() connector.Status { return connector.Status(t) }

func get(t *testing.T, h http.Handler, path string) (int, string) {
	t.Helper()
	w := httptest.NewRecorder()
	h.ServeHTTP(w, httptest.NewRequest(http.MethodGet, path, nil))
	return w.Code, w.Body.String()
}

// S83: ready is a process that is up, whatever it waits for; strict says the rest.
func TestS83ReadyIsAProcessThatIsUp(t *testing.T) {
	for state, strict := range map[string]int{
		connector.StateWorking: 200, connector.StateStandby: 200, connector.StateRestoring: 200, connector.StateDraining: 200,
		connector.StateWaiting: 503, connector.StateHeld: 503, connector.StateRetrying: 503,
	} {
		h := Handler([]Source{told{Name: "main", Doing: state, Why: "Kafka"}}, connector.NewMetrics())
		if code, body := get(t, h, "/readyz"); code != 200 {
			t.Errorf("%s: %d %s", state, code, body)
		}
		if code, body := get(t, h, "/readyz?strict"); code != strict || code == 503 && !strings.Contains(body, "main: "+state+": Kafka") {
			t.Errorf("%s, strictly: %d %s", state, code, body)
		}
		if code, body := get(t, h, "/metrics"); code != 200 || !strings.Contains(body, `segsync_state{connection="main",state="`+state+`"} 1`) {
			t.Errorf("%s is not told by metrics: %d", state, code)
		}
	}
}

func TestGaugesEndWithTheOwnership(t *testing.T) {
	for owns, want := range map[bool]bool{true: true, false: false} {
		h := Handler([]Source{told{Name: "main", Owns: owns, Pending: 3}}, connector.NewMetrics())
		if _, body := get(t, h, "/metrics"); strings.Contains(body, `segsync_pending_contacts{connection="main"} 3`) != want {
			t.Errorf("owner %v: %v", owns, !want)
		}
	}
}

// serve serves, and returns the address.
func serve(t *testing.T, names []string) string {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	at, done := make(chan net.Addr, 1), make(chan error, 1)
	go func() {
		done <- Serve(ctx, "127.0.0.1:0", names, Handler(nil, connector.NewMetrics()), func(a net.Addr) { at <- a })
	}()
	t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
	return (<-at).String()
}

// A page under a name of its own that points here (DNS rebinding) is answered nothing (ADVERSARY S13).
func TestS83ForeignHostsAreRefused(t *testing.T) {
	address := serve(t, []string{"segsync.example.com"})
	for host, want := range map[string]int{
		address: 200, "localhost:9400": 200, "segsync": 200, "10.1.2.3:9400": 200, "[::1]:9400": 200, "segsync.example.com": 200,
		"evil.example.net": 421, "localhost.evil.example.net:9400": 421,
	} {
		req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, "http://"+address+"/livez", nil)
		if err != nil {
			t.Fatal(err)
		}
		req.Host = host
		resp, err := http.DefaultTransport.RoundTrip(req)
		if err != nil {
			t.Fatal(err)
		}
		_ = resp.Body.Close()
		if resp.StatusCode != want {
			t.Errorf("%s is answered with %d", host, resp.StatusCode)
		}
	}
}

// Whoever holds connections open holds a bounded number of them (ADVERSARY S12).
func TestS83ConnectionsAreBounded(t *testing.T) {
	address := serve(t, nil)
	answered := 0
	for range connectionsMost + 20 {
		conn, err := net.Dial("tcp", address)
		if err != nil {
			break
		}
		defer func() { _ = conn.Close() }()
		_, _ = io.WriteString(conn, "GET /livez HTTP/1.1\r\nHost: x\r\n\r\n")
		_ = conn.SetReadDeadline(time.Now().Add(300 * time.Millisecond))
		if n, _ := conn.Read(make([]byte, 16)); n > 0 {
			answered++
		} else if answered > connectionsMost {
			break
		} else if answered == connectionsMost {
			return
		}
	}
	t.Errorf("%d connections are served at once", answered)
}
