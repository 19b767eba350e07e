package mapping

import (
	"fmt"
	"math/big"
	"slices"
	"strings"
	"testing"

	"pgregory.net/rapid"
)

// A closure gives what the VM gives, whatever the record holds.
func TestClosuresEqualTheVM(t *testing.T) {
	sources := []string{
		"a", "a.b", "a.b.c", `a["b"]`, `a == "x"`, `a.b == "x"`, `"x" != a`, "a == b", "a == nil", "a == true", "a ?? b", `a.b ?? "none"`, "a.b ?? b.a ?? nil", "lower(a)", "title(a.b)",
		`phone(a, "FR")`, "phone(a.b)", "date(a)", "float(a)", "string(a)", "default(a, b)", "keys(a)", "values(a)", "toPairs(a)", "fromJSON(a)", "trim(a.b)", `default(trim(a), "x")`, `keysWhere(a, "b", b)`, `keysWhere(a, "b", ["x", nil, true])`, `a in ["x", nil]`, `a in b`, `a ? b : nil`, `a == "x" ? true : a.b == "y" ? false : nil`, "a && b", "a || b", "!a", `a == "x" || b == "x"`, `a in ["x", 1]`, "join(a)", "a == 1",
	}
	leaf := rapid.SampledFrom([]any{nil, "x", "", " y ", "+33639980001", "06 39 98 00 01", "1990-02-01", "12.5", `{"b":1}`, true, false, 0, 1, 7336, 1.5, []byte("z"), Decimal{big.NewInt(150), 2}, []any{"x", nil}, []any{}})
	rapid.Check(t, func(t *rapid.T) {
		source := rapid.SampledFrom(sources).Draw(t, "expression")
		var value func(depth int) any
		value = func(depth int) any {
			if depth == 0 || rapid.Bool().Draw(t, "leaf") {
				return leaf.Draw(t, "value")
			}
			m := map[string]any{}
			for _, name := range []string{"a", "b", "c"} {
				if rapid.Bool().Draw(t, "has") {
					m[name] = value(depth - 1)
				}
			}
			return m
		}
		env := map[string]any{"a": value(3), "b": value(2)}
		e, err := newExpression(source, false, nil)
		if err != nil {
			t.Fatal(err)
		}
		if e.quick == nil {
			t.Fatalf("%s takes the VM", source)
		}
		got, gotErr := e.eval(&runner{}, env)
		slow := *e
		slow.quick = nil
		want, wantErr := slow.eval(&runner{}, env)
		if (gotErr == nil) != (wantErr == nil) || gotErr == nil && !same(got, want) || gotErr != nil && gotErr.Error() != wantErr.Error() {
			t.Fatalf("%s of %#v is %#v, %v; the VM says %#v, %v", source, env, got, gotErr, want, wantErr)
		}
	})
}

// What an expression names is decoded, and told where a schema lacks it: a function's name, and a variable of the
// expression's own, are no fields.
func TestFieldsThatAnExpressionNames(t *testing.T) {
	for source, want := range map[string]string{
		"profile.first_name":                        "[[profile first_name]]",
		`phone(profile.phone, "FR")`:                "[[profile phone]]",
		`title(trim(name)) + lower(mail ?? e.mail)`: "[[e mail] [mail] [name]]",
		`let p = profile; p.email`:                  "[[profile]]",
		`any(tags, # == wanted)`:                    "[[tags] [wanted]]",
		`filter(all, .kind == "x")[0].value`:        "[[all]]",
		`kafka.headers["at"]`:                       "[]",
		`$env["odd name"]`:                          "[[]]",
	} {
		e, err := newExpression(source, false, nil)
		if err != nil {
			t.Fatal(err)
		}
		slices.SortFunc(e.paths, slices.Compare)
		if got := fmt.Sprint(e.paths); got != want {
			t.Errorf("%s names %s, not %s", source, got, want)
		}
	}
}

// A field may be named like a function.
func TestFieldsNamedLikeFunctions(t *testing.T) {
	env := map[string]any{"type": "x", "len": 2, "string": "a", "phone": "+33639980001", "all": nil}
	for source, want := range map[string]any{
		`type == "x"`: true, `type + "y"`: "xy", "len > 1": true, `string ?? "none"`: "a", `phone(phone) + type`: "+33639980001x", `map([1], type)[0]`: "x", `len([1, 2]) + len`: 4,
		`let t = type; t + "z"`: "xz", "all ?? type": "x", `all([true], #) && type == "x"`: true,
	} {
		e, err := newExpression(source, false, nil)
		if err != nil {
			t.Errorf("%s: %v", source, err)
			continue
		}
		if v, err := e.eval(&runner{}, env); err != nil || v != want {
			t.Errorf("%s is %v, %v, not %v", source, v, err, want)
		}
	}
	s, _, err := parseSchema(`{"type":"record","name":"R","fields":[{"name":"len","type":"int"}]}`, nil)
	if err != nil {
		t.Fatal(err)
	}
	for source, want := range map[string]string{"len > 1": "", `type == "x"`: "type"} {
		e, err := newExpression(source, false, nil)
		if err != nil {
			t.Fatal(err)
		}
		if err := e.fits([]*schema{s}, nil, nil); (err == nil) != (want == "") || err != nil && !strings.Contains(err.Error(), want) {
			t.Errorf("%s of a schema without type: %v", source, err)
		}
	}
}
