package mapping

import (
	"encoding/json"
	"errors"
	"fmt"
	"reflect"
	"strconv"
	"strings"
)

// kind is an Avro type.
type kind uint8

const (
	kindNull kind = iota
	kindBoolean
	kindInt
	kindLong
	kindFloat
	kindDouble
	kindBytes
	kindString
	kindRecord
	kindEnum
	kindArray
	kindMap
	kindUnion
	kindFixed
)

var primitives = map[string]kind{
	"null": kindNull, "boolean": kindBoolean, "int": kindInt, "long": kindLong, "float": kindFloat, "double": kindDouble,
	"bytes": kindBytes, "string": kindString,
}

// schema is a parsed Avro schema. goavro is given the same schema less its logical types, which are applied here (it knows
// some of them only, and panics on a decimal without a scale), and with names of our own: it refuses some that Java takes,
// and reads a type without a namespace as one of the namespace around it.
type schema struct {
	kind    kind
	name    string // full name of a named type; the primitive's name otherwise
	branch  string // what goavro calls it in a union: named types have names of our own there
	logical string
	scale   int
	size    int // of a fixed
	fields  []schemaField
	words   []string  // the symbols of an enum
	items   *schema   // of an array or a map
	of      []*schema // of a union
}

type schemaField struct {
	name string
	typ  *schema
}

// Bounds of a schema: its text, in bytes, and what it names.
const (
	schemaMost = 1 << 20
	namesMost  = 10_000 // fields and named types
)

// parseSchema reads a schema and writes it again without logical types. References are the texts of the schemas that
// it names; they are inlined where they are first used.
func parseSchema(text string, references []string) (*schema, string, error) {
	if len(text) > schemaMost {
		return nil, "", errors.New("the schema is too long")
	}
	p := parser{named: map[string]*schema{}, pending: map[string]any{}, parsed: map[string]uintptr{}}
	for _, r := range references {
		var v any
		if err := json.Unmarshal([]byte(r), &v); err != nil {
			return nil, "", fmt.Errorf("a referenced schema is not JSON: %w", err)
		}
		p.collect(v, "", 0)
	}
	var v any
	if err := json.Unmarshal([]byte(text), &v); err != nil {
		// A primitive's bare name is a schema too.
		if _, ok := primitives[strings.TrimSpace(text)]; !ok {
			return nil, "", fmt.Errorf("the schema is not JSON: %w", err)
		}
		v = strings.TrimSpace(text)
	}
	s, plain, err := p.parse(v, "", 0)
	if err != nil {
		return nil, "", fmt.Errorf("reading the schema: %w", err)
	}
	out, err := json.Marshal(plain)
	return s, string(out), err
}

// parser keeps the named types of one schema.
type parser struct {
	named   map[string]*schema
	pending map[string]any     // referenced and not used yet
	parsed  map[string]uintptr // which definition a named type was read from
	names   int
}

const depthMost = 64

func fullName(name, space string) string {
	if strings.Contains(name, ".") || space == "" {
		return name
	}
	return space + "." + name
}

// collect remembers the named types that a referenced schema defines, inside others, too.
func (p *parser) collect(v any, space string, depth int) {
	if depth > depthMost {
		return
	}
	switch v := v.(type) {
	case []any:
		for _, b := range v {
			p.collect(b, space, depth+1)
		}
	case map[string]any:
		if name, ok := v["name"].(string); ok && definesName(v["type"]) {
			if s, ok := v["namespace"].(string); ok {
				space = s
			}
			full := fullName(name, space)
			space = namespaceOf(full)
			v["name"], v["namespace"] = full[strings.LastIndexByte(full, '.')+1:], space
			p.pending[full] = v
		}
		for _, key := range []string{"type", "items", "values", "fields"} {
			p.collect(v[key], space, depth+1)
		}
	}
}

func definesName(t any) bool { return t == "record" || t == "error" || t == "enum" || t == "fixed" }

func namespaceOf(full string) string {
	if i := strings.LastIndexByte(full, '.'); i >= 0 {
		return full[:i]
	}
	return ""
}

// parse returns the schema and its text, as JSON values, without logical types.
func (p *parser) parse(v any, space string, depth int) (*schema, any, error) {
	if depth > depthMost {
		return nil, nil, errors.New("it is nested too deeply")
	}
	switch v := v.(type) {
	case string:
		return p.named1(v, space, depth)
	case []any:
		return p.union(v, space, depth)
	case map[string]any:
		return p.complex(v, space, depth)
	}
	return nil, nil, fmt.Errorf("%T is no type", v)
}

// named1 resolves a type's name: a primitive, one seen before, or one referenced, which is inlined here.
func (p *parser) named1(name, space string, depth int) (*schema, any, error) {
	if k, ok := primitives[name]; ok {
		return &schema{kind: k, name: name, branch: name}, name, nil
	}
	for _, full := range []string{fullName(name, space), name} {
		if s, ok := p.named[full]; ok {
			return s, s.branch, nil
		}
		if v, ok := p.pending[full]; ok {
			delete(p.pending, full)
			return p.parse(v, "", depth+1)
		}
	}
	return nil, nil, fmt.Errorf("the type %q is not defined", name)
}

func (p *parser) union(v []any, space string, depth int) (*schema, any, error) {
	s := &schema{kind: kindUnion}
	plain := make([]any, 0, len(v))
	for _, b := range v {
		branch, text, err := p.parse(b, space, depth+1)
		if err != nil {
			return nil, nil, err
		}
		s.of, plain = append(s.of, branch), append(plain, text)
	}
	if len(s.of) == 0 {
		return nil, nil, errors.New("a union has no branches")
	}
	return s, plain, nil
}

func (p *parser) complex(v map[string]any, space string, depth int) (*schema, any, error) {
	t, isName := v["type"].(string)
	if !isName {
		return p.parse(v["type"], space, depth+1)
	}
	if k, ok := primitives[t]; ok {
		s := &schema{kind: k, name: t, branch: t}
		s.logic(v)
		return s, t, nil
	}
	switch t {
	case "array", "map":
		key := map[string]string{"array": "items", "map": "values"}[t]
		items, text, err := p.parse(v[key], space, depth+1)
		if err != nil {
			return nil, nil, err
		}
		k := kindArray
		if t == "map" {
			k = kindMap
		}
		return &schema{kind: k, name: t, branch: t, items: items}, map[string]any{"type": t, key: text}, nil
	case "record", "error", "enum", "fixed":
		return p.define(t, v, space, depth)
	}
	return p.named1(t, space, depth)
}

func (p *parser) define(t string, v map[string]any, space string, depth int) (*schema, any, error) {
	name, ok := v["name"].(string)
	if !ok {
		return nil, nil, fmt.Errorf("a %s has no name", t)
	}
	if s, ok := v["namespace"].(string); ok {
		space = s
	}
	full := fullName(name, space)
	space = namespaceOf(full)
	text := reflect.ValueOf(v).Pointer()
	if s, ok := p.named[full]; ok {
		if p.parsed[full] == text { // a reference has defined it inside another type
			return s, s.branch, nil
		}
		return nil, nil, fmt.Errorf("the type %q is defined twice", full)
	}
	delete(p.pending, full)
	s := &schema{name: full, branch: fmt.Sprintf("segsync.t%d", len(p.named))}
	p.named[full], p.parsed[full] = s, text
	plain := map[string]any{"type": t, "name": s.branch}
	switch t {
	case "enum":
		s.kind = kindEnum
		symbols, _ := v["symbols"].([]any)
		for _, w := range symbols {
			if word, ok := w.(string); ok {
				s.words = append(s.words, word)
			}
		}
		plain["symbols"] = symbols
	case "fixed":
		s.kind, s.size = kindFixed, intOf(v["size"])
		s.logic(v)
		plain["size"] = s.size
	default:
		plain["type"] = "record"
		fields, err := p.fields(s, v, space, depth)
		if err != nil {
			return nil, nil, fmt.Errorf("%s: %w", full, err)
		}
		plain["fields"] = fields
		if full == variableDecimal && len(s.fields) == 2 {
			s.logical = "variable-decimal"
		}
	}
	return s, plain, nil
}

// variableDecimal is how Debezium writes a decimal whose scale is not fixed: a record of scale and bytes.
const variableDecimal = "io.debezium.data.VariableScaleDecimal"

// meanings are what Connect and Debezium say, by connect.name, that a plain number or text means.
var meanings = map[string]string{
	"io.debezium.time.Date": "date", "org.apache.kafka.connect.data.Date": "date",
	"io.debezium.time.Timestamp": "timestamp-millis", "org.apache.kafka.connect.data.Timestamp": "timestamp-millis",
	"io.debezium.time.MicroTimestamp": "timestamp-micros", "io.debezium.time.NanoTimestamp": "timestamp-nanos",
	"org.apache.kafka.connect.data.Decimal": "decimal",
}

// logic notes what a type means: by its logicalType, else by its connect.name.
func (s *schema) logic(v map[string]any) {
	s.logical, _ = v["logicalType"].(string)
	s.scale = intOf(v["scale"])
	if name, ok := v["connect.name"].(string); ok && s.logical == "" {
		s.logical = meanings[name]
	}
	if parameters, ok := v["connect.parameters"].(map[string]any); ok && v["scale"] == nil {
		if text, ok := parameters["scale"].(string); ok {
			if n, err := strconv.Atoi(text); err == nil && n >= 0 && n < 1<<10 {
				s.scale = n
			}
		}
	}
}

func (p *parser) fields(s *schema, v map[string]any, space string, depth int) ([]any, error) {
	s.kind = kindRecord
	list, _ := v["fields"].([]any)
	plain := make([]any, 0, len(list))
	for _, f := range list {
		field, ok := f.(map[string]any)
		name, named := field["name"].(string)
		if !ok || !named {
			return nil, errors.New("a field has no name")
		}
		typ, text, err := p.parse(field["type"], space, depth+1)
		if err != nil {
			return nil, fmt.Errorf("field %s: %w", name, err)
		}
		if p.names++; p.names > namesMost {
			return nil, fmt.Errorf("it names more than %d fields and types", namesMost)
		}
		s.fields = append(s.fields, schemaField{name, typ})
		plain = append(plain, map[string]any{"name": name, "type": text})
	}
	return plain, nil
}

func intOf(v any) int {
	f, ok := v.(float64)
	if !ok || f < 0 || f > 1<<20 {
		return 0
	}
	return int(f)
}

// has says whether a path may lead to something.
func (s *schema) has(path []string) bool {
	if len(path) == 0 {
		return true
	}
	switch s.kind {
	case kindRecord:
		if s.logical != "" {
			return true
		}
		for i := range s.fields {
			if s.fields[i].name == path[0] {
				return s.fields[i].typ.has(path[1:])
			}
		}
		return false
	case kindMap:
		return s.items.has(path[1:])
	case kindUnion:
		for _, b := range s.of {
			if b.kind != kindNull && b.has(path) {
				return true
			}
		}
		return false
	default:
		return true // a step into what has no fields is told by what comes of it
	}
}
