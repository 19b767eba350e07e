package oracle

import (
	"sync/atomic"
	"testing"
	"time"

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
