package oracle

import (
	"fmt"
	"math/rand/v2"
	"os"
	"testing"
	"testing/synctest"
	"time"

	"segsync/sink/sandbox"
)

// storm plays a scenario in calm, and then again and again while lives end, answers are lost and the API fails. With the
// race detector it does so with some of the scenarios.
func storm(t *testing.T, f func(s *scene)) {
	t.Helper()
	t.Parallel()
	calm(t, f)
	if hash(t.Name())%slower != 0 {
		return
	}
	seeds := max(1, 4/slower)
	if os.Getenv("SEGSYNC_SOAK") != "" {
		seeds = 60
	}
	for seed := range uint64(seeds) {
		t.Run(fmt.Sprintf("in a storm, seed=%d", seed), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				s := newScene(t)
				s.patient = 30
				s.raging(rand.New(rand.NewPCG(seed, 6)), f)
				s.kept()
				s.stop()
			})
		})
	}
}

// orStorm plays a scenario in storms, too, unless its life ends in it anyway.
func orStorm(t *testing.T, dies bool, f func(s *scene)) {
	t.Helper()
	if dies {
		play(t, f)
		return
	}
	storm(t, f)
}

// raging plays a scenario in a storm.
func (s *scene) raging(r *rand.Rand, f func(s *scene)) {
	over, gone := make(chan struct{}), make(chan struct{})
	go func() { defer close(gone); s.rage(r, over) }()
	defer func() { close(over); <-gone }()
	f(s)
}

// rage does something bad every other second.
func (s *scene) rage(r *rand.Rand, over chan struct{}) {
	faults := []sandbox.Fault{
		{DropAfter: true, Endpoint: "/contacts"}, {Status: 500, Endpoint: "/contacts"}, {Hang: true, Endpoint: "/contacts"},
		{Status: 524, Body: "<html>", Endpoint: "/contacts"}, {DelayMillis: 2000, Endpoint: "/contacts"},
	}
	end := time.Now().Add(3 * time.Minute)
	for time.Now().Before(end) {
		select {
		case <-over:
			return
		case <-time.After(time.Duration(300+r.IntN(3000)) * time.Millisecond):
		}
		switch r.IntN(3) {
		case 0:
			s.Sandbox.Order(faults[r.IntN(len(faults))])
		case 1:
			key := kafkaCalls[r.IntN(len(kafkaCalls))]
			if p := s.life(); p != nil {
				p.Dialer.Order(Snap{Match: KafkaRequest(int16(key)), Answered: r.IntN(2) == 0})
			}
		default:
			s.kill()
		}
	}
}
