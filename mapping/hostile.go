package mapping

import (
	"encoding/binary"
	"errors"
)

// Budgets of a record beyond its own bytes: visits of the schema for each, those of what takes no bytes among them, and
// nesting.
const (
	freeItems  = 1 << 16
	byteVisits = 4
	nesting    = 64
)

var errHostile = errors.New("the bytes do not fit the schema")

// guard walks bytes against a schema before, or while, they are decoded: six bytes can announce an array of gigabytes, and a
// recursive schema can nest without end. It returns what follows the datum.
type guard struct{ free int }

func (s *schema) check(b []byte) (rest []byte, err error) {
	g := guard{free: freeItems + byteVisits*len(b)}
	return g.walk(s, b, 0)
}

// visit pays for a look at a schema.
func (g *guard) visit(depth int) error {
	if g.free--; g.free < 0 {
		return errors.New("the record holds too much that takes no bytes")
	}
	if depth > nesting {
		return errors.New("the record is nested too deeply")
	}
	return nil
}

func (g *guard) walk(s *schema, b []byte, depth int) ([]byte, error) {
	if err := g.visit(depth); err != nil {
		return nil, err
	}
	switch s.kind {
	case kindNull:
		return b, nil
	case kindBoolean:
		return boolean(b)
	case kindInt, kindLong:
		_, rest, err := s.integer(b)
		return rest, err
	case kindEnum:
		_, rest, err := s.symbol(b)
		return rest, err
	case kindFloat:
		return skip(b, 4)
	case kindDouble:
		return skip(b, 8)
	case kindFixed:
		return skip(b, int64(s.size))
	case kindBytes, kindString:
		_, rest, err := counted(b)
		return rest, err
	case kindRecord:
		for i := range s.fields {
			var err error
			if b, err = g.walk(s.fields[i].typ, b, depth+1); err != nil {
				return nil, err
			}
		}
		return b, nil
	case kindUnion:
		branch, rest, err := s.branchOf(b)
		if err != nil {
			return nil, err
		}
		return g.walk(branch, rest, depth+1)
	case kindArray:
		return g.items(b, func(b []byte) ([]byte, error) { return g.walk(s.items, b, depth+1) })
	case kindMap:
		return g.items(b, func(b []byte) ([]byte, error) {
			_, rest, err := counted(b)
			if err != nil {
				return nil, err
			}
			return g.walk(s.items, rest, depth+1)
		})
	}
	return nil, errHostile
}

// items shows the blocks of an array or a map, item by item. An item that takes no bytes is paid from the free budget.
func (g *guard) items(b []byte, item func([]byte) ([]byte, error)) ([]byte, error) {
	for {
		n, rest, err := long(b)
		if err != nil {
			return nil, err
		}
		b = rest
		if n == 0 {
			return b, nil
		}
		if n < 0 {
			n = -n
			if _, b, err = long(b); err != nil || n < 0 {
				return nil, errHostile
			}
		}
		if n > int64(len(b)) && n > int64(g.free) {
			return nil, errors.New("the record announces more items than it has bytes")
		}
		for range n {
			if b, err = item(b); err != nil {
				return nil, err
			}
		}
	}
}

func boolean(b []byte) ([]byte, error) {
	if len(b) == 0 || b[0] > 1 {
		return nil, errHostile
	}
	return b[1:], nil
}

// integer reads an int, which takes 32 bits, or a long.
func (s *schema) integer(b []byte) (int64, []byte, error) {
	n, rest, err := long(b)
	if err == nil && s.kind == kindInt && n != int64(int32(n)) {
		err = errHostile
	}
	return n, rest, err
}

func (s *schema) symbol(b []byte) (int, []byte, error) {
	n, rest, err := long(b)
	if err == nil && (n < 0 || n >= int64(len(s.words))) {
		err = errHostile
	}
	return int(n), rest, err
}

func (s *schema) branchOf(b []byte) (*schema, []byte, error) {
	n, rest, err := long(b)
	if err != nil || n < 0 || n >= int64(len(s.of)) {
		return nil, nil, errHostile
	}
	return s.of[n], rest, nil
}

// counted reads bytes behind their length.
func counted(b []byte) (text, rest []byte, err error) {
	n, b, err := long(b)
	if err != nil || n < 0 || n > int64(len(b)) {
		return nil, nil, errHostile
	}
	return b[:n:n], b[n:], nil
}

func skip(b []byte, n int64) ([]byte, error) {
	if n < 0 || n > int64(len(b)) {
		return nil, errHostile
	}
	return b[n:], nil
}

// long reads a zig-zag varint.
func long(b []byte) (int64, []byte, error) {
	if len(b) > 0 && b[0] < 0x80 { // most are short
		return int64(b[0]>>1) ^ -int64(b[0]&1), b[1:], nil
	}
	n, used := binary.Varint(b)
	if used <= 0 {
		return 0, nil, errHostile
	}
	return n, b[used:], nil
}
