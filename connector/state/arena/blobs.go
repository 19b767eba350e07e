package arena

import "encoding/binary"

// Ref names a byte string: its place in units of 16 bytes. 0 is none.
type Ref uint32

const (
	unit       = 16
	chunkUnits = 1 << 16 // 1 MiB a chunk
	// MaxBlob is how long a byte string may be.
	MaxBlob = chunkUnits*unit - 4
	exact   = 64 // up to here a size class for each number of units; above, powers of two
)

// Blobs is a store of byte strings.
type Blobs struct {
	chunks [][]byte
	next   uint32 // the next fresh unit of the last chunk
	free   map[uint32][]Ref
}

func class(n int) uint32 {
	units := uint32((n + 4 + unit - 1) / unit)
	if units <= exact {
		return units
	}
	c := uint32(exact)
	for c < units {
		c <<= 1
	}
	return c
}

// Put stores a copy of b. It panics if b is longer than MaxBlob.
func (s *Blobs) Put(b []byte) Ref {
	if len(b) == 0 {
		return 0
	}
	if len(b) > MaxBlob {
		panic("arena: a byte string is too long")
	}
	r := s.alloc(class(len(b)))
	at := s.at(r)
	binary.LittleEndian.PutUint32(at, uint32(len(b)))
	copy(at[4:], b)
	return r
}

func (s *Blobs) alloc(units uint32) Ref {
	if l := s.free[units]; len(l) > 0 {
		r := l[len(l)-1]
		s.free[units] = l[:len(l)-1]
		return r
	}
	if len(s.chunks) == 0 {
		s.grow()
		s.next = 1 // Ref 0 means none
	}
	if s.next+units > chunkUnits {
		s.grow()
	}
	r := Ref(uint32(len(s.chunks)-1)*chunkUnits + s.next)
	s.next += units
	return r
}

func (s *Blobs) grow() {
	if len(s.chunks) == 1<<16 {
		panic("arena: no place is left")
	}
	s.chunks, s.next = append(s.chunks, make([]byte, chunkUnits*unit)), 0
}

func (s *Blobs) at(r Ref) []byte {
	return s.chunks[r/chunkUnits][(r%chunkUnits)*unit:]
}

// Get is valid until the byte string is dropped or replaced. It panics for what names none.
func (s *Blobs) Get(r Ref) []byte {
	if r == 0 {
		return nil
	}
	at := s.at(r)
	n := binary.LittleEndian.Uint32(at)
	return at[4 : 4+n : 4+n]
}

// Drop gives the place of a byte string to others.
func (s *Blobs) Drop(r Ref) {
	if r == 0 {
		return
	}
	if s.free == nil {
		s.free = map[uint32][]Ref{}
	}
	c := class(len(s.Get(r)))
	s.free[c] = append(s.free[c], r)
}

// Replace stores b in place of r, in the same place when it fits. b must not lie in the store.
func (s *Blobs) Replace(r Ref, b []byte) Ref {
	if r != 0 && len(b) > 0 && class(len(b)) == class(len(s.Get(r))) {
		at := s.at(r)
		binary.LittleEndian.PutUint32(at, uint32(len(b)))
		copy(at[4:], b)
		return r
	}
	s.Drop(r)
	return s.Put(b)
}

// Bytes is what the store takes.
func (s *Blobs) Bytes() int { return len(s.chunks) * chunkUnits * unit }
