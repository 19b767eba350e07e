package mapping

import (
	"cmp"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"
)

// Worker maps records in one goroutine.
type Worker struct {
	m      *Mapper
	run    runner
	scope  scope // the record at hand
	cells  filling
	result Result
	places map[string]int // of people in result.Changes, where they are many
	said   []Membership   // by the event at hand
	names  []string       // of segments in the list at hand
	round  []int          // the changes that the item at hand has touched; without items, the record
	rounds int            // how many there were
	json   []byte         // literals are made here; full, another is begun
	made   int            // bytes of literals of the record at hand
	mapped []mappedAttribute
}

// NewWorker makes a worker of m.
func (m *Mapper) NewWorker() *Worker {
	return &Worker{m: m, cells: filling{cells: make([]cell, m.slots)}, run: runner{spent: make([]int, m.compiled), once: make([]once, m.compiled)}, mapped: make([]mappedAttribute, len(m.attributes))}
}

// Map maps one record. The error is a *RejectError (a dead letter), ErrHalt, or a passing one of the registry, after
// which the record is to be mapped again. With a *RejectError the result may still hold changes.
func (w *Worker) Map(r *Record) (*Result, error) {
	res := &w.result
	if cap(res.Changes) > keptMost {
		*res = Result{}
	}
	*res = Result{Changes: res.Changes[:0], Profiles: res.Profiles[:0], Failures: res.Failures[:0], Costly: res.Costly[:0]}
	w.places, w.made = nil, 0
	w.nextRound()
	m := w.m
	if r.Value == nil {
		key, err := m.keyOf(r)
		if err != nil {
			return res, reject(err)
		}
		return res, w.tombstone(key, r)
	}
	defer w.forget()
	if err := w.read(r); err != nil {
		return res, reject(err)
	}
	return res, w.fill(r)
}

// keptMost is how many people's changes a worker keeps the memory of.
const keptMost = 1024

func (w *Worker) nextRound() {
	w.round = w.round[:0]
	w.rounds++
}

// forget keeps nothing of a record.
func (w *Worker) forget() {
	clear(w.run.spent)
	clear(w.run.once)
	clear(w.mapped)
	w.scope = scope{}
	w.cells.forget()
}

// read decodes a record.
func (w *Worker) read(r *Record) error {
	m := w.m
	c, b, err := m.value.open(r.Value)
	if err != nil {
		return err
	}
	if useGoavro {
		v, err := c.decode(b, m.asked)
		if err != nil {
			return err
		}
		env, ok := v.(map[string]any)
		if !ok {
			return errNoRecord
		}
		if m.items {
			env["item"] = nil
		}
		w.scope.env = env
	} else {
		if err := decoded(w.cells.fill(m.plan(c.schema), b)); err != nil {
			return err
		}
		if !c.schema.recordIn(b) {
			return errNoRecord
		}
		w.scope.cells, w.scope.record = w.cells.cells, record{c, b, m.asked}
	}
	w.scope.about = m.items
	w.result.Lacks = m.lacks(c.schema)
	if m.surroundings {
		key, err := m.keyOf(r)
		if err != nil {
			return err
		}
		w.scope.surround(r.surroundings(key))
	}
	return nil
}

var errNoRecord = errors.New("the value is no record")

// keyOf decodes a record's key; one that is not there is null.
func (m *Mapper) keyOf(r *Record) (any, error) {
	if r.Key == nil {
		return nil, nil
	}
	v, _, err := m.key.decode(r.Key, everything)
	return v, err
}

// plan is how records of a schema fill cells.
func (m *Mapper) plan(s *schema) *plan {
	if p, ok := m.plans.Load(s); ok {
		return p.(*plan) //nolint:forcetypeassert // nothing else is kept there
	}
	p, _ := m.plans.LoadOrStore(s, planOf(s, m.cells))
	return p.(*plan) //nolint:forcetypeassert // as above
}

// lacks are the fields that expressions name and a schema does not have, the first time that the mapper sees the schema.
func (m *Mapper) lacks(s *schema) []string {
	if _, seen := m.seen.Load(s); seen {
		return nil
	}
	if _, seen := m.seen.LoadOrStore(s, true); seen {
		return nil
	}
	var all []string
	for _, path := range m.paths {
		if len(path) > 0 && !s.has(path) {
			all = append(all, strings.Join(path, "."))
		}
	}
	slices.Sort(all)
	return slices.Compact(all)
}

// surroundings are what expressions see of a record beside its value (kafkaEnv).
func (r *Record) surroundings(key any) map[string]any {
	headers := make(map[string]any, len(r.Headers))
	for k, v := range r.Headers {
		headers[k] = string(v)
	}
	return map[string]any{
		"key": key, "topic": r.Topic, "partition": int(r.Partition), "offset": int(r.Offset),
		"timestamp": time.Unix(0, r.Time).UTC(), "headers": headers,
	}
}

// reject tells a dead letter from a passing error of the registry.
func reject(err error) error {
	var bad *badSchemaError
	switch {
	case errors.As(err, &bad), errors.Is(err, ErrNotAvro):
		return &RejectError{"schema", err}
	case errors.Is(err, ErrNoSchema), errors.Is(err, ErrRegistry):
		return err
	}
	return &RejectError{"decode", err}
}

func (w *Worker) tombstone(key any, r *Record) error {
	w.result.Tombstone = true
	person := key
	if w.m.tombstone != nil {
		var err error
		if person, err = w.m.tombstone.eval(&w.run, map[string]any{"kafka": r.surroundings(key)}); err != nil {
			return &RejectError{"person", err}
		}
	}
	id, ok := personOf(person)
	if !ok {
		return &RejectError{"person", errors.New("a record without a value has no key that names a person")}
	}
	w.result.Changes = append(w.result.Changes, Change{Person: id, Time: r.written(), Profile: -1})
	return nil
}

func (w *Worker) eval(e *expression) (cell, error) {
	c, err := e.cell(&w.run, &w.scope)
	if err != nil {
		return cell{}, &RejectError{"mapping", err}
	}
	return c, nil
}

// fill maps the record at hand: first what is said of all of it, then item by item.
func (w *Worker) fill(r *Record) error {
	m, res := w.m, &w.result
	if m.haltWhen != nil {
		c, err := w.eval(m.haltWhen)
		if err != nil {
			return err
		}
		if c.is() {
			return ErrHalt
		}
	}
	for i := range m.events {
		if e := &m.events[i]; e.each == nil {
			if err := w.event(e, r); err != nil {
				res.Changes = res.Changes[:0] // a record says all that it says, or nothing
				return err
			}
		}
	}
	var bad error
	if m.ofItem {
		bad = w.profile()
	}
	for i := range m.events {
		if e := &m.events[i]; e.each != nil {
			bad = cmp.Or(bad, w.items(e, r))
		}
	}
	if !m.ofItem {
		bad = cmp.Or(bad, w.profile())
	}
	return bad
}

// items maps an event for each item. One that cannot be mapped does not cost the others: the error tells of the first.
func (w *Worker) items(e *event, r *Record) error {
	c, err := w.eval(e.each)
	if err != nil {
		return err
	}
	all, ok := itemsIn(c.value())
	if !ok {
		return &RejectError{"mapping", fmt.Errorf("each is neither a list nor a map, but %s", c.kind)}
	}
	var bad error
	for i, item := range all {
		w.scope.at(item)
		if w.m.ofItem {
			w.nextRound()
		}
		err := w.event(e, r)
		if err == nil && w.m.ofItem {
			err = w.profile()
		}
		if x, is := errors.AsType[*RejectError](err); is && bad == nil {
			bad = &RejectError{x.Class, fmt.Errorf("item %d: %w", i+1, x.Err)}
		}
	}
	w.scope.without()
	return bad
}

// itemsIn are the items of a list, or the entries of a map, by their keys; none of null.
func itemsIn(v any) ([]any, bool) {
	switch v := v.(type) {
	case nil:
		return nil, true
	case []any:
		return v, true
	case map[string]any:
		all, err := pairs(v, func(key string, value any) any { return map[string]any{"key": key, "value": value} })
		return all, err == nil
	}
	return nil, false
}
