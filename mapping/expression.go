package mapping

import (
	"errors"
	"fmt"
	"reflect"
	"slices"

	"github.com/expr-lang/expr"
	"github.com/expr-lang/expr/ast"
	"github.com/expr-lang/expr/builtin"
	exprparser "github.com/expr-lang/expr/parser"
	"github.com/expr-lang/expr/types"
	"github.com/expr-lang/expr/vm"
)

// expression is a compiled mapping expression. It holds for records of every schema: a field that a schema lacks is null.
type expression struct {
	place        int // among those of the mapping
	source       string
	program      program
	quick        quick      // nil: it takes the VM
	paths        [][]string // of the record's fields that it names; an empty one is the whole record
	surroundings bool       // it names the record's surroundings
	knowsItem    bool       // the mapping is about items
	ofItem       bool       // it names the one at hand
}

// program is compiled; metered says that it asks for a budget.
type program struct {
	*vm.Program
	metered bool
}

// nullSafe makes every step into a null yield null, so that profile.email needs no guard where profile is null. What is named
// like a function and not called is a field: type, say.
type nullSafe struct{}

// fieldNamed is a field, whatever functions there are.
func fieldNamed(name string) *ast.MemberNode {
	return &ast.MemberNode{Node: &ast.IdentifierNode{Value: "$env"}, Property: &ast.StringNode{Value: name}, Optional: true}
}

// isFunction says whether a function of ours, or one of expr's, has a name.
func isFunction(name string) bool {
	_, ours := callables[name]
	_, theirs := builtin.Index[name]
	return ours || theirs
}

func (nullSafe) Visit(node *ast.Node) {
	switch n := (*node).(type) {
	case *ast.MemberNode:
		if !n.Method {
			n.Optional = true
			ast.Patch(node, &ast.ChainNode{Node: n})
		}
	case *ast.IdentifierNode:
		if isFunction(n.Value) {
			ast.Patch(node, &ast.ChainNode{Node: fieldNamed(n.Value)})
		}
	case *ast.CallNode:
		if c, ok := n.Callee.(*ast.ChainNode); ok {
			n.Callee = c.Node
		}
		if m, ok := n.Callee.(*ast.MemberNode); ok {
			of, env := m.Node.(*ast.IdentifierNode)
			if name, text := m.Property.(*ast.StringNode); env && text && of.Value == "$env" && isFunction(name.Value) {
				called := &ast.IdentifierNode{Value: name.Value}
				called.SetLocation(m.Location())
				n.Callee = called
			}
		}
	}
}

// kafkaEnv is what an expression sees of the record's surroundings.
var kafkaEnv = types.Map{
	"key": types.Any, "headers": types.Map{types.Extra: types.Any}, "topic": types.String, "partition": types.Int,
	"offset": types.Int, "timestamp": types.Any,
}

// environment types a record for the compiler, so that a field that the schema lacks is found (Check). Scalars are open:
// any may be null.
func (s *schema) environment(item *schema) types.Map {
	w := typing{left: typesMost, within: map[*schema]bool{}}
	m, ok := w.typ(s, 0).(types.Map)
	if !ok {
		return types.Map{types.Extra: types.Any, "kafka": kafkaEnv}
	}
	m["kafka"] = kafkaEnv
	if item != nil {
		m["item"] = w.typ(item, 0)
	}
	return m
}

// typesMost bounds the types of an environment: a schema of twenty levels of ten fields each would have more than there
// is memory. What is beyond is open.
const typesMost = 1 << 14

type typing struct {
	left   int
	within map[*schema]bool // records that are being typed: one that lies in itself is open there
}

func (w *typing) typ(s *schema, depth int) types.Type {
	if w.left--; depth > 16 || w.left < 0 {
		return types.Any
	}
	switch s.kind {
	case kindRecord:
		if w.within[s] || s.logical != "" {
			return types.Any
		}
		w.within[s] = true
		defer delete(w.within, s)
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

// compile compiles a source text against a schema, and that of the items that the mapping is about; a nil one leaves the
// fields open.
func compile(source string, s *schema, items bool, item *schema) (program, error) {
	env := types.Map{types.Extra: types.Any, "kafka": kafkaEnv}
	if s != nil {
		env = s.environment(item)
	}
	if items && item == nil {
		env["item"] = types.Any
	}
	env[budgetName] = types.Any
	options := slices.Concat([]expr.Option{expr.Env(env), expr.Patch(nullSafe{})}, functions, metered)
	p, used, err := compileMetered(source, options...)
	if err != nil {
		return program{}, expressionError(source, err)
	}
	return program{p, used}, nil
}

// newExpression compiles an expression; items: the name item is the item at hand's. cells gives the places of its paths'
// cells; nil: they are looked up by name.
func newExpression(source string, items bool, cells cells) (*expression, error) {
	if source == "" {
		return nil, nil
	}
	p, err := compile(source, nil, items, nil)
	if err != nil {
		return nil, err
	}
	e := &expression{source: source, program: p, knowsItem: items}
	tree, err := exprparser.Parse(source)
	if err != nil {
		return nil, expressionError(source, err)
	}
	if named := (&quicker{items: items}).of(tree.Node); named != nil { // all of it
		e.quick = (&quicker{cells, items}).of(tree.Node)
	}
	n := naming{paths: map[ast.Node][]string{}, longest: map[ast.Node]bool{}, declared: map[string]bool{}}
	ast.Walk(&tree.Node, &n)
	for node := range n.longest {
		switch path := n.paths[node]; {
		case len(path) == 0:
			e.surroundings, e.ofItem = true, items
			e.paths = append(e.paths, path)
		case n.declared[path[0]]:
		case path[0] == "kafka":
			e.surroundings = true
		case path[0] == "item" && items:
			e.ofItem = true
		default:
			e.paths = append(e.paths, path)
		}
	}
	return e, nil
}

// naming collects the fields that an expression names, as paths.
type naming struct {
	paths    map[ast.Node][]string
	longest  map[ast.Node]bool // those that are no part of a longer path
	declared map[string]bool   // variables of the expression's own
}

// Visit implements ast.Visitor: parts come before what they are parts of.
func (n *naming) Visit(node *ast.Node) {
	switch x := (*node).(type) {
	case *ast.IdentifierNode:
		path := []string{x.Value}
		if x.Value == "$env" {
			path = nil // the whole record
		}
		n.paths[x], n.longest[x] = path, true
	case *ast.VariableDeclaratorNode:
		n.declared[x.Name] = true
	case *ast.CallNode:
		delete(n.longest, x.Callee) // a function's name is no field
	case *ast.ChainNode:
		if path, ok := n.paths[x.Node]; ok && n.longest[x.Node] {
			n.replace(x.Node, x, path)
		}
	case *ast.MemberNode:
		name, constant := x.Property.(*ast.StringNode)
		if path, ok := n.paths[x.Node]; ok && constant && path != nil {
			n.replace(x.Node, x, append(slices.Clone(path), name.Value))
		}
	}
}

func (n *naming) replace(part, whole ast.Node, path []string) {
	delete(n.longest, part)
	n.paths[whole], n.longest[whole] = path, true
}

// runner evaluates expressions; each goroutine has one.
type runner struct {
	vm     vm.VM
	budget budget
	spent  []int  // by each expression, on the items of the record at hand
	once   []once // by each expression that does not name the item, while there are items
}

// once is what an expression gives for all items of a record.
type once struct {
	cell cell
	err  error
	done bool
}

// eval evaluates against a record's values by name.
func (e *expression) eval(r *runner, env map[string]any) (any, error) {
	c, err := e.cell(r, &scope{env: env})
	return c.value(), err
}

// cell evaluates against a record.
func (e *expression) cell(r *runner, s *scope) (cell, error) {
	if !s.items || r.once == nil {
		return e.evaluate(r, s)
	}
	if !e.ofItem { // it is the same for all items
		if o := &r.once[e.place]; !o.done {
			o.cell, o.err = e.evaluate(r, s)
			o.done = true
		}
		return r.once[e.place].cell, r.once[e.place].err
	}
	if r.spent[e.place] >= itemsMost {
		return cell{}, e.failed(ErrBudget)
	}
	s.work = 0
	c, err := e.evaluate(r, s)
	r.spent[e.place] += s.work
	return c, err
}

func (e *expression) evaluate(r *runner, s *scope) (cell, error) {
	if e.quick != nil {
		if c, ok, err := e.quick(s); ok && err == nil {
			return c, nil
		} else if ok {
			return cell{}, e.failed(err)
		}
	}
	v, err := e.run(r, s.names())
	return cellOf(normal(v)), e.failed(err)
}

// run evaluates by the VM.
func (e *expression) run(r *runner, env map[string]any) (any, error) {
	r.budget.left = workMost
	if r.spent != nil && e.ofItem {
		left := min(workMost, itemsMost-r.spent[e.place])
		r.budget.left = left
		defer func() { r.spent[e.place] += left - r.budget.left }()
	}
	if e.program.metered {
		env[budgetName] = &r.budget
		defer delete(env, budgetName)
	}
	v, err := r.vm.Run(e.program.Program, env)
	if r.budget.left < workMost/2 {
		r.vm = vm.VM{} // it keeps what loops in loops took
	}
	if err == nil {
		switch v.(type) {
		case []any, map[string]any, map[any][]any, [][2]any:
			err = r.budget.weigh(reflect.ValueOf(v)) // a list may lie in another twice, and that one in a third
		}
	}
	if err != nil {
		return nil, err
	}
	return v, nil
}

// failed is the error of an evaluation: the expression and, if it is known, the cause. expr's own quotes values.
func (e *expression) failed(err error) error {
	if err == nil {
		return nil
	}
	switch cause, known := errors.AsType[causeError](err); {
	case errors.Is(err, ErrBudget):
		return fmt.Errorf("expression %q: %w", e.source, ErrBudget)
	case known:
		return fmt.Errorf("expression %q: %w", e.source, cause)
	}
	return fmt.Errorf("expression %q failed", e.source)
}
