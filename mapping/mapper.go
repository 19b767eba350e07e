package mapping

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"
)

type event struct{ when, person, segment, member, time, memberships *expression }

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
	seen       sync.Map // schemas (lacks)
	// surroundings: some expression asks for the record's surroundings, which cost as much as a small record; the key is
	// decoded only for them.
	surroundings bool
}

// NewMapper compiles a mapping; its error joins all problems.
func NewMapper(s Spec, value, key *Decoder) (*Mapper, error) {
	m := &Mapper{value: value, key: key, segments: map[string]int{}, asked: &fields{}}
	var errs []error
	get := func(what, source string) *expression {
		e, err := newExpression(source)
		if err != nil {
			errs = append(errs, at(what, err))
		}
		if e != nil {
			for _, path := range e.paths {
				m.surroundings = m.surroundings || len(path) == 0 || path[0] == "kafka"
				m.asked.add(path)
				m.paths = append(m.paths, path)
			}
		}
		return e
	}
	for i, e := range s.Events {
		n := fmt.Sprintf("event %d ", i+1)
		m.events = append(m.events, event{
			when: get(n+"when", e.When), person: get(n+"person", e.Person), segment: get(n+"segment", e.Segment),
			member: get(n+"member", e.Member), time: get(n+"time", e.Time), memberships: get(n+"memberships", e.Memberships),
		})
	}
	m.email, m.haltWhen, m.tombstone = get("email", s.Email), get("halt_when", s.HaltWhen), get("tombstone_person", s.Tombstone)
	for _, a := range s.Attributes {
		if strings.TrimSpace(a.Expr) == "" {
			errs = append(errs, &ExpressionError{Place: "attribute " + a.Name, Offset: -1, Message: "it has no expression"})
			continue
		}
		m.attributes = append(m.attributes, attribute{a, get("attribute "+a.Name, a.Expr)})
	}
	for i, g := range s.Segments {
		m.segments[g] = i
	}
	return m, errors.Join(errs...)
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
		if p.expr == nil {
			continue
		}
		if wrong := p.expr.fits(schemas, p.wants); wrong != nil {
			errs = append(errs, at(p.place, wrong))
		}
	}
	return errors.Join(errs...)
}

// placed is an expression of a mapping in its place.
type placed struct {
	place     string
	expr      *expression // nil: it is not configured
	wants     []string    // what its result may be; none: anything
	event     int         // by place; -1: of none
	when      bool        // whether its event is said at all
	attribute *attribute  // nil: of none
}

// expressions are all of a mapping, in the order in which they are evaluated.
func (m *Mapper) expressions() []placed {
	all := []placed{{"halt_when", m.haltWhen, []string{aBoolean}, -1, false, nil}}
	for i, e := range m.events {
		add := func(what string, e *expression, wants ...string) {
			all = append(all, placed{fmt.Sprintf("event %d %s", i+1, what), e, wants, i, what == "when", nil})
		}
		add("when", e.when, aBoolean)
		add("person", e.person, aText, aNumber, bytesOf)
		add("time", e.time, aTime, aNumber, aFloat, aText)
		add("memberships", e.memberships, aList, aMap)
		add("segment", e.segment, aText, aNumber, bytesOf)
		add("member", e.member, aBoolean)
	}
	all = append(all, placed{"email", m.email, []string{aText}, -1, false, nil})
	for i := range m.attributes {
		a := &m.attributes[i]
		all = append(all, placed{"attribute " + a.Name, a.expr, nil, -1, false, a})
	}
	return all
}

// Worker maps records in one goroutine.
type Worker struct {
	m      *Mapper
	run    runner
	result Result
}

// NewWorker makes a worker of m.
func (m *Mapper) NewWorker() *Worker { return &Worker{m: m} }

// Map maps one record. The error is a *RejectError (a dead letter), ErrHalt, or a passing one of the registry, after
// which the record is to be mapped again. With a *RejectError the result may still hold changes.
func (w *Worker) Map(r *Record) (*Result, error) {
	res := &w.result
	*res = Result{Changes: res.Changes[:0], Values: res.Values[:0], Failures: res.Failures[:0], Costly: res.Costly[:0]}
	m := w.m
	if r.Value == nil {
		key, err := m.keyOf(r)
		if err != nil {
			return res, reject(err)
		}
		return res, w.tombstone(key, r)
	}
	v, of, err := m.value.decode(r.Value, m.asked)
	if err != nil {
		return res, reject(err)
	}
	env, ok := v.(map[string]any)
	if !ok {
		return res, &RejectError{"decode", errors.New("the value is no record")}
	}
	res.Lacks = m.lacks(of)
	if m.surroundings {
		key, err := m.keyOf(r)
		if err != nil {
			return res, reject(err)
		}
		env["kafka"] = r.surroundings(key)
	}
	return res, w.fill(env, r)
}

// keyOf decodes a record's key; one that is not there is null.
func (m *Mapper) keyOf(r *Record) (any, error) {
	if r.Key == nil {
		return nil, nil
	}
	v, _, err := m.key.decode(r.Key, everything)
	return v, err
}

// lacks are the fields that expressions name and a schema does not have, the first time that the mapper sees the schema.
func (m *Mapper) lacks(s *schema) []string {
	if s == nil {
		return nil
	}
	if _, seen := m.seen.LoadOrStore(s, true); seen {
		return nil
	}
	var all []string
	for _, path := range m.paths {
		if len(path) > 0 && path[0] != "kafka" && !s.has(path) {
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
	w.result.Changes = append(w.result.Changes, Change{Person: id, Time: r.written()})
	return nil
}

func (w *Worker) fill(env map[string]any, r *Record) error {
	m, res := w.m, &w.result
	eval := func(e *expression) (any, error) { return e.eval(&w.run, env) }
	if m.haltWhen != nil {
		v, err := eval(m.haltWhen)
		if err != nil {
			return &RejectError{"mapping", err}
		}
		if v == true {
			return ErrHalt
		}
	}
	entering := false
	for i := range m.events {
		in, err := w.event(&m.events[i], eval, r)
		if err != nil {
			res.Changes = res.Changes[:0] // a record says all that it says, or nothing
			return err
		}
		entering = entering || in
	}
	if len(res.Changes) == 0 {
		return nil
	}
	return w.profile(eval, entering)
}

// event adds what one event of the mapping says; entering tells that it puts somebody in.
func (w *Worker) event(e *event, eval func(*expression) (any, error), r *Record) (entering bool, err error) {
	if e.when != nil {
		v, err := eval(e.when)
		if err != nil {
			return false, &RejectError{"mapping", err}
		}
		if v != true {
			return false, nil
		}
	}
	v, err := eval(e.person)
	if err != nil {
		return false, &RejectError{"mapping", err}
	}
	person, ok := personOf(v)
	if !ok {
		return false, &RejectError{"person", errors.New("the record names no person")}
	}
	at, err := w.time(e, eval, r)
	if err != nil {
		return false, err
	}
	c := w.change(person, at)
	if e.memberships != nil {
		return w.whole(c, e, eval)
	}
	v, err = eval(e.segment)
	if err != nil {
		return false, &RejectError{"mapping", err}
	}
	segment, ok := personOf(v)
	if !ok {
		return false, &RejectError{"segment", errors.New("the record names no segment")}
	}
	v, err = eval(e.member)
	if err != nil {
		return false, &RejectError{"mapping", err}
	}
	in, known, err := memberOf(v)
	if err != nil {
		return false, &RejectError{"member", err}
	}
	if place, asked := w.m.segments[segment]; asked && known {
		c.set(place, in)
	}
	return in, nil
}

// change returns the record's change of a person: those of one record are reduced to one per person.
func (w *Worker) change(person string, at int64) *Change {
	all := w.result.Changes
	for i := range all {
		if all[i].Person == person {
			return &all[i]
		}
	}
	if len(all) < cap(all) {
		all = all[:len(all)+1]
		all[len(all)-1] = Change{Person: person, Time: at, Memberships: all[len(all)-1].Memberships[:0]}
	} else {
		all = append(all, Change{Person: person, Time: at})
	}
	w.result.Changes = all
	return &all[len(all)-1]
}

// set reduces to the last say per segment.
func (c *Change) set(segment int, in bool) {
	for i := range c.Memberships {
		if c.Memberships[i].Segment == segment {
			c.Memberships[i].In = in
			return
		}
	}
	c.Memberships = append(c.Memberships, Membership{segment, in})
}

func (w *Worker) whole(c *Change, e *event, eval func(*expression) (any, error)) (bool, error) {
	v, err := eval(e.memberships)
	if err != nil {
		return false, &RejectError{"mapping", err}
	}
	if v == nil { // it says nothing of any
		return false, nil
	}
	in, err := segmentsOf(v)
	if err != nil {
		return false, &RejectError{"segment", err}
	}
	for _, g := range in {
		if place, asked := w.m.segments[g]; asked {
			c.set(place, true)
		}
	}
	c.Whole = true
	return true, nil
}

func (w *Worker) time(e *event, eval func(*expression) (any, error), r *Record) (int64, error) {
	if e.time == nil {
		return r.written(), nil
	}
	v, err := eval(e.time)
	if err != nil {
		return 0, &RejectError{"mapping", err}
	}
	at, given, err := timeOf(v)
	if err != nil {
		return 0, &RejectError{"time", err}
	}
	if !given {
		return r.written(), nil
	}
	return min(at, r.written()+skew.Nanoseconds()), nil
}

// profile maps address and attributes. They are of who is put in; where nobody is, of all whom the record names: an
// image before a change may name another person than the image after it.
func (w *Worker) profile(eval func(*expression) (any, error), entering bool) error {
	m, res := w.m, &w.result
	carries := false
	if m.email != nil {
		v, err := eval(m.email)
		if err != nil {
			return &RejectError{"mapping", err}
		}
		if s, ok := v.(string); ok && s != "" && !unavailable(v) {
			carries = true
			if res.Address, ok = address(s); !ok {
				res.Address, res.BadAddress = "", true
			}
		}
	}
	for i := range m.attributes {
		a := &m.attributes[i]
		v, err := eval(a.expr)
		if unavailable(v) {
			continue
		}
		var json []byte
		if err == nil {
			json, err = a.literal(v)
		}
		if err != nil {
			res.Failures = append(res.Failures, Failure{i, causeOf(err)})
			if errors.Is(err, ErrBudget) {
				res.Costly = append(res.Costly, i)
			}
			if json == nil {
				continue
			}
		}
		carries = carries || json != nil
		if json == nil && a.Clear {
			json = []byte(`""`)
		}
		res.Values = append(res.Values, Value{i, json})
	}
	for i := range res.Changes {
		c := &res.Changes[i]
		c.HasProfile = carries && (!entering || c.Whole || c.in())
	}
	return nil
}

// in says whether the change puts the person into a segment that is asked for, or names none that is.
func (c *Change) in() bool {
	for _, m := range c.Memberships {
		if m.In {
			return true
		}
	}
	return len(c.Memberships) == 0
}
