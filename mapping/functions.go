package mapping

import (
	"encoding/json"
	"errors"
	"slices"
	"strings"
	"unicode"

	"github.com/expr-lang/expr"
	"github.com/nyaruka/phonenumbers"
)

// functions are what expressions may call beside expr's own. All give null for null; now() is off: a record must map
// to the same changes whenever it is read.
var functions = options()

// callable is a function of values, whose arguments have the form of their kinds, and the types that expr checks.
type callable struct {
	f     func(p []any) (any, error)
	types []any
	// text is what f does with a text as its first argument, whatever the others are; done is false where it needs f. nil: it
	// always does.
	text func(s string) (out string, done bool)
}

var (
	ofOne = []any{new(func(any) any)}
	lists = []any{new(func(any) []any)}
)

var callables = map[string]callable{
	"lower":     text(strings.ToLower),
	"upper":     text(strings.ToUpper),
	"trim":      text(trim),
	"title":     text(title),
	"string":    text(func(s string) string { return s }),
	"float":     {func(p []any) (any, error) { return floatOf(p[0]) }, ofOne, nil},
	"date":      {func(p []any) (any, error) { return some(dateOf(p[0])) }, ofOne, nil},
	"phone":     {phone, []any{new(func(any) any), new(func(any, any) any)}, func(s string) (string, bool) { return s, e164(s) }},
	"fromJSON":  {fromJSON, ofOne, nil},
	"default":   {otherwise, []any{new(func(any, any) any)}, func(s string) (string, bool) { return s, s != "" }},
	"join":      {join, []any{new(func(any) any), new(func(any, string) any)}, nil},
	"keys":      {func(p []any) (any, error) { return pairs(p[0], func(k string, _ any) any { return k }) }, lists, nil},
	"values":    {func(p []any) (any, error) { return pairs(p[0], func(_ string, v any) any { return v }) }, lists, nil},
	"toPairs":   {func(p []any) (any, error) { return pairs(p[0], func(k string, v any) any { return []any{k, v} }) }, lists, nil},
	"keysWhere": {keysWhere, []any{new(func(any, string, any) []any)}, nil},
}

// builtins are those of expr's that have one of ours in their place, or none.
var builtins = []string{"now", "date", "lower", "upper", "trim", "keys", "values", "join", "float", "string", "toPairs", "fromJSON"}

func options() (all []expr.Option) {
	for _, name := range builtins {
		all = append(all, expr.DisableBuiltin(name))
	}
	for name, c := range callables {
		all = append(all, expr.Function(name, func(p ...any) (any, error) {
			for i := range p {
				p[i] = normal(p[i])
			}
			return c.f(p)
		}, c.types...))
	}
	return all
}

// text is a function of a text; it gives null for null.
func text(f func(string) string) callable {
	return callable{func(p []any) (any, error) {
		if p[0] == nil {
			return nil, nil
		}
		s, err := textOf(p[0])
		if err != nil {
			return nil, err
		}
		return f(s), nil
	}, ofOne, func(s string) (string, bool) { return f(s), true }}
}

// otherwise gives another value for null, and for an empty text.
func otherwise(p []any) (any, error) {
	if p[0] == nil || p[0] == "" {
		return p[1], nil
	}
	return p[0], nil
}

// some gives null for an empty text.
func some(s string, err error) (any, error) {
	if err != nil || s == "" {
		return nil, err
	}
	return s, nil
}

// title puts each word's first letter in upper case, the rest in lower. Marks that combine, digits and apostrophes are
// within a word.
func title(s string) string {
	start := true
	return strings.Map(func(r rune) rune {
		was := start
		start = !unicode.IsLetter(r) && !unicode.IsMark(r) && !unicode.IsDigit(r) && r != '\'' && r != '’'
		if was {
			return unicode.ToTitle(r)
		}
		return unicode.ToLower(r)
	}, s)
}

// trim takes off spaces, and what is pasted along unseen: zero-width ones, direction marks, a byte order mark.
func trim(s string) string {
	return strings.TrimFunc(s, func(r rune) bool { return unicode.IsSpace(r) || unseen(r) })
}

func unseen(r rune) bool {
	return r == '\uFEFF' || r >= '\u200B' && r <= '\u200F' || r >= '\u202A' && r <= '\u202E' || r == '\u2060' || r >= '\u2066' && r <= '\u2069'
}

// fromJSON reads a text of JSON; whole numbers stay whole. An empty text is null.
func fromJSON(p []any) (any, error) {
	if p[0] == nil {
		return nil, nil
	}
	s, err := textOf(p[0])
	if err != nil {
		return nil, err
	}
	if strings.TrimSpace(s) == "" {
		return nil, nil
	}
	d := json.NewDecoder(strings.NewReader(s))
	d.UseNumber()
	var v any
	if err := d.Decode(&v); err != nil || d.More() {
		return nil, errors.New("not JSON")
	}
	return numerals(v), nil
}

// phone gives a number in E.164. Without a region the number needs its country code, with + or 00 before it. An impossible
// number is an error: the attribute is left out.
func phone(p []any) (any, error) {
	if p[0] == nil {
		return nil, nil
	}
	raw, err := textOf(p[0])
	if err != nil {
		return nil, notPhone
	}
	if raw = strings.Map(visible, trim(raw)); raw == "" {
		return nil, nil
	}
	if e164(raw) {
		return raw, nil
	}
	region := "ZZ"
	if len(p) > 1 && p[1] != nil {
		if region, err = textOf(p[1]); err != nil {
			return nil, notPhone
		}
	}
	switch region = strings.ToUpper(trim(region)); region {
	case "UK":
		region = "GB"
	case "":
		region = "ZZ"
	}
	if region == "ZZ" && strings.HasPrefix(raw, "00") {
		raw = "+" + raw[2:]
	}
	n, err := phonenumbers.Parse(raw, region)
	if err != nil || !phonenumbers.IsPossibleNumber(n) { // not "valid": the ranges that are known lag behind those in use
		return nil, notPhone
	}
	return phonenumbers.Format(n, phonenumbers.E164), nil
}

func visible(r rune) rune {
	if unseen(r) {
		return -1
	}
	return r
}

// join puts the parts that are neither null nor empty together.
func join(p []any) (any, error) {
	parts, ok := p[0].([]any)
	if !ok {
		return nil, nil
	}
	sep := " "
	if len(p) > 1 {
		sep, _ = p[1].(string)
	}
	var all []string
	for _, v := range parts {
		s, err := textOf(normal(v))
		if err != nil {
			return nil, err
		}
		if s != "" {
			all = append(all, s)
		}
	}
	return some(strings.Join(all, sep), nil)
}

// pairs lists a map's entries by key, so that the order is always the same.
func pairs(v any, pick func(string, any) any) ([]any, error) {
	m, ok := v.(map[string]any)
	if !ok {
		return []any{}, nil
	}
	keys := make([]string, 0, len(m))
	for k := range m {
		keys = append(keys, k)
	}
	slices.Sort(keys)
	out := make([]any, len(keys))
	for i, k := range keys {
		out[i] = pick(k, m[k])
	}
	return out, nil
}

// keysWhere lists the keys of a map of records whose field has one of the values: the snapshot shape's
// keysWhere(segmentMembership.ups, "status", ["realized", "existing"]).
func keysWhere(p []any) (any, error) {
	m, _ := p[0].(map[string]any)
	field, _ := p[1].(string)
	allowed, _ := p[2].([]any)
	return listOf(keysIn(m, field, allowed)), nil
}

func keysIn(m map[string]any, field string, allowed []any) []string {
	keys := []string{}
	for k, v := range m {
		if r, ok := v.(map[string]any); ok && isOneOf(r[field], allowed) {
			keys = append(keys, k)
		}
	}
	slices.Sort(keys)
	return keys
}

// isOneOf says whether a text, number, boolean or null is in a list.
func isOneOf(v any, all []any) bool {
	switch v.(type) {
	case nil, string, bool, int, float64:
		return slices.Contains(all, v)
	}
	return false
}
