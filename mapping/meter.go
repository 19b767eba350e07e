package mapping

import (
	"encoding/json"
	"errors"
	"fmt"
	"reflect"
	"slices"
	"strings"

	"github.com/expr-lang/expr"
	"github.com/expr-lang/expr/ast"
	"github.com/expr-lang/expr/checker"
	"github.com/expr-lang/expr/checker/nature"
	"github.com/expr-lang/expr/compiler"
	"github.com/expr-lang/expr/conf"
	"github.com/expr-lang/expr/optimizer"
	exprparser "github.com/expr-lang/expr/parser"
	"github.com/expr-lang/expr/vm"
	"github.com/expr-lang/expr/vm/runtime"
)

// An expression comes from whoever owns an export, and one of them must not hold up, or use up, the process for the
// others. So its text is bounded before it is compiled, and each evaluation has a budget of work: a unit for a byte of
// text that is made or walked, sixteen for a turn of a loop or an item of a list. (expr's own budget counts the items of
// lists, and neither text nor time.) The budget is counted, not timed: a record maps to the same changes whenever it is
// read.
const (
	sourceMost = 8 << 10 // bytes of an expression: nested parentheses cost stack
	nodesMost  = 2000
	visitsMost = 4 * nodesMost // some syntax puts one node in two places: nested, every walk doubles
	workMost   = 1 << 22
	itemsMost  = 16 * workMost // on all items of a record
	turn       = 16
)

// ErrBudget says that an expression takes more work than a record may cost.
var ErrBudget = errors.New("the expression takes more work than one record may cost")

// Names that no expression can spell: the lexer knows no NUL.
const (
	budgetName  = "\x00budget"
	stepName    = "\x00step"
	plusName    = "\x00plus"
	weighName   = "\x00weigh"
	squareName  = "\x00square"
	repeatName  = "\x00repeat"
	replaceName = "\x00replace"
	jsonName    = "\x00toJSON"
)

// budget is what is left of one evaluation's work. It has no exported methods: an expression could call them.
type budget struct{ left int }

func (b *budget) spend(n int) error {
	if n < 0 || n > b.left {
		b.left = 0
		return ErrBudget
	}
	b.left -= n
	return nil
}

// weigh charges all that walking a value would see: a list that lies in another twice is walked twice.
func (b *budget) weigh(v reflect.Value) error {
	for v.IsValid() && v.Kind() == reflect.Interface {
		v = v.Elem()
	}
	if !v.IsValid() {
		return b.spend(turn)
	}
	switch v.Kind() {
	case reflect.String:
		return b.spend(turn + v.Len())
	case reflect.Slice, reflect.Array:
		if v.Type().Elem().Kind() == reflect.Uint8 {
			return b.spend(turn + v.Len())
		}
		for i := range v.Len() {
			if err := b.weigh(v.Index(i)); err != nil {
				return err
			}
		}
	case reflect.Map:
		for it := v.MapRange(); it.Next(); {
			if err := errors.Join(b.weigh(it.Key()), b.weigh(it.Value())); err != nil {
				return err
			}
		}
	default:
	}
	return b.spend(turn)
}

// charge takes the budget off the arguments of a metered function.
func charge(p []any) *budget { return p[0].(*budget) } //nolint:forcetypeassert // the meter put it there

// metered are the functions that the meter puts in.
var metered = []expr.Option{
	expr.Function(stepName, func(p ...any) (any, error) { return true, charge(p).spend(turn) }, new(func(any) bool)),
	expr.Function(weighName, func(p ...any) (any, error) { return p[1], charge(p).weigh(reflect.ValueOf(p[1])) }, new(func(any, any) any)),
	expr.Function(plusName, plus, new(func(any, any, any) any)),
	expr.Function(squareName, square, new(func(any, any) any)),
	shown("repeat", repeatName, repeat, new(func(any, string, int) string)),
	shown("replace", replaceName, replace, new(func(any, string, string, string) string), new(func(any, string, string, string, int) string)),
	shown("toJSON", jsonName, toJSON, new(func(any, any) string)),
}

// shown is a function that errors call by another name.
func shown(as, name string, f func(...any) (any, error), types ...any) expr.Option {
	return func(c *conf.Config) {
		expr.Function(name, f, types...)(c)
		c.Functions[name].Name = as
	}
}

func plus(p ...any) (any, error) {
	if l, ok := p[1].(string); ok {
		if r, ok := p[2].(string); ok {
			return l + r, charge(p).spend(turn + len(l) + len(r))
		}
	}
	return runtime.Add(p[1], p[2]), nil // panics where they do not fit: the VM's error
}

// square charges a list with the square of its weight: uniq compares all with all.
func square(p ...any) (any, error) {
	b := charge(p)
	before := b.left
	if err := b.weigh(reflect.ValueOf(p[1])); err != nil {
		return nil, err
	}
	weight := (before - b.left) / turn
	return p[1], b.spend(weight * weight)
}

func repeat(p ...any) (any, error) {
	s, n := fmt.Sprint(p[1]), runtime.ToInt(p[2])
	if n < 0 || n > workMost || charge(p).spend(turn+n*len(s)) != nil {
		return nil, ErrBudget
	}
	return strings.Repeat(s, n), nil
}

func replace(p ...any) (any, error) {
	s, from, to, n := fmt.Sprint(p[1]), fmt.Sprint(p[2]), fmt.Sprint(p[3]), -1
	if len(p) > 4 {
		n = runtime.ToInt(p[4])
	}
	hits := strings.Count(s, from)
	if n >= 0 {
		hits = min(hits, n)
	}
	if err := charge(p).spend(turn + len(s) + hits*len(to)); err != nil {
		return nil, err
	}
	return strings.Replace(s, from, to, n), nil
}

func toJSON(p ...any) (any, error) {
	if err := charge(p).weigh(reflect.ValueOf(p[1])); err != nil {
		return nil, err
	}
	out, err := json.Marshal(p[1]) // not indented: that multiplies by depth
	if err == nil {
		err = charge(p).spend(len(out))
	}
	return string(out), err
}

// meter makes an expression pay. It is for one compilation; used tells whether the program asks for a budget.
type meter struct{ used bool }

func (m *meter) call(name string, args ...ast.Node) *ast.CallNode {
	m.used = true
	return &ast.CallNode{Callee: &ast.IdentifierNode{Value: name}, Arguments: append([]ast.Node{&ast.IdentifierNode{Value: budgetName}}, args...)}
}

func calls(n ast.Node, names ...string) bool {
	c, ok := n.(*ast.CallNode)
	if !ok {
		return false
	}
	id, ok := c.Callee.(*ast.IdentifierNode)
	return ok && slices.Contains(names, id.Value)
}

// Visit implements ast.Visitor.
func (m *meter) Visit(node *ast.Node) {
	switch n := (*node).(type) {
	case *ast.BinaryNode:
		switch {
		case n.Operator == "+" && !number1(n.Left) && !number1(n.Right):
			ast.Patch(node, m.call(plusName, n.Left, n.Right))
		case (n.Operator == "==" || n.Operator == "!=" || n.Operator == "in") && !literal1(n.Left) && !literal1(n.Right): // lists, perhaps
			m.weigh(&n.Left, weighName)
			m.weigh(&n.Right, weighName)
		}
	case *ast.PredicateNode: // a turn of a loop, and what it walks
		if s, ok := n.Node.(*ast.SequenceNode); ok && calls(s.Nodes[0], stepName) {
			return
		}
		ast.Walk(&n.Node, inLoop{m})
		body := &ast.SequenceNode{Nodes: []ast.Node{m.call(stepName), n.Node}}
		body.SetLocation(n.Node.Location())
		n.Node = body // a sequence has the nature of its last node
	case *ast.BuiltinNode:
		switch n.Name {
		case "repeat", "replace", "toJSON":
			ast.Patch(node, m.call(map[string]string{"repeat": repeatName, "replace": replaceName, "toJSON": jsonName}[n.Name], n.Arguments...))
		case "uniq":
			m.weigh(&n.Arguments[0], squareName)
		default:
			for i := range n.Arguments {
				m.weigh(&n.Arguments[i], weighName)
			}
		}
	case *ast.CallNode:
		if id, ok := n.Callee.(*ast.IdentifierNode); ok && len(n.Arguments) > 0 {
			if _, ours := callables[id.Value]; ours {
				m.weigh(&n.Arguments[0], weighName)
			}
		}
	}
}

// inLoop makes what reads a text or a list in a loop pay for each turn.
type inLoop struct{ m *meter }

// Visit implements ast.Visitor.
func (l inLoop) Visit(node *ast.Node) {
	switch n := (*node).(type) {
	case *ast.BinaryNode:
		if slices.Contains([]string{"==", "!=", "in", "contains", "matches", "<", ">", "<=", ">="}, n.Operator) {
			l.m.weigh(&n.Left, weighName)
			l.m.weigh(&n.Right, weighName)
		}
	case *ast.CallNode:
		for i := range n.Arguments {
			if !calls(n, stepName, plusName, weighName, squareName, repeatName, replaceName, jsonName) {
				l.m.weigh(&n.Arguments[i], weighName)
			}
		}
	}
}

// weigh wraps an argument, once.
func (m *meter) weigh(node *ast.Node, name string) {
	switch (*node).(type) {
	case *ast.PredicateNode, *ast.PointerNode:
		return
	}
	if literal1(*node) {
		return
	}
	if !calls(*node, weighName, squareName) {
		ast.Patch(node, m.call(name, *node))
	}
}

// number1 says whether a node is a number's literal: nothing grows by adding one.
func number1(n ast.Node) bool {
	switch n.(type) {
	case *ast.IntegerNode, *ast.FloatNode:
		return true
	}
	return false
}

// literal1 says whether a node is a literal, or a list of some: it costs what the expression's own text costs.
func literal1(n ast.Node) bool {
	switch n := n.(type) {
	case *ast.StringNode, *ast.IntegerNode, *ast.FloatNode, *ast.BoolNode, *ast.NilNode, *ast.ConstantNode:
		return true
	case *ast.ArrayNode:
		return !slices.ContainsFunc(n.Nodes, func(n ast.Node) bool { return !literal1(n) })
	}
	return false
}

var errTooLarge = errors.New("the expression is too long, or too deeply nested")

// compileMetered compiles a text with options, its nodes counted before anything walks them for long.
func compileMetered(source string, options ...expr.Option) (p *vm.Program, used bool, err error) {
	if len(source) > sourceMost {
		return nil, false, errTooLarge
	}
	defer func() {
		if r := recover(); r != nil {
			p, err = nil, errTooLarge
			if _, ok := r.(tooLarge); !ok {
				err = fmt.Errorf("the expression cannot be compiled: %v", r)
			}
		}
	}()
	c := conf.CreateNew()
	m := &meter{}
	for _, o := range append(options, expr.MaxNodes(nodesMost), expr.Patch(m)) {
		o(c)
	}
	for name := range c.Disabled {
		delete(c.Builtins, name)
	}
	c.Check()
	env := c.Env
	c.Env = nature.Nature{} // a field named like a builtin would take its place: no field can be called
	tree, err := exprparser.ParseWithConfig(source, c)
	if c.Env = env; err != nil {
		return nil, false, err
	}
	seen := &inspector{c: c}
	if ast.Walk(&tree.Node, seen); seen.err != nil {
		return nil, false, seen.err
	}
	if _, err := new(checker.Checker).PatchAndCheck(tree, c); err != nil {
		return nil, false, err
	}
	if err := optimizer.Optimize(&tree.Node, c); err != nil {
		return nil, false, err
	}
	p, err = compiler.Compile(tree, c)
	return p, m.used, err
}
