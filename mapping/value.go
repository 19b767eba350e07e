package mapping

import (
	"bytes"
	"cmp"
	"encoding/json"
	"slices"
	"strconv"
	"strings"

	"golang.org/x/net/idna"
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
	// No contact can be given these.
	TypeCalculated    AttributeType = "calculated"
	TypeGlobal        AttributeType = "global"
	TypeTransactional AttributeType = "transactional"
)

// ofNobody are the types that no contact can be given. A transactional one would have the whole contact refused.
var ofNobody = map[AttributeType]causeError{TypeCalculated: computed, TypeGlobal: computed, TypeTransactional: ofOrders}

// textMost bounds an attribute's text, in bytes: a row of the table must fit into a Kafka record.
const textMost = 32 << 10

// literal gives a value the form that the account's type needs, as JSON; nil for a null. A value of the wrong type, or
// none of the options, would be ignored in silence by the API, so it is an error here. What is left of a list comes
// beside the error.
func (a *Attribute) literal(v any) ([]byte, error) {
	if cause, refused := ofNobody[a.Type]; refused {
		return nil, cause
	}
	if v == nil {
		return nil, nil
	}
	switch a.Type {
	case TypeDate:
		d, err := dateOf(v)
		if err != nil || d == "" {
			return nil, err
		}
		return jsonText(d)
	case TypeFloat:
		return floatLiteral(v)
	case TypeBoolean:
		is, err := booleanOf(v)
		if err != nil || is == nil {
			return nil, err
		}
		return strconv.AppendBool(nil, is == true), nil
	case TypeMultiple:
		return listLiteral(v, a.Options)
	case TypeCategory:
		return optionLiteral(v, a.Options)
	default:
		return textLiteral(v)
	}
}

// takesText says whether a text is taken as it is.
func (a *Attribute) takesText() bool {
	switch a.Type {
	case TypeDate, TypeFloat, TypeBoolean, TypeMultiple, TypeCategory, TypeCalculated, TypeGlobal, TypeTransactional:
		return false
	case TypeText:
	}
	return true
}

func textLiteral(v any) ([]byte, error) {
	s, err := textOf(v)
	if err != nil {
		return nil, err
	}
	if len(s) > textMost {
		return nil, tooLong
	}
	return jsonText(s)
}

func floatLiteral(v any) ([]byte, error) {
	n, err := numberOf(v)
	if err != nil || n == nil {
		return nil, err
	}
	s, err := textOf(n)
	return []byte(s), err
}

func optionLiteral(v any, options []string) ([]byte, error) {
	s, err := textOf(v)
	if err != nil {
		return nil, err
	}
	if s != "" && !among(s, options) {
		return nil, noOption
	}
	return textLiteral(s)
}

func listLiteral(v any, options []string) ([]byte, error) {
	all, err := itemsOf(v)
	if err != nil {
		return nil, err
	}
	fit := slices.DeleteFunc(all, func(s string) bool { return !among(s, options) })
	var left error
	if len(fit) < len(all) {
		left = noOption
		if len(fit) == 0 {
			return nil, left
		}
	}
	b, err := json.Marshal(fit)
	if len(b) > textMost {
		return nil, tooLong
	}
	return b, cmp.Or(err, left)
}

// placeholder stands in Debezium's records for a long value that an update has not changed, and the database has not told.
const placeholder = "__debezium_unavailable_value"

// unavailable says whether a value is, or was made of, a placeholder: it is not known, and what stands stays. Functions may
// have changed its case.
func unavailable(v any) bool {
	switch v := v.(type) {
	case string:
		return unavailableText(v)
	case []byte:
		return string(v) == placeholder
	case []any:
		return slices.ContainsFunc(v, unavailable)
	}
	return false
}

func unavailableText(s string) bool {
	return strings.Contains(s, "__") && strings.Contains(strings.ToLower(s), placeholder)
}

func among(s string, options []string) bool { return len(options) == 0 || slices.Contains(options, s) }

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

// address trims and lower-cases an e-mail address (the API matches addresses as it stores them, in lower case), writes its
// domain in ASCII, and says whether it is one. A letter that is none of ASCII's never becomes one: it may be somebody
// else's address.
func address(s string) (string, bool) {
	s = trim(s)
	at := strings.LastIndexByte(s, '@')
	if at < 1 || at > 64 || at == len(s)-1 {
		return "", false
	}
	local, domain := s[:at], s[at+1:]
	if !ascii(domain) {
		var err error
		if domain, err = idna.Lookup.ToASCII(domain); err != nil || !strings.Contains(domain, "xn--") {
			return "", false
		}
	}
	if domain != s[at+1:] {
		s = local + "@" + domain
	}
	if len(s) > 254 || !ascii(s) {
		return "", false
	}
	s = strings.ToLower(s)
	local, domain = s[:at], s[at+1:]
	if strings.Contains(local, "..") || local[0] == '.' || local[len(local)-1] == '.' {
		return "", false
	}
	for i := range len(local) {
		if !inLocal[local[i]] {
			return "", false
		}
	}
	label, labels := 0, 1 // the length of the label at hand
	for i := range len(domain) {
		switch c := domain[i]; {
		case c == '.':
			if label == 0 || domain[i-1] == '-' {
				return "", false
			}
			label, labels = 0, labels+1
			continue
		case !inDomain[c] || c == '-' && label == 0:
			return "", false
		}
		if label++; label > 63 {
			return "", false
		}
	}
	return s, label > 0 && labels > 1 && domain[len(domain)-1] != '-'
}

// Letters of an address's two sides.
var (
	inLocal  = letters("!#$%&'*+-/=?^_`{|}~.")
	inDomain = letters("-")
)

func letters(more string) (set [256]bool) {
	for _, c := range []byte("abcdefghijklmnopqrstuvwxyz0123456789" + more) {
		set[c] = true
	}
	return set
}

func ascii(s string) bool {
	for i := range len(s) {
		if s[i] >= 0x80 {
			return false
		}
	}
	return true
}
