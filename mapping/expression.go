package mapping

import (
	"errors"
	"fmt"
	"reflect"
	"slices"
	"sync"

	"github.com/expr-lang/expr"
	"github.com/expr-lang/expr/ast"
	"github.com/expr-lang/expr/types"
	"github.com/expr-lang/expr/vm"
)

// expression is a compiled mapping expression. One that depends on the schema is compiled for each.
type expression struct {
	source  string
	mu      sync.RWMutex
	program map[schemaID]program
}

// program is compiled; metered says that it asks for a budget.
type program struct {
	*vm.Program
	metered bool
}

// nullSafe makes every step into a null yield null, so that profile.email needs no guard where profile is null.
type nullSafe struct{}

func (nullSafe) Visit(node *ast.Node) {
	switch n := (*node).(type) {
	case *ast.MemberNode:
		if !n.Method {
			n.Optional = true
			ast.Patch(node, &ast.ChainNode{Node: n})
		}
	case *ast.CallNode:
		if c, ok := n.Callee.(*ast.ChainNode); ok {
			n.Callee = c.Node
		}
	}
}

// kafkaEnv is what an expression sees of the record's surroundings.
var kafkaEnv = types.Map{
	"key": types.Any, "headers": types.Map{types.Extra: types.Any}, "topic": types.String, "partition": types.Int,
	"offset": types.Int, "timestamp": types.Any,
}

// environment types a record for the compiler: a field that the schema lacks is found when the expression is
// compiled. Scalars are open: any may be null.
func (s *schema) environment() types.Map {
	w := typing{left: typesMost}
	m, ok := w.typ(s, 0).(types.Map)
	if !ok {
		return types.Map{types.Extra: types.Any, "kafka": kafkaEnv}
	}
	m["kafka"] = kafkaEnv
	return m
}

// typesMost bounds the types of an environment: a schema of twenty levels of ten fields each would have more than there
// is memory. What is beyond is open.
const typesMost = 1 << 14

type typing struct{ left int }

func (w *typing) typ(s *schema, depth int) types.Type {
	if w.left--; depth > 16 || w.left < 0 {
		return types.Any
	}
	switch s.kind {
	case kindRecord:
		m := types.Map{}
		for _, f := range s.fields {
			m[f.name] = w.typ(f.typ, depth+1)
		}
		return m
	case kindMap:
		return types.Map{types.Extra: w.typ(s.items, depth+1)}
	case kindUnion:
		var only *schema
		for _, b := range s.of {
			if b.kind == kindNull {
				continue
			}
			if only != nil {
				return types.Any
			}
			only = b
		}
		if only != nil {
			return w.typ(only, depth+1)
		}
	default:
	}
	return types.Any
}

// compile compiles a source text against a schema; a nil one leaves the fields open.
func compile(source string, s *schema) (program, error) {
	env := types.Map{types.Extra: types.Any, "kafka": kafkaEnv}
	if s != nil {
		env = s.environment()
	}
	env[budgetName] = types.Any
	options := slices.Concat([]expr.Option{expr.Env(env), expr.Patch(nullSafe{})}, functions, metered)
	p, used, err := compileMetered(source, options...)
	if err != nil {
		return program{}, expressionError(source, err)
	}
	return program{p, used}, nil
}

func newExpression(source string) (*expression, error) {
	if source == "" {
		return nil, nil
	}
	if _, err := compile(source, nil); err != nil {
		return nil, err
	}
	return &expression{source: source, program: map[schemaID]program{}}, nil
}

// runner evaluates expressions; each goroutine has one.
type runner struct {
	vm     vm.VM
	budget budget
}

// eval evaluates against a record of a schema.
func (e *expression) eval(r *runner, id schemaID, c *codec, env map[string]any) (any, error) {
	e.mu.RLock()
	p := e.program[id]
	e.mu.RUnlock()
	if p.Program == nil {
		var err error
		var s *schema
		if c != nil {
			s = c.schema
		}
		if p, err = compile(e.source, s); err != nil {
			return nil, err
		}
		e.mu.Lock()
		e.program[id] = p
		e.mu.Unlock()
	}
	r.budget.left = workMost
	if p.metered {
		env[budgetName] = &r.budget
		defer delete(env, budgetName)
	}
	v, err := r.vm.Run(p.Program, env)
	if r.budget.left < workMost/2 {
		r.vm = vm.VM{} // it keeps what loops in loops took
	}
	switch v.(type) {
	case []any, map[string]any, map[any][]any, [][2]any:
		if err == nil {
			err = r.budget.weigh(reflect.ValueOf(v)) // a list may lie in another twice, and that one in a third
		}
	}
	if errors.Is(err, ErrBudget) {
		return nil, fmt.Errorf("expression %q: %w", e.source, ErrBudget)
	}
	if err != nil {
		return nil, fmt.Errorf("expression %q failed", e.source) // expr's error quotes values
	}
	return v, nil
}
