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

// guard walks bytes against a schema before goavro decodes them: six bytes can announce an array of gigabytes, and a
// recursive schema can nest without end. It returns what follows the datum.
type guard struct{ free int }

func (s *schema) check(b []byte) (rest []byte, err error) {
	g := guard{free: freeItems + byteVisits*len(b)}
	return g.walk(s, b, 0)
}

func (g *guard) walk(s *schema, b []byte, depth int) ([]byte, error) {
	if g.free--; g.free < 0 {
		return nil, errors.New("the record holds too much that takes no bytes")
	}
	if depth > nesting {
		return nil, errors.New("the record is nested too deeply")
	}
	switch s.kind {
	case kindNull:
		return b, nil
	case kindBoolean:
		return skip(b, 1)
	case kindInt, kindLong, kindEnum:
		n, rest, err := long(b)
		if err == nil && s.kind == kindEnum && (n < 0 || n >= int64(s.symbols)) {
			err = errHostile
		}
		return rest, err
	case kindFloat:
		return skip(b, 4)
	case kindDouble:
		return skip(b, 8)
	case kindFixed:
		return skip(b, int64(s.size))
	case kindBytes, kindString:
		n, rest, err := long(b)
		if err != nil {
			return nil, err
		}
		return skip(rest, n)
	case kindRecord:
		for i := range s.fields {
			var err error
			if b, err = g.walk(s.fields[i].typ, b, depth+1); err != nil {
				return nil, err
			}
		}
		return b, nil
	case kindUnion:
		n, rest, err := long(b)
		if err != nil || n < 0 || n >= int64(len(s.of)) {
			return nil, errHostile
		}
		return g.walk(s.of[n], rest, depth+1)
	case kindArray, kindMap:
		return g.blocks(s, b, depth)
	}
	return nil, errHostile
}

// blocks walks an array's or a map's blocks. An item that takes no bytes is paid from the free budget.
func (g *guard) blocks(s *schema, b []byte, depth int) ([]byte, error) {
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
			if s.kind == kindMap {
				size, rest, err := long(b)
				if err != nil {
					return nil, err
				}
				if b, err = skip(rest, size); err != nil {
					return nil, err
				}
			}
			if b, err = g.walk(s.items, b, depth+1); err != nil {
				return nil, err
			}
		}
	}
}

func skip(b []byte, n int64) ([]byte, error) {
	if n < 0 || n > int64(len(b)) {
		return nil, errHostile
	}
	return b[n:], nil
}

// long reads a zig-zag varint.
func long(b []byte) (int64, []byte, error) {
	n, used := binary.Varint(b)
	if used <= 0 {
		return 0, nil, errHostile
	}
	return n, b[used:], nil
}
