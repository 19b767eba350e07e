package mapping

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"strconv"
	"strings"
	"time"
)

// AttributeType is what the account says an attribute is; "" and unknown ones are open.
type AttributeType string

// The types that need a form of their own.
const (
	TypeText     AttributeType = "text"
	TypeDate     AttributeType = "date"
	TypeFloat    AttributeType = "float"
	TypeBoolean  AttributeType = "boolean"
	TypeMultiple AttributeType = "multiple-choice"
	TypeCategory AttributeType = "category"
)

// textMost bounds an attribute's text, in bytes: a row of the table must fit into a Kafka record.
const textMost = 32 << 10

// literal gives a value the form that the account's type needs, as JSON; nil for a null. A value of the wrong type
// would be ignored in silence by the API, so it is an error here.
func literal(v any, t AttributeType) ([]byte, error) {
	if v == nil {
		return nil, nil
	}
	switch t {
	case TypeDate:
		d, err := dateOf(v)
		if err != nil || d == nil {
			return nil, err
		}
		return json.Marshal(d)
	case TypeFloat:
		return floatLiteral(v)
	case TypeBoolean:
		return boolLiteral(v)
	case TypeMultiple:
		return listLiteral(v)
	default:
		return textLiteral(v)
	}
}

func textLiteral(v any) ([]byte, error) {
	switch v.(type) {
	case map[string]any, []any:
		return nil, errors.New("a record or a list is no text: pick a field, or join(…)")
	}
	s := textOf(v)
	if len(s) > textMost {
		return nil, errors.New("the text is too long")
	}
	return jsonText(s)
}

// jsonText is s as a JSON literal, with nothing escaped that needs not be.
func jsonText(s string) ([]byte, error) {
	if plainText(s) {
		b := make([]byte, 0, len(s)+2)
		return append(append(append(b, '"'), s...), '"'), nil
	}
	var b bytes.Buffer
	e := json.NewEncoder(&b)
	e.SetEscapeHTML(false)
	err := e.Encode(strings.ToValidUTF8(s, "\uFFFD"))
	return bytes.TrimSuffix(b.Bytes(), []byte{'\n'}), err
}

// plainText says whether a text is its own JSON literal.
func plainText(s string) bool {
	for i := range len(s) {
		if c := s[i]; c < ' ' || c >= 0x7f || c == '"' || c == '\\' {
			return false
		}
	}
	return true
}

func floatLiteral(v any) ([]byte, error) {
	switch v := v.(type) {
	case int:
		return strconv.AppendInt(nil, int64(v), 10), nil
	case Decimal:
		return []byte(v.String()), nil
	case float64:
		if math.IsNaN(v) || math.IsInf(v, 0) {
			return nil, errors.New("not a number")
		}
		return strconv.AppendFloat(nil, v, 'f', -1, 64), nil
	case string:
		if v = strings.TrimSpace(v); v == "" {
			return nil, nil
		}
		f, err := strconv.ParseFloat(v, 64)
		if err != nil {
			return nil, errors.New("not a number")
		}
		return floatLiteral(f)
	}
	return nil, fmt.Errorf("%T is not a number", v)
}

func boolLiteral(v any) ([]byte, error) {
	switch v := v.(type) {
	case bool:
		return strconv.AppendBool(nil, v), nil
	case int:
		if v == 0 || v == 1 {
			return strconv.AppendBool(nil, v == 1), nil
		}
	case string:
		switch strings.ToLower(strings.TrimSpace(v)) {
		case "true", "yes", "1":
			return []byte("true"), nil
		case "false", "no", "0":
			return []byte("false"), nil
		case "":
			return nil, nil
		}
	}
	return nil, errors.New("not a boolean")
}

func listLiteral(v any) ([]byte, error) {
	list, ok := v.([]any)
	if !ok {
		list = []any{v}
	}
	all := make([]string, 0, len(list))
	for _, item := range list {
		if item != nil {
			all = append(all, textOf(item))
		}
	}
	b, err := json.Marshal(all)
	if len(b) > textMost {
		return nil, errors.New("the list is too long")
	}
	return b, err
}

// address trims and lower-cases an e-mail address (the API matches addresses as it stores them, in lower case), and
// says whether it is one.
func address(s string) (string, bool) {
	s = strings.ToLower(strings.TrimSpace(s))
	at := strings.LastIndexByte(s, '@')
	if at < 1 || at > 64 || len(s) > 254 || at == len(s)-1 {
		return "", false
	}
	for i := range len(s) {
		if c := s[i]; c <= ' ' || c >= 0x7f || strings.IndexByte(`()<>,;:\"[]`, c) >= 0 {
			return "", false
		}
	}
	local, domain := s[:at], s[at+1:]
	if strings.Contains(local, "..") || local[0] == '.' || local[len(local)-1] == '.' || strings.Contains(local, "@") {
		return "", false
	}
	for l := range strings.SplitSeq(domain, ".") {
		if l == "" || len(l) > 63 || l[0] == '-' || l[len(l)-1] == '-' {
			return "", false
		}
	}
	return s, strings.Contains(domain, ".") && !strings.ContainsAny(domain, "_!#$%&'*+/=?^`{|}~")
}

// timeOf reads an event's time; ok is false if there is none. Whole numbers are seconds, milli-, micro- or nanoseconds
// since 1970, by their size.
func timeOf(v any) (ns int64, ok bool, err error) {
	switch v := v.(type) {
	case nil:
		return 0, false, nil
	case time.Time:
		return nanos(v), true, nil
	case Date:
		return nanos(v.Time), true, nil
	case int:
		n := int64(v)
		switch a := max(n, -n); {
		case a < 1e11:
			n = min(max(n, -farthest), farthest) * 1e9
		case a < 1e14:
			n *= 1e6
		case a < 1e17:
			n *= 1e3
		}
		return n, true, nil
	case float64:
		return timeOf(int(v))
	case string:
		t, err := time.Parse(time.RFC3339Nano, strings.TrimSpace(v))
		if err != nil {
			return 0, false, errors.New("the time is not RFC 3339")
		}
		return nanos(t), true, nil
	}
	return 0, false, fmt.Errorf("%T is no time", v)
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
