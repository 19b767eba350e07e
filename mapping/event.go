package mapping

import (
	"errors"
	"fmt"
	"slices"
	"time"
)

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
	if !c.Whole || whole {
		c.Time = max(c.Time, at)
	}
	if whole && !c.Whole {
		c.Time = at
	}
	c.entered, c.Whole = c.entered || entered, c.Whole || whole
	for _, m := range w.said {
		m.Time = at
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
	w.names = w.names[:0] // of the segments that matter, each where it is named last
	for _, g := range slices.Backward(all) {
		_, asked := w.m.segments[g]
		if (asked || e.others[g] != nil) && !slices.Contains(w.names, g) {
			w.names = append(w.names, g)
		}
	}
	for _, g := range slices.Backward(w.names) {
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
		w.said = append(w.said, Membership{Segment: place, In: in, Until: until})
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
	if all[i].round != w.rounds {
		all[i].round = w.rounds
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

// set reduces to one say per segment: the latest, of the same time the last.
func (c *Change) set(said Membership) {
	for i := range c.Memberships {
		if have := &c.Memberships[i]; have.Segment == said.Segment {
			if said.Time >= have.Time {
				*have = said
			}
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
