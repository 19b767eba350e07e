package config

import (
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/goccy/go-yaml/ast"

	"segsync/connector"
)

// Export is segments of a source that feed a list.
type Export struct {
	at
	Name         string
	Owner        string // "" the admins
	Enabled      bool
	Connection   string
	Source       string
	Segments     []string // all that it names; the person is in any of those that All and None do not name
	All, None    []string // the person is in all of these, in none of those
	List         int64    // its number; 0: Named names it
	Named        connector.ListName
	copied       bool // of one that is written once for many segments, not the first: what is wrong with it was said
	Attributes   map[string]string
	attrNodes    map[string]ast.Node
	nodes        map[string]ast.Node // of its keys
	Clear        bool
	Delete       bool
	GuardShare   float64
	GuardLeast   int
	Schedule     string        // "": all the time
	OnlyOwn      bool          // who leaves is taken out only if we put them in
	OnlyExisting bool          // no contact is created for its list
	Expect       time.Duration // an event is expected as often; 0: nobody expects any
}

// segmentWord stands for the segment's name in the names of an export that is written once for many segments.
const segmentWord = "{segment}"

// readExports reads an export: one, or, with for_each, one for each segment.
func readExports(d *document, n ast.Node) []Export {
	e, each := readExport(d, n)
	if each == nil {
		return []Export{e}
	}
	if !strings.Contains(e.Name, segmentWord) {
		d.fail(e.nodes["name"], "with for_each each export needs a name of its own: write %s where the segment's name belongs, such as %q", segmentWord, e.Name+"-"+segmentWord)
		return nil
	}
	if !strings.Contains(e.Named.Name, segmentWord) {
		d.fail(e.nodes["list"], "with for_each each export needs a list of its own: list: { name: %q, folder: 1 }", "Segment "+segmentWord)
		return nil
	}
	var all []Export
	for i, s := range each {
		one := e
		one.Segments, one.copied = []string{s}, i > 0
		one.Name, one.Named.Name = strings.ReplaceAll(e.Name, segmentWord, s), strings.ReplaceAll(e.Named.Name, segmentWord, s)
		one.Attributes, one.nodes = maps.Clone(e.Attributes), maps.Clone(e.nodes)
		all = append(all, one)
	}
	return all
}

// readEach reads for_each: the segments, each of which gets an export. nil: it is not given.
func (e *Export) readEach(f *fields) []string {
	n, ok := f.keys["for_each"]
	if !ok {
		return nil
	}
	if f.has("segments") {
		f.d.fail(f.all["segments"], "segments and for_each exclude each other: for_each makes one export of each segment")
	}
	all := []string{}
	for i, s := range f.texts("for_each") {
		if slices.Contains(all, s) {
			f.d.fail(f.d.list(n)[i], "segment %q is named twice", s)
			continue
		}
		all = append(all, s)
	}
	if len(all) == 0 {
		f.d.fail(n, "for_each needs at least one segment")
	}
	return all
}

// readList reads which list: its number, or { name: "VIP", folder: 12 }.
func (e *Export) readList(f *fields) {
	n := f.keys["list"]
	switch n.(type) {
	case nil:
	case *ast.MappingNode, *ast.MappingValueNode:
		lf := f.d.mapping(n, "name", "folder")
		lf.need("name")
		e.Named = connector.ListName{Name: lf.text("name"), Folder: int64(lf.whole("folder", 0))}
		switch {
		case lf.has("name") && strings.TrimSpace(e.Named.Name) == "":
			f.d.fail(lf.keys["name"], "the list's name is empty")
		case lf.has("folder") && e.Named.Folder <= 0:
			f.d.fail(lf.keys["folder"], "folder must be the number of a folder")
		}
	default:
		number, err := strconv.ParseInt(f.d.scalar(n), 10, 64)
		if e.List = number; err != nil || number <= 0 {
			f.d.fail(n, "list must be the number of a list, or its name: { name: \"VIP\", folder: 12 }")
		}
	}
}

// People says for people who is in the list.
func (e *Export) People() string {
	var any []string
	for _, g := range e.Segments {
		if !slices.Contains(e.All, g) && !slices.Contains(e.None, g) {
			any = append(any, g)
		}
	}
	var all []string
	for _, part := range []struct {
		word     string
		segments []string
	}{{"in ", any}, {"in all of ", e.All}, {"in none of ", e.None}} {
		if len(part.segments) > 0 {
			all = append(all, part.word+strings.Join(part.segments, ", "))
		}
	}
	return strings.Join(all, ", and ")
}

// Of names the export's list for people.
func (e *Export) Of() string { return connector.Export{List: e.List, Named: e.Named}.Of() }

// readExport reads an export, and the segments of its for_each; nil: it has none.
func readExport(d *document, n ast.Node) (e Export, each []string) {
	f := d.mapping(n, "name", "owner", "enabled", "connection", "source", "segments", "for_each", "list", "attributes", "nulls", "on_exit", "guard", "schedule", "only_own", "only_existing", "expect_every")
	f.need("name", "connection", "source", "list")
	e = Export{
		at: at{d, n}, Name: f.text("name"), Owner: f.text("owner"), Enabled: f.flag("enabled", true), Connection: f.text("connection"), Source: f.text("source"),
		Attributes: map[string]string{}, attrNodes: map[string]ast.Node{},
		Clear: f.oneOf("nulls", "keep", "clear") == "clear", Delete: f.oneOf("on_exit", "remove_from_list", "delete_contact") == "delete_contact",
		GuardShare: 0.3, GuardLeast: 100, Schedule: f.text("schedule"), OnlyOwn: f.flag("only_own", false), OnlyExisting: f.flag("only_existing", false), Expect: f.duration("expect_every", 0),
	}
	e.readList(f)
	if each = e.readEach(f); each == nil {
		f.need("segments")
		e.readSegments(f)
	}
	if f.has("expect_every") && e.Expect < leastExpected {
		d.fail(f.keys["expect_every"], "expect_every must be a duration of %s or more, such as 24h", leastExpected)
	}
	if _, err := connector.ParseSchedule(e.Schedule); e.Schedule != "" && err != nil {
		d.fail(f.keys["schedule"], "schedule must be manual, or five fields as of cron and perhaps a time zone (0 6 * * 1-5 Europe/Paris): %s", err)
	}
	e.nodes = f.keys
	for _, v := range d.entries(f.keys["attributes"]) {
		name := v.Key.GetToken().Value
		if name != strings.ToUpper(name) {
			d.fail(v.Key, "attribute names are upper case: %s", strings.ToUpper(name))
		}
		if slices.Contains([]string{"EMAIL"}, name) {
			d.fail(v.Key, "EMAIL comes from the source's email expression")
		}
		expr := d.expr(v.Value)
		if strings.TrimSpace(expr) == "" {
			d.fail(v.Key, "attribute %s has no expression", name)
		}
		e.Attributes[name], e.attrNodes[name] = expr, v.Value
	}
	if g, ok := f.keys["guard"]; ok {
		gf := d.mapping(g, "share", "at_least")
		e.GuardShare, e.GuardLeast = gf.number("share", 0.3), gf.whole("at_least", 100)
		if e.GuardShare < 0 || e.GuardShare > 1 {
			d.fail(g, "guard share must be between 0 (off) and 1")
		}
	}
	return e, each
}

// readSegments reads whose members are wanted: a list of segments, any of which is enough, or rules.
func (e *Export) readSegments(f *fields) {
	n, d := f.keys["segments"], f.d
	if n == nil {
		return
	}
	any := &fields{d: d, node: n, keys: f.keys, all: f.all}
	groups := []string{"segments"}
	switch n.(type) {
	case *ast.MappingNode, *ast.MappingValueNode:
		any, groups = d.mapping(n, "any", "all", "none"), []string{"any", "all", "none"}
		e.All, e.None = any.texts("all"), any.texts("none")
	}
	for _, group := range groups {
		for i, g := range any.texts(group) {
			if slices.Contains(e.Segments, g) {
				d.fail(d.list(any.keys[group])[i], "segment %q is named twice", g)
				continue
			}
			e.Segments = append(e.Segments, g)
		}
	}
	if len(e.Segments) == len(e.None) {
		d.fail(n, "an export needs at least one segment whose members are wanted: a list, or { any: […], all: […], none: […] }")
	}
}
