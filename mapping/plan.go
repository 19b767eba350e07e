package mapping

import (
	"encoding/binary"
	"math"
	"slices"
	"strings"
)

// plan is how records of one schema fill the cells of a mapping: what is asked for lies in a tree of the schema's own form,
// so that nothing is looked up by name while a record is read.
type plan struct {
	schema *schema
	slot   int     // the cell that the value goes into; -1: none
	asked  *fields // of a value that is read whole
	whole  bool
	steps  []*plan          // of a record, by field; of a union, by branch; nil: it is walked past
	named  map[string]*plan // of a map
	entry  *plan            // of a map of which keys are asked for by a field of their values
	lost   []int            // cells of steps into what has no fields
}

// where asks for the keys of a map whose values have a field that is one of some values: keysWhere(path, "field", […]).
type where struct {
	field   string
	allowed []any
	slot    int // of the cell that the keys go into, plus one
}

// whereMost is how many of these one map may have: each has a bit.
const whereMost = 64

// planOf makes the plan of a schema; nil where nothing is asked for.
func planOf(s *schema, asked *fields) *plan { return planner{}.of(s, asked) }

// planner knows the plans that it has made: a schema may be reached in many ways.
type planner map[planned]*plan

type planned struct {
	schema *schema
	asked  *fields
}

func (all planner) of(s *schema, asked *fields) *plan {
	if asked == nil {
		return nil
	}
	if p, made := all[planned{s, asked}]; made {
		return p
	}
	p := &plan{schema: s, slot: asked.slot - 1, asked: asked}
	all[planned{s, asked}] = p
	switch {
	case s.kind == kindUnion:
		for _, b := range s.of {
			p.steps = append(p.steps, all.of(b, asked))
		}
	case asked.whole && (s.kind == kindRecord || s.kind == kindMap || s.kind == kindArray), s.kind == kindRecord && (s.logical != "" || asked.where != nil):
		p.whole = true
	case s.kind == kindMap && asked.where != nil && asked.named != nil:
		p.whole = true // rather than each value twice
	case s.kind == kindMap && asked.where != nil:
		of := &fields{}
		for i, w := range asked.where {
			of.add([]string{w.field}).slot = i + 1
		}
		p.entry = all.of(s.items, of)
	case s.kind == kindRecord:
		for i := range s.fields {
			p.steps = append(p.steps, all.of(s.fields[i].typ, asked.named[s.fields[i].name]))
		}
	case s.kind == kindMap:
		p.named = map[string]*plan{}
		for name, of := range asked.named {
			p.named[name] = all.of(s.items, of)
		}
	case s.kind != kindNull:
		for _, of := range asked.named {
			p.lost = of.slots(p.lost)
		}
	}
	return p
}

// slots are the cells at and below a node.
func (f *fields) slots(into []int) []int {
	if f.slot > 0 {
		into = append(into, f.slot-1)
	}
	for _, w := range f.where {
		into = append(into, w.slot-1)
	}
	for _, of := range f.named {
		into = of.slots(into)
	}
	return into
}

// filling is a record that fills cells.
type filling struct {
	guard
	cells []cell
	text  string // the record's bytes: texts are parts of it

	found  []entry // of the map at hand
	fields []cell  // of the value at hand
}

// entry is a key of a map, and by where whether its value fits.
type entry struct {
	key  string
	fits uint64
}

// fill reads the record b into the cells, which are null.
func (f *filling) fill(p *plan, b []byte) (rest []byte, err error) {
	f.guard, f.text = guard{free: freeItems + byteVisits*len(b)}, string(b)
	return f.read(p, b, 0)
}

// forget makes the cells null again.
func (f *filling) forget() {
	clear(f.cells)
	clear(f.found)
	f.text = ""
}

func (f *filling) read(p *plan, b []byte, depth int) ([]byte, error) {
	s := p.schema
	if p.whole {
		v, rest, err := f.guard.read(s, b, everything, depth)
		if err == nil {
			f.spread(p.asked, v)
		}
		return rest, err
	}
	if err := f.visit(depth); err != nil {
		return nil, err
	}
	switch s.kind {
	case kindRecord:
		for i, of := range p.steps {
			var err error
			if of == nil {
				b, err = f.walk(s.fields[i].typ, b, depth+1)
			} else {
				b, err = f.read(of, b, depth+1)
			}
			if err != nil {
				return nil, err
			}
		}
		return b, nil
	case kindUnion:
		n, rest, err := long(b)
		if err != nil || n < 0 || n >= int64(len(s.of)) {
			return nil, errHostile
		}
		return f.read(p.steps[n], rest, depth+1)
	case kindMap:
		if p.entry != nil {
			return f.where(p, b, depth)
		}
		return f.items(b, func(b []byte) ([]byte, error) {
			key, rest, err := counted(b)
			if err != nil {
				return nil, err
			}
			if of := p.named[string(key)]; of != nil {
				for _, slot := range of.asked.slots(nil) { // a key may come twice
					f.cells[slot] = cell{}
				}
				return f.read(of, rest, depth+1)
			}
			return f.walk(s.items, rest, depth+1)
		})
	default:
	}
	for _, slot := range p.lost {
		f.cells[slot].unknown = true
	}
	if s.kind == kindArray {
		return f.items(b, func(b []byte) ([]byte, error) { return f.walk(s.items, b, depth+1) })
	}
	c, rest, err := f.scalar(s, b)
	if err == nil && p.slot >= 0 {
		f.cells[p.slot] = c
	}
	return rest, err
}

// where reads a map of which keys are asked for.
func (f *filling) where(p *plan, b []byte, depth int) ([]byte, error) {
	outer, all := f.cells, p.asked.where
	defer func() { f.cells = outer }()
	f.fields = slices.Grow(f.fields[:0], len(all))[:len(all)]
	f.cells, f.found = f.fields, f.found[:0]
	rest, err := f.items(b, func(b []byte) ([]byte, error) {
		key, rest, err := counted(b)
		if err != nil {
			return nil, err
		}
		end := len(f.text) - len(rest)
		e := entry{key: f.text[end-len(key) : end]}
		clear(f.cells)
		has := p.schema.items.fieldsIn(rest)
		if rest, err = f.read(p.entry, rest, depth+1); err != nil {
			return nil, err
		}
		for i, w := range all {
			if c := &f.cells[w.place(all)]; has && !c.unknown && c.isOneOf(w.allowed) {
				e.fits |= 1 << i
			}
		}
		f.found = append(f.found, e)
		return rest, nil
	})
	if err != nil {
		return nil, err
	}
	slices.SortStableFunc(f.found, func(a, b entry) int { return strings.Compare(a.key, b.key) })
	clear(f.fields)
	for i, w := range all {
		keys := make([]string, 0, len(f.found))
		for n, e := range f.found {
			if e.fits&(1<<i) != 0 && (n+1 == len(f.found) || f.found[n+1].key != e.key) { // of a key that comes twice the last counts
				keys = append(keys, e.key)
			}
		}
		outer[w.slot-1] = cell{kind: List, other: keys}
	}
	return rest, nil
}

// place is the cell of a value's field: that of the last of all that ask for it.
func (w *where) place(all []*where) int {
	for i := len(all) - 1; i > 0; i-- {
		if all[i].field == w.field {
			return i
		}
	}
	return 0
}

// scalar reads what has no parts.
func (f *filling) scalar(s *schema, b []byte) (c cell, rest []byte, err error) {
	switch s.kind {
	case kindNull:
		return cell{}, b, nil
	case kindBoolean:
		if rest, err = boolean(b); err != nil {
			return c, nil, err
		}
		return cell{kind: Boolean, n: int64(b[0])}, rest, nil
	case kindInt, kindLong:
		n, rest, err := s.integer(b)
		if err != nil {
			return c, nil, err
		}
		return s.number(n), rest, nil
	case kindEnum:
		n, rest, err := s.symbol(b)
		if err != nil {
			return c, nil, err
		}
		return textCell(s.words[n]), rest, nil
	case kindString:
		text, rest, err := counted(b)
		if err != nil {
			return c, nil, err
		}
		end := len(f.text) - len(rest)
		return textCell(f.text[end-len(text) : end]), rest, nil
	case kindFloat:
		if rest, err = skip(b, 4); err != nil {
			return c, nil, err
		}
		return cellOf(widen(math.Float32frombits(binary.LittleEndian.Uint32(b)))), rest, nil
	case kindDouble:
		if rest, err = skip(b, 8); err != nil {
			return c, nil, err
		}
		return cellOf(math.Float64frombits(binary.LittleEndian.Uint64(b))), rest, nil
	case kindFixed:
		if rest, err = skip(b, int64(s.size)); err != nil {
			return c, nil, err
		}
		return cellOf(s.binary(b[:s.size:s.size])), rest, nil
	case kindBytes:
		text, rest, err := counted(b)
		if err != nil {
			return c, nil, err
		}
		return cellOf(s.binary(text)), rest, nil
	default:
		return c, nil, errHostile
	}
}

// spread puts a value, and what lies in it, into their cells.
func (f *filling) spread(asked *fields, v any) {
	if asked.slot > 0 {
		f.cells[asked.slot-1] = cellOf(v)
	}
	m, isMap := v.(map[string]any)
	for _, w := range asked.where {
		f.cells[w.slot-1] = cell{kind: List, other: keysIn(m, w.field, w.allowed)}
	}
	for name, of := range asked.named {
		switch {
		case isMap:
			f.spread(of, m[name])
		case v != nil:
			for _, slot := range of.slots(nil) {
				f.cells[slot].unknown = true
			}
		}
	}
}

// fieldsIn says whether a datum is a record or a map.
func (s *schema) fieldsIn(b []byte) bool {
	if s.kind == kindUnion {
		branch, _, err := s.branchOf(b)
		return err == nil && (branch.kind == kindMap || branch.kind == kindRecord && branch.logical == "")
	}
	return s.kind == kindMap || s.kind == kindRecord && s.logical == ""
}

// recordIn says whether a datum is a record.
func (s *schema) recordIn(b []byte) bool {
	if s.kind == kindUnion {
		branch, _, err := s.branchOf(b)
		return err == nil && branch.kind == kindRecord && branch.logical == ""
	}
	return s.kind == kindRecord && s.logical == ""
}
