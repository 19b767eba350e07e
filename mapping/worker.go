package mapping

import (
	"cmp"
	"errors"
	"fmt"
	"slices"
	"strconv"
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
	round  []int          // the changes that the item at hand has touched; without items, the record
	json   []byte         // literals are made here; full, another is begun
}

// NewWorker makes a worker of m.
func (m *Mapper) NewWorker() *Worker {
	return &Worker{m: m, cells: filling{cells: make([]cell, m.slots)}}
}

// Map maps one record. The error is a *RejectError (a dead letter), ErrHalt, or a passing one of the registry, after
// which the record is to be mapped again. With a *RejectError the result may still hold changes.
func (w *Worker) Map(r *Record) (*Result, error) {
	res := &w.result
	*res = Result{Changes: res.Changes[:0], Profiles: res.Profiles[:0], Failures: res.Failures[:0], Costly: res.Costly[:0]}
	w.places, w.round = nil, w.round[:0]
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

// forget keeps nothing of a record.
func (w *Worker) forget() {
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
	if m.ofItem {
		if err := w.profile(); err != nil {
			return err
		}
	}
	var bad error
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
			w.round = w.round[:0]
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

// event adds what one event of the mapping says.
func (w *Worker) event(e *event, r *Record) error {
	if e.when != nil {
		if c, err := w.eval(e.when); err != nil || !c.is() {
			return err
		}
	}
	p, err := w.eval(e.person)
	if err != nil {
		return err
	}
	person, ok := p.person()
	if !ok {
		return &RejectError{"person", errors.New("the record names no person")}
	}
	at, err := w.time(e, r)
	if err != nil {
		return err
	}
	w.said = w.said[:0]
	entered, whole, err := w.memberships(e)
	if err != nil {
		return err
	}
	c := w.change(person, at)
	c.entered, c.Whole, c.Time = c.entered || entered, c.Whole || whole, max(c.Time, at)
	for _, m := range w.said {
		c.set(m)
	}
	return nil
}

// memberships collects what an event says of segments.
func (w *Worker) memberships(e *event) (entered, whole bool, err error) {
	until, err := w.until(e)
	if err != nil {
		return false, false, err
	}
	switch {
	case e.memberships != nil:
		c, err := w.eval(e.memberships)
		if c.kind == Null { // it says nothing of any
			return false, false, err
		}
		_, err = w.list(e, &c, true, until)
		return true, true, err
	case e.joins != nil || e.leaves != nil:
		if e.leaves != nil {
			c, err := w.eval(e.leaves)
			if err == nil {
				_, err = w.list(e, &c, false, 0)
			}
			if err != nil {
				return false, false, err
			}
		}
		if e.joins != nil {
			var c cell
			if c, err = w.eval(e.joins); err == nil {
				entered, err = w.list(e, &c, true, until)
			}
		}
		return entered, false, err
	case e.segment == nil:
		return false, false, nil
	}
	c, err := w.eval(e.segment)
	if err != nil {
		return false, false, err
	}
	segment, ok := c.person()
	if !ok {
		return false, false, &RejectError{"segment", errors.New("the record names no segment")}
	}
	if c, err = w.eval(e.member); err != nil {
		return false, false, err
	}
	in, known, err := c.member()
	if err != nil {
		return false, false, &RejectError{"member", err}
	}
	if known {
		w.say(e, segment, in, until)
	}
	return in, false, nil
}

// list collects the segments that a value lists; some: it names one.
func (w *Worker) list(e *event, c *cell, in bool, until int64) (some bool, err error) {
	if c.kind == Null {
		return false, nil
	}
	all, known := c.other.([]string)
	if !known {
		if all, err = segmentsOf(c.value()); err != nil {
			return false, &RejectError{"segment", err}
		}
	}
	for _, g := range all {
		w.say(e, g, in, until)
	}
	return len(all) > 0, nil
}

// say collects what is said of a segment. Joining one of a group leaves the others.
func (w *Worker) say(e *event, segment string, in bool, until int64) {
	if in {
		for _, other := range e.others[segment] {
			w.said = append(w.said, Membership{Segment: other})
		}
	} else {
		until = 0
	}
	if place, asked := w.m.segments[segment]; asked {
		w.said = append(w.said, Membership{place, in, until})
	}
}

// several is from how many people in a record on they are found by a map.
const several = 16

// change returns the record's change of a person: those of one record are reduced to one per person.
func (w *Worker) change(person string, at int64) *Change {
	all := w.result.Changes
	i := -1
	if w.places == nil {
		i = slices.IndexFunc(all, func(c Change) bool { return c.Person == person })
	} else if n, known := w.places[person]; known {
		i = n
	}
	if i < 0 {
		i = len(all)
		if i < cap(all) {
			all = all[:i+1]
			all[i] = Change{Person: person, Time: at, Profile: -1, Memberships: all[i].Memberships[:0]}
		} else {
			all = append(all, Change{Person: person, Time: at, Profile: -1})
		}
		w.result.Changes = all
		w.place(person, i)
	}
	if !slices.Contains(w.round, i) {
		w.round = append(w.round, i)
	}
	return &all[i]
}

// place notes where a person's change is, where there are several.
func (w *Worker) place(person string, i int) {
	switch {
	case w.places != nil:
		w.places[person] = i
	case i >= several:
		w.places = make(map[string]int, 4*several)
		for n := range w.result.Changes {
			w.places[w.result.Changes[n].Person] = n
		}
	}
}

// set reduces to the last say per segment.
func (c *Change) set(said Membership) {
	for i := range c.Memberships {
		if c.Memberships[i].Segment == said.Segment {
			c.Memberships[i] = said
			return
		}
	}
	c.Memberships = append(c.Memberships, said)
}

// time is what orders an event: its time, its sequence number or, without these, the record's own time.
func (w *Worker) time(e *event, r *Record) (int64, error) {
	switch {
	case e.sequence != nil:
		c, err := w.eval(e.sequence)
		if err != nil {
			return 0, err
		}
		n, err := sequenceOf(c.value())
		if err != nil {
			return 0, &RejectError{"time", fmt.Errorf("sequence: %w", err)}
		}
		return n, nil
	case e.time == nil:
		return r.written(), nil
	}
	at, given, err := w.instant(e.time)
	if err != nil || !given {
		return r.written(), err
	}
	return min(at, r.written()+skew.Nanoseconds()), nil
}

func (w *Worker) instant(e *expression) (ns int64, given bool, err error) {
	c, err := w.eval(e)
	if err != nil {
		return 0, false, err
	}
	if ns, given, err = c.time(); err != nil {
		return 0, false, &RejectError{"time", err}
	}
	return ns, given, nil
}

// until is when what an event joins lapses, in seconds since 1970, rounded up; 0: never.
func (w *Worker) until(e *event) (int64, error) {
	if e.until == nil {
		return 0, nil
	}
	at, given, err := w.instant(e.until)
	if err != nil || !given {
		return 0, err
	}
	seconds := at / int64(time.Second)
	if at%int64(time.Second) > 0 {
		seconds++
	}
	return max(seconds, 1), nil
}

// profile maps address and attributes for the people of the round. They are of who is put in; where nobody is, of all whom
// the round names: an image before a change may name another person than the image after it.
func (w *Worker) profile() error {
	m, res := w.m, &w.result
	if len(w.round) == 0 {
		return nil
	}
	p := w.newProfile()
	carries := false
	if m.email != nil {
		c, err := w.eval(m.email)
		if err != nil {
			res.Profiles = res.Profiles[:len(res.Profiles)-1]
			return err
		}
		if c.kind == Text && c.text != "" && !c.unavailable() {
			carries = true
			var ok bool
			if p.Address, ok = address(c.text); !ok {
				p.Address, p.BadAddress = "", true
			}
		}
	}
	for i := range m.attributes {
		carries = w.attribute(p, i) || carries
	}
	if !carries {
		res.Profiles = res.Profiles[:len(res.Profiles)-1]
		return nil
	}
	entering := slices.ContainsFunc(w.round, func(i int) bool { return res.Changes[i].entered })
	for _, i := range w.round {
		if c := &res.Changes[i]; c.entered || !entering {
			c.Profile = len(res.Profiles) - 1
		}
	}
	return nil
}

// newProfile is an empty one at the end of the result's.
func (w *Worker) newProfile() *Profile {
	all := w.result.Profiles
	if n := len(all); n < cap(all) {
		all = all[:n+1]
		all[n] = Profile{Values: all[n].Values[:0]}
	} else {
		all = append(all, Profile{})
	}
	w.result.Profiles = all
	return &all[len(all)-1]
}

// attribute maps one of a profile, and says whether it carries something.
func (w *Worker) attribute(p *Profile, i int) bool {
	a, res := &w.m.attributes[i], &w.result
	c, err := a.expr.cell(&w.run, &w.scope)
	if c.unavailable() {
		return false
	}
	var json []byte
	if err == nil {
		json, err = w.literal(a, &c)
	}
	if err != nil {
		res.Failures = append(res.Failures, Failure{i, causeOf(err)})
		if errors.Is(err, ErrBudget) {
			res.Costly = append(res.Costly, i)
		}
		if json == nil {
			return false
		}
	}
	carries := json != nil
	if json == nil && a.Clear {
		json = []byte(`""`)
	}
	p.Values = append(p.Values, Value{i, json})
	return carries
}

// jsonRoom is how many bytes of literals are made room for at once.
const jsonRoom = 4 << 10

// literal gives an attribute's value the form that the account's type needs: what is simple takes no memory of its own.
func (w *Worker) literal(a *attribute, c *cell) ([]byte, error) {
	if cap(w.json)-len(w.json) < len(c.text)+len(`"2006-01-02"`) && len(c.text) < jsonRoom/8 {
		w.json = make([]byte, 0, jsonRoom)
	}
	start := len(w.json)
	switch {
	case c.kind == Text && a.takesText() && len(c.text) < jsonRoom/8 && plainText(c.text):
		w.json = append(append(append(w.json, '"'), c.text...), '"')
	case c.kind == Boolean && a.Type == TypeBoolean:
		w.json = strconv.AppendBool(w.json, c.is())
	case c.kind == Day && c.other == nil && a.Type == TypeDate && c.n >= firstDay && c.n <= lastDay:
		w.json = append(c.day().AppendFormat(append(w.json, '"'), time.DateOnly), '"')
	default:
		return a.literal(c.value())
	}
	return w.json[start:len(w.json):len(w.json)], nil
}

// The first and last days of the years 1 to 9999, since 1970.
const firstDay, lastDay = -719162, 2932896
