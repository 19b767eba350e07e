package oracle

import (
	"fmt"
	"math/rand/v2"
	"time"
)

// Shape says what a history holds.
type Shape struct {
	People, Events int
	Segments       []string // the last one is of no interest to any export
	Partitions     int32
	Shared         float64 // chance that an address is one that somebody else has too
	Move           float64 // chance that a profile brings a new address
	Scatter        bool    // a person's records lie in several partitions
	Poison         float64
	Numbers        bool // profiles bring telephone numbers, some claimed by several
	Plain          bool // records of no interest carry no profile: reading them again brings nothing new
	Lapses         bool // some memberships lapse within minutes
	Keep           bool // profiles of people in no segment are kept
	Begin          time.Time
}

// DefaultShape is a history with everything in it, small.
func DefaultShape(begin time.Time) Shape {
	return Shape{
		People: 12, Events: 120, Segments: []string{"vip", "gold", "news", "other"}, Partitions: 3,
		Shared: 0.15, Move: 0.15, Scatter: true, Poison: 0.03, Numbers: true, Begin: begin,
	}
}

// History makes events by a seed: the same seed, the same history.
func History(seed uint64, s Shape) []Event {
	r := rand.New(rand.NewPCG(seed, 2)) //nolint:gosec // to be repeated, not secret
	address := make([]string, s.People)
	fresh := 0
	next := func(p int) string {
		fresh++
		return fmt.Sprintf("p%d.%d@example.com", p, fresh)
	}
	for i := range address {
		address[i] = next(i)
	}
	events := make([]Event, 0, s.Events)
	at := s.Begin
	for range s.Events {
		at = at.Add(time.Duration(1+r.IntN(1000)) * time.Millisecond)
		if r.Float64() < s.Poison {
			events = append(events, Event{Poison: poison(r), Partition: r.Int32N(s.Partitions)})
			continue
		}
		p := r.IntN(s.People)
		e := Event{
			Person: fmt.Sprintf("person-%d", p), Segment: s.Segments[r.IntN(len(s.Segments))], In: r.Float64() < 0.6, At: at, Partition: -1,
		}
		if s.Scatter {
			e.Partition = int32(r.IntN(2)) * int32(p%2)
			if p%2 == 0 {
				e.Partition = int32(p) % s.Partitions
			}
		}
		// A profile that comes by before its person is known, on another partition, is lost: that is a documented limit.
		stray := !s.Keep && (s.Scatter && p%2 == 1 || s.Plain) && e.Segment == s.Segments[len(s.Segments)-1]
		if !stray && (e.In || r.Float64() < 0.5) {
			switch {
			case r.Float64() < s.Move:
				address[p] = next(p)
			case r.Float64() < s.Shared:
				address[p] = address[r.IntN(s.People)]
			}
			e.Profile = &Profile{Email: address[p], First: fmt.Sprintf("First%d", r.IntN(5)), Country: []string{"FR", "DE", ""}[r.IntN(3)]}
			if r.IntN(4) > 0 {
				e.Profile.Last = fmt.Sprintf("Last%d", r.IntN(5))
			}
			if s.Numbers && r.IntN(3) == 0 {
				n := p
				if r.IntN(8) == 0 {
					n = r.IntN(s.People)
				}
				e.Profile.Phone = fmt.Sprintf("+33639980%03d", n)
			}
		}
		if s.Lapses && e.In && r.IntN(4) == 0 {
			e.Until = at.Add(time.Duration(r.IntN(600)) * time.Second).Truncate(time.Second)
		}
		events = append(events, e)
	}
	return events
}

// poison is a value that no decoder takes.
func poison(r *rand.Rand) []byte {
	b := make([]byte, 1+r.IntN(30))
	for i := range b {
		b[i] = byte(r.Uint32())
	}
	b[0] = 0x7b // not Confluent's magic byte
	return b
}
