package config

import (
	"maps"
	"slices"
	"strconv"
	"strings"

	"github.com/goccy/go-yaml/ast"

	"segsync/connector"
)

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

// Of names the export's list for people.
func (e *Export) Of() string { return connector.Export{List: e.List, Named: e.Named}.Of() }
