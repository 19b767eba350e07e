package arena

// Index finds slots by the hash of what they hold, in four bytes a cell: a map would hold each key a second time. Open
// addressing with linear probing; a cell holds a slot plus one, 0 is empty.
type Index struct {
	cells []uint32
	n     int
	Hash  func(slot uint32) uint64 // of what a slot holds
}

const leastCells = 1 << 10

// Find returns the slot with a hash that holds what is looked for.
func (x *Index) Find(hash uint64, is func(slot uint32) bool) (uint32, bool) {
	if len(x.cells) == 0 {
		return 0, false
	}
	mask := uint64(len(x.cells) - 1)
	for i := hash & mask; x.cells[i] != 0; i = (i + 1) & mask {
		if s := x.cells[i] - 1; is(s) {
			return s, true
		}
	}
	return 0, false
}

// Put adds a slot that is not there. Three quarters full it doubles.
func (x *Index) Put(hash uint64, slot uint32) {
	if (x.n+1)*4 > len(x.cells)*3 {
		old := x.cells
		x.cells = make([]uint32, max(leastCells, len(old)*2))
		for _, c := range old {
			if c != 0 {
				x.place(x.Hash(c-1), c)
			}
		}
	}
	x.n++
	x.place(hash, slot+1)
}

func (x *Index) place(hash uint64, cell uint32) {
	mask := uint64(len(x.cells) - 1)
	i := hash & mask
	for x.cells[i] != 0 {
		i = (i + 1) & mask
	}
	x.cells[i] = cell
}

// Remove takes a slot out, while it still holds what it was found by, and closes the gap that it leaves.
func (x *Index) Remove(hash uint64, slot uint32) {
	mask := uint64(len(x.cells) - 1)
	i := hash & mask
	for x.cells[i] != slot+1 {
		if x.cells[i] == 0 {
			return
		}
		i = (i + 1) & mask
	}
	x.n--
	for gap := i; ; {
		x.cells[gap] = 0
		for {
			i = (i + 1) & mask
			if x.cells[i] == 0 {
				return
			}
			if home := x.Hash(x.cells[i]-1) & mask; (i-home)&mask >= (i-gap)&mask {
				break // it may stand in the gap: its home is not behind it
			}
		}
		x.cells[gap] = x.cells[i]
		gap = i
	}
}

// Bytes is what the index takes.
func (x *Index) Bytes() int { return len(x.cells) * 4 }
