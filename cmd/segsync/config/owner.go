package config

import (
	"io/fs"
	"os"
	"path/filepath"
	"segsync/mapping"
	"slices"
	"strconv"

	"github.com/goccy/go-yaml/ast"
)

// disableTroubled switches the exports off of owners whose files have problems: what can be read of them is kept up to
// date in the table, and nothing is sent.
func (c *Config) disableTroubled() {
	c.Exports = slices.DeleteFunc(c.Exports, func(e Export) bool {
		if len(c.Troubled[e.Owner]) == 0 || e.Owner == "" {
			return false
		}
		known := slices.ContainsFunc(c.Sources, func(s Source) bool { return s.Name == e.Source })
		taken := slices.ContainsFunc(c.Exports, func(o Export) bool {
			return o.Owner != e.Owner && o.Connection == e.Connection && (o.List == e.List || o.Name == e.Name)
		})
		return c.Connection(e.Connection) == nil || !known || taken || e.List <= 0 || len(e.Segments) == 0 || e.Name == ""
	})
	for i := range c.Exports {
		e := &c.Exports[i]
		if e.Owner == "" || len(c.Troubled[e.Owner]) == 0 {
			continue
		}
		e.Enabled = false
		raw, _ := mapping.NewDecoder(mapping.Raw, nil)
		for name, expr := range e.Attributes {
			other := slices.ContainsFunc(c.Exports, func(o Export) bool {
				return o.Connection == e.Connection && o.Source == e.Source && o.Attributes[name] != "" && o.Attributes[name] != expr
			})
			if _, err := mapping.NewMapper(mapping.Spec{Attributes: []mapping.Attribute{{Name: name, Expr: expr}}}, raw, raw); err != nil || other {
				delete(e.Attributes, name)
			}
		}
	}
}

// readOwner reads an owner's exports from its own folder, where only exports may stand, in regular files: what lies
// outside of it is not the owner's to have read, or quoted.
func (c *Config) readOwner(owner, dir string) []*document {
	trouble := func(file, message string) []*document {
		return []*document{{file: file, owner: owner, problems: Problems{{File: file, Message: message}}}}
	}
	if owner == "" {
		return []*document{{problems: Problems{{File: dir, Message: "an owner needs a name"}}}}
	}
	root, err := os.OpenRoot(dir)
	if err != nil {
		return trouble(dir, "the folder of owner "+owner+" cannot be read: make it, or take the owner away")
	}
	defer func() { _ = root.Close() }()
	files, err := fs.Glob(root.FS(), "*.y*ml")
	if err != nil {
		return trouble(dir, "the folder of owner "+owner+" cannot be listed")
	}
	var docs []*document
	for _, name := range files {
		d := &document{file: filepath.Join(dir, name), owner: owner}
		docs = append(docs, d)
		info, err := root.Lstat(name)
		if err != nil || !info.Mode().IsRegular() {
			d.problems = append(d.problems, Problem{File: d.file, Message: "it is no regular file: links and pipes are not read"})
			continue
		}
		f, err := root.Open(name)
		if err != nil {
			d.problems = append(d.problems, Problem{File: d.file, Message: "it cannot be read"})
			continue
		}
		n := d.parse(f)
		_ = f.Close()
		if n == nil {
			continue
		}
		top := d.mapping(n, "exports")
		for _, x := range d.list(top.keys["exports"]) {
			for _, e := range readExports(d, x) {
				if e.Owner != "" && e.Owner != owner && !e.copied {
					d.fail(x, "export %q says owner %q but lies in the folder of %q: move it, or let it say its own owner", e.Name, e.Owner, owner)
				}
				if e.Named.Name != "" && !e.copied {
					d.fail(e.nodes["list"], "an owner names a list by its number: which list an account's name means is the admins' to say")
				}
				e.Owner = owner
				c.Exports = append(c.Exports, e)
			}
		}
	}
	return docs
}

// usable is what an owner may do with a connection.
type usable struct {
	lists            []int64 // nil: any
	deletes, noGuard bool    // on_exit: delete_contact, and a guard that is off
}

// readUsable reads usable_by: [crm], { crm: [42, 43] }, or { crm: { lists: [42], delete_contact: true, guard_off: true } }.
func readUsable(d *document, n ast.Node) map[string]usable {
	all := map[string]usable{}
	switch n.(type) {
	case nil:
		return all
	case *ast.MappingNode, *ast.MappingValueNode:
	default:
		for _, v := range d.list(n) {
			all[d.scalar(v)] = usable{}
		}
		return all
	}
	for _, v := range d.entries(n) {
		u, lists := usable{}, v.Value
		switch v.Value.(type) {
		case *ast.MappingNode, *ast.MappingValueNode:
			f := d.mapping(v.Value, "lists", "delete_contact", "guard_off")
			u.deletes, u.noGuard, lists = f.flag("delete_contact", false), f.flag("guard_off", false), f.keys["lists"]
		}
		for _, l := range d.list(lists) {
			number, err := strconv.ParseInt(d.scalar(l), 10, 64)
			if err != nil || number <= 0 {
				d.fail(l, "the lists of an owner are numbers of lists")
			}
			u.lists = append(u.lists, number)
		}
		all[v.Key.GetToken().Value] = u
	}
	return all
}
