package main

import (
	"fmt"
	"os"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/goccy/go-yaml/ast"
	"github.com/goccy/go-yaml/parser"
	"github.com/goccy/go-yaml/token"
)

// problem is one thing that is wrong with a configuration, where, and how to mend it.
type problem struct {
	File      string
	Line, Col int
	Message   string
	Text      string // the offending line, secrets blanked
}

func (p problem) String() string {
	where := p.File
	if p.Line > 0 {
		where = fmt.Sprintf("%s:%d:%d", p.File, p.Line, p.Col)
	}
	s := where + ": " + p.Message
	if p.Text != "" {
		s += "\n    " + strings.TrimSpace(p.Text)
	}
	return s
}

// problems is a configuration's error: all of them at once.
type problems []problem

func (p problems) Error() string {
	lines := make([]string, len(p))
	for i := range p {
		lines[i] = p[i].String()
	}
	return strings.Join(lines, "\n")
}

// document is one YAML file being read. Its strictness is its own: a decoder would stop at the first problem, and print
// the lines around it, which may hold a key.
type document struct {
	file     string
	lines    []string
	problems problems
}

// readDocument parses a file; a nil node means that it could not be.
func readDocument(file string) (*document, ast.Node) {
	d := &document{file: file}
	b, err := os.ReadFile(file)
	if err != nil {
		d.problems = append(d.problems, problem{File: file, Message: err.Error()})
		return d, nil
	}
	d.lines = strings.Split(string(b), "\n")
	f, err := parser.ParseBytes(b, 0)
	if err != nil {
		d.syntax(err)
		return d, nil
	}
	if len(f.Docs) != 1 || f.Docs[0].Body == nil {
		d.problems = append(d.problems, problem{File: file, Message: "the file must hold one YAML document"})
		return d, nil
	}
	return d, f.Docs[0].Body
}

// syntax reports a parse error without the parser's excerpt, whose neighbouring lines may hold secrets.
func (d *document) syntax(err error) {
	message, _, _ := strings.Cut(err.Error(), "\n")
	line, col := 0, 0
	if rest, ok := strings.CutPrefix(message, "["); ok {
		if at, text, ok := strings.Cut(rest, "] "); ok {
			_, _ = fmt.Sscanf(at, "%d:%d", &line, &col)
			message = text
		}
	}
	p := problem{File: d.file, Line: line, Col: col, Message: message}
	if line > 0 && line <= len(d.lines) {
		p.Text = blank(d.lines[line-1])
		if strings.Contains(d.lines[line-1], "${") {
			p.Message += ` (inside { … } a ${…} needs quotes: "${…}")`
		}
	}
	d.problems = append(d.problems, p)
}

// secrets are the keys whose values never appear.
var secrets = []string{"api_key", "password", "token"}

// blank hides the value of a secret in a line.
func blank(line string) string {
	for _, s := range secrets {
		if i := strings.Index(line, s+":"); i >= 0 {
			return line[:i+len(s)+1] + " …"
		}
	}
	return line
}

func (d *document) fail(n ast.Node, format string, args ...any) {
	p := problem{File: d.file, Message: fmt.Sprintf(format, args...)}
	if n != nil {
		if tok := n.GetToken(); tok != nil && tok.Position != nil {
			p.Line, p.Col = tok.Position.Line, tok.Position.Column
			if p.Line <= len(d.lines) {
				p.Text = blank(d.lines[p.Line-1])
			}
		}
	}
	d.problems = append(d.problems, p)
}

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
			d.fail(v.Key, "unknown key %q%s; known here: %s", key, closest(key, allowed), strings.Join(allowed, ", "))
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

// closest suggests a key that differs by little.
func closest(key string, allowed []string) string {
	for _, a := range allowed {
		if strings.ReplaceAll(a, "_", "") == strings.ReplaceAll(strings.ToLower(key), "-", "") || strings.HasPrefix(a, key) || strings.HasPrefix(key, a) {
			return fmt.Sprintf(" (did you mean %q?)", a)
		}
	}
	return ""
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
	s, err := f.raw(key).value()
	if err != nil {
		f.d.fail(f.keys[key], "%s", err)
	}
	return s
}

// secret is a value that is read where it is used, and again when its file changes.
type secret struct{ source string }

func (f *fields) raw(key string) secret {
	n, ok := f.keys[key]
	if !ok {
		return secret{}
	}
	return secret{f.d.scalar(n)}
}

// scalar is a node's text.
func (d *document) scalar(n ast.Node) string {
	switch n := n.(type) {
	case *ast.StringNode:
		return n.Value
	case *ast.LiteralNode:
		return strings.TrimSpace(n.Value.Value)
	case *ast.NullNode:
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

// value fills in ${env:NAME} and ${file:PATH}.
func (s secret) value() (string, error) {
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
	for _, v := range f.d.list(n) {
		all = append(all, f.d.scalar(v))
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
	v, err := strconv.ParseFloat(f.d.scalar(n), 64)
	if err != nil {
		f.d.fail(n, "%q must be a number", key)
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
