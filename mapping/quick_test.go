package mapping

import (
	"fmt"
	"math/big"
	"slices"
	"testing"

	"pgregory.net/rapid"
)

// A closure gives what the VM gives, whatever the record holds.
func TestClosuresEqualTheVM(t *testing.T) {
	sources := []string{
		"a", "a.b", "a.b.c", `a["b"]`, `a == "x"`, `a.b == "x"`, `"x" != a`, "a == b", "a == nil", "a == true", "a ?? b", `a.b ?? "none"`, "a.b ?? b.a ?? nil", "lower(a)", "title(a.b)",
		`phone(a, "FR")`, "phone(a.b)", "date(a)", "float(a)", "string(a)", "default(a, b)", "keys(a)", "values(a)", "toPairs(a)", "fromJSON(a)", "trim(a.b)", `default(trim(a), "x")`, `keysWhere(a, "b", b)`, "join(a)", "a == 1",
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
