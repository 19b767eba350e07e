package mapping

import (
	"errors"
	"fmt"
	"math"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"
)

// What a value becomes. Each conversion is total over the kinds: a right value, null, or a failure that says why. Texts
// that are empty, or only spaces, are null where a number, a date, a time or a boolean is asked for.

// causeError is why a value has no form of another kind, in words that fit into a label: it carries nothing of the value.
type causeError string

func (e causeError) Error() string { return string(e) }

// The causes.
const (
	notText    causeError = "not a text"
	notNumber  causeError = "not a number"
	notBoolean causeError = "not a boolean"
	notDate    causeError = "not a date"
	notTime    causeError = "not a time"
	notList    causeError = "not a list"
	notPhone   causeError = "not a telephone number"
	tooLong    causeError = "too long"
	noOption   causeError = "not one of the account's options"
	computed   causeError = "computed by the account"
	ofOrders   causeError = "an attribute of orders"
)

// causeOf is the cause of a failure.
func causeOf(err error) string {
	switch cause, known := errors.AsType[causeError](err); {
	case known:
		return string(cause)
	case errors.Is(err, ErrBudget):
		return "too much work"
	}
	return "the expression failed"
}

// textOf writes a value as text. A list or a record is none: a field of it is to be picked, or join(…) used.
func textOf(v any) (string, error) {
	switch v := v.(type) {
	case nil:
		return "", nil
	case string:
		return v, nil
	case bool:
		return strconv.FormatBool(v), nil
	case int:
		return strconv.Itoa(v), nil
	case float64:
		return strconv.FormatFloat(v, 'f', -1, 64), nil
	case Decimal:
		return v.String(), nil
	case Date:
		return v.String(), nil
	case time.Time:
		return v.Format(time.RFC3339Nano), nil
	case []byte:
		if utf8.Valid(v) {
			return string(v), nil
		}
	}
	return "", notText
}

// numberOf gives a number: an int, a float64 or a Decimal; nil for none.
func numberOf(v any) (any, error) {
	switch v := v.(type) {
	case nil, int, Decimal:
		return v, nil
	case float64:
		if math.IsNaN(v) || math.IsInf(v, 0) {
			return nil, notNumber
		}
		return v, nil
	case string:
		if v = strings.TrimSpace(v); v == "" {
			return nil, nil
		}
		f, err := parseFloat(v)
		return f, err
	}
	return nil, notNumber
}

// floatOf gives the nearest float64 of a number; nil for none.
func floatOf(v any) (any, error) {
	n, err := numberOf(v)
	switch n := n.(type) {
	case int:
		return float64(n), nil
	case Decimal:
		return n.Float(), nil
	default:
		return n, err
	}
}

func parseFloat(s string) (any, error) {
	f, err := strconv.ParseFloat(s, 64)
	if err != nil || math.IsNaN(f) || math.IsInf(f, 0) {
		return nil, notNumber
	}
	return f, nil
}

// widen is the float64 that is written like a float32: 19.99 stays 19.99.
func widen(f float32) float64 {
	w, err := strconv.ParseFloat(strconv.FormatFloat(float64(f), 'g', -1, 32), 64)
	if err != nil {
		return float64(f)
	}
	return w
}

// booleanOf gives a bool; nil for none. Texts are true, yes, y, on, 1 and their opposites, in any case.
func booleanOf(v any) (any, error) {
	switch v := v.(type) {
	case nil, bool:
		return v, nil
	case int:
		if v == 0 || v == 1 {
			return v == 1, nil
		}
	case float64:
		if v == 0 || v == 1 {
			return v == 1, nil
		}
	case string:
		switch strings.ToLower(strings.TrimSpace(v)) {
		case "true", "yes", "y", "on", "1":
			return true, nil
		case "false", "no", "n", "off", "0":
			return false, nil
		case "":
			return nil, nil
		}
	}
	return nil, notBoolean
}

// Layouts of dates and times in texts. A time without a zone is UTC's.
var (
	timeLayouts = []string{
		time.RFC3339Nano, "2006-01-02T15:04:05.999999999Z0700", "2006-01-02T15:04:05.999999999Z07",
		"2006-01-02 15:04:05.999999999Z07:00", "2006-01-02 15:04:05.999999999Z0700", "2006-01-02 15:04:05.999999999 Z07:00", "2006-01-02 15:04:05.999999999 Z0700",
		"2006-01-02T15:04:05.999999999", "2006-01-02 15:04:05.999999999", "2006-01-02T15:04Z07:00", "2006-01-02T15:04", "2006-01-02 15:04",
	}
	dateLayouts = []string{time.DateOnly, "2006/01/02", "20060102"}
)

// timeOf reads an event's time, in nanoseconds since 1970; ok is false if there is none. Numbers count days, seconds,
// milli-, micro- or nanoseconds, by their size (instant); 0 stands for a time that is not known.
func timeOf(v any) (ns int64, ok bool, err error) {
	switch v := v.(type) {
	case nil:
		return 0, false, nil
	case time.Time:
		return nanos(v), true, nil
	case Date:
		return nanos(v.Time), true, nil
	case int:
		return nanos(instant(int64(v))), v != 0, nil
	case float64:
		if math.IsNaN(v) || math.Abs(v) > math.MaxInt64/2 {
			return 0, false, notTime
		}
		if math.Abs(v) < secondsMost { // seconds, with their fraction
			whole, part := math.Modf(v)
			return nanos(time.Unix(int64(whole), int64(math.Round(part*1e9)))), v != 0, nil
		}
		return nanos(instant(int64(v))), true, nil
	case Decimal:
		return timeOf(v.Float())
	case string:
		if v = strings.TrimSpace(v); v == "" {
			return 0, false, nil
		}
		if n, err := strconv.ParseInt(v, 10, 64); err == nil && len(v) != len("20060102") {
			return nanos(instant(n)), n != 0, nil
		}
		if t, ok := parseTime(v); ok {
			return nanos(t), true, nil
		}
	}
	return 0, false, notTime
}

func parseTime(s string) (time.Time, bool) {
	for _, layouts := range [][]string{timeLayouts, dateLayouts} {
		for _, layout := range layouts {
			if t, err := time.Parse(layout, s); err == nil {
				return t, true
			}
		}
	}
	return time.Time{}, false
}

// Bounds by which the unit of a whole number is told.
const (
	daysMost    = 200_000 // the year 2517, as days since 1970
	secondsMost = 100_000_000_000
	millisMost  = 100_000_000_000_000
	microsMost  = 100_000_000_000_000_000
)

// instant is the time that a number counts from 1970, in days, seconds, milli-, micro- or nanoseconds by its size.
func instant(n int64) time.Time {
	switch a := max(n, -n); {
	case a < daysMost && a > 0:
		return time.Unix(n*86400, 0).UTC()
	case a < secondsMost:
		return time.Unix(n, 0).UTC()
	case a < millisMost:
		return time.UnixMilli(n).UTC()
	case a < microsMost && a > 0:
		return time.UnixMicro(n).UTC()
	}
	return time.Unix(0, n).UTC()
}

// farthest is how far from 1970 a time may lie, in seconds, for its nanoseconds to fit.
const farthest = int64(9_200_000_000)

// nanos keeps times within what nanoseconds since 1970 can say: one of the year 9999 is far ahead, not in the past.
func nanos(t time.Time) int64 {
	if s := t.Unix(); s > farthest || s < -farthest {
		return min(max(s, -farthest), farthest) * 1e9
	}
	return t.UnixNano()
}

// dateOf gives the calendar day of a time, or reads one: as YYYY-MM-DD; "" for none. Days before the year 1 or after 9999
// are none.
func dateOf(v any) (string, error) {
	var t time.Time
	switch v := v.(type) {
	case nil:
		return "", nil
	case Date:
		t = v.Time
	case time.Time:
		t = v.UTC()
	case int:
		t = instant(int64(v))
	case float64:
		if v != math.Trunc(v) || math.Abs(v) > math.MaxInt64/2 {
			ns, _, err := timeOf(v)
			if err != nil {
				return "", notDate
			}
			t = time.Unix(0, ns).UTC()
			break
		}
		t = instant(int64(v))
	case Decimal:
		return dateOf(v.Float())
	case string:
		if v = strings.TrimSpace(v); v == "" {
			return "", nil
		}
		var ok bool
		if t, ok = parseTime(v); !ok {
			return "", notDate
		}
	default:
		return "", notDate
	}
	if y := t.Year(); y < 1 || y > 9999 {
		return "", notDate
	}
	return t.Format(time.DateOnly), nil
}

// itemsOf gives the texts of a list; a single value is a list of one. Nulls are left out.
func itemsOf(v any) ([]string, error) {
	list, ok := v.([]any)
	if !ok {
		if KindOf(v) == Map {
			return nil, notList
		}
		list = []any{v}
	}
	all := make([]string, 0, len(list))
	for _, item := range list {
		if item == nil {
			continue
		}
		s, err := textOf(normal(item))
		if err != nil {
			return nil, notList
		}
		all = append(all, s)
	}
	return all, nil
}

// personOf reads an id: text that is not empty, or a whole number.
func personOf(v any) (string, bool) {
	switch v := v.(type) {
	case string:
		return personOfText(v)
	case int:
		return strconv.Itoa(v), true
	case Decimal:
		return v.String(), true
	case float64:
		if v == math.Trunc(v) && math.Abs(v) < 1<<53 {
			return strconv.FormatInt(int64(v), 10), true
		}
	case []byte:
		return string(v), len(v) > 0
	}
	return "", false
}

func personOfText(s string) (string, bool) { return s, strings.TrimSpace(s) != "" }

// memberOf says whether somebody is in; known is false for what is neither true nor false: it moves nothing.
func memberOf(v any) (in, known bool, err error) {
	switch v := v.(type) {
	case nil:
		return false, false, nil
	case bool:
		return v, true, nil
	}
	return false, false, errors.New("the member expression gives " + KindOf(v).String() + ", neither true nor false")
}

// sequenceOf reads a sequence number.
func sequenceOf(v any) (int64, error) {
	n, err := numberOf(v)
	switch n := n.(type) {
	case int:
		if n >= 0 {
			return int64(n), nil
		}
	case Decimal:
		return sequenceOf(n.String())
	case float64:
		if s, is := v.(string); is { // a float64 would round it
			if whole, err := strconv.ParseInt(strings.TrimSpace(s), 10, 64); err == nil && whole >= 0 {
				return whole, nil
			}
		} else if n >= 0 && n < 1<<53 && n == math.Trunc(n) {
			return int64(n), nil
		}
	case nil:
		if err == nil {
			return 0, errors.New("the record has none")
		}
	}
	return 0, errors.New("not a whole number from 0 to 2^63-1")
}

// segmentsOf reads segments: a list of them, or a map of segment to boolean.
func segmentsOf(v any) (in []string, err error) {
	switch v := v.(type) {
	case []any:
		for _, s := range v {
			name, ok := personOf(normal(s))
			if !ok && s != nil {
				return nil, fmt.Errorf("the list of segments holds %s: it must hold segments (map(…, .id) takes a field of records)", KindOf(normal(s)))
			}
			if ok {
				in = append(in, name)
			}
		}
		return in, nil
	case map[string]any:
		defer func() { slices.Sort(in) }()
		for s, is := range v {
			switch is := normal(is).(type) {
			case nil:
			case bool:
				if is {
					in = append(in, s)
				}
			default:
				return nil, fmt.Errorf("the map of segments holds %s: it must hold true or false (keysWhere(…) takes those with a state)", KindOf(is))
			}
		}
		return in, nil
	}
	return nil, fmt.Errorf("the segments are %s, neither a list nor a map", KindOf(v))
}
