package config

import (
	"errors"
	"maps"
	"slices"
	"strings"

	"github.com/goccy/go-yaml/ast"

	"segsync/connector"
	"segsync/mapping"
)

// validate checks what the parts say of each other.
func (c *Config) validate(first *document) {
	if len(c.Kafka.Brokers) == 0 && len(first.problems) == 0 {
		first.fail(nil, "kafka.brokers is missing")
	}
	if len(c.Exports) == 0 && len(first.problems) == 0 && len(c.Owners) == 0 {
		first.fail(nil, "no export is configured: nothing would be done; see the README's example")
	}
	c.uniqueNames()
	c.ownTopics()
	c.accounts()
	sources := map[string]*Source{}
	for i := range c.Sources {
		s := &c.Sources[i]
		sources[s.Name] = s
		if (s.Value.Format == mapping.Confluent || s.Key.Format == mapping.Confluent) && len(c.Registry.URLs) == 0 {
			s.fail("source %q reads Confluent's format: schema_registry is missing", s.Name)
		}
		c.compiles(s)
	}
	lists := map[string]*Export{}
	mapped := map[string]*Export{}
	for i := range c.Exports {
		e := &c.Exports[i]
		con := c.Connection(e.Connection)
		switch {
		case e.copied:
		case con == nil:
			var names []string
			for _, con := range c.Connections {
				names = append(names, con.Name)
			}
			e.d.fail(e.nodes["connection"], "export %q uses connection %q, which is not configured; configured are: %s%s", e.Name, e.Connection, strings.Join(names, ", "), mapping.Closest(e.Connection, names))
		case e.Named.Name == "" || e.Owner == "": // an owner's is refused already
			c.mayUse(e, con)
		}
		if sources[e.Source] == nil && !e.copied {
			names := slices.Sorted(maps.Keys(sources))
			e.d.fail(e.nodes["source"], "export %q reads source %q, which is not configured; configured are: %s%s", e.Name, e.Source, strings.Join(names, ", "), mapping.Closest(e.Source, names))
		}
		key := e.Connection + "\x00" + e.Of()
		if other := lists[key]; other != nil {
			e.fail("exports %q and %q write the same list %s: put all their segments into one export", other.Name, e.Name, e.Of())
		}
		lists[key] = e
		for name, expr := range e.Attributes {
			key := e.Connection + "\x00" + e.Source + "\x00" + name
			other := mapped[key]
			if other != nil && (other.Attributes[name] != expr || other.Clear != e.Clear) {
				e.d.fail(e.attrNodes[name], "exports %q and %q map %s of source %q differently: a contact has one value of it; use the same expression and nulls", other.Name, e.Name, name, e.Source)
			}
			mapped[key] = e
		}
	}
}

// mayUse checks what an owner's export does with a connection.
func (c *Config) mayUse(e *Export, con *Connection) {
	if e.Owner == "" {
		return
	}
	u, ok := con.UsableBy[e.Owner]
	switch {
	case !ok:
		e.fail("export %q of owner %q may not use connection %q: an admin lets it by usable_by: { %s: [%d] }", e.Name, e.Owner, con.Name, e.Owner, e.List)
	case u.lists != nil && !slices.Contains(u.lists, e.List):
		e.d.fail(e.nodes["list"], "owner %q may not use list %d: an admin lets it by usable_by of connection %q", e.Owner, e.List, con.Name)
	case e.Delete && !u.deletes:
		e.d.fail(e.nodes["on_exit"], "on_exit: delete_contact takes people out of everybody's lists: an admin lets owner %q by usable_by: { %s: { lists: [%d], delete_contact: true } }", e.Owner, e.Owner, e.List)
	case e.GuardShare == 0 && !u.noGuard:
		e.d.fail(e.nodes["guard"], "a guard that is off is an admin's to allow: usable_by: { %s: { lists: [%d], guard_off: true } }", e.Owner, e.List)
	}
}

// compiles compiles the expressions of a source, those of its exports among them.
func (c *Config) compiles(s *Source) {
	spec := mapping.Spec{Events: s.Events, Email: s.Email, HaltWhen: s.HaltWhen, Tombstone: s.TombstoneName}
	raw, _ := mapping.NewDecoder(mapping.Raw, nil)
	if _, err := mapping.NewMapper(spec, raw, raw); err != nil {
		s.tell(err)
	}
	for i := range c.Exports {
		e := &c.Exports[i]
		if e.Source != s.Name || e.copied {
			continue
		}
		for name, expr := range e.Attributes {
			one := mapping.Spec{Attributes: []mapping.Attribute{{Name: name, Expr: expr}}}
			if _, err := mapping.NewMapper(one, raw, raw); err != nil {
				for _, x := range ExpressionErrors(err) {
					e.d.failIn(e.attrNodes[name], x)
				}
			}
		}
	}
}

// ownTopics refuses topics as sources that segsync itself writes.
func (c *Config) ownTopics() {
	own := connector.Config{Prefix: c.Kafka.Prefix, DeadLetters: c.DeadLetters}
	for i := range c.Sources {
		for _, t := range c.Sources[i].Topics {
			if own.Owns(t) {
				c.Sources[i].fail("source %q reads topic %s, which segsync itself writes: it would feed itself", c.Sources[i].Name, t)
			}
		}
	}
}

// ExpressionErrors are those that an error joins.
func ExpressionErrors(err error) (all []*mapping.ExpressionError) {
	if joined, ok := err.(interface{ Unwrap() []error }); ok {
		for _, one := range joined.Unwrap() {
			all = append(all, ExpressionErrors(one)...)
		}
		return all
	}
	if e, ok := errors.AsType[*mapping.ExpressionError](err); ok {
		return []*mapping.ExpressionError{e}
	}
	return nil
}

// tell reports the problems of a source's expressions, each at its own place.
func (s *Source) tell(err error) {
	for _, e := range ExpressionErrors(err) {
		n := s.exprNodes[e.Place]
		if n == nil {
			n = s.node
		}
		s.d.failIn(n, e)
	}
}

func (c *Config) uniqueNames() {
	seen := map[string]bool{}
	once := func(kind, name string, a at) {
		if seen[kind+name] {
			a.fail("two %ss are named %q", kind, name)
		}
		seen[kind+name] = true
	}
	for _, s := range c.Sources {
		once("source", s.Name, s.at)
	}
	for _, s := range c.Connections {
		once("connection", s.Name, s.at)
	}
	for _, s := range c.Exports {
		once("export", s.Name, s.at)
	}
	topics := map[string]string{}
	for _, s := range c.Sources {
		for _, t := range s.Topics {
			if other := topics[t]; other != "" {
				s.fail("sources %q and %q read the same topic %s: one source with several events reads it once", other, s.Name, t)
			}
			topics[t] = s.Name
		}
	}
}

// accounts refuses two connections with one key. Two keys of one account are found by segsync check, which asks.
func (c *Config) accounts() {
	keys := map[string]string{}
	for _, con := range c.Connections {
		k, err := con.Key.Value()
		if err != nil || k == "" {
			continue
		}
		if other := keys[k]; other != "" {
			con.fail("connections %q and %q are one account: calls are counted and ordered per account; use one connection", other, con.Name)
		}
		keys[k] = con.Name
	}
}

func (c *Config) Connection(name string) *Connection {
	for i := range c.Connections {
		if c.Connections[i].Name == name {
			return &c.Connections[i]
		}
	}
	return nil
}

// Locate tells of an expression that does not fit, at its place in the file where it has one.
func (c *Config) Locate(source string, e *mapping.ExpressionError) string {
	var at *document
	tell := func(d *document, n ast.Node) {
		at = &document{file: d.file, lines: d.lines}
		at.failIn(n, e)
	}
	for i := range c.Exports {
		x := &c.Exports[i]
		if n := x.attrNodes[strings.TrimPrefix(e.Place, "attribute ")]; n != nil && x.Source == source && at == nil {
			tell(x.d, n)
		}
	}
	for i := range c.Sources {
		if s := &c.Sources[i]; s.Name == source && s.exprNodes[e.Place] != nil {
			tell(s.d, s.exprNodes[e.Place])
		}
	}
	if at == nil || len(at.problems) == 0 {
		return e.Error()
	}
	return at.problems[0].String()
}
