package mapping

import (
	"errors"
	"slices"
	"strconv"
	"time"
)

// profile maps address and attributes for the people of the round. They are of who is put in; where nobody is, of all whom
// the round names: an image before a change may name another person than the image after it.
func (w *Worker) profile() error {
	m, res := w.m, &w.result
	if len(w.round) == 0 {
		return nil
	}
	p := w.newProfile()
	carries, err := w.address(p)
	if err != nil {
		res.Profiles = res.Profiles[:len(res.Profiles)-1]
		return err
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
		c := &res.Changes[i]
		if !c.entered && entering {
			continue
		}
		if c.Profile >= 0 { // of an item before this one
			p.merge(&res.Profiles[c.Profile])
		}
		c.Profile = len(res.Profiles) - 1
	}
	return nil
}

// merge takes over what a profile lacks, and an earlier one has.
func (p *Profile) merge(earlier *Profile) {
	if p.Address == "" {
		p.Address = earlier.Address
	}
	for _, v := range earlier.Values {
		if i := slices.IndexFunc(p.Values, func(x Value) bool { return x.Attribute == v.Attribute }); i < 0 {
			p.Values = append(p.Values, v)
		} else if p.Values[i].JSON == nil {
			p.Values[i].JSON = v.JSON
		}
	}
}

// itemless says that an expression is about an item, and none is at hand: what it cannot give then is not missed.
func (w *Worker) itemless(e *expression) bool { return e.ofItem && !w.scope.items }

// address maps a profile's, and says whether it carries one.
func (w *Worker) address(p *Profile) (carries bool, err error) {
	e := w.m.email
	if e == nil {
		return false, nil
	}
	c, err := w.eval(e)
	switch {
	case err != nil && w.itemless(e):
		return false, nil
	case err != nil:
		return false, err
	case c.kind != Text || c.text == "" || c.unavailable():
		return false, nil
	}
	var ok bool
	if p.Address, ok = address(c.text); !ok {
		p.Address, p.BadAddress = "", true
	}
	return true, nil
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

// mappedAttribute is what an attribute that does not name the item gives for all items of a record.
type mappedAttribute struct {
	value               Value
	said, carries, done bool
}

// attribute maps one of a profile, and says whether it carries something.
func (w *Worker) attribute(p *Profile, i int) bool {
	m := &w.mapped[i]
	if shared := w.scope.items && !w.m.attributes[i].expr.ofItem; !shared || !m.done {
		*m = mappedAttribute{done: shared}
		m.value.JSON, m.said = w.attributeOf(i)
		m.carries = m.said && m.value.JSON != nil
		if m.value.Attribute = i; m.said && m.value.JSON == nil && w.m.attributes[i].Clear {
			m.value.JSON = []byte(`""`)
		}
	}
	if m.said {
		p.Values = append(p.Values, m.value)
	}
	return m.carries
}

// literalsMost bounds what the attributes of a record's people make together, in bytes.
const literalsMost = 16 << 20

// attributeOf is the form of an attribute that the account takes, nil for a null; said is false if it is left out.
func (w *Worker) attributeOf(i int) (json []byte, said bool) {
	a, res := &w.m.attributes[i], &w.result
	c, err := a.expr.cell(&w.run, &w.scope)
	if c.unavailable() || err != nil && w.itemless(a.expr) {
		return nil, false
	}
	if err == nil {
		json, err = w.literal(a, &c)
	}
	if w.made += len(json); w.made > literalsMost {
		json, err = nil, tooLong
	}
	if err != nil {
		res.Failures = append(res.Failures, Failure{i, causeOf(err)})
		if errors.Is(err, ErrBudget) && !slices.Contains(res.Costly, i) { // of a record once
			res.Costly = append(res.Costly, i)
		}
	}
	return json, err == nil || json != nil
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
