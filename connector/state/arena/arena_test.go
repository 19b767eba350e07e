package arena

import (
	"bytes"
	"slices"
	"testing"

	"pgregory.net/rapid"
)

// A store of byte strings holds what a map would.
func TestBlobsHoldWhatWasPut(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		var s Blobs
		want := map[Ref][]byte{}
		some := func() Ref {
			refs := make([]Ref, 0, len(want))
			for r := range want {
				refs = append(refs, r)
			}
			slices.Sort(refs)
			return rapid.SampledFrom(refs).Draw(t, "which")
		}
		text := func() []byte {
			return bytes.Repeat([]byte{byte(rapid.IntRange(1, 255).Draw(t, "byte"))}, rapid.SampledFrom([]int{0, 1, 11, 12, 13, 28, 100, 1000, 1021, 5000, MaxBlob}).Draw(t, "length"))
		}
		for range rapid.IntRange(1, 60).Draw(t, "steps") {
			switch op := rapid.IntRange(0, 3).Draw(t, "op"); {
			case op < 2 || len(want) == 0:
				if b := text(); len(b) > 0 {
					r := s.Put(b)
					if _, twice := want[r]; twice || r == 0 {
						t.Fatalf("place %d is given twice", r)
					}
					want[r] = b
				} else if s.Put(b) != 0 {
					t.Fatal("nothing has a place")
				}
			case op == 2:
				r := some()
				s.Drop(r)
				delete(want, r)
			default:
				r, b := some(), text()
				delete(want, r)
				if r = s.Replace(r, b); len(b) > 0 {
					want[r] = b
				}
			}
			for r, b := range want {
				if !bytes.Equal(s.Get(r), b) {
					t.Fatalf("place %d holds something else", r)
				}
			}
		}
	})
}

// An index finds what a map would, whatever was removed.
func TestAnIndexFindsWhatIsThere(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		var slots Chunks[uint64]
		x := Index{Hash: func(slot uint32) uint64 { return *slots.At(slot) }}
		want := map[uint64]uint32{}
		for range rapid.IntRange(1, 3000).Draw(t, "steps") {
			key := rapid.Uint64Range(0, 2000).Draw(t, "key") << rapid.SampledFrom([]int{0, 10, 52}).Draw(t, "shift") // many in one place
			slot, have := want[key]
			found, ok := x.Find(key, func(s uint32) bool { return *slots.At(s) == key })
			if ok != have || ok && found != slot {
				t.Fatalf("%d is at %d, %v; it should be at %d, %v", key, found, ok, slot, have)
			}
			if have {
				x.Remove(key, slot)
				delete(want, key)
				continue
			}
			slot = slots.Add()
			*slots.At(slot) = key
			x.Put(key, slot)
			want[key] = slot
		}
	})
}

func TestWhatIsTooLongIsRefused(t *testing.T) {
	defer func() {
		if recover() == nil {
			t.Error("it is taken")
		}
	}()
	var s Blobs
	s.Put(make([]byte, MaxBlob+1))
}
