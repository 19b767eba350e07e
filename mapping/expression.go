package mapping

import (
	"fmt"
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
	program map[schemaID]*vm.Program
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
func (s *schema) environment() types.Type {
	m, ok := s.typ(0).(types.Map)
	if !ok {
		return types.Map{types.Extra: types.Any, "kafka": kafkaEnv}
	}
	m["kafka"] = kafkaEnv
	return m
}

func (s *schema) typ(depth int) types.Type {
	if depth > 16 {
		return types.Any
	}
	switch s.kind {
	case kindRecord:
		m := types.Map{}
		for _, f := range s.fields {
			m[f.name] = f.typ.typ(depth + 1)
		}
		return m
	case kindMap:
		return types.Map{types.Extra: s.items.typ(depth + 1)}
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
			return only.typ(depth + 1)
		}
	default:
	}
	return types.Any
}

// compile compiles a source text against a schema; a nil one leaves the fields open.
func compile(source string, s *schema) (*vm.Program, error) {
	env := types.Type(types.Map{types.Extra: types.Any, "kafka": kafkaEnv})
	if s != nil {
		env = s.environment()
	}
	options := append([]expr.Option{expr.Env(env), expr.Patch(nullSafe{})}, functions...)
	p, err := expr.Compile(source, options...)
	if err != nil {
		return nil, fmt.Errorf("expression %q: %w", source, err)
	}
	return p, nil
}

func newExpression(source string) (*expression, error) {
	if source == "" {
		return nil, nil
	}
	if _, err := compile(source, nil); err != nil {
		return nil, err
	}
	return &expression{source: source, program: map[schemaID]*vm.Program{}}, nil
}

// runner evaluates expressions; each goroutine has one.
type runner struct{ vm vm.VM }

// eval evaluates against a record of a schema.
func (e *expression) eval(r *runner, id schemaID, c *codec, env map[string]any) (any, error) {
	e.mu.RLock()
	p := e.program[id]
	e.mu.RUnlock()
	if p == nil {
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
	v, err := r.vm.Run(p, env)
	if err != nil {
		return nil, fmt.Errorf("expression %q failed", e.source) // expr's error quotes values
	}
	return v, nil
}
