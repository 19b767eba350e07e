package mapping

import (
	"encoding/binary"
	"math"
)

// fields are what is asked for of a record: whole, or by name. nil asks for nothing.
type fields struct {
	whole bool
	slot  int // of the cell that it goes into, plus one; 0: none
	named map[string]*fields
	where []*where // what is asked of it as a map
}

// everything asks for all of a value.
var everything = &fields{whole: true}

// of is what is asked for of a field.
func (f *fields) of(name string) *fields {
	if f.whole {
		return f
	}
	return f.named[name]
}

// add asks for what lies at a path.
func (f *fields) add(path []string) *fields {
	f = f.reach(path)
	f.whole = true
	return f
}

// reach makes the way to a path, and asks for nothing there.
func (f *fields) reach(path []string) *fields {
	for _, name := range path {
		if f.named == nil {
			f.named = map[string]*fields{}
		}
		next := f.named[name]
		if next == nil {
			next = &fields{}
			f.named[name] = next
		}
		f = next
	}
	return f
}

// read decodes the datum at the beginning of b, and returns what follows. What is not asked for is walked past, and held
// against the schema all the same.
func (s *schema) read(b []byte, asked *fields) (v any, rest []byte, err error) {
	g := guard{free: freeItems + byteVisits*len(b)}
	return g.read(s, b, asked, 0)
}

func (g *guard) read(s *schema, b []byte, asked *fields, depth int) (any, []byte, error) {
	if asked == nil {
		rest, err := g.walk(s, b, depth)
		return nil, rest, err
	}
	if err := g.visit(depth); err != nil {
		return nil, nil, err
	}
	switch s.kind {
	case kindNull:
		return nil, b, nil
	case kindBoolean:
		rest, err := boolean(b)
		if err != nil {
			return nil, nil, err
		}
		return b[0] == 1, rest, nil
	case kindInt, kindLong:
		n, rest, err := s.integer(b)
		return s.whole(n), rest, err
	case kindEnum:
		n, rest, err := s.symbol(b)
		if err != nil {
			return nil, nil, err
		}
		return s.words[n], rest, nil
	case kindFloat:
		rest, err := skip(b, 4)
		if err != nil {
			return nil, nil, err
		}
		return widen(math.Float32frombits(binary.LittleEndian.Uint32(b))), rest, nil
	case kindDouble:
		rest, err := skip(b, 8)
		if err != nil {
			return nil, nil, err
		}
		return math.Float64frombits(binary.LittleEndian.Uint64(b)), rest, nil
	case kindFixed:
		rest, err := skip(b, int64(s.size))
		if err != nil {
			return nil, nil, err
		}
		return s.binary(b[:s.size:s.size]), rest, nil
	case kindBytes, kindString:
		text, rest, err := counted(b)
		if s.kind == kindString {
			return string(text), rest, err
		}
		return s.binary(text), rest, err
	case kindRecord:
		return g.record(s, b, asked, depth)
	case kindUnion:
		branch, rest, err := s.branchOf(b)
		if err != nil {
			return nil, nil, err
		}
		return g.read(branch, rest, asked, depth+1)
	case kindArray:
		return g.list(s, b, asked, depth)
	case kindMap:
		return g.table(s, b, asked, depth)
	}
	return nil, nil, errHostile
}

func (g *guard) record(s *schema, b []byte, asked *fields, depth int) (any, []byte, error) {
	size := len(asked.named)
	if asked.whole || s.logical != "" {
		asked, size = everything, len(s.fields)
	}
	m := make(map[string]any, size+1) // and the surroundings
	for i := range s.fields {
		f := &s.fields[i]
		of := asked.of(f.name)
		v, rest, err := g.read(f.typ, b, of, depth+1)
		if err != nil {
			return nil, nil, err
		}
		if b = rest; of != nil {
			m[f.name] = v
		}
	}
	return s.record(m), b, nil
}

func (g *guard) list(s *schema, b []byte, asked *fields, depth int) (any, []byte, error) {
	list := []any{}
	rest, err := g.items(b, func(b []byte) ([]byte, error) {
		v, rest, err := g.read(s.items, b, asked, depth+1)
		list = append(list, v)
		return rest, err
	})
	return list, rest, err
}

func (g *guard) table(s *schema, b []byte, asked *fields, depth int) (any, []byte, error) {
	m := map[string]any{}
	rest, err := g.items(b, func(b []byte) ([]byte, error) {
		key, rest, err := counted(b)
		if err != nil {
			return nil, err
		}
		of := asked.of(string(key))
		v, rest, err := g.read(s.items, rest, of, depth+1)
		if of != nil {
			m[string(key)] = v
		}
		return rest, err
	})
	return m, rest, err
}
