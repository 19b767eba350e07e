package mapping

import (
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode"

	"github.com/expr-lang/expr"
	"github.com/nyaruka/phonenumbers"
)

// functions are what expressions may call beside expr's own. All give null for null; now() is off: a record must map
// to the same changes whenever it is read.
var functions = []expr.Option{
	expr.DisableBuiltin("now"), expr.DisableBuiltin("date"), expr.DisableBuiltin("lower"), expr.DisableBuiltin("upper"),
	expr.DisableBuiltin("trim"), expr.DisableBuiltin("keys"), expr.DisableBuiltin("values"), expr.DisableBuiltin("join"),
	expr.DisableBuiltin("float"), expr.DisableBuiltin("string"), expr.DisableBuiltin("toPairs"),
	text("lower", strings.ToLower),
	text("upper", strings.ToUpper),
	text("trim", strings.TrimSpace),
	text("title", title),
	expr.Function("string", func(p ...any) (any, error) { return one(p, func(v any) (any, error) { return textOf(v), nil }) }, new(func(any) any)),
	expr.Function("float", func(p ...any) (any, error) { return one(p, number) }, new(func(any) any)),
	expr.Function("date", func(p ...any) (any, error) { return one(p, dateOf) }, new(func(any) any)),
	expr.Function("phone", phone, new(func(any) any), new(func(any, string) any)),
	expr.Function("default", func(p ...any) (any, error) {
		if p[0] == nil || p[0] == "" {
			return p[1], nil
		}
		return p[0], nil
	}, new(func(any, any) any)),
	expr.Function("join", join, new(func(any) any), new(func(any, string) any)),
	expr.Function("keys", func(p ...any) (any, error) { return pairs(p[0], func(k string, _ any) any { return k }) }, new(func(any) []any)),
	expr.Function("values", func(p ...any) (any, error) { return pairs(p[0], func(_ string, v any) any { return v }) }, new(func(any) []any)),
	expr.Function("toPairs", func(p ...any) (any, error) { return pairs(p[0], func(k string, v any) any { return []any{k, v} }) }, new(func(any) []any)),
	expr.Function("keysWhere", keysWhere, new(func(any, string, []any) []any)),
}

// one applies f to an argument that is not null.
func one(p []any, f func(any) (any, error)) (any, error) {
	if p[0] == nil {
		return nil, nil
	}
	return f(p[0])
}

func text(name string, f func(string) string) expr.Option {
	return expr.Function(name, func(p ...any) (any, error) {
		return one(p, func(v any) (any, error) { return f(textOf(v)), nil })
	}, new(func(any) any))
}

// textOf writes a value as text.
func textOf(v any) string {
	switch v := v.(type) {
	case string:
		return v
	case []byte:
		return string(v)
	case int:
		return strconv.Itoa(v)
	case float64:
		return strconv.FormatFloat(v, 'f', -1, 64)
	case time.Time:
		return v.Format(time.RFC3339Nano)
	}
	return fmt.Sprint(v)
}

// title puts each word's first letter in upper case, the rest in lower.
func title(s string) string {
	start := true
	return strings.Map(func(r rune) rune {
		was := start
		start = !unicode.IsLetter(r) && r != '\''
		if was {
			return unicode.ToTitle(r)
		}
		return unicode.ToLower(r)
	}, s)
}

func number(v any) (any, error) {
	switch v := v.(type) {
	case Decimal:
		return v.Float(), nil
	case int:
		return float64(v), nil
	case float64:
		return v, nil
	case string:
		return strconv.ParseFloat(strings.TrimSpace(v), 64)
	}
	return nil, errors.New("not a number")
}

// dateOf gives the calendar day of a time, or reads one from text.
func dateOf(v any) (any, error) {
	switch v := v.(type) {
	case Date:
		return v.String(), nil
	case time.Time:
		return v.UTC().Format(time.DateOnly), nil
	case int:
		return time.UnixMilli(int64(v)).UTC().Format(time.DateOnly), nil
	case string:
		if v = strings.TrimSpace(v); v == "" {
			return nil, nil
		}
		for _, layout := range []string{time.DateOnly, time.RFC3339, "2006-01-02T15:04:05", "2006-01-02 15:04:05", "2006/01/02"} {
			if t, err := time.Parse(layout, v); err == nil {
				return t.Format(time.DateOnly), nil
			}
		}
	}
	return nil, errors.New("not a date")
}

// phone gives a number in E.164. Without a region the number needs its country code. An impossible number is an
// error: the attribute is left out.
func phone(p ...any) (any, error) {
	return one(p, func(v any) (any, error) {
		raw := strings.TrimSpace(textOf(v))
		if raw == "" {
			return nil, nil
		}
		region := "ZZ"
		if len(p) > 1 {
			region, _ = p[1].(string)
		}
		n, err := phonenumbers.Parse(raw, strings.ToUpper(region))
		if err != nil || !phonenumbers.IsPossibleNumber(n) { // not "valid": the ranges that are known lag behind those in use
			return nil, errors.New("not a telephone number")
		}
		return phonenumbers.Format(n, phonenumbers.E164), nil
	})
}

// join puts the parts that are neither null nor empty together.
func join(p ...any) (any, error) {
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
		if v != nil {
			if s := textOf(v); s != "" {
				all = append(all, s)
			}
		}
	}
	if len(all) == 0 {
		return nil, nil
	}
	return strings.Join(all, sep), nil
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
func keysWhere(p ...any) (any, error) {
	m, _ := p[0].(map[string]any)
	field, _ := p[1].(string)
	allowed, _ := p[2].([]any)
	keys := []string{}
	for k, v := range m {
		if r, ok := v.(map[string]any); ok && slices.Contains(allowed, r[field]) {
			keys = append(keys, k)
		}
	}
	slices.Sort(keys)
	out := make([]any, len(keys))
	for i, k := range keys {
		out[i] = k
	}
	return out, nil
}
