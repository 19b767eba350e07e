package mapping

import (
	"encoding/binary"
	"encoding/json"
	"fmt"
	"math"
	"reflect"
	"strings"
	"testing"

	"pgregory.net/rapid"
)

// drawn is a random schema, as JSON values, and how bytes of it are made.
type drawn struct {
	t *rapid.T
	n int // named types
}

// drawnCodec is a codec of a random schema, its text, and what writes a random record of it.
func drawnCodec(t *rapid.T) (text []byte, c *codec, write func([]byte) []byte) {
	d := drawn{t: t}
	s, write := d.record(3)
	text, err := json.Marshal(s)
	if err != nil {
		t.Fatal(err)
	}
	if c, err = newCodec(string(text), nil); err != nil {
		t.Fatalf("%s: %v", text, err)
	}
	return text, c, write
}

// schema draws a schema; the second result writes a random datum of it.
func (d *drawn) schema(depth int) (any, func([]byte) []byte) {
	kinds := 8
	if depth > 0 {
		kinds = 14
	}
	switch rapid.IntRange(0, kinds-1).Draw(d.t, "kind") {
	case 0:
		return "null", func(b []byte) []byte { return b }
	case 1:
		return "boolean", func(b []byte) []byte { return append(b, byte(rapid.IntRange(0, 1).Draw(d.t, "boolean"))) }
	case 2:
		logical := rapid.SampledFrom([]string{"", "date", "time-millis"}).Draw(d.t, "logical")
		return map[string]any{"type": "int", "logicalType": logical}, func(b []byte) []byte { return binary.AppendVarint(b, int64(rapid.Int32().Draw(d.t, "int"))) }
	case 3:
		logical := rapid.SampledFrom([]string{"", "timestamp-millis", "timestamp-micros", "local-timestamp-nanos"}).Draw(d.t, "logical")
		return map[string]any{"type": "long", "logicalType": logical}, func(b []byte) []byte { return binary.AppendVarint(b, rapid.Int64().Draw(d.t, "long")) }
	case 4:
		return "float", func(b []byte) []byte {
			return binary.LittleEndian.AppendUint32(b, math.Float32bits(rapid.Float32().Draw(d.t, "float")))
		}
	case 5:
		return "double", func(b []byte) []byte {
			return binary.LittleEndian.AppendUint64(b, math.Float64bits(rapid.Float64().Draw(d.t, "double")))
		}
	case 6:
		logical := rapid.SampledFrom([]string{"", "decimal"}).Draw(d.t, "logical")
		return map[string]any{"type": "bytes", "logicalType": logical, "scale": 2}, d.text
	case 7:
		return "string", d.text
	case 8:
		return d.record(depth)
	case 9:
		d.n++
		words := []any{"A", "B", "C"}
		return map[string]any{"type": "enum", "name": fmt.Sprintf("E%d", d.n), "symbols": words}, func(b []byte) []byte {
			return binary.AppendVarint(b, int64(rapid.IntRange(0, len(words)-1).Draw(d.t, "symbol")))
		}
	case 10:
		d.n++
		logical, size := "", rapid.IntRange(1, 5).Draw(d.t, "size")
		if rapid.Bool().Draw(d.t, "uuid") {
			logical, size = "uuid", 16
		}
		return map[string]any{"type": "fixed", "name": fmt.Sprintf("F%d", d.n), "size": size, "logicalType": logical}, func(b []byte) []byte {
			return append(b, rapid.SliceOfN(rapid.Byte(), size, size).Draw(d.t, "fixed")...)
		}
	case 11:
		items, write := d.schema(depth - 1)
		return map[string]any{"type": "array", "items": items}, d.blocks(write)
	case 12:
		items, write := d.schema(depth - 1)
		return map[string]any{"type": "map", "values": items}, d.blocks(func(b []byte) []byte { return write(d.text(b)) })
	}
	// A union of null and records: other branches must not be two of a kind.
	branches, writes := []any{"null"}, []func([]byte) []byte{func(b []byte) []byte { return b }}
	for range rapid.IntRange(1, 2).Draw(d.t, "branches") {
		s, write := d.record(depth)
		branches, writes = append(branches, s), append(writes, write)
	}
	return branches, func(b []byte) []byte {
		i := rapid.IntRange(0, len(writes)-1).Draw(d.t, "branch")
		return writes[i](binary.AppendVarint(b, int64(i)))
	}
}

func (d *drawn) record(depth int) (any, func([]byte) []byte) {
	d.n++
	space := rapid.SampledFrom([]string{"", "a.b", "com.my-company"}).Draw(d.t, "namespace")
	r := map[string]any{"type": "record", "name": fmt.Sprintf("R%d", d.n), "namespace": space}
	var all []any
	var writes []func([]byte) []byte
	for i := range rapid.IntRange(0, 3).Draw(d.t, "fields") {
		s, write := d.schema(depth - 1)
		all, writes = append(all, map[string]any{"name": fmt.Sprintf("f%d", i), "type": s}), append(writes, write)
	}
	if all == nil {
		all = []any{}
	}
	r["fields"] = all
	return r, func(b []byte) []byte {
		for _, write := range writes {
			b = write(b)
		}
		return b
	}
}

func (d *drawn) text(b []byte) []byte {
	s := rapid.SampledFrom([]string{"", "a", "Ann", "\xff\x00", strings.Repeat("x", 70)}).Draw(d.t, "text")
	return append(binary.AppendVarint(b, int64(len(s))), s...)
}

func (d *drawn) blocks(write func([]byte) []byte) func([]byte) []byte {
	return func(b []byte) []byte {
		for range rapid.IntRange(0, 2).Draw(d.t, "blocks") {
			n := rapid.IntRange(1, 3).Draw(d.t, "items")
			var items []byte
			for range n {
				items = write(items)
			}
			if rapid.Bool().Draw(d.t, "sized") {
				b = binary.AppendVarint(binary.AppendVarint(b, int64(-n)), int64(len(items)))
			} else {
				b = binary.AppendVarint(b, int64(n))
			}
			b = append(b, items...)
		}
		return append(b, 0)
	}
}

// same compares values; NaN is NaN.
func same(a, b any) bool {
	return reflect.DeepEqual(a, b) || fmt.Sprintf("%#v", a) == fmt.Sprintf("%#v", b)
}

// Our reader gives what goavro gives, for whatever bytes, and refuses what goavro refuses; of what is asked for it gives the
// same as of all.
func TestTheReaderIsHeldAgainstGoavro(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		text, c, write := drawnCodec(t)
		b := write(nil)
		if len(b) > 0 && rapid.Bool().Draw(t, "mutated") {
			for range rapid.IntRange(1, 3).Draw(t, "mutations") {
				b[rapid.IntRange(0, len(b)-1).Draw(t, "at")] = rapid.Byte().Draw(t, "byte")
			}
			b = b[:rapid.IntRange(0, len(b)).Draw(t, "cut")]
		}
		mine, rest, myErr := c.schema.read(b, everything)
		walked, walkErr := c.schema.check(b)
		if (myErr == nil) != (walkErr == nil) || myErr == nil && len(rest) != len(walked) {
			t.Fatalf("%s: reading %x: %v, walking: %v", text, b, myErr, walkErr)
		}
		if walkErr != nil || len(walked) > 0 {
			return // goavro is not asked
		}
		its, err := c.goavro(b)
		if err != nil && strings.Contains(err.Error(), "duplicate key") {
			return // of two the last counts, as with Java
		}
		if err != nil || !same(mine, its) {
			t.Fatalf("%s: %x is %#v, %v; goavro says %#v", text, b, mine, myErr, its)
		}
		all, ok := mine.(map[string]any)
		if !ok {
			t.Fatal("it is no record")
		}
		asked := &fields{}
		for name := range all {
			if rapid.Bool().Draw(t, "asked") {
				asked.add([]string{name})
			}
		}
		part, _, err := c.schema.read(b, asked)
		some, ok := part.(map[string]any)
		if err != nil || !ok || len(some) != len(asked.named) {
			t.Fatalf("%v, %v of %v", err, some, asked.named)
		}
		for name, v := range some {
			if !same(v, all[name]) {
				t.Fatalf("%s: asked for alone %s is %#v, else %#v", text, name, v, all[name])
			}
		}
	})
}
