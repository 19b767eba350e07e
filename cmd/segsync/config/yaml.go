package config

import (
	"bytes"
	"fmt"
	"io"
	"os"
	"strings"
	"unicode"
	"unicode/utf8"

	"github.com/goccy/go-yaml/ast"
	"github.com/goccy/go-yaml/parser"

	"segsync/mapping"
)

// Problem is one thing that is wrong with a configuration, where, and how to mend it.
type Problem struct {
	File      string
	Line, Col int
	Message   string
	Text      string // the offending line, secrets blanked
}

func (p Problem) String() string {
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

// Problems is a configuration's error: all of them at once.
type Problems []Problem

func (p Problems) Error() string {
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
	owner    string // whose it is; "" the admins'
	offline  bool   // secrets are not asked for
	lines    []string
	problems Problems
}

// Bounds of a file: the parser takes thousands of times what deep nesting takes on disk.
const (
	fileMost    = 1 << 20
	nestingMost = 64
)

// readDocument parses a file ("-": standard input); a nil node means that it could not be.
func readDocument(file string) (*document, ast.Node) {
	d := &document{file: file}
	in := os.Stdin
	if file != "-" {
		f, err := os.Open(file)
		if err != nil {
			d.problems = append(d.problems, Problem{File: file, Message: fmt.Sprint(unwrapPath(err), ": -c takes a configuration file, or - for standard input")})
			return d, nil
		}
		defer func() { _ = f.Close() }()
		in = f
	}
	return d, d.parse(in)
}

// parse reads and parses a file's bytes.
func (d *document) parse(in io.Reader) ast.Node {
	fail := func(message string) ast.Node {
		d.problems = append(d.problems, Problem{File: d.file, Message: message})
		return nil
	}
	b, err := io.ReadAll(io.LimitReader(in, fileMost+1))
	switch {
	case err != nil:
		return fail(unwrapPath(err).Error())
	case len(b) > fileMost:
		return fail("the file is longer than a configuration can be (1 MiB)")
	case bytes.HasPrefix(b, []byte{0xff, 0xfe}) || bytes.HasPrefix(b, []byte{0xfe, 0xff}):
		return fail("the file is UTF-16: save it as UTF-8")
	case !utf8.Valid(b):
		return fail("the file is not UTF-8: save it as UTF-8")
	}
	b = bytes.TrimPrefix(b, []byte("\ufeff")) // an editor's mark
	d.lines = strings.Split(string(b), "\n")
	if bytes.IndexFunc(b, func(r rune) bool { return unicode.IsControl(r) && r != '\n' && r != '\t' && r != '\r' }) >= 0 {
		return fail("the file holds control characters: it is no text")
	}
	if nesting(b) > nestingMost {
		return fail("the file is nested too deeply")
	}
	f, err := parser.ParseBytes(b, 0)
	if err != nil {
		d.syntax(err)
		return nil
	}
	switch {
	case len(f.Docs) == 0 || len(f.Docs) == 1 && f.Docs[0].Body == nil:
		return fail("the file is empty: see the README's example")
	case len(f.Docs) > 1:
		return fail("the file holds several documents (---): give each its own file")
	}
	return f.Docs[0].Body
}

// nesting is how deeply lists and maps lie in each other, by their brackets, dashes and indentation; more than it is
// where brackets stand in texts.
func nesting(b []byte) (most int) {
	open := 0
	for line := range bytes.SplitSeq(b, []byte{'\n'}) {
		dashes := bytes.Count(line, []byte("- ")) + bytes.Count(line, []byte("? "))
		indent := len(line) - len(bytes.TrimLeft(line, " "))
		for _, c := range line {
			switch c {
			case '[', '{':
				open++
			case ']', '}':
				open = max(0, open-1)
			}
			most = max(most, open)
		}
		most = max(most, dashes, indent/4)
	}
	return most
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
	p := Problem{File: d.file, Line: line, Col: col, Message: message}
	if line > 0 && line <= len(d.lines) {
		p.Text = blank(d.lines[line-1])
		switch text := d.lines[line-1]; {
		case strings.Contains(text, "${"):
			p.Message += ` (inside { … } a ${…} needs quotes: "${…}")`
		case strings.Contains(text, "\t"):
			p.Message = "a tab: YAML takes blanks only to indent"
		case strings.ContainsAny(text, "?[]{}") || strings.Count(text, ": ") > 1:
			p.Message += " (an expression with ?, :, [ or { in it needs quotes around it)"
		}
	}
	d.problems = append(d.problems, p)
}

func (d *document) fail(n ast.Node, format string, args ...any) {
	p := Problem{File: d.file, Message: fmt.Sprintf(format, args...)}
	if n != nil {
		if tok := n.GetToken(); tok != nil && tok.Position != nil {
			p.Line, p.Col = tok.Position.Line, tok.Position.Column
			if p.Line <= len(d.lines) {
				p.Text = blank(d.lines[p.Line-1])
			}
		}
	}
	for _, same := range d.problems { // one fault, one line
		if same.Line == p.Line && same.Col == p.Col && (same.Message == p.Message || strings.Contains(same.Message, "plain value is expected")) {
			return
		}
	}
	d.problems = append(d.problems, p)
}

// failIn reports a problem of an expression, at its place in the file where that is known.
func (d *document) failIn(n ast.Node, e *mapping.ExpressionError) {
	before := len(d.problems)
	d.fail(n, "%s: %s", e.Place, e.Message)
	if len(d.problems) == before || n == nil || e.Offset < 0 {
		return
	}
	p := &d.problems[len(d.problems)-1]
	if p.Line > 0 && p.Line <= len(d.lines) {
		if at := strings.Index(d.lines[p.Line-1], e.Source); at >= 0 { // as it was written, on one line
			p.Col = at + 1 + e.Offset
		}
	}
}
