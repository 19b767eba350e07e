package oracle

import (
	"slices"
	"sync/atomic"
	"testing"
	"time"

	"segsync/connector"
	"segsync/sink/sandbox"
)

// keyed gives the connection a key that the returned func changes.
func (s *scene) keyed(key string) (change func(key string)) {
	var now atomic.Pointer[string]
	now.Store(&key)
	s.Keys = func() string { return *now.Load() }
	return func(key string) { now.Store(&key) }
}

// another is another account behind the same API, with a key of its own.
func (s *scene) another(key string) *sandbox.Server {
	other := sandbox.New(sandbox.Options{Key: key, Account: "second@example.com", Lists: []int64{42, 43}, Latency: 20 * time.Millisecond})
	s.Others = map[string]*sandbox.Server{key: other}
	return other
}

// S61: the key is refused, and another account's key is put in its place. Nothing is sent to that account, whatever the
// connection is held for; a key of the right one goes on.
func TestS61AnotherAccountsKeyWhileTheConnectionIsHeld(t *testing.T) {
	for name, held := range map[string]sandbox.Fault{
		"refused": {Status: 401, Body: `{"code":"unauthorized","message":"Key not found"}`, Endpoint: "/contacts", Count: -1},
		"used up": {Status: 402, Body: `{"code":"not_enough_credits"}`, Endpoint: "/contacts", Count: -1},
		"well":    {},
	} {
		t.Run(name, func(t *testing.T) {
			storm(t, func(s *scene) {
				other := s.another("another")
				change := s.keyed(Key)
				s.begin()
				s.enter("P", "vip", x)
				s.list(42, time.Minute, x)
				if held.Status != 0 {
					s.Sandbox.Order(held)
				}
				s.enter("Q", "vip", y)
				s.until("it is read", time.Minute, func() bool { return s.status().People == 2 })
				time.Sleep(5 * time.Second)
				change("another")
				s.enter("R", "vip", z)
				time.Sleep(20 * time.Minute)
				if n := other.Stats().Calls; len(n) != 1 || n["GET /account"] == 0 {
					s.t.Errorf("another account was called: %v", n)
				}
				if !s.halted("account_changed") {
					s.t.Error("the other account is not told")
				}
				change(Key)
				s.Sandbox.Mend()
				s.list(42, 20*time.Minute, x, y, z)
			})
		})
	}
}

// S72: two connections with two keys of one account. The first works it, the other says so; it goes on when the first
// is gone.
func TestS72TwoConnectionsToOneAccount(t *testing.T) {
	play(t, func(s *scene) {
		s.keyed(Key)
		s.begin()
		s.enter("P", "vip", x)
		s.list(42, time.Minute, x)
		s.Tune = func(c *connector.Config) { c.Name = "demo-2" }
		second := s.start(s.t, "b")
		s.until("the other is told", 5*time.Minute, func() bool {
			return slices.ContainsFunc(second.Connection.Status().Halted, func(h connector.Halted) bool { return h.Code == "account_shared" })
		})
		s.Tune = nil
		s.kill() // whoever was first stays so
		s.enter("Q", "vip", y)
		s.list(42, 5*time.Minute, x, y)
		if s.halted("account_shared") {
			s.t.Error("both are held")
		}
		s.stop()
		s.until1(5*time.Minute, func() bool { return len(second.Connection.Status().Halted) == 0 })
		s.begin()
		s.until("the first comes back and is told", 5*time.Minute, func() bool { return s.halted("account_shared") })
	})
}

// until1 waits for a condition while the scene itself has no life.
func (s *scene) until1(within time.Duration, f func() bool) {
	s.t.Helper()
	for end := time.Now().Add(within); !f(); time.Sleep(time.Second) {
		if time.Now().After(end) {
			s.t.Fatal("not within", within)
		}
	}
}
