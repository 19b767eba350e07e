package mapping

import (
	"fmt"
	"strings"
	"testing"

	"pgregory.net/rapid"
)

// What closures find in the cells of a record is what the VM finds in all of it, whatever the schema, the paths and the bytes;
// filling cells takes what decoding takes, and refuses what it refuses.
func TestCellsAreWhatTheRecordSays(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		text, c, write := drawnCodec(t)
		spec := Spec{}
		for i := range rapid.IntRange(1, 6).Draw(t, "expressions") {
			var path []string
			for range rapid.IntRange(1, 3).Draw(t, "steps") {
				path = append(path, rapid.SampledFrom([]string{"f0", "f1", "f2", "a", "Ann", "none"}).Draw(t, "step"))
			}
			expr := strings.Join(path, ".")
			switch rapid.IntRange(0, 4).Draw(t, "form") {
			case 0:
				expr = fmt.Sprintf(`keysWhere(%s, "%s", [nil, "a", "A", true])`, expr, rapid.SampledFrom([]string{"f0", "f1"}).Draw(t, "field"))
			case 1:
				expr += ` == "Ann"`
			}
			spec.Attributes = append(spec.Attributes, Attribute{Name: fmt.Sprint("A", i), Expr: expr})
		}
		m, err := NewMapper(spec, nil, nil)
		if err != nil {
			t.Fatal(err)
		}
		w := m.NewWorker()
		for range 2 { // the second record finds nothing of the first
			b := write(nil)
			if len(b) > 0 && rapid.IntRange(0, 2).Draw(t, "mutated") == 0 {
				b[rapid.IntRange(0, len(b)-1).Draw(t, "at")] = rapid.Byte().Draw(t, "byte")
				b = b[:rapid.IntRange(0, len(b)).Draw(t, "cut")]
			}
			v, rest, wantErr := c.schema.read(b, everything)
			left, gotErr := w.cells.fill(m.plan(c.schema), b)
			if (gotErr == nil) != (wantErr == nil) || gotErr == nil && len(left) != len(rest) {
				t.Fatalf("%s: filling from %x: %v, reading: %v", text, b, gotErr, wantErr)
			}
			if gotErr == nil && len(rest) == 0 {
				w.scope.cells, w.scope.record = w.cells.cells, record{c, b, m.asked}
				for i := range m.attributes {
					e := m.attributes[i].expr
					got, gotErr := e.cell(&runner{}, &w.scope)
					slow := *e
					slow.quick = nil
					env, _ := v.(map[string]any)
					want, wantErr := slow.eval(&runner{}, env)
					if (gotErr == nil) != (wantErr == nil) || gotErr == nil && !same(got.value(), want) {
						t.Fatalf("%s: of %x, %s is %#v, %v; the VM says %#v, %v", text, b, e.source, got.value(), gotErr, want, wantErr)
					}
				}
			}
			w.forget()
		}
	})
}
