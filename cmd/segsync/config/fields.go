package config

import (
	"fmt"
	"math"
	"os"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode"

	"github.com/goccy/go-yaml/ast"
	"github.com/goccy/go-yaml/token"

	"segsync/mapping"
)

// fields reads a mapping: each key must be one of the allowed ones, once.
type fields struct {
	d    *document
	node ast.Node
	keys map[string]ast.Node
	all  map[string]ast.Node // the keys' own nodes
}

func (d *document) mapping(n ast.Node, allowed ...string) *fields {
	f := &fields{d: d, node: n, keys: map[string]ast.Node{}, all: map[string]ast.Node{}}
	for _, v := range d.entries(n) {
		key := v.Key.GetToken().Value
		if len(allowed) > 0 && !slices.Contains(allowed, key) {
			d.fail(v.Key, "unknown key %q%s; known here: %s", key, mapping.Closest(key, allowed), strings.Join(allowed, ", "))
			continue
		}
		if _, twice := f.keys[key]; twice {
			d.fail(v.Key, "key %q is given twice", key)
			continue
		}
		f.keys[key], f.all[key] = v.Value, v.Key
	}
	return f
}

func (d *document) entries(n ast.Node) []*ast.MappingValueNode {
	switch n := n.(type) {
	case *ast.MappingNode:
		return n.Values
	case *ast.MappingValueNode:
		return []*ast.MappingValueNode{n}
	case nil, *ast.NullNode:
		return nil
	}
	d.fail(n, "a mapping (key: value) is expected here")
	return nil
}

func (f *fields) has(key string) bool { _, ok := f.keys[key]; return ok }

// need reports a key that is missing.
func (f *fields) need(keys ...string) {
	for _, k := range keys {
		if !f.has(k) {
			f.d.fail(f.node, "%q is missing", k)
		}
	}
}

// text reads a string, with ${env:…} and ${file:…} filled in.
func (f *fields) text(key string) string {
	n, ok := f.keys[key]
	if !ok {
		return ""
	}
	return f.d.filled(n)
}

// filled is a node's text, with ${env:…} and ${file:…} filled in.
func (d *document) filled(n ast.Node) string {
	s, err := Secret{d.scalar(n)}.Value()
	switch {
	case err != nil && d.offline:
		return ""
	case err != nil:
		d.fail(n, "%s", err)
	}
	return s
}

// secretText reads a secret as far as to say what is wrong with it.
func (f *fields) secretText(key string) {
	if !f.has(key) {
		return
	}
	v, err := f.raw(key).Value()
	switch {
	case f.d.offline && (err != nil || v == ""):
	case err != nil:
		f.d.fail(f.keys[key], "%s", err)
	case v == "":
		f.d.fail(f.keys[key], "%q is empty", key)
	case strings.ContainsFunc(v, unicode.IsControl):
		f.d.fail(f.keys[key], "%q holds a line break or another control character: take it out of the variable or the file", key)
	}
}

// Secret is a value that is read where it is used, and again when its file changes.
type Secret struct{ source string }

// NewSecret is a value, or where it is: ${env:NAME} or ${file:PATH}.
func NewSecret(source string) Secret { return Secret{source} }

func (f *fields) raw(key string) Secret {
	n, ok := f.keys[key]
	if !ok {
		return Secret{}
	}
	return Secret{f.d.scalar(n)}
}

// scalar is a node's text.
func (d *document) scalar(n ast.Node) string {
	s := d.plain(n)
	if d.owner != "" && strings.Contains(s, "${") {
		d.fail(n, "${…} is the admins': an owner's file holds plain values only")
		return ""
	}
	return s
}

func (d *document) plain(n ast.Node) string {
	switch n := n.(type) {
	case *ast.StringNode:
		return n.Value
	case *ast.LiteralNode:
		return strings.TrimSpace(n.Value.Value)
	case *ast.NullNode:
		return ""
	case *ast.AliasNode, *ast.AnchorNode:
		d.fail(n, "YAML's anchors and aliases (& and *) are not filled in: write the value, or put it in quotes if it is a text")
		return ""
	case *ast.TagNode:
		d.fail(n, "a value that begins with ! needs quotes")
		return ""
	case *ast.MappingNode, *ast.MappingValueNode, *ast.SequenceNode:
		if s, ok := d.hostPort(n); ok {
			return s
		}
		d.fail(n, "a plain value is expected here")
		return ""
	}
	return n.GetToken().Value
}

// hostPort puts together what the parser takes apart: in [localhost:9092] YAML means a text, for no space follows the
// colon.
func (d *document) hostPort(n ast.Node) (string, bool) {
	entries, isMap := []*ast.MappingValueNode(nil), false
	switch n := n.(type) {
	case *ast.MappingNode:
		entries, isMap = n.Values, true
	case *ast.MappingValueNode:
		entries, isMap = []*ast.MappingValueNode{n}, true
	}
	if !isMap || len(entries) != 1 {
		return "", false
	}
	key, v := entries[0].Key.GetToken(), entries[0].Value.GetToken()
	if key == nil || v == nil || v.Position.Line != key.Position.Line || v.Position.Column != key.Position.Column+len(key.Value)+1 {
		return "", false
	}
	return key.Value + ":" + v.Value, true
}

// Value fills in ${env:NAME} and ${file:PATH}.
func (s Secret) Value() (string, error) {
	out, rest := "", s.source
	for {
		i := strings.Index(rest, "${")
		if i < 0 {
			return out + rest, nil
		}
		end := strings.IndexByte(rest[i:], '}')
		if end < 0 {
			return "", fmt.Errorf("a ${ is not closed")
		}
		kind, name, _ := strings.Cut(rest[i+2:i+end], ":")
		out += rest[:i]
		rest = rest[i+end+1:]
		switch kind {
		case "env":
			v, ok := os.LookupEnv(name)
			if !ok {
				return "", fmt.Errorf("the environment variable %s is not set", name)
			}
			out += v
		case "file":
			b, err := os.ReadFile(name)
			if err != nil {
				return "", fmt.Errorf("reading the file %s: %w", name, unwrapPath(err))
			}
			out += strings.TrimRight(string(b), "\r\n")
		default:
			return "", fmt.Errorf("${%s:…} is not known: use ${env:NAME} or ${file:PATH}", kind)
		}
	}
}

func unwrapPath(err error) error {
	if e, ok := err.(*os.PathError); ok { //nolint:errorlint // os.ReadFile's own
		return e.Err
	}
	return err
}

// expression reads one: YAML cuts it at " #", which only quotes prevent.
func (f *fields) expression(key string) string {
	n, ok := f.keys[key]
	if !ok {
		return ""
	}
	return f.d.expr(n)
}

func (d *document) expr(n ast.Node) string {
	s := d.scalar(n)
	if tok := n.GetToken(); tok != nil && tok.Type == token.StringType && (strings.Count(s, `"`)%2 == 1 || strings.Count(s, "'")%2 == 1) {
		d.fail(n, "the expression ends in the middle of a text: YAML takes what follows \" #\" for a comment; put the expression in quotes")
	}
	return s
}

func (f *fields) texts(key string) []string {
	n, ok := f.keys[key]
	if !ok {
		return nil
	}
	var all []string
	if _, list := n.(*ast.SequenceNode); !list { // a:9092,b:9092
		for part := range strings.SplitSeq(f.d.filled(n), ",") {
			if part = strings.TrimSpace(part); part != "" {
				all = append(all, part)
			}
		}
		return all
	}
	for _, v := range f.d.list(n) {
		all = append(all, f.d.filled(v))
	}
	return all
}

// list is a sequence's items; a single value is a list of one.
func (d *document) list(n ast.Node) []ast.Node {
	switch n := n.(type) {
	case *ast.SequenceNode:
		return n.Values
	case *ast.NullNode, nil:
		return nil
	}
	return []ast.Node{n}
}

func (f *fields) number(key string, standard float64) float64 {
	n, ok := f.keys[key]
	if !ok {
		return standard
	}
	v, err := strconv.ParseFloat(f.d.filled(n), 64)
	if err != nil || math.Abs(v) > 1e15 {
		f.d.fail(n, "%q must be a number", key)
		return standard
	}
	return v
}

func (f *fields) whole(key string, standard int) int {
	v := f.number(key, float64(standard))
	if v != float64(int(v)) {
		f.d.fail(f.keys[key], "%q must be a whole number", key)
	}
	return int(v)
}

func (f *fields) flag(key string, standard bool) bool {
	n, ok := f.keys[key]
	if !ok {
		return standard
	}
	v, err := strconv.ParseBool(f.d.scalar(n))
	if err != nil {
		f.d.fail(n, "%q must be true or false", key)
	}
	return v
}

// oneOf reads one of a few words; the first is the standard.
func (f *fields) oneOf(key string, words ...string) string {
	n, ok := f.keys[key]
	if !ok {
		return words[0]
	}
	v := f.d.scalar(n)
	if !slices.Contains(words, v) {
		f.d.fail(n, "%q must be one of %s", key, strings.Join(words, ", "))
		return words[0]
	}
	return v
}

func (f *fields) duration(key string, standard time.Duration) time.Duration {
	n, ok := f.keys[key]
	if !ok {
		return standard
	}
	v, err := time.ParseDuration(f.d.scalar(n))
	if err != nil || v <= 0 {
		f.d.fail(n, "%q must be a duration, such as 30s or 5m", key)
		return standard
	}
	return v
}
