package config

import (
	"fmt"
	"regexp"
	"slices"
	"strings"
	"time"

	"github.com/goccy/go-yaml/ast"

	"segsync/connector"
	"segsync/mapping"
)

// Format is a wire format, with the files of its schemas.
type Format struct {
	Format  mapping.Format
	Schemas []string // files
}

// Source is a source of events.
type Source struct {
	at
	Name          string
	Topics        []string
	Regex         string
	Start         connector.Start
	OutOfRange    string
	Value, Key    Format
	Events        []mapping.Event
	Email         string
	Profiles      string // of people of whom no membership is known: keep, of_members; "" not said
	HaltWhen      string
	OnTombstone   string
	exprNodes     map[string]ast.Node // of its expressions, by their place
	TombstoneName string
	Preset        string // its name
	Filled        string // what it filled in
}

func readFormat(d *document, f *fields, key string, standard mapping.Format) Format {
	n, ok := f.keys[key]
	if !ok {
		return Format{Format: standard}
	}
	v := d.mapping(n, "format", "schema")
	words := []string{string(standard), "confluent", "single-object", "avro"}
	if key == "key" {
		words = append(words, "raw")
	}
	fc := Format{Format: mapping.Format(v.oneOf("format", words...)), Schemas: v.texts("schema")}
	if (fc.Format == mapping.Bare || fc.Format == mapping.SingleObject) && len(fc.Schemas) == 0 {
		d.fail(n, "format %s needs schema: a file with the Avro schema", fc.Format)
	}
	return fc
}

func readSource(d *document, n ast.Node) Source {
	f := d.mapping(n, "name", "topics", "topics_regex", "start", "out_of_range", "value", "key", "preset", "event", "email", "profiles", "on_tombstone", "tombstone_person", "halt_when")
	preset, filled := f.preset()
	f.need("name", "event")
	s := Source{
		Preset: preset, Filled: filled,
		at: at{d, n}, Name: f.text("name"), Topics: f.texts("topics"), Regex: f.text("topics_regex"), OutOfRange: f.oneOf("out_of_range", "halt", "earliest", "latest"),
		Value: readFormat(d, f, "value", mapping.Confluent), Key: readFormat(d, f, "key", mapping.Raw), Email: f.expression("email"),
		HaltWhen: f.expression("halt_when"), OnTombstone: f.oneOf("on_tombstone", "ignore", "remove_from_list", "delete_contact"), TombstoneName: f.expression("tombstone_person"),
	}
	for i, t := range s.Topics {
		if !topicName.MatchString(t) {
			d.fail(d.list(f.keys["topics"])[i], "a topic's name may hold letters, digits, '.', '_' and '-' only; a pattern is topics_regex")
		}
	}
	if (len(s.Topics) == 0) == (s.Regex == "") {
		d.fail(n, "source %q needs topics or topics_regex, one of them", s.Name)
	}
	if _, err := regexp.Compile(s.Regex); err != nil {
		d.fail(f.keys["topics_regex"], "topics_regex: %s", err)
	}
	if f.has("start") {
		start, err := ParseStart(f.text("start"), time.Time{})
		if err != nil {
			d.fail(f.keys["start"], "start must be earliest, latest or a time such as 2026-01-31T00:00:00Z")
		}
		s.Start = start
	}
	if f.has("profiles") {
		s.Profiles = f.oneOf("profiles", "keep", "of_members")
	}
	s.exprNodes = map[string]ast.Node{"email": f.keys["email"], "halt_when": f.keys["halt_when"], "tombstone_person": f.keys["tombstone_person"]}
	for i, e := range d.list(f.keys["event"]) {
		event, nodes := readEvent(d, e)
		s.Events = append(s.Events, event)
		for key, n := range nodes {
			s.exprNodes[fmt.Sprintf("event %d %s", i+1, key)] = n
		}
	}
	s.checkEvents(f)
	return s
}

func readEvent(d *document, n ast.Node) (mapping.Event, map[string]ast.Node) {
	f := d.mapping(n, "each", "when", "person", "segment", "member", "joins", "leaves", "memberships", "time", "sequence", "until", "group")
	e := mapping.Event{
		Each: f.expression("each"), When: f.expression("when"), Person: f.expression("person"), Segment: f.expression("segment"), Member: f.expression("member"),
		Joins: f.expression("joins"), Leaves: f.expression("leaves"), Memberships: f.expression("memberships"),
		Time: f.expression("time"), Sequence: f.expression("sequence"), Until: f.expression("until"), Groups: f.groups("group"),
	}
	f.need("person")
	some := e.Joins != "" || e.Leaves != ""
	switch one := e.Segment != "" || e.Member != ""; {
	case e.Memberships != "" && (one || some):
		d.fail(n, "memberships is the whole truth of a person: it excludes segment and member, joins and leaves")
	case one && some:
		d.fail(n, "an event has segment and member, or joins and leaves (lists of segments), not both")
	case one && (e.Segment == "" || e.Member == ""):
		d.fail(n, "segment and member go together")
	case !e.OfMemberships() && (e.Until != "" || e.Groups != nil):
		d.fail(n, "until and group are about memberships: the event has none")
	}
	if e.Time != "" && e.Sequence != "" {
		d.fail(f.keys["sequence"], "sequence orders events in place of time: leave time out")
	}
	return e, f.keys
}

// groups reads a list of segments, or several.
func (f *fields) groups(key string) (all [][]string) {
	n, ok := f.keys[key]
	if !ok {
		return nil
	}
	items := f.d.list(n)
	if len(items) > 0 {
		if _, several := items[0].(*ast.SequenceNode); !several {
			items = []ast.Node{n}
		}
	}
	for _, item := range items {
		var group []string
		for _, name := range f.d.list(item) {
			group = append(group, f.d.filled(name))
		}
		all = append(all, group)
	}
	if len(all) == 0 || slices.ContainsFunc(all, func(g []string) bool { return len(g) < 2 }) {
		f.d.fail(n, "group is a list of two segments or more, or several such lists: joining one leaves the others")
	}
	return all
}

// checkEvents checks what the events of a source say of each other.
func (s *Source) checkEvents(f *fields) {
	sequences, profiles := 0, 0
	for i := range s.Events {
		sequences += min(len(s.Events[i].Sequence), 1)
		if !s.Events[i].OfMemberships() {
			profiles++
		}
	}
	events := f.all["event"]
	switch {
	case sequences > 0 && sequences < len(s.Events):
		s.d.fail(events, "either all events of a source have a sequence, or none: a number and a time cannot be compared")
	case sequences > 0 && s.OnTombstone != "ignore":
		s.d.fail(f.keys["on_tombstone"], "on_tombstone and sequence do not go together: a record without a value has no number that orders it")
	case profiles > 0 && profiles == len(s.Events):
		s.d.fail(events, "no event speaks of memberships: one needs segment and member, joins or leaves (lists of segments), or memberships")
	case profiles > 0 && s.Profiles == "":
		s.d.fail(events, "an event without memberships carries the person's profile alone: say what becomes of those of people of whom no membership is known: profiles: keep (whichever comes first counts; each takes memory), or profiles: of_members (they are dropped)")
	}
}

// ParseStart reads earliest, latest, a time, or (with a now) a span back such as -7d.
func ParseStart(s string, now time.Time) (connector.Start, error) {
	switch s {
	case "earliest", "":
		return connector.Start{}, nil
	case "latest":
		return connector.Start{Latest: true}, nil
	}
	if rest, ok := strings.CutPrefix(s, "-"); ok && !now.IsZero() {
		if days, ok := strings.CutSuffix(rest, "d"); ok {
			d, err := time.ParseDuration(days + "h")
			return connector.Start{At: now.Add(-24 * d)}, err
		}
		d, err := time.ParseDuration(rest)
		return connector.Start{At: now.Add(-d)}, err
	}
	t, err := time.Parse(time.RFC3339, s)
	if err != nil {
		t, err = time.Parse(time.DateOnly, s)
	}
	return connector.Start{At: t}, err
}
