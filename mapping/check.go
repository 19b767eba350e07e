package mapping

import (
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/expr-lang/expr/ast"
	"github.com/expr-lang/expr/builtin"
	"github.com/expr-lang/expr/conf"
	"github.com/expr-lang/expr/file"
	exprparser "github.com/expr-lang/expr/parser"
	"github.com/nyaruka/phonenumbers"
)

// ExpressionError is what is wrong with an expression: which one it is ("event 1 member", "attribute SMS"), its text,
// and where in it, in runes; -1 says nothing of where.
type ExpressionError struct {
	Place, Source string
	Offset        int
	Message       string
}

func (e *ExpressionError) Error() string {
	return fmt.Sprintf("%s: %s: in the expression %q", e.Place, e.Message, e.Source)
}

// expressionError takes the place of an error off expr's own, which quotes the text below it.
func expressionError(source string, err error) *ExpressionError {
	e := &ExpressionError{Source: source, Offset: -1, Message: err.Error()}
	if at, ok := errors.AsType[*file.Error](err); ok {
		e.Offset, e.Message = at.From, at.Message
	}
	return e
}

// fits says what is wrong with an expression for every version of a schema. A version that has all its fields decides; where
// none has, each field must be in some version. each gives the items that it is about; nil: none, or several kinds of them.
func (e *expression) fits(versions []*schema, wants []string, each *expression) (wrong error) {
	best, most := error(nil), -1
	for _, s := range versions {
		err := e.fit(s, wants, each.items(s))
		if err == nil {
			return nil
		}
		switch whole, steps := e.known(s); {
		case whole && wrong == nil:
			wrong = err
		case steps > most:
			best, most = err, steps
		}
	}
	if wrong != nil {
		return wrong
	}
	for _, path := range e.paths {
		if len(path) > 0 && !slices.ContainsFunc(versions, func(s *schema) bool { return s.has(path) }) {
			return best
		}
	}
	return nil
}

// fit says what is wrong with an expression for one schema.
func (e *expression) fit(s *schema, wants []string, item *schema) error {
	if _, err := compile(e.source, s, e.knowsItem, item); err != nil {
		return err
	}
	for _, path := range e.paths { // expr asks the schema for other names
		if len(path) > 0 && isFunction(path[0]) && !s.has(path[:1]) {
			return &ExpressionError{Source: e.source, Offset: -1, Message: "unknown name " + path[0]}
		}
	}
	if wrong := checkTypes(e.source, s, item, wants...); wrong != nil {
		return wrong
	}
	return nil
}

// items is the schema of the items that an expression gives; nil where that is not known.
func (e *expression) items(s *schema) *schema {
	if e == nil {
		return nil
	}
	tree, err := exprparser.Parse(e.source)
	if err != nil {
		return nil
	}
	switch all := (&finder{root: s}).at(tree.Node); {
	case all == nil:
	case all.kind == kindArray:
		return all.items.only()
	case all.kind == kindMap:
		return &schema{kind: kindRecord, fields: []schemaField{{name: "key", typ: &schema{kind: kindString}}, {name: "value", typ: all.items}}}
	}
	return nil
}

// known says whether a schema has all fields of an expression, and how many steps towards them it has.
func (e *expression) known(s *schema) (whole bool, steps int) {
	whole = true
	for _, path := range e.paths {
		n := len(path)
		for n > 0 && !s.has(path[:n]) {
			n--
		}
		whole, steps = whole && n == len(path), steps+n
	}
	return whole, steps
}

// inspector looks at an expression's nodes before anything walks them for long: how many there are, and whether what it
// calls is there. A field cannot be called, so a name that is none of the functions is a mistake under any schema.
type inspector struct {
	c      *conf.Config
	visits int
	err    error
}

type tooLarge struct{}

// Visit implements ast.Visitor.
func (i *inspector) Visit(node *ast.Node) {
	if i.visits++; i.visits > visitsMost {
		panic(tooLarge{})
	}
	call, ok := (*node).(*ast.CallNode)
	if !ok {
		return
	}
	id, ok := call.Callee.(*ast.IdentifierNode)
	switch {
	case !ok:
	case i.c.Functions[id.Value] == nil:
		i.fail(id, "unknown function %s%s", id.Value, Closest(id.Value, functionNames(i.c)))
	case id.Value == "phone" && len(call.Arguments) > 1:
		if region, ok := call.Arguments[1].(*ast.StringNode); ok && !phonenumbers.GetSupportedRegions()[strings.ToUpper(region.Value)] && !strings.EqualFold(region.Value, "UK") {
			i.fail(region, "%q is no country: phone takes two letters, such as \"FR\"", region.Value)
		}
	}
}

func (i *inspector) fail(at ast.Node, format string, args ...any) {
	if i.err == nil {
		i.err = &file.Error{Location: at.Location(), Message: fmt.Sprintf(format, args...)}
	}
}

func functionNames(c *conf.Config) (names []string) {
	for name := range c.Functions {
		if !strings.HasPrefix(name, "\x00") {
			names = append(names, name)
		}
	}
	for _, b := range builtin.Builtins {
		if b.Predicate || !c.Disabled[b.Name] {
			names = append(names, b.Name)
		}
	}
	slices.Sort(names)
	return names
}

// Closest suggests a name that differs by little from what was written, as " (did you mean …?)"; "" none does.
func Closest(written string, names []string) string {
	best, least := "", 3
	for _, n := range names {
		if strings.ReplaceAll(n, "_", "") == strings.ReplaceAll(strings.ToLower(written), "-", "") || len(written) > 2 && (strings.HasPrefix(n, written) || strings.HasPrefix(written, n)) {
			return fmt.Sprintf(" (did you mean %q?)", n)
		}
		if d := distance(written, n); d < least && d < len(n)-1 {
			best, least = n, d
		}
	}
	if best == "" {
		return ""
	}
	return fmt.Sprintf(" (did you mean %q?)", best)
}

// distance is how many letters must be changed, added, taken away or swapped to make b of a.
func distance(a, b string) int {
	var before, last []int
	row := make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i := range len(a) {
		before, last, row = last, row, make([]int, len(b)+1)
		row[0] = i + 1
		for j := range len(b) {
			change := 1
			if a[i] == b[j] {
				change = 0
			}
			row[j+1] = min(last[j+1]+1, row[j]+1, last[j]+change)
			if i > 0 && j > 0 && a[i] == b[j-1] && a[i-1] == b[j] {
				row[j+1] = min(row[j+1], before[j-1]+1)
			}
		}
	}
	return row[len(b)]
}

// checkTypes finds what compiles against a schema and cannot be right: a symbol that an enum has not, and a result of a
// kind that will not do. wants are the kinds that will; none: any.
func checkTypes(source string, s, item *schema, wants ...string) *ExpressionError {
	c := conf.CreateNew()
	for _, o := range functions {
		o(c)
	}
	tree, err := exprparser.ParseWithConfig(source, c)
	if err != nil {
		return nil // compiling told
	}
	f := &finder{root: s, item: item}
	ast.Walk(&tree.Node, f)
	if f.err != nil {
		f.err.Source = source
		return f.err
	}
	if got := f.kindOf(tree.Node); len(wants) > 0 && got != "" && !slices.Contains(wants, got) {
		return &ExpressionError{Source: source, Offset: -1, Message: fmt.Sprintf("it is a %s, and must be a %s", got, strings.Join(wants, " or a "))}
	}
	return nil
}

// finder looks for texts that an enum is compared with and never is.
type finder struct {
	root *schema
	item *schema // of the item at hand; nil: it is not known, or there is none
	err  *ExpressionError
}

// Visit implements ast.Visitor.
func (f *finder) Visit(node *ast.Node) {
	n, ok := (*node).(*ast.BinaryNode)
	if !ok {
		return
	}
	switch n.Operator {
	case "==", "!=":
		f.compared(n.Left, n.Right)
		f.compared(n.Right, n.Left)
	case "in":
		if list, ok := n.Right.(*ast.ArrayNode); ok {
			for _, item := range list.Nodes {
				f.compared(n.Left, item)
			}
		}
	}
}

func (f *finder) compared(value, constant ast.Node) {
	text, ok := constant.(*ast.StringNode)
	s := f.at(value)
	if !ok || s == nil || s.kind != kindEnum || slices.Contains(s.words, text.Value) || f.err != nil {
		return
	}
	f.err = &ExpressionError{Offset: text.Location().From, Message: fmt.Sprintf("%s is never %q: it is one of %s%s", value, text.Value, strings.Join(s.words, ", "), Closest(strings.ToUpper(text.Value), s.words))}
}

// at is the schema of a path; nil where that is not known.
func (f *finder) at(n ast.Node) *schema {
	switch n := n.(type) {
	case *ast.ChainNode:
		return f.at(n.Node)
	case *ast.IdentifierNode:
		if n.Value == "item" && f.item != nil {
			return f.item
		}
		return f.root.field(n.Value)
	case *ast.MemberNode:
		if name, ok := n.Property.(*ast.StringNode); ok {
			if s := f.at(n.Node); s != nil {
				return s.field(name.Value)
			}
		}
	}
	return nil
}

// field is the schema of a record's field, or of a map's values, nulls apart.
func (s *schema) field(name string) *schema {
	switch s = s.only(); {
	case s == nil:
	case s.kind == kindMap:
		return s.items.only()
	case s.kind == kindRecord:
		for _, f := range s.fields {
			if f.name == name {
				return f.typ.only()
			}
		}
	}
	return nil
}

// only is the one branch of a union that is not null, or the schema itself.
func (s *schema) only() *schema {
	if s == nil || s.kind != kindUnion {
		return s
	}
	var one *schema
	for _, b := range s.of {
		switch {
		case b.kind == kindNull:
		case one != nil:
			return nil
		default:
			one = b
		}
	}
	return one
}

// Kinds of results, as people call them.
const (
	aBoolean = "boolean"
	aText    = "text"
	aNumber  = "whole number"
	aFloat   = "number"
	aTime    = "time"
	aList    = "list"
	aMap     = "map"
	aRecord  = "record"
	bytesOf  = "sequence of bytes"
)

// kindOf is the kind of a node's result; "" where that is not known.
func (f *finder) kindOf(n ast.Node) string {
	switch n := n.(type) {
	case *ast.BoolNode:
		return aBoolean
	case *ast.StringNode:
		return aText
	case *ast.IntegerNode:
		return aNumber
	case *ast.ArrayNode:
		return aList
	case *ast.UnaryNode:
		if n.Operator == "!" || n.Operator == "not" {
			return aBoolean
		}
	case *ast.BinaryNode:
		if slices.Contains([]string{"==", "!=", "<", ">", "<=", ">=", "in", "contains", "matches", "startsWith", "endsWith", "&&", "||", "and", "or"}, n.Operator) {
			return aBoolean
		}
	case *ast.ConditionalNode:
		if a := f.kindOf(n.Exp1); a == f.kindOf(n.Exp2) {
			return a
		}
	case *ast.BuiltinNode:
		if slices.Contains([]string{"any", "all", "none", "one"}, n.Name) {
			return aBoolean
		}
	case *ast.CallNode:
		if id, ok := n.Callee.(*ast.IdentifierNode); ok {
			return map[string]string{"lower": aText, "upper": aText, "trim": aText, "title": aText, "string": aText, "phone": aText, "date": aText, "join": aText, "float": aFloat, "keys": aList, "values": aList, "toPairs": aList, "keysWhere": aList}[id.Value]
		}
	default:
		if s := f.at(n); s != nil {
			return s.called()
		}
	}
	return ""
}

// called is what people call a schema's values.
func (s *schema) called() string {
	switch s.logical {
	case "timestamp-millis", "timestamp-micros", "timestamp-nanos", "local-timestamp-millis", "local-timestamp-micros", "local-timestamp-nanos", "date":
		return aTime
	case "decimal":
		return aFloat
	}
	switch s.kind {
	case kindBoolean:
		return aBoolean
	case kindInt, kindLong:
		return aNumber
	case kindFloat, kindDouble:
		return aFloat
	case kindString, kindEnum:
		return aText
	case kindBytes, kindFixed:
		return bytesOf
	case kindArray:
		return aList
	case kindMap:
		return aMap
	case kindRecord:
		return aRecord
	default:
	}
	return ""
}
