package mapping

import (
	"encoding/base64"
	"encoding/json"
	"fmt"
	"maps"
	"strings"
	"time"
	"unicode/utf8"
)

// Explanation is how a record is mapped, step by step, for people.
type Explanation struct {
	Decoded any // the whole record, in the kinds
	Steps   []Step
	Result  *Result // as Map gives it
	Err     error   // as Map gives it
}

// Step is an expression of a mapping, and what it gives for a record. Those of an event whose when is not true are not
// evaluated, and have no step.
type Step struct {
	Place string // event 1 person, email, attribute SMS; of an item: item 2 event 1 person
	Expr  string
	Value any    // in the kinds
	JSON  []byte // of an attribute: the form that the account takes; nil: it is left out, or left as it is
	Err   error
}

// explainedItems is how many items of a record are explained.
const explainedItems = 5

// Explain maps a record, and says how.
func (m *Mapper) Explain(r *Record) Explanation {
	w := m.NewWorker()
	var x Explanation
	if r.Value != nil {
		x.Decoded, _, _ = m.value.decode(r.Value, everything) // an error comes from Map, too
	}
	if env, ok := x.Decoded.(map[string]any); ok {
		e := explainer{m: m, w: w, env: maps.Clone(env)}
		if m.surroundings {
			key, _ := m.keyOf(r)
			e.env["kafka"] = r.surroundings(key)
		}
		e.explain()
		x.Steps = e.steps
	}
	x.Result, x.Err = w.Map(r)
	return x
}

type explainer struct {
	m     *Mapper
	w     *Worker
	env   map[string]any
	steps []Step
}

func (e *explainer) explain() {
	m := e.m
	if m.haltWhen != nil {
		e.step("", placed{what: "halt_when", expr: m.haltWhen})
	}
	for i := range m.events {
		event := &m.events[i]
		if event.each == nil {
			e.event("", i)
			continue
		}
		all, _ := itemsIn(e.step("", placed{what: fmt.Sprintf("event %d each", i+1), expr: event.each}))
		for n, item := range all[:min(len(all), explainedItems)] {
			e.env["item"] = item
			of := fmt.Sprintf("item %d ", n+1)
			e.event(of, i)
			if m.ofItem {
				e.profile(of)
			}
		}
		delete(e.env, "item")
	}
	if !m.ofItem {
		e.profile("")
	}
}

func (e *explainer) event(item string, place int) {
	for _, p := range e.m.events[place].expressions(place) {
		if v := e.step(item, p); strings.HasSuffix(p.what, " when") && v != true {
			return
		}
	}
}

func (e *explainer) profile(item string) {
	for _, p := range e.m.profile() {
		e.step(item, p)
	}
}

func (e *explainer) step(item string, p placed) any {
	s := Step{Place: item + p.what, Expr: p.expr.source}
	s.Value, s.Err = p.expr.eval(&e.w.run, e.env)
	if p.attribute != nil && s.Err == nil {
		s.JSON, s.Err = p.attribute.literal(s.Value)
	}
	e.steps = append(e.steps, s)
	return s.Value
}

// Render writes a value of the kinds as JSON, in lines if it is a list, record or map. Masked, of each text, number and
// date at most its first letter is shown; names of fields, booleans and nulls are.
func Render(v any, masked bool) string {
	b, err := json.MarshalIndent(rendered(v, masked), "", "  ")
	if err != nil {
		return fmt.Sprintf("a value that cannot be shown: %s", KindOf(v))
	}
	return strings.NewReplacer(`\u003c`, "<", `\u003e`, ">", `\u0026`, "&").Replace(string(b))
}

func rendered(v any, masked bool) any {
	switch v := v.(type) {
	case nil, bool:
		return v
	case []any:
		out := make([]any, len(v))
		for i := range v {
			out[i] = rendered(v[i], masked)
		}
		return out
	case map[string]any:
		out := make(map[string]any, len(v))
		for k := range v {
			out[k] = rendered(v[k], masked)
		}
		return out
	case string:
		if masked {
			return Mask(v)
		}
		return v
	}
	switch v := v.(type) {
	case []byte:
		if masked || !utf8.Valid(v) {
			return fmt.Sprintf("%d bytes, base64: %s", len(v), masking(base64.StdEncoding.EncodeToString(v), masked))
		}
		return string(v)
	case int, float64, Decimal, Date, time.Time:
		s, _ := textOf(v)
		if KindOf(v) != Day && KindOf(v) != Instant && !masked {
			return json.Number(s)
		}
		return masking(s, masked)
	}
	return KindOf(v).String()
}

func masking(s string, masked bool) string {
	if masked {
		return "***"
	}
	return s
}

// Mask leaves the first letter of a text.
func Mask(s string) string {
	if s == "" {
		return s
	}
	_, n := utf8.DecodeRuneInString(s)
	return s[:n] + "***"
}
