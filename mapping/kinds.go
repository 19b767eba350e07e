package mapping

import (
	"encoding/json"
	"fmt"
	"math/big"
	"reflect"
	"strings"
	"time"
)

// Kind is what a value is. Values of these kinds, and no others, travel between decoding and the form that the account
// takes:
//
//	Null nil · Boolean bool · Integer int · Float float64 · Decimal Decimal · Text string · Bytes []byte
//	Day Date · Instant time.Time · List []any · Map map[string]any
type Kind uint8

// The kinds.
const (
	Null Kind = iota
	Boolean
	Integer
	Float
	Fixed // a Decimal
	Text
	Bytes
	Day
	Instant
	List
	Map
	Other // what an expression made and no conversion knows: a function, say
)

func (k Kind) String() string {
	return [...]string{"null", "a boolean", "a whole number", "a number", "a decimal", "a text", "bytes", "a date", "a time", "a list", "a record or map", "a value of no known kind"}[k]
}

// KindOf is the kind of a value that was normal'ed.
func KindOf(v any) Kind {
	switch v.(type) {
	case nil:
		return Null
	case bool:
		return Boolean
	case int:
		return Integer
	case float64:
		return Float
	case Decimal:
		return Fixed
	case string:
		return Text
	case []byte:
		return Bytes
	case Date:
		return Day
	case time.Time:
		return Instant
	case []any:
		return List
	case map[string]any:
		return Map
	}
	return Other
}

// Decimal is an Avro decimal: an unscaled integer and its scale.
type Decimal struct {
	unscaled *big.Int
	scale    int
}

func (d Decimal) rat() *big.Rat {
	return new(big.Rat).SetFrac(d.unscaled, new(big.Int).Exp(big.NewInt(10), big.NewInt(int64(d.scale)), nil))
}

// String writes all digits that the scale has.
func (d Decimal) String() string { return d.rat().FloatString(d.scale) }

// Float is the nearest float64.
func (d Decimal) Float() float64 {
	f, _ := d.rat().Float64()
	return f
}

// Date is a day of the calendar, without a zone.
type Date struct{ time.Time }

func (d Date) String() string { return d.Format(time.DateOnly) }

// normal gives what an expression, or a function of expr's own, has made the form of its kind.
func normal(v any) any {
	switch v := v.(type) {
	case nil, bool, int, float64, Decimal, string, []byte, Date, time.Time, map[string]any:
		return v
	case []any:
		return v
	case []string:
		return listOf(v)
	case []int:
		return listOf(v)
	case json.Number:
		return numeral(v.String())
	case time.Duration:
		return v.Seconds()
	case float32:
		return widen(v)
	}
	return normalOther(reflect.ValueOf(v))
}

func listOf[T any](all []T) []any {
	out := make([]any, len(all))
	for i, v := range all {
		out[i] = v
	}
	return out
}

// normalOther is for the rarer forms that expr gives: narrow numbers, lists and maps of one type.
func normalOther(v reflect.Value) any {
	switch v.Kind() {
	case reflect.Int, reflect.Int8, reflect.Int16, reflect.Int32, reflect.Int64:
		return int(v.Int())
	case reflect.Uint, reflect.Uint8, reflect.Uint16, reflect.Uint32, reflect.Uint64:
		if n := v.Uint(); n < 1<<63 {
			return int(n)
		}
		return Decimal{new(big.Int).SetUint64(v.Uint()), 0}
	case reflect.Slice, reflect.Array:
		out := make([]any, v.Len())
		for i := range out {
			out[i] = normal(v.Index(i).Interface())
		}
		return out
	case reflect.Map:
		out := make(map[string]any, v.Len())
		for it := v.MapRange(); it.Next(); {
			key, err := textOf(normal(it.Key().Interface()))
			if err != nil {
				key = fmt.Sprint(it.Key().Interface())
			}
			out[key] = normal(it.Value().Interface())
		}
		return out
	default:
		return v.Interface()
	}
}

// numeral reads a number of JSON: whole ones stay exact, whatever their length.
func numeral(s string) any {
	if !strings.ContainsAny(s, ".eE") {
		if n, ok := new(big.Int).SetString(s, 10); ok {
			if n.IsInt64() {
				return int(n.Int64())
			}
			return Decimal{n, 0}
		}
	}
	f, err := parseFloat(s)
	if err != nil {
		return s
	}
	return f
}

// numerals gives numbers of JSON their kinds, in place.
func numerals(v any) any {
	switch v := v.(type) {
	case json.Number:
		return numeral(v.String())
	case []any:
		for i := range v {
			v[i] = numerals(v[i])
		}
	case map[string]any:
		for k := range v {
			v[k] = numerals(v[k])
		}
	}
	return v
}
