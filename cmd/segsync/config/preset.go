package config

import (
	"embed"
	"maps"
	"regexp"
	"slices"
	"strings"

	"github.com/goccy/go-yaml/ast"
	"github.com/goccy/go-yaml/parser"

	"segsync/mapping"
)

// Presets are what a source may leave out, by the name of who makes its events. $name stands for a field that the
// configuration names.
//
//go:embed presets/*.yaml
var presets embed.FS

// Presets are the names of those that there are.
func Presets() (names []string) {
	files, _ := presets.ReadDir("presets") // embedded
	for _, f := range files {
		names = append(names, strings.TrimSuffix(f.Name(), ".yaml"))
	}
	return names
}

var (
	presetKey   = regexp.MustCompile(`(?m)^[a-z_]+:`)
	presetParam = regexp.MustCompile(`\$[a-z_]+`)
	fieldName   = regexp.MustCompile(`^[A-Za-z_][A-Za-z0-9_]*$`)
)

// preset fills in the keys that are not written. It returns the preset's name and the text that was filled in.
func (f *fields) preset() (name, filled string) {
	n, ok := f.keys["preset"]
	if !ok {
		return "", ""
	}
	params := map[string]string{}
	switch n.(type) {
	case *ast.MappingNode, *ast.MappingValueNode:
		p := f.d.mapping(n)
		p.need("name")
		name = p.text("name")
		for key := range p.keys {
			if params[key] = p.text(key); key != "name" && !fieldName.MatchString(params[key]) {
				f.d.fail(p.keys[key], "%s of a preset is the name of a field; for an expression write the key that it is in (event, email) yourself", key)
			}
		}
	default:
		name = f.d.scalar(n)
	}
	b, err := presets.ReadFile("presets/" + name + ".yaml")
	if err != nil {
		f.d.fail(n, "unknown preset %q%s; there are: %s", name, mapping.Closest(name, Presets()), strings.Join(Presets(), ", "))
		return name, ""
	}
	filled, missing, unused := f.fill(string(b), params)
	if len(missing) > 0 {
		f.d.fail(n, "preset %s needs the names of fields: preset: { name: %s, %s: … }", name, name, strings.Join(missing, ": …, "))
		return name, ""
	}
	if len(unused) > 0 {
		f.d.fail(n, "preset %s has no use for %s%s", name, strings.Join(unused, ", "), " in what it fills in")
	}
	f.adopt(filled, n)
	return name, filled
}

// fill is a preset's text of the keys that are not written, with its parameters filled in.
func (f *fields) fill(text string, params map[string]string) (filled string, missing, unused []string) {
	used := map[string]bool{"name": true}
	starts := presetKey.FindAllStringIndex(text, -1)
	for i, at := range starts {
		end := len(text)
		if i+1 < len(starts) {
			end = starts[i+1][0]
		}
		if f.has(text[at[0] : at[1]-1]) {
			continue
		}
		filled += presetParam.ReplaceAllStringFunc(text[at[0]:end], func(p string) string {
			value, given := params[p[1:]]
			if !given && !slices.Contains(missing, p[1:]) {
				missing = append(missing, p[1:])
			}
			used[p[1:]] = true
			return value
		})
	}
	for _, p := range slices.Sorted(maps.Keys(params)) {
		if !used[p] {
			unused = append(unused, p)
		}
	}
	return filled, missing, unused
}

// adopt takes keys in as if they stood where the preset is named: problems with them are told there.
func (f *fields) adopt(text string, at ast.Node) {
	file, err := parser.ParseBytes([]byte(text), 0)
	if err != nil || len(file.Docs) != 1 || file.Docs[0].Body == nil {
		return // nothing is left to fill in
	}
	body := file.Docs[0].Body
	ast.Walk(placedAt{at}, body)
	for _, v := range f.d.entries(body) {
		f.keys[v.Key.GetToken().Value], f.all[v.Key.GetToken().Value] = v.Value, at
	}
}

// placedAt gives nodes the place of another.
type placedAt struct{ at ast.Node }

// Visit implements ast.Visitor.
func (p placedAt) Visit(n ast.Node) ast.Visitor {
	if tok, at := n.GetToken(), p.at.GetToken(); tok != nil && at != nil {
		tok.Position = at.Position
	}
	return p
}
