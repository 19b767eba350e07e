package state

import "encoding/binary"

// A ref names a blob: its place in units of 16 bytes. 0 is no blob.
type ref uint32

const (
	unit       = 16
	chunkUnits = 1 << 16 // 1 MiB a chunk
	maxBlob    = chunkUnits*unit - 4
	exact      = 64 // up to here a size class for each number of units; above, powers of two
)

// blobs is a store of byte strings without pointers for the garbage collector to follow.
type blobs struct {
	chunks [][]byte
	next   uint32 // the next fresh unit of the last chunk
	free   map[uint32][]ref
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

// put stores a copy of b, of at most maxBlob bytes.
func (s *blobs) put(b []byte) ref {
	if len(b) == 0 {
		return 0
	}
	r := s.alloc(class(len(b)))
	at := s.at(r)
	binary.LittleEndian.PutUint32(at, uint32(len(b)))
	copy(at[4:], b)
	return r
}

func (s *blobs) alloc(units uint32) ref {
	if l := s.free[units]; len(l) > 0 {
		r := l[len(l)-1]
		s.free[units] = l[:len(l)-1]
		return r
	}
	if len(s.chunks) == 0 || s.next+units > chunkUnits {
		s.next = 0
		if len(s.chunks) == 0 {
			s.next = 1 // ref 0 means none
		}
		s.chunks = append(s.chunks, make([]byte, chunkUnits*unit))
	}
	r := ref(uint32(len(s.chunks)-1)*chunkUnits + s.next)
	s.next += units
	return r
}

func (s *blobs) at(r ref) []byte {
	return s.chunks[r/chunkUnits][(r%chunkUnits)*unit:]
}

// get is valid until the blob is dropped or replaced.
func (s *blobs) get(r ref) []byte {
	if r == 0 {
		return nil
	}
	at := s.at(r)
	n := binary.LittleEndian.Uint32(at)
	return at[4 : 4+n : 4+n]
}

func (s *blobs) drop(r ref) {
	if r == 0 {
		return
	}
	if s.free == nil {
		s.free = map[uint32][]ref{}
	}
	c := class(len(s.get(r)))
	s.free[c] = append(s.free[c], r)
}

// replace stores b in place of r, in the same place when it fits. b must not lie in the store.
func (s *blobs) replace(r ref, b []byte) ref {
	if r != 0 && len(b) > 0 && class(len(b)) == class(len(s.get(r))) {
		at := s.at(r)
		binary.LittleEndian.PutUint32(at, uint32(len(b)))
		copy(at[4:], b)
		return r
	}
	s.drop(r)
	return s.put(b)
}

func (s *blobs) bytes() int { return len(s.chunks) * chunkUnits * unit }
