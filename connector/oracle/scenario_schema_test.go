package oracle

import (
	"fmt"
	"net/http"
	"net/http/httputil"
	"net/url"
	"strings"
	"testing"
	"time"
)

// registry999 lets the registry answer a status for schema id 999, or hang (0).
func (s *scene) registry999(status int) {
	s.t.Helper()
	u, err := url.Parse(s.Registry)
	if err != nil {
		s.t.Fatal(err)
	}
	proxy := httputil.NewSingleHostReverseProxy(u)
	proxy.Transport = &http.Transport{DialContext: s.Network.DialContext}
	s.Registry, err = s.serve("127.0.0.1:8085", http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch {
		case !strings.HasSuffix(r.URL.Path, "/999"):
			proxy.ServeHTTP(w, r)
		case status != 0:
			http.Error(w, "down", status)
		default:
			<-r.Context().Done()
		}
	}))
	if err != nil {
		s.t.Fatal(err)
	}
}

// unknown is a record with a schema id that nobody knows.
var unknown = Event{Poison: []byte{0, 0, 0, 3, 231, 1, 2, 3}, Partition: 0}

// S32: behind a record that waits for its schema lies much: other partitions go on all the same.
func TestS32AnUnknownSchemaBeforeMuch(t *testing.T) {
	play(t, func(s *scene) {
		s.registry999(http.StatusServiceUnavailable)
		s.begin()
		s.enter("Z", "vip", z)
		s.list(42, time.Minute, z)
		s.stop()
		s.say(unknown)
		s.later(6000, 0)
		s.begin()
		time.Sleep(3 * time.Second)
		s.say(Event{Person: "P", Segment: "vip", In: true, Partition: 1, Profile: &Profile{Email: x}})
		s.list(42, 3*time.Second, x, z)
	})
}

// S32: the registry hangs for one id: whoever else shares its worker waits for that a moment, now and then.
func TestS32ARegistryThatHangsForOneSchema(t *testing.T) {
	play(t, func(s *scene) {
		s.registry999(0)
		if err := s.grow(9); err != nil {
			s.t.Fatal(err)
		}
		s.begin()
		for i := range int32(9) {
			s.say(Event{Person: fmt.Sprint("P-", i), Segment: "vip", In: true, Partition: i, Profile: &Profile{Email: fmt.Sprintf("p%d@example.com", i)}})
		}
		s.until("all are in", time.Minute, func() bool { return s.Sandbox.Len(42) == 9 })
		s.say(unknown)
		time.Sleep(5 * time.Second)
		for i := range 40 {
			n := s.Sandbox.Len(42)
			s.say(Event{Person: fmt.Sprint("Q-", i), Segment: "vip", In: true, Partition: int32(1 + i%8), Profile: &Profile{Email: fmt.Sprintf("q%d@example.com", i)}})
			s.until("one of another partition", 3*time.Second, func() bool { return s.Sandbox.Len(42) > n })
		}
	})
}
