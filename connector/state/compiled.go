package state

import (
	"cmp"
	"slices"
	"strconv"
	"time"
)

// Config is what the table is for: the exports of one connection.
type Config struct {
	Sources []Source
	Exports []Export
	// Retired lists once fed by an export that now feeds another: nobody is wanted there.
	Retired []int64
	// Unique says whether no two contacts may have the same value of an attribute.
	Unique func(attribute string) bool
	// RowMost bounds a person's row further, in bytes: what the table's topic takes. 0: it does not.
	RowMost int
	// PartMost bounds a part of an announcement likewise.
	PartMost int
	// Looks is how many looks fit before a write; 0: any.
	Looks int
	// Rest is how long an unanswered contact waits before it is sent again; LateApply how long after it the
	// destination may still apply it.
	Rest, LateApply time.Duration
	// RetryRefused is how long a refused attribute rests before it is tried again.
	RetryRefused time.Duration
}

// unique says whether no two contacts may have the same value of an attribute.
func (c *Config) unique(attribute string) bool { return c.Unique != nil && c.Unique(attribute) }

// Source is a namespace of people. Changes name its segments and attributes by their place here.
type Source struct {
	Name       string
	Segments   []string
	Attributes []string
	// Renamed is how often each of the segments was taken out of the configuration and named again: what was said of it
	// before is not known to hold any more.
	Renamed []int
	// KeepProfiles keeps those of people of whom no membership is known.
	KeepProfiles bool
}

// Export is one list that segments of a source feed.
type Export struct {
	Name         string
	Source       int
	Segments     []string // any of which is enough, but for those that All and None name again
	All, None    []string // the person must be in all of these, in none of those
	List         int64
	Attributes   []string
	Delete       bool // on_exit: delete_contact
	OnlyOwn      bool // who leaves is taken out only if we put them in
	OnlyExisting bool // no contact is created for its list
	Guard        Guard
}

// Guard withholds removals of a list when those of the last hour exceed a share of the people delivered in.
type Guard struct {
	Share   float64
	AtLeast int
}

// exportPlan is an export with durable numbers.
type exportPlan struct {
	Export
	attributes []uint32 // sorted by the attribute's name
	rule       *rule    // nil: any segment is enough
}

// rule is whose members an export wants, where being in any of its segments is not enough.
type rule struct {
	any, all, none []uint32
}

// holds says whether a person of these segments is wanted, unless they are barred.
func (r *rule) holds(in []uint32) bool {
	is := func(n uint32) bool { return slices.Contains(in, n) }
	return (len(r.any) == 0 || slices.ContainsFunc(r.any, is)) && !slices.ContainsFunc(r.all, func(n uint32) bool { return !is(n) })
}

// bars says whether a person of these segments must not be in the list.
func (r *rule) bars(in []uint32) bool {
	return slices.ContainsFunc(r.none, func(n uint32) bool { return slices.Contains(in, n) })
}

// sourcePlan is a source with durable numbers.
type sourcePlan struct {
	number     uint32
	segments   []uint32            // by place in Source.Segments
	attributes []uint32            // by place in Source.Attributes
	feeds      map[uint32][]int    // segment to exports whose lists its members may be in
	bars       map[uint32][]int    // segment to exports whose lists its members are not in
	ruled      []int               // exports with a rule
	former     map[uint32][]uint32 // segment to its numbers before it was named again
	renamed    map[uint32]uint32   // the reverse
}

// compiled is the configuration with durable numbers.
type compiled struct {
	exports  []exportPlan
	sources  []sourcePlan
	sourceOf map[uint32]int // source number to its place
	lists    []int64        // of the exports, and those that were; sorted
	deletes  map[int64]bool
	creates  map[int64]bool // some export of the list may create contacts
	guards   map[int64]Guard
	unique   []bool   // by name number
	uniques  []uint32 // attributes, by name
}

// compile gives everything of the configuration its durable number. It is called once the table is restored.
func compile(cfg *Config, names *names) *compiled {
	c := &compiled{sourceOf: map[uint32]int{}, deletes: map[int64]bool{}, creates: map[int64]bool{}, guards: map[int64]Guard{}}
	for _, e := range cfg.Exports {
		p := exportPlan{Export: e}
		sorted := slices.Clone(e.Attributes)
		slices.Sort(sorted)
		for _, a := range sorted {
			p.attributes = append(p.attributes, names.number("attribute", a))
		}
		c.exports = append(c.exports, p)
		c.deletes[e.List] = c.deletes[e.List] || e.Delete
		c.creates[e.List] = c.creates[e.List] || !e.OnlyExisting
		c.guards[e.List] = e.Guard
		c.lists = append(c.lists, e.List)
	}
	for _, l := range cfg.Retired {
		if !slices.Contains(c.lists, l) {
			c.guards[l] = Guard{Share: 0.3, AtLeast: 100}
			c.lists = append(c.lists, l)
		}
	}
	slices.Sort(c.lists)
	c.lists = slices.Compact(c.lists)
	for i := range cfg.Sources {
		p := c.source(i, &cfg.Sources[i], names)
		c.sources = append(c.sources, p)
		c.sourceOf[p.number] = i
	}
	for n := range names.of {
		kind, name := names.split(uint32(n))
		unique := kind == "attribute" && cfg.unique(name)
		c.unique = append(c.unique, unique)
		if unique {
			c.uniques = append(c.uniques, uint32(n))
		}
	}
	slices.SortFunc(c.uniques, func(a, b uint32) int { return cmp.Compare(names.attribute(a), names.attribute(b)) })
	return c
}

func (c *compiled) source(i int, s *Source, names *names) sourcePlan {
	p := sourcePlan{number: names.number("source", s.Name), feeds: map[uint32][]int{}, bars: map[uint32][]int{}, former: map[uint32][]uint32{}, renamed: map[uint32]uint32{}}
	current := map[string]uint32{}
	for place, g := range s.Segments {
		times := 0
		if place < len(s.Renamed) {
			times = s.Renamed[place]
		}
		n := names.number("segment", segmentWord(s.Name, g, times))
		p.segments, current[g] = append(p.segments, n), n
		for before := range times {
			if was, ok := names.numbers["segment\x00"+segmentWord(s.Name, g, before)]; ok {
				p.former[n] = append(p.former[n], was)
				p.renamed[was] = n
			}
		}
	}
	for _, a := range s.Attributes {
		p.attributes = append(p.attributes, names.number("attribute", a))
	}
	for e := range c.exports {
		if c.exports[e].Source != i {
			continue
		}
		x := &c.exports[e]
		if len(x.All)+len(x.None) > 0 {
			x.rule = &rule{}
			p.ruled = append(p.ruled, e)
		}
		for _, g := range x.Segments {
			n, ok := current[g]
			if !ok {
				n = names.number("segment", segmentWord(s.Name, g, 0))
			}
			p.follow(x, e, g, n)
		}
	}
	return p
}

// follow notes what a segment means for an export.
func (p *sourcePlan) follow(x *exportPlan, e int, segment string, n uint32) {
	switch {
	case slices.Contains(x.None, segment):
		p.bars[n] = append(p.bars[n], e)
		x.rule.none = append(x.rule.none, n)
		return
	case slices.Contains(x.All, segment):
		x.rule.all = append(x.rule.all, n)
	case x.rule != nil:
		x.rule.any = append(x.rule.any, n)
	}
	p.feeds[n] = append(p.feeds[n], e)
}

// isUnique says whether no two contacts may have the same value of an attribute.
func (c *compiled) isUnique(name uint32) bool { return int(name) < len(c.unique) && c.unique[name] }

// guarded says whether the removals of a list are weighed.
func (c *compiled) guarded(list int64) bool { return c.guards[list].Share > 0 }

// Lists are those of the exports, and those that were.
func (t *Table) Lists() []int64 { return t.compiled.lists }

// Guarded lists the lists whose removals are weighed.
func (t *Table) Guarded() (all []int64) {
	for _, l := range t.compiled.lists {
		if t.compiled.guarded(l) {
			all = append(all, l)
		}
	}
	return all
}

// KnowsSegment says whether people may have memberships of a segment that were never taken out of the configuration.
func (t *Table) KnowsSegment(source, segment string) bool {
	_, ok := t.names.numbers["segment\x00"+segmentWord(source, segment, 0)]
	return ok
}

// segmentWord names a segment; one that was named again is another.
func segmentWord(source, segment string, times int) string {
	if times == 0 {
		return source + "\x00" + segment
	}
	return source + "\x00" + segment + "\x00" + strconv.Itoa(times)
}
