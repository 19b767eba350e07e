package mapping

import (
	"github.com/expr-lang/expr/ast"
)

// quick is an expression that needs no VM: a path, a constant, a comparison of these, what stands in for null, or a call of a
// function of ours. ok is false where only the VM knows: a step into what has no fields, a comparison of other kinds.
type quick func(env map[string]any) (v any, ok bool, err error)

// quickOf makes the closure of an expression; nil where it takes the VM.
func quickOf(node ast.Node) quick {
	switch n := node.(type) {
	case *ast.NilNode:
		return constant(nil)
	case *ast.BoolNode:
		return constant(n.Value)
	case *ast.StringNode:
		return constant(n.Value)
	case *ast.IntegerNode:
		return constant(n.Value)
	case *ast.ChainNode:
		return quickOf(n.Node)
	case *ast.IdentifierNode:
		if n.Value == "$env" {
			return nil
		}
		return func(env map[string]any) (any, bool, error) { return env[n.Value], true, nil }
	case *ast.MemberNode:
		return quickMember(n)
	case *ast.BinaryNode:
		return quickBinary(n)
	case *ast.CallNode:
		if id, ok := n.Callee.(*ast.IdentifierNode); ok {
			return quickCall(id.Value, n.Arguments)
		}
	case *ast.BuiltinNode:
		return quickCall(n.Name, n.Arguments)
	}
	return nil
}

func constant(v any) quick { return func(map[string]any) (any, bool, error) { return v, true, nil } }

func quickMember(n *ast.MemberNode) quick {
	of, name := quickOf(n.Node), (*ast.StringNode)(nil)
	if p, ok := n.Property.(*ast.StringNode); ok && !n.Method {
		name = p
	}
	if of == nil || name == nil {
		return nil
	}
	return func(env map[string]any) (any, bool, error) {
		v, ok, err := of(env)
		if m, is := v.(map[string]any); is {
			return m[name.Value], ok, err
		}
		return nil, ok && v == nil, err
	}
}

func quickBinary(n *ast.BinaryNode) quick {
	left, right := quickOf(n.Left), quickOf(n.Right)
	if left == nil || right == nil {
		return nil
	}
	switch n.Operator {
	case "??":
		return func(env map[string]any) (any, bool, error) {
			if v, ok, err := left(env); v != nil || !ok || err != nil {
				return v, ok, err
			}
			return right(env)
		}
	case "==", "!=":
		return func(env map[string]any) (any, bool, error) {
			a, ok, err := left(env)
			if !ok || err != nil {
				return nil, ok, err
			}
			b, ok, err := right(env)
			if !ok || err != nil {
				return nil, ok, err
			}
			equal, known := equals(a, b)
			return equal == (n.Operator == "=="), known, nil
		}
	}
	return nil
}

// equals compares texts, booleans and null; known is false for other kinds.
func equals(a, b any) (equal, known bool) {
	switch x := a.(type) {
	case nil:
		return b == nil, b == nil || KindOf(b) == Text || KindOf(b) == Boolean
	case string:
		y, is := b.(string)
		return is && x == y, is || b == nil
	case bool:
		y, is := b.(bool)
		return is && x == y, is || b == nil
	}
	return false, false
}

func quickCall(name string, of []ast.Node) quick {
	c, known := callables[name]
	if !known {
		return nil
	}
	args := make([]quick, len(of))
	for i, a := range of {
		if args[i] = quickOf(a); args[i] == nil {
			return nil
		}
	}
	return func(env map[string]any) (any, bool, error) {
		var room [3]any
		p := room[:0]
		for _, a := range args {
			v, ok, err := a(env)
			if !ok || err != nil {
				return nil, ok, err
			}
			p = append(p, v)
		}
		v, err := c.f(p)
		return v, true, err
	}
}
