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
