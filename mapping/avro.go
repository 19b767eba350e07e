package mapping

import (
	"fmt"
	"math/big"
	"os"
	"sync"
	"time"

	"github.com/linkedin/goavro/v2"
)

// useGoavro lets goavro decode, in place of our own reader: SEGSYNC_READER=goavro.
var useGoavro = os.Getenv("SEGSYNC_READER") == "goavro"

// codec decodes records of one schema.
type codec struct {
	schema *schema
	plain  string // the schema for goavro
	avro   func() (*goavro.Codec, error)
}

// newCodec parses a schema.
func newCodec(text string, references []string) (*codec, error) {
	s, plain, err := parseSchema(text, references)
	if err != nil {
		return nil, err
	}
	c := &codec{schema: s, plain: plain}
	c.avro = sync.OnceValues(func() (*goavro.Codec, error) { return newGoavro(plain) })
	if useGoavro {
		if _, err := c.avro(); err != nil {
			return nil, err
		}
	}
	return c, nil
}

// newGoavro makes goavro's codec. It panics on some malformed schemas: that is an error like another.
func newGoavro(text string) (a *goavro.Codec, err error) {
	defer func() {
		if p := recover(); p != nil {
			a, err = nil, fmt.Errorf("the schema cannot be used: %v", p)
		}
	}()
	if a, err = goavro.NewCodec(text); err != nil {
		return nil, fmt.Errorf("the schema cannot be used: %w", err)
	}
	return a, nil
}

// decode reads one datum that fills all of b: of a record, what is asked for. Texts are copied; bytes alias b.
func (c *codec) decode(b []byte, asked *fields) (any, error) {
	v, rest, err := c.read(b, asked)
	return v, decoded(rest, err)
}

// decoded says what is wrong with a datum that was read.
func decoded(rest []byte, err error) error {
	switch {
	case err != nil:
		return fmt.Errorf("decoding Avro: %w", err)
	case len(rest) > 0:
		return fmt.Errorf("decoding Avro: %d bytes are left over: the record was written with another schema", len(rest))
	}
	return nil
}

func (c *codec) read(b []byte, asked *fields) (any, []byte, error) {
	if !useGoavro {
		return c.schema.read(b, asked)
	}
	rest, err := c.schema.check(b)
	if err != nil || len(rest) > 0 {
		return nil, rest, err
	}
	v, err := c.goavro(b)
	return v, nil, err
}

// goavro decodes with goavro what check has found to be sound.
func (c *codec) goavro(b []byte) (v any, err error) {
	defer func() {
		if p := recover(); p != nil {
			v, err = nil, fmt.Errorf("%v", p)
		}
	}()
	a, err := c.avro()
	if err != nil {
		return nil, err
	}
	native, _, err := a.NativeFromBinary(b)
	if err != nil {
		return nil, err
	}
	return unwrap(c.schema, native), nil
}

// fingerprint is the CRC-64-AVRO of the canonical form of a schema's text, as goavro makes it.
func fingerprint(text string) (uint64, error) {
	a, err := newGoavro(text)
	if err != nil {
		return 0, err
	}
	return a.Rabin, nil
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
				if b.branch == name {
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
			return s.record(m)
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
		switch v := v.(type) {
		case int32:
			return s.whole(int64(v))
		case int64:
			return s.whole(v)
		case float32:
			return widen(v)
		case []byte:
			return s.binary(v)
		}
	}
	return v
}

// nested says whether unwrap may change a value of the schema.
func (s *schema) nested() bool {
	return s.kind != kindString && s.kind != kindEnum && s.kind != kindBoolean && s.kind != kindDouble
}

// whole gives a whole number the kind that the schema says it is of.
func (s *schema) whole(n int64) any {
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

// binary gives bytes the kind that the schema says they are of.
func (s *schema) binary(b []byte) any {
	switch {
	case s.logical == "decimal":
		return decimal(b, s.scale)
	case s.logical == "uuid" && len(b) == 16:
		return fmt.Sprintf("%x-%x-%x-%x-%x", b[:4], b[4:6], b[6:8], b[8:10], b[10:])
	}
	return b
}

// record gives a record the kind that the schema says it is of.
func (s *schema) record(m map[string]any) any {
	if s.logical != "variable-decimal" {
		return m
	}
	scale, ok := m["scale"].(int)
	digits, is := m["value"].([]byte)
	if !ok || !is || scale < 0 || scale > 1<<10 {
		return m
	}
	return decimal(digits, scale)
}

// decimal reads a two's-complement big-endian integer.
func decimal(b []byte, scale int) Decimal {
	n := new(big.Int).SetBytes(b)
	if len(b) > 0 && b[0]&0x80 != 0 {
		n.Sub(n, new(big.Int).Lsh(big.NewInt(1), uint(len(b))*8))
	}
	return Decimal{n, scale}
}
