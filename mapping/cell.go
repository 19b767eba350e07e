package mapping

import "time"

// cell is a value of the kinds as closures hand it on. A text, a whole number, a boolean or a time needs no memory of its own
// there, as it would as an any.
type cell struct {
	kind    Kind
	unknown bool // a step into what has no fields: what comes of it only the VM knows
	text    string
	n       int64 // a whole number; a time in nanoseconds, a date in days since 1970; 1 for true
	other   any   // of the other kinds, and of times and dates that n cannot hold; of a list also []string
}

func textCell(s string) cell { return cell{kind: Text, text: s} }

// cellOf is a value that has the form of its kind.
func cellOf(v any) cell {
	switch v := v.(type) {
	case nil:
		return cell{}
	case string:
		return textCell(v)
	case bool:
		return cell{kind: Boolean, n: int64(bit(v))}
	case int:
		return cell{kind: Integer, n: int64(v)}
	}
	return cell{kind: KindOf(v), other: v}
}

// value is the form of the kind.
func (c *cell) value() any {
	switch c.kind {
	case Null:
		return nil
	case Text:
		return c.text
	case Boolean:
		return c.n != 0
	case Integer:
		return int(c.n)
	case Instant:
		if c.other == nil {
			return time.Unix(0, c.n).UTC()
		}
	case Day:
		if c.other == nil {
			return c.day()
		}
	case List:
		if all, ok := c.other.([]string); ok {
			return listOf(all)
		}
	default:
	}
	return c.other
}

// day is a date that was counted in days.
func (c *cell) day() Date { return Date{time.Unix(c.n*86400, 0).UTC()} }

// isOneOf says whether a text, number, boolean or null is in a list.
func (c *cell) isOneOf(all []any) bool {
	if c.kind != Text {
		return isOneOf(c.value(), all)
	}
	for _, v := range all {
		if s, ok := v.(string); ok && s == c.text {
			return true
		}
	}
	return false
}

// is says whether a cell is true.
func (c *cell) is() bool { return c.kind == Boolean && c.n != 0 }

func bit(b bool) int {
	if b {
		return 1
	}
	return 0
}

// Of milliseconds and microseconds so many are nearer than what nanoseconds can say (farthest).
const (
	nanosOfMillis = farthest * 1e3
	nanosOfMicros = farthest * 1e6
)

// number is the cell of a whole number, as the schema says what it is.
func (s *schema) number(n int64) cell {
	switch s.logical {
	case "":
		return cell{kind: Integer, n: n}
	case "timestamp-millis", "local-timestamp-millis":
		if n <= nanosOfMillis && n >= -nanosOfMillis {
			return cell{kind: Instant, n: n * int64(time.Millisecond)}
		}
	case "timestamp-micros", "local-timestamp-micros":
		if n <= nanosOfMicros && n >= -nanosOfMicros {
			return cell{kind: Instant, n: n * int64(time.Microsecond)}
		}
	case "date":
		if n == int64(int32(n)) {
			return cell{kind: Day, n: n}
		}
	}
	return cellOf(s.whole(n))
}

// size is roughly how many bytes a function walks.
func (c *cell) size() int {
	switch v := c.other.(type) {
	case []any:
		return turn * len(v)
	case map[string]any:
		return turn * len(v)
	}
	return len(c.text)
}

// person is a person's or a segment's name.
func (c *cell) person() (string, bool) {
	if c.kind == Text {
		return personOfText(c.text)
	}
	return personOf(c.value())
}

// member says whether somebody is in; known is false for what is neither true nor false.
func (c *cell) member() (in, known bool, err error) {
	if c.kind == Boolean {
		return c.n != 0, true, nil
	}
	return memberOf(c.value())
}

// time is an event's, in nanoseconds since 1970; given is false if there is none.
func (c *cell) time() (ns int64, given bool, err error) {
	if c.kind == Instant && c.other == nil {
		return c.n, true, nil
	}
	return timeOf(c.value())
}

// unavailable says whether a value is not known, though it is not null.
func (c *cell) unavailable() bool {
	switch c.kind {
	case Text:
		return unavailableText(c.text)
	case Bytes, List:
		return unavailable(c.other)
	default:
	}
	return false
}
