package main

import (
	"context"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"
	"text/tabwriter"
	"time"

	"segsync/connector"
	"segsync/mapping"
	"segsync/sink"
	"segsync/sink/sendinblue"
)

// sample shows how a record is mapped for one connection.
type sample struct {
	out    io.Writer
	cfg    *connector.Config
	source int
	masked bool
	told   bool // the account has told its attributes' types
	// lookup asks the account for a contact; nil: it is not asked.
	lookup func(address string) (blocked bool, lists []int64, err error)
}

// ask lets the account tell the types of attributes, and what it holds of people. The client is to be closed.
func (s *sample) ask(ctx context.Context, w *wiring) (closing func()) {
	options, err := w.api(w.c.Connection(s.cfg.Name))
	if err != nil {
		return func() {}
	}
	api := sendinblue.New(options)
	ctx, cancel := context.WithTimeout(ctx, accountPatience)
	closing = func() { cancel(); api.Close() }
	if _, err := connector.FindLists(ctx, s.cfg); err != nil {
		s.line("note  %s: it is shown as list 0\n", err)
	}
	types, err := api.Attributes(ctx)
	if err != nil {
		return closing
	}
	s.lookup = func(address string) (bool, []int64, error) { return api.Lookup(ctx, address) }
	all := s.cfg.Sources[s.source].Spec.Attributes
	for i := range all {
		of := types[all[i].Name]
		all[i].Type, all[i].Options = mapping.AttributeType(of.Type), of.Options
	}
	s.told = true
	return closing
}

// tell explains a record, with what the account says unless it is not to be asked.
func (s *sample) tell(ctx context.Context, w *wiring, r *mapping.Record, offline bool) error {
	if !offline {
		defer s.ask(ctx, w)()
	}
	return s.explain(r)
}

// explain shows a record's way. Its error says that the record would be a dead letter, or stop the source.
func (s *sample) explain(r *mapping.Record) error {
	source := &s.cfg.Sources[s.source]
	m, err := mapping.NewMapper(source.Spec, source.Value, source.Key)
	if err != nil {
		return err
	}
	x := m.Explain(r)
	s.line("connection %s, source %s: %d bytes\n", s.cfg.Name, source.Name, len(r.Value))
	if x.Decoded != nil {
		s.line("\ndecoded\n  %s\n", strings.ReplaceAll(mapping.Render(x.Decoded, s.masked), "\n", "\n  "))
	}
	s.steps(x.Steps)
	for _, lack := range x.Result.Lacks {
		s.line("note  the record's schema has no field %s: it is null\n", lack)
	}
	if x.Err != nil {
		s.line("\nThis record would be a dead letter, or wait: %s\n", x.Err)
		return fmt.Errorf("the record cannot be mapped: %w", x.Err)
	}
	s.result(source, x.Result)
	if !s.told {
		s.line("note  the account was not asked, or did not answer: attributes are shown as texts\n")
	}
	s.line("note  nothing was sent\n")
	return nil
}

func (s *sample) line(format string, args ...any) { _, _ = fmt.Fprintf(s.out, format, args...) }

// shownPlain are expressions whose values are never masked: segments and times.
var shownPlain = []string{" segment", " time", " memberships", " joins", " leaves", " until", " sequence"}

// steps shows each expression with its value, or why it has none.
func (s *sample) steps(all []mapping.Step) {
	if len(all) == 0 {
		return
	}
	s.line("\nexpressions\n")
	t := tabwriter.NewWriter(s.out, 0, 0, 2, ' ', 0)
	for i := range all {
		step := &all[i]
		plain := slices.ContainsFunc(shownPlain, func(what string) bool { return strings.HasSuffix(step.Place, what) })
		value := strings.ReplaceAll(mapping.Render(step.Value, s.masked && !plain), "\n", " ")
		switch all, list := step.Value.([]any); {
		case list && strings.HasSuffix(step.Place, " each"):
			value = fmt.Sprintf("%d items", len(all))
		case step.Err != nil:
			value = "none: " + step.Err.Error()
			if step.JSON != nil {
				value += "; sent without it"
			}
		case step.Value == nil && strings.Contains(step.Place, "attribute "):
			value = "null: what stands in the account stays"
		}
		_, _ = fmt.Fprintf(t, "  %s\t%s\t%s\n", step.Place, step.Expr, value)
	}
	_ = t.Flush()
}

// peopleShown is how many people of a record are shown.
const peopleShown = 5

// result shows what the record says of people, and the requests that this would lead to.
func (s *sample) result(source *connector.Source, r *mapping.Result) {
	if len(r.Changes) == 0 {
		s.line("\nIt says nothing of anybody: no event's when is true.\n")
	}
	if r.BadAddress() {
		s.line("\nThe address is none: it would be a dead letter (invalid_address); the memberships move all the same.\n")
	}
	for i := range r.Changes[:min(len(r.Changes), peopleShown)] {
		c := &r.Changes[i]
		s.line("\nperson %s at %s\n", s.mask(c.Person), order(source, c.Time))
		in, out := map[string]bool{}, map[string]bool{}
		for _, say := range c.Memberships {
			segment := source.Spec.Segments[say.Segment]
			(map[bool]map[string]bool{true: in, false: out})[say.In][segment] = true
			if say.Until != 0 {
				s.line("  %s lapses at %s\n", segment, time.Unix(say.Until, 0).UTC().Format(time.RFC3339))
			}
		}
		if c.Whole || r.Tombstone {
			for _, segment := range source.Spec.Segments {
				if !in[segment] {
					out[segment] = true
				}
			}
		}
		s.line("  in      %s\n  out of  %s\n", names(in), names(out))
		s.requests(source, r, c, in, out)
	}
	if n := len(r.Changes) - peopleShown; n > 0 {
		s.line("\nand %d more people\n", n)
	}
}

// order is what orders a change: a time, or a sequence number.
func order(source *connector.Source, at int64) string {
	if source.Spec.Events[0].Sequence != "" {
		return fmt.Sprint("number ", at)
	}
	return time.Unix(0, at).UTC().Format(time.RFC3339Nano)
}

func names(all map[string]bool) string {
	if len(all) == 0 {
		return "none that an export asks for"
	}
	return strings.Join(slices.Sorted(maps.Keys(all)), ", ")
}

// requests shows what would be sent for somebody who was in no list that they enter, and in those that they leave.
func (s *sample) requests(source *connector.Source, r *mapping.Result, c *mapping.Change, in, out map[string]bool) {
	p := r.Profile(c)
	if p == nil || p.Address == "" {
		s.line("  no address in this record: nothing can be sent before one is known\n")
		return
	}
	write := sink.Request{Kind: sink.Upsert, Contacts: []sink.Contact{{Address: s.mask(p.Address)}}}
	var leaves []int64
	asked, creates := map[string]bool{}, false
	for i := range s.cfg.Exports {
		e := &s.cfg.Exports[i]
		if e.Source != s.source {
			continue
		}
		bars := func(g string) bool { return slices.Contains(e.None, g) }
		among := func(segments map[string]bool, which func(g string) bool) bool {
			return slices.ContainsFunc(e.Segments, func(g string) bool { return segments[g] && which(g) })
		}
		wants := func(g string) bool { return !bars(g) }
		switch {
		case among(in, bars):
			s.line("  export %s: none of %s may be in the list, whatever else they are in\n", e.Name, strings.Join(e.None, ", "))
			leaves = append(leaves, e.List)
		case among(in, wants):
			if len(e.All)+len(e.None) > 0 {
				s.line("  export %s: if they are in all of [%s] and in none of [%s], which other records may have said\n", e.Name, strings.Join(e.All, ", "), strings.Join(e.None, ", "))
			}
			write.Lists = append(write.Lists, e.List)
			creates = creates || !e.OnlyExisting
			for _, a := range e.Attributes {
				asked[a] = true
			}
		case among(out, wants):
			leaves = append(leaves, e.List)
		}
	}
	if len(write.Lists) > 0 && !creates {
		s.line("  if the account has the contact: only_existing lets none be created\n")
		write.Kind = sink.Update
	}
	s.before(p.Address, append(slices.Clone(write.Lists), leaves...))
	if len(write.Lists) > 0 {
		write.Lists = sorted(write.Lists)
		write.Contacts[0].Attributes = s.attributes(source, p, asked)
		s.request(&write)
	}
	for _, list := range sorted(leaves) {
		if !slices.Contains(write.Lists, list) {
			s.line("  unless another segment of the export keeps them:\n")
			s.request(&sink.Request{Kind: sink.Remove, Unlink: []int64{list}, Contacts: write.Contacts})
		}
	}
}

// before says what the account holds of an address now, in the lists that the record concerns.
func (s *sample) before(address string, lists []int64) {
	if s.lookup == nil || len(lists) == 0 {
		return
	}
	blocked, are, err := s.lookup(address)
	if err != nil {
		s.line("  before  the account does not say\n")
		return
	}
	var told []string
	for _, l := range sorted(lists) {
		told = append(told, map[bool]string{true: "in", false: "not in"}[slices.Contains(are, l)]+fmt.Sprintf(" list %d", l))
	}
	if blocked {
		told = append(told, "unsubscribed or blocked, and stays so")
	}
	s.line("  before  %s\n", strings.Join(told, ", "))
}

func sorted(lists []int64) []int64 {
	slices.Sort(lists)
	return slices.Compact(lists)
}

func (s *sample) attributes(source *connector.Source, p *mapping.Profile, asked map[string]bool) (all []sink.Attribute) {
	for _, v := range p.Values {
		name := source.Spec.Attributes[v.Attribute].Name
		if !asked[name] || v.JSON == nil {
			continue
		}
		value := v.JSON
		if s.masked && !slices.Contains([]string{"true", "false", sink.Empty}, string(value)) {
			value = []byte(`"***"`)
		}
		all = append(all, sink.Attribute{Name: name, Value: value})
	}
	slices.SortFunc(all, func(a, b sink.Attribute) int { return strings.Compare(a.Name, b.Name) })
	return all
}

func (s *sample) request(r *sink.Request) {
	method, path, body := sendinblue.Describe(r)
	s.line("  %s %s\n  %s\n", method, path, body)
}

func (s *sample) mask(text string) string {
	if !s.masked {
		return text
	}
	local, domain, address := strings.Cut(text, "@")
	if address {
		return mapping.Mask(local) + "@" + domain
	}
	return mapping.Mask(text)
}
