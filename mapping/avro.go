package mapping

import (
	"fmt"
	"math/big"
	"time"

	"github.com/linkedin/goavro/v2"
)

// Decimal is an Avro decimal: an unscaled integer and its scale.
type Decimal struct {
	unscaled *big.Int
	scale    int
}

// String writes all digits that the scale has.
func (d Decimal) String() string {
	return new(big.Rat).SetFrac(d.unscaled, new(big.Int).Exp(big.NewInt(10), big.NewInt(int64(d.scale)), nil)).FloatString(d.scale)
}

// Float is the nearest float64.
func (d Decimal) Float() float64 {
	f, _ := new(big.Rat).SetFrac(d.unscaled, new(big.Int).Exp(big.NewInt(10), big.NewInt(int64(d.scale)), nil)).Float64()
	return f
}

// Date is an Avro date: days of the calendar, without a zone.
type Date struct{ time.Time }

func (d Date) String() string { return d.Format(time.DateOnly) }

// codec decodes records of one schema.
type codec struct {
	schema *schema
	avro   *goavro.Codec
}

// newCodec parses a schema. goavro panics on some malformed ones: that is an error like another.
func newCodec(text string, references []string) (c *codec, err error) {
	defer func() {
		if p := recover(); p != nil {
			c, err = nil, fmt.Errorf("the schema cannot be used: %v", p)
		}
	}()
	s, plain, err := parseSchema(text, references)
	if err != nil {
		return nil, err
	}
	a, err := goavro.NewCodec(plain)
	if err != nil {
		return nil, fmt.Errorf("the schema cannot be used: %w", err)
	}
	return &codec{s, a}, nil
}

// decode reads one datum that fills all of b. Strings are copied; bytes values alias b.
func (c *codec) decode(b []byte) (v any, err error) {
	defer func() {
		if p := recover(); p != nil {
			v, err = nil, fmt.Errorf("decoding Avro: %v", p)
		}
	}()
	rest, err := c.schema.check(b)
	if err != nil {
		return nil, fmt.Errorf("decoding Avro: %w", err)
	}
	if len(rest) > 0 {
		return nil, fmt.Errorf("decoding Avro: %d bytes are left over: the record was written with another schema", len(rest))
	}
	native, _, err := c.avro.NativeFromBinary(b)
	if err != nil {
		return nil, fmt.Errorf("decoding Avro: %w", err)
	}
	return unwrap(c.schema, native), nil
}

// unwrap takes the one-key maps off goavro's unions, by schema (a map of one key looks the same), and applies logical
// types. Records and maps are changed in place.
func unwrap(s *schema, v any) any {
	switch s.kind {
	case kindUnion:
		m, ok := v.(map[string]any)
		if !ok {
			return v // null
		}
		for name, inner := range m {
			for _, b := range s.of {
				if b.name == name {
					return unwrap(b, inner)
				}
			}
			return inner
		}
	case kindRecord:
		if m, ok := v.(map[string]any); ok {
			for i := range s.fields {
				f := &s.fields[i]
				if inner := m[f.name]; inner != nil && f.typ.nested() {
					m[f.name] = unwrap(f.typ, inner)
				}
			}
		}
	case kindMap:
		if m, ok := v.(map[string]any); ok && s.items.nested() {
			for k, inner := range m {
				m[k] = unwrap(s.items, inner)
			}
		}
	case kindArray:
		if l, ok := v.([]any); ok && s.items.nested() {
			for i := range l {
				l[i] = unwrap(s.items, l[i])
			}
		}
	default:
		if s.logical != "" {
			return logical(s, v)
		}
		if n, ok := v.(int32); ok {
			return int(n)
		}
		if n, ok := v.(int64); ok {
			return int(n)
		}
		if f, ok := v.(float32); ok {
			return float64(f)
		}
	}
	return v
}

// nested says whether unwrap may change a value of the schema.
func (s *schema) nested() bool {
	return s.kind != kindString && s.kind != kindEnum && s.kind != kindBoolean && s.kind != kindDouble
}

func logical(s *schema, v any) any {
	var n int64
	switch v := v.(type) {
	case int32:
		n = int64(v)
	case int64:
		n = v
	case []byte:
		if s.logical == "decimal" {
			return decimal(v, s.scale)
		}
		return v
	default:
		return v
	}
	switch s.logical {
	case "timestamp-millis", "local-timestamp-millis":
		return time.UnixMilli(n).UTC()
	case "timestamp-micros", "local-timestamp-micros":
		return time.UnixMicro(n).UTC()
	case "timestamp-nanos", "local-timestamp-nanos":
		return time.Unix(0, n).UTC()
	case "date":
		return Date{time.Unix(n*86400, 0).UTC()}
	}
	return int(n)
}

// decimal reads a two's-complement big-endian integer.
func decimal(b []byte, scale int) Decimal {
	n := new(big.Int).SetBytes(b)
	if len(b) > 0 && b[0]&0x80 != 0 {
		n.Sub(n, new(big.Int).Lsh(big.NewInt(1), uint(len(b))*8))
	}
	return Decimal{n, scale}
}
