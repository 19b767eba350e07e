package state

import (
	"encoding/binary"
	"errors"
	"fmt"
)

// Version is the newest version of rows that this program reads and the one it writes. Since 2 a list of a contact may
// be doubtful; since 3 it holds what the guard has decided, and a stamp its epoch; since 4 whether an import has
// delivered it; since 5 a membership may lapse.
const Version = 5

// ErrVersion says that a row was written by a newer program.
var ErrVersion = errors.New("a row of the table was written by a newer version of segsync: run that version, or a newer one")

var errShort = errors.New("a row of the table ends too early")

// reader takes fields off a row; the first error sticks.
type reader struct {
	b   []byte
	err error
}

func (r *reader) uint() uint64 {
	v, n := binary.Uvarint(r.b)
	if n <= 0 {
		r.fail()
		return 0
	}
	r.b = r.b[n:]
	return v
}

func (r *reader) int() int64 {
	v, n := binary.Varint(r.b)
	if n <= 0 {
		r.fail()
		return 0
	}
	r.b = r.b[n:]
	return v
}

func (r *reader) fixed64() uint64 {
	if len(r.b) < 8 {
		r.fail()
		return 0
	}
	v := binary.LittleEndian.Uint64(r.b)
	r.b = r.b[8:]
	return v
}

func (r *reader) bytes() []byte {
	n := r.uint()
	if n > uint64(len(r.b)) {
		r.fail()
		return nil
	}
	v := r.b[:n:n]
	r.b = r.b[n:]
	return v
}

// count reads how many items follow; each takes at least a byte.
func (r *reader) count() int {
	n := r.uint()
	if n > uint64(len(r.b)) {
		r.fail()
		return 0
	}
	return int(n)
}

func (r *reader) version() uint64 {
	v := r.uint()
	switch {
	case r.err != nil:
	case v == 0:
		r.err = errors.New("a row of the table has no version")
	case v > Version:
		r.err = fmt.Errorf("%w (row version %d)", ErrVersion, v)
	}
	return v
}

func (r *reader) fail() {
	if r.err == nil {
		r.err = errShort
	}
	r.b = nil
}

func putBytes(b, v []byte) []byte {
	return append(binary.AppendUvarint(b, uint64(len(v))), v...)
}
