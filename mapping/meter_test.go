package mapping

import (
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"
)

func evaluate(t *testing.T, source string, env map[string]any) (any, error) {
	t.Helper()
	e, err := newExpression(source, false, nil)
	if err != nil {
		return nil, err
	}
	return e.eval(&runner{}, env)
}

// S84: an expression that would take the process's memory, or a record's minute, ends with an error (ADVERSARY S4).
func TestS84ExpressionsHaveABudget(t *testing.T) {
	list := make([]any, 1000)
	for i := range list {
		list[i] = i
	}
	text := strings.Repeat("a", 64<<10)
	env := func() map[string]any { return map[string]any{"list": list, "a": text} }
	doubled := "a"
	for range 30 {
		doubled = "(let b = " + doubled + "; b + b)"
	}
	nested := "[a]"
	for range 30 {
		nested = "(let b = " + nested + "; [b, b])"
	}
	for name, source := range map[string]string{
		"texts that double":  doubled,
		"lists that double":  nested,
		"and are compared":   "(" + nested + ") == (" + nested + ")",
		"loops in loops":     "count(list, let x = #; count(list, let y = #; any(list, # == x + y + 5000)) > 0)",
		"repeat":             `repeat(a, 100000)`,
		"replace":            `replace(replace(a, "a", a), "a", a)`,
		"join":               `join(map(list, a))`,
		"uniq":               `uniq(1..20000)`,
		"texts in a loop":    `count(list, a contains "b") + count(list, a contains "b")+ count(list, a contains "b")`,
		"toJSON":             "toJSON(" + nested + ")",
		"toBase64":           strings.Repeat("toBase64(", 40) + "a" + strings.Repeat(")", 40),
		"own function, loop": "count(list, lower(a) == a)",
	} {
		t.Run(name, func(t *testing.T) {
			began := time.Now()
			v, err := evaluate(t, source, env())
			if err == nil || time.Since(began) > 5*time.Second {
				t.Errorf("it gives %.40v after %s", v, time.Since(began))
			}
		})
	}
	for name, source := range map[string]string{
		"parentheses": strings.Repeat("(", 1<<20), "signs": strings.Repeat("-", 5<<20) + "1",
		"a node twice": strings.Repeat("(", 40) + "a" + strings.Repeat(" ?: b)", 40), "long": strings.Repeat("a + ", 3000) + "a",
	} {
		t.Run(name, func(t *testing.T) {
			if _, err := newExpression(source, false, nil); err == nil {
				t.Error("it compiles")
			}
		})
	}
}

// What is not hostile gives what it gave, a snapshot of many segments among it.
func TestTheBudgetLetsOrdinaryExpressionsBe(t *testing.T) {
	segments := map[string]any{}
	for i := range 2000 {
		segments[fmt.Sprint("segment-", i)] = map[string]any{"status": "realized"}
	}
	env := map[string]any{"given": "Ann", "last": "Lee", "n": 3, "ups": segments, "tags": []any{"a", "b"}, "null": nil, "count": 5}
	for source, want := range map[string]string{
		`given + " " + last`: "Ann Lee", `n + 1`: "4", `n * 2 + n`: "9", `join([given, last], " ")`: "Ann Lee",
		`len(keysWhere(ups, "status", ["realized"]))`: "2000", `len(filter(toPairs(ups), #[1].status == "realized"))`: "2000",
		`map(tags, # + "!")`: "[a! b!]", `any(tags, # == "b")`: "true", `replace(given, "n", "m")`: "Amm", `repeat("x", 3)`: "xxx", `toJSON(tags)`: `["a","b"]`,
		`count(tags, # == "a")`: "1", `null?.x`: "<nil>", `given == "Ann" ? "yes" : "no"`: "yes", `split("a,b", ",")`: "[a b]", `uniq(["a", "a"])`: "[a]", `sum([1, 2, n])`: "6",
	} {
		if v, err := evaluate(t, source, env); err != nil || fmt.Sprint(v) != want {
			t.Errorf("%s gives %v, %v", source, v, err)
		}
	}
	if _, err := evaluate(t, `given + n`, env); errors.Is(err, ErrBudget) || err == nil {
		t.Errorf("a text and a number: %v", err)
	}
}

// S84: a schema whose fields multiply, a few bytes of a record (ADVERSARY S3).
func TestS84SchemasThatMultiply(t *testing.T) {
	schema := `"null"`
	for level := range 20 {
		var fields []string
		for f := range 10 {
			typ := fmt.Sprintf(`"L%d"`, level)
			if f == 0 {
				typ = schema
			} else if level == 0 {
				typ = `"null"`
			}
			fields = append(fields, fmt.Sprintf(`{"name":"f%d","type":%s}`, f, typ))
		}
		schema = fmt.Sprintf(`{"type":"record","name":"L%d","fields":[%s]}`, level+1, strings.Join(fields, ","))
	}
	began := time.Now()
	c, err := newCodec(schema, nil)
	if err == nil {
		_, err = c.decode([]byte{0, 0, 0, 0, 0}, everything)
	}
	if err == nil {
		t.Error("it is decoded")
	}
	if m, err := NewMapper(Spec{Email: "f0.f0"}, nil, nil); err == nil {
		_ = m.Check(Version{Text: schema})
	}
	if took := time.Since(began); took > 5*time.Second {
		t.Errorf("it took %s", took)
	}
}
