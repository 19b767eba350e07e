package mapping

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
)

type event struct {
	each, when, person, segment, member, joins, leaves, memberships, time, sequence, until *expression

	others map[string][]int // segments that joining one of a group leaves, by place in Spec.Segments
}

type attribute struct {
	Attribute
	expr *expression
}

// Mapper maps records of one source. Each goroutine needs its own Worker.
type Mapper struct {
	value, key *Decoder
	events     []event
	email      *expression
	haltWhen   *expression
	tombstone  *expression
	attributes []attribute
	segments   map[string]int
	asked      *fields // of a record, by the expressions
	paths      [][]string
	cells      *fields  // of these, what closures ask for
	slots      int      // how many cells that takes
	compiled   int      // expressions
	items      bool     // some event is about the items of a record
	plans      sync.Map // by schema: *plan
	seen       sync.Map // schemas (lacks)
	// surroundings: some expression asks for the record's surroundings, which cost as much as a small record; the key is
	// decoded only for them.
	surroundings bool
	// ofItem: the address, or an attribute, is taken from the item at hand of a record about several people.
	ofItem bool
}

// NewMapper compiles a mapping; its error joins all problems.
func NewMapper(s Spec, value, key *Decoder) (*Mapper, error) {
	c := compiling{
		m:     &Mapper{value: value, key: key, segments: map[string]int{}, asked: &fields{}, cells: &fields{}},
		items: slices.ContainsFunc(s.Events, func(e Event) bool { return e.Each != "" }),
	}
	m := c.m
	m.items = c.items
	for i, g := range s.Segments {
		m.segments[g] = i
	}
	for i := range s.Events {
		m.events = append(m.events, c.event(i, &s.Events[i]))
	}
	m.haltWhen, m.tombstone = c.get("halt_when", s.HaltWhen), c.get("tombstone_person", s.Tombstone)
	c.item = false
	m.email = c.get("email", s.Email)
	if m.email != nil && !m.email.ofItem && slices.ContainsFunc(m.events, func(e event) bool { return e.each != nil && e.person != nil && e.person.ofItem }) {
		c.errs = append(c.errs, &ExpressionError{Place: "email", Source: s.Email, Offset: -1, Message: "each item is about another person, and they would all have one address: take it from the item, as in item.email"})
	}
	for _, a := range s.Attributes {
		if strings.TrimSpace(a.Expr) == "" {
			c.errs = append(c.errs, &ExpressionError{Place: "attribute " + a.Name, Offset: -1, Message: "it has no expression"})
			continue
		}
		m.attributes = append(m.attributes, attribute{a, c.get("attribute "+a.Name, a.Expr)})
	}
	m.ofItem = c.item
	return m, errors.Join(c.errs...)
}

// compiling is a mapper that is being made.
type compiling struct {
	m     *Mapper
	items bool // some event is about the items of a record
	item  bool // an expression names the item
	errs  []error
}

// get compiles an expression; nil if there is none.
func (c *compiling) get(what, source string) *expression {
	e, err := newExpression(source, c.items, c)
	if err != nil {
		c.errs = append(c.errs, at(what, err))
	}
	if e == nil {
		return nil
	}
	e.place = c.m.compiled
	c.m.compiled++
	c.item = c.item || e.ofItem
	c.m.surroundings = c.m.surroundings || e.surroundings
	for _, path := range e.paths {
		c.m.asked.add(path)
		c.m.paths = append(c.m.paths, path)
	}
	return e
}

// cell gives a path its cell.
func (c *compiling) cell(path []string) int {
	f := c.m.cells.add(path)
	if f.slot == 0 {
		c.m.slots++
		f.slot = c.m.slots
	}
	return f.slot - 1
}

// where gives the keys of a map a cell; ok is false if there are too many of them.
func (c *compiling) where(path []string, field string, allowed []any) (place int, ok bool) {
	f := c.m.cells.reach(path)
	if len(f.where) == whereMost {
		return 0, false
	}
	c.m.slots++
	f.where = append(f.where, &where{field, allowed, c.m.slots})
	return c.m.slots - 1, true
}

func (c *compiling) event(place int, e *Event) event {
	get := func(what, source string) *expression { return c.get(fmt.Sprintf("event %d %s", place+1, what), source) }
	out := event{
		each: get("each", e.Each), when: get("when", e.When), person: get("person", e.Person), segment: get("segment", e.Segment), member: get("member", e.Member),
		joins: get("joins", e.Joins), leaves: get("leaves", e.Leaves), memberships: get("memberships", e.Memberships),
		time: get("time", e.Time), sequence: get("sequence", e.Sequence), until: get("until", e.Until), others: map[string][]int{},
	}
	for _, group := range e.Groups {
		for _, one := range group {
			for _, other := range group {
				if n, asked := c.m.segments[other]; asked && other != one {
					out.others[one] = append(out.others[one], n)
				}
			}
		}
	}
	return out
}

// at names the expression that an error is of.
func at(place string, err error) error {
	if e, ok := errors.AsType[*ExpressionError](err); ok {
		e.Place = place
		return e
	}
	return fmt.Errorf("%s: %w", place, err)
}

// Version is one version of a schema: its text and those of the schemas that it names.
type Version struct {
	Text       string
	References []string
}

// Check compiles every expression against the versions of a schema, the newest first, and says what can be told of their
// results. A field must be in one of the versions. Its error joins all problems, each an *ExpressionError where it is an
// expression's.
func (m *Mapper) Check(versions ...Version) error {
	var schemas []*schema
	for i, v := range versions {
		c, err := newCodec(v.Text, v.References)
		switch {
		case err == nil:
			schemas = append(schemas, c.schema)
		case i == 0:
			return err
		}
	}
	var errs []error
	for _, p := range m.expressions() {
		if wrong := p.expr.fits(schemas, p.wants, p.each); wrong != nil {
			errs = append(errs, at(p.what, wrong))
		}
	}
	return errors.Join(errs...)
}

// placed is an expression of a mapping in its place.
type placed struct {
	what      string // its place: event 1 person, email, attribute SMS
	expr      *expression
	wants     []string    // what its result may be; none: anything
	each      *expression // gives the items that it is about; nil: none, or several kinds of them
	attribute *attribute  // nil: of none
}

// expressions are those of an event that are configured, in the order in which they are evaluated.
func (e *event) expressions(place int) (all []placed) {
	add := func(what string, x *expression, wants ...string) {
		if x != nil {
			all = append(all, placed{fmt.Sprintf("event %d %s", place+1, what), x, wants, e.each, nil})
		}
	}
	add("when", e.when, aBoolean)
	add("person", e.person, aText, aNumber, bytesOf)
	add("time", e.time, aTime, aNumber, aFloat, aText)
	add("sequence", e.sequence, aNumber, aText)
	add("until", e.until, aTime, aNumber, aFloat, aText)
	add("memberships", e.memberships, aList, aMap)
	add("leaves", e.leaves, aList)
	add("joins", e.joins, aList)
	add("segment", e.segment, aText, aNumber, bytesOf)
	add("member", e.member, aBoolean)
	return all
}

// profile are the expressions of what people are, in the order in which they are evaluated.
func (m *Mapper) profile() (all []placed) {
	eaches := map[string]*expression{}
	for i := range m.events {
		if e := m.events[i].each; e != nil {
			eaches[e.source] = e
		}
	}
	var each *expression
	for _, e := range eaches {
		if len(eaches) == 1 {
			each = e
		}
	}
	if m.email != nil {
		all = append(all, placed{"email", m.email, []string{aText}, each, nil})
	}
	for i := range m.attributes {
		a := &m.attributes[i]
		all = append(all, placed{"attribute " + a.Name, a.expr, nil, each, a})
	}
	return all
}

// expressions are all of a mapping.
func (m *Mapper) expressions() (all []placed) {
	if m.haltWhen != nil {
		all = append(all, placed{"halt_when", m.haltWhen, []string{aBoolean}, nil, nil})
	}
	for i := range m.events {
		if each := m.events[i].each; each != nil {
			all = append(all, placed{fmt.Sprintf("event %d each", i+1), each, []string{aList, aMap}, nil, nil})
		}
		all = append(all, m.events[i].expressions(i)...)
	}
	return append(all, m.profile()...)
}
