package mapping

import (
	"os"
	"testing"
)

// FuzzDecode: whatever the bytes, one error or one record; never a panic.
func FuzzDecode(f *testing.F) {
	var codecs []*codec
	for _, file := range []string{"membership-changed.avsc", "profile-snapshot.avsc", "segment-members-cdc.avsc"} {
		b, err := os.ReadFile("testdata/" + file)
		if err != nil {
			f.Fatal(err)
		}
		c, err := newCodec(string(b), nil)
		if err != nil {
			f.Fatal(err)
		}
		codecs = append(codecs, c)
	}
	tree, err := newCodec(`{"type":"record","name":"R","fields":[{"name":"c","type":{"type":"array","items":"R"}},{"name":"n","type":{"type":"array","items":"null"}}]}`, nil)
	if err != nil {
		f.Fatal(err)
	}
	codecs = append(codecs, tree)
	m, err := NewMapper(Spec{Attributes: []Attribute{{Name: "A", Expr: "profile.email"}, {Name: "B", Expr: "c"}, {Name: "C", Expr: `keysWhere(segmentMembership.ups, "status", ["realized"])`}, {Name: "D", Expr: "after.segment.x"}}}, nil, nil)
	if err != nil {
		f.Fatal(err)
	}
	f.Add([]byte{0x80, 0x80, 0x80, 0x80, 0x80, 0x01})
	f.Add([]byte{2, 'e', 6, 'v', 'i', 'p', 2, 'p', 0, 0, 0})
	f.Fuzz(func(t *testing.T, b []byte) {
		for _, c := range codecs {
			v, err := c.decode(b, everything)
			if err == nil && v == nil {
				t.Error("a record that is nothing")
			}
			w := m.NewWorker()
			if filled := decoded(w.cells.fill(m.plan(c.schema), b)); (filled == nil) != (err == nil) {
				t.Errorf("decoding: %v, filling cells: %v", err, filled)
			}
		}
	})
}

// FuzzSchema: whatever a registry answers, a schema or an error; never a panic.
func FuzzSchema(f *testing.F) {
	f.Add(`{"type":"record","name":"R","fields":[{"name":"a","type":{"type":"bytes","logicalType":"decimal","precision":4}}]}`, []byte{2, 1})
	f.Add(`["null",{"type":"map","values":"string"}]`, []byte{0})
	f.Add(`"string"`, []byte{2, 'a'})
	f.Fuzz(func(_ *testing.T, schema string, b []byte) {
		if c, err := newCodec(schema, nil); err == nil {
			_, _ = c.decode(b, everything)
		}
	})
}

// FuzzExpression: whatever somebody writes, an expression or an error, which ends in time; never a panic. A closure gives what
// the VM gives.
func FuzzExpression(f *testing.F) {
	for _, s := range []string{
		`phone(p.phone, "FR")`, `keysWhere(m, "status", ["a", nil])`, `map(filter(l, # == "a"), # + "b")`, `a == "x" ? date(d) : nil`, `let v = m["a"]; v in [true, false] ? v : nil`,
		`join([a, b.c], " ")`, `toJSON(m) + string(n)`, `find(l, .x)?.y ?? "z"`, `float(n) > 100 && !b`, `sum(map(1..9, #))`, `type == "a"`, `fromJSON(j).x[0]`, `repeat(a, 9)`,
	} {
		f.Add(s)
	}
	env := func() map[string]any {
		return map[string]any{
			"a": "x", "b": true, "n": 12, "d": noon, "j": `{"x":[1]}`, "l": []any{"a", nil, map[string]any{"x": true, "y": "q"}}, "p": map[string]any{"phone": "06 39 98 00 01"},
			"m": map[string]any{"a": map[string]any{"status": "a"}, "b": nil}, "type": "a",
		}
	}
	f.Fuzz(func(t *testing.T, source string) {
		e, err := newExpression(source, false, nil)
		if err != nil || e == nil {
			return
		}
		v, err := e.eval(&runner{}, env())
		if e.quick == nil {
			return
		}
		slow := *e
		slow.quick = nil
		if want, wantErr := slow.eval(&runner{}, env()); (err == nil) != (wantErr == nil) || err == nil && !same(v, want) {
			t.Errorf("%s is %#v, %v; the VM says %#v, %v", source, v, err, want, wantErr)
		}
	})
}
