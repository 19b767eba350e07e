package mapping

import (
	"slices"

	"github.com/expr-lang/expr/ast"
)

// quick is an expression that needs no VM: a path, a constant, a comparison of these, what stands in for null, or a call of a
// function of ours. ok is false where only the VM knows: a step into what has no fields, a comparison of other kinds.
type quick func(s *scope) (c cell, ok bool, err error)

// quicker makes closures. cells gives the place of a path's cell; nil: values are looked up by name.
type quicker struct {
	cells cells
	items bool // item is the item at hand
}

// cells gives paths their places among the cells.
type cells interface {
	cell(path []string) int
	where(path []string, field string, allowed []any) (place int, ok bool)
}

// of makes the closure of an expression; nil where it takes the VM.
func (q *quicker) of(node ast.Node) quick {
	if path := pathOf(node); path != nil {
		return q.path(path)
	}
	switch n := node.(type) {
	case *ast.NilNode:
		return constant(cell{})
	case *ast.BoolNode:
		return constant(cellOf(n.Value))
	case *ast.StringNode:
		return constant(textCell(n.Value))
	case *ast.IntegerNode:
		return constant(cellOf(n.Value))
	case *ast.ArrayNode:
		return q.list(n)
	case *ast.ChainNode:
		return q.of(n.Node)
	case *ast.BinaryNode:
		return q.binary(n)
	case *ast.UnaryNode:
		if of := q.of(n.Node); of != nil && (n.Operator == "!" || n.Operator == "not") {
			return func(s *scope) (cell, bool, error) {
				c, ok, err := of(s)
				return cellOf(!c.is()), ok && c.kind == Boolean, err
			}
		}
	case *ast.ConditionalNode:
		return q.choice(n)
	case *ast.CallNode:
		if id, ok := n.Callee.(*ast.IdentifierNode); ok {
			return q.call(id.Value, n.Arguments)
		}
	case *ast.BuiltinNode:
		return q.call(n.Name, n.Arguments)
	}
	return nil
}

func constant(c cell) quick { return func(*scope) (cell, bool, error) { return c, true, nil } }

// pathOf is the path that an expression is; nil if it is none.
func pathOf(node ast.Node) []string {
	switch n := node.(type) {
	case *ast.ChainNode:
		return pathOf(n.Node)
	case *ast.IdentifierNode:
		if n.Value != "$env" {
			return []string{n.Value}
		}
	case *ast.MemberNode:
		if name, ok := n.Property.(*ast.StringNode); ok && !n.Method {
			if path := pathOf(n.Node); path != nil {
				return append(slices.Clip(path), name.Value)
			}
		}
	}
	return nil
}

func (q *quicker) path(path []string) quick {
	named := func(s *scope) (cell, bool, error) {
		v, ok := s.find(path)
		return cellOf(v), ok, nil
	}
	if q.cells == nil || path[0] == "kafka" || path[0] == "item" && q.items {
		return named
	}
	place := q.cells.cell(path)
	return func(s *scope) (cell, bool, error) {
		if s.cells == nil {
			return named(s)
		}
		c := s.cells[place]
		return c, !c.unknown, nil
	}
}

func isConstant(node ast.Node) bool {
	switch node.(type) {
	case *ast.NilNode, *ast.BoolNode, *ast.StringNode, *ast.IntegerNode:
		return true
	}
	return false
}

// list is a list of constants.
func (q *quicker) list(n *ast.ArrayNode) quick {
	all := make([]any, len(n.Nodes))
	for i, item := range n.Nodes {
		if !isConstant(item) {
			return nil
		}
		c, _, _ := q.of(item)(nil) // a constant asks nobody
		all[i] = c.value()
	}
	return constant(cellOf(all))
}

func (q *quicker) binary(n *ast.BinaryNode) quick {
	left, right := q.of(n.Left), q.of(n.Right)
	if left == nil || right == nil {
		return nil
	}
	switch n.Operator {
	case "in":
		return isAmong(left, right)
	case "&&", "and", "||", "or":
		ends := n.Operator == "||" || n.Operator == "or" // the second is not asked where the first is this
		return func(s *scope) (cell, bool, error) {
			a, ok, err := left(s)
			if !ok || err != nil || a.kind != Boolean || a.is() == ends {
				return a, ok && a.kind == Boolean, err
			}
			b, ok, err := right(s)
			return b, ok && b.kind == Boolean, err
		}
	case "??":
		return func(s *scope) (cell, bool, error) {
			if c, ok, err := left(s); c.kind != Null || !ok || err != nil {
				return c, ok, err
			}
			return right(s)
		}
	case "==", "!=":
		return func(s *scope) (cell, bool, error) {
			a, ok, err := left(s)
			if !ok || err != nil {
				return cell{}, ok, err
			}
			b, ok, err := right(s)
			if !ok || err != nil {
				return cell{}, ok, err
			}
			equal, known := equals(&a, &b)
			return cellOf(equal == (n.Operator == "==")), known, nil
		}
	}
	return nil
}

// choice is a ? b : c.
func (q *quicker) choice(n *ast.ConditionalNode) quick {
	when, then, otherwise := q.of(n.Cond), q.of(n.Exp1), q.of(n.Exp2)
	if when == nil || then == nil || otherwise == nil {
		return nil
	}
	return func(s *scope) (cell, bool, error) {
		switch c, ok, err := when(s); {
		case !ok || err != nil || c.kind != Boolean:
			return cell{}, false, err
		case c.is():
			return then(s)
		}
		return otherwise(s)
	}
}

// isAmong says whether a text is in a list of texts.
func isAmong(of, list quick) quick {
	return func(s *scope) (cell, bool, error) {
		c, ok, err := of(s)
		if !ok || err != nil || c.kind != Text {
			return cell{}, false, err
		}
		l, ok, err := list(s)
		all, is := l.other.([]any)
		if !ok || err != nil || !is {
			return cell{}, false, err
		}
		found := false
		for _, item := range all {
			text, is := item.(string)
			if !is && item != nil {
				return cell{}, false, nil
			}
			found = found || is && text == c.text
		}
		return cellOf(found), true, nil
	}
}

// equals compares texts, booleans and null; known is false for other kinds.
func equals(a, b *cell) (equal, known bool) {
	simple := func(k Kind) bool { return k == Null || k == Text || k == Boolean }
	if !simple(a.kind) || !simple(b.kind) || a.kind != b.kind && a.kind != Null && b.kind != Null {
		return false, false
	}
	return a.kind == b.kind && a.text == b.text && a.n == b.n, true
}

func (q *quicker) call(name string, of []ast.Node) quick {
	c, known := callables[name]
	if !known {
		return nil
	}
	if all := q.keysWhere(name, of); all != nil {
		return all
	}
	args := make([]quick, len(of))
	plain := true // all but the first are constants
	for i, a := range of {
		if args[i] = q.of(a); args[i] == nil {
			return nil
		}
		plain = plain && (i == 0 || isConstant(a))
	}
	if c.text != nil && len(args) > 0 && plain {
		return c.ofText(args)
	}
	return c.ofAny(args)
}

// keysWhere lists the keys of a path's map while it is read, where field and values are constants.
func (q *quicker) keysWhere(name string, of []ast.Node) quick {
	if name != "keysWhere" || len(of) != 3 || q.cells == nil {
		return nil
	}
	path := pathOf(of[0])
	field, isText := of[1].(*ast.StringNode)
	list, isList := of[2].(*ast.ArrayNode)
	if !isText || !isList || path == nil || path[0] == "kafka" || path[0] == "item" && q.items {
		return nil
	}
	byName := &quicker{items: q.items}
	constants, slow := byName.list(list), byName.call(name, of)
	if constants == nil || slow == nil {
		return nil
	}
	values, _, _ := constants(nil) // they ask nobody
	allowed, _ := values.other.([]any)
	place, ok := q.cells.where(path, field.Value, allowed)
	if !ok {
		return nil
	}
	return func(s *scope) (cell, bool, error) {
		if s.cells == nil {
			return slow(s)
		}
		c := s.cells[place]
		if c.kind == Null && !c.unknown {
			c = cell{kind: List, other: []string(nil)}
		}
		return c, !c.unknown, nil
	}
}

// ofAny calls a function with its arguments in the form of their kinds.
func (c callable) ofAny(args []quick) quick {
	return func(s *scope) (cell, bool, error) {
		var room [3]any
		p := room[:0]
		for _, a := range args {
			v, ok, err := a(s)
			if !ok || err != nil {
				return cell{}, ok, err
			}
			s.work += v.size()
			p = append(p, v.value())
		}
		v, err := c.f(p)
		return cellOf(v), true, err
	}
}

// ofText calls a function that knows how to treat a text as it is, where the first argument is one.
func (c callable) ofText(args []quick) quick {
	slow := c.ofAny(args)
	return func(s *scope) (cell, bool, error) {
		v, ok, err := args[0](s)
		switch {
		case !ok || err != nil:
			return cell{}, ok, err
		case v.kind == Text:
			s.work += len(v.text)
			if out, done := c.text(v.text); done {
				return textCell(out), true, nil
			}
		case v.kind == Null && len(args) == 1:
			return cell{}, true, nil
		}
		return slow(s)
	}
}
