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

// Source is a namespace of people. Changes name its segments and attributes by their place here.
type Source struct {
	Name       string
	Segments   []string
	Attributes []string
	// Renamed is how often each of the segments was taken out of the configuration and named again: what was said of it
	// before is not known to hold any more.
	Renamed []int
}

// Export is one list that segments of a source feed.
type Export struct {
	Name       string
	Source     int
	Segments   []string
	List       int64
	Attributes []string
	Delete     bool // on_exit: delete_contact
	Guard      Guard
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
}

// sourcePlan is a source with durable numbers.
type sourcePlan struct {
	number     uint32
	segments   []uint32            // by place in Source.Segments
	attributes []uint32            // by place in Source.Attributes
	feeds      map[uint32][]int    // segment to exports
	former     map[uint32][]uint32 // segment to its numbers before it was named again
	renamed    map[uint32]uint32   // the reverse
}

// compile gives everything of the configuration its durable number. It is called once the table is restored.
func (t *Table) compile() {
	for _, e := range t.cfg.Exports {
		p := exportPlan{Export: e}
		names := slices.Clone(e.Attributes)
		slices.Sort(names)
		for _, a := range names {
			p.attributes = append(p.attributes, t.number("attribute", a))
		}
		t.exports = append(t.exports, p)
		t.deletes[e.List] = t.deletes[e.List] || e.Delete
		t.guards[e.List] = e.Guard
		t.lists = append(t.lists, e.List)
	}
	for _, l := range t.cfg.Retired {
		if !slices.Contains(t.lists, l) {
			t.guards[l] = Guard{Share: 0.3, AtLeast: 100}
			t.lists = append(t.lists, l)
		}
	}
	slices.Sort(t.lists)
	t.lists = slices.Compact(t.lists)
	for i, s := range t.cfg.Sources {
		p := sourcePlan{number: t.number("source", s.Name), feeds: map[uint32][]int{}, former: map[uint32][]uint32{}, renamed: map[uint32]uint32{}}
		current := map[string]uint32{}
		for place, g := range s.Segments {
			times := 0
			if place < len(s.Renamed) {
				times = s.Renamed[place]
			}
			n := t.number("segment", segmentWord(s.Name, g, times))
			p.segments, current[g] = append(p.segments, n), n
			for before := range times {
				if was, ok := t.names.numbers["segment\x00"+segmentWord(s.Name, g, before)]; ok {
					p.former[n] = append(p.former[n], was)
					p.renamed[was] = n
				}
			}
		}
		for _, a := range s.Attributes {
			p.attributes = append(p.attributes, t.number("attribute", a))
		}
		for e := range t.exports {
			if t.exports[e].Source != i {
				continue
			}
			for _, g := range t.exports[e].Segments {
				n, ok := current[g]
				if !ok {
					n = t.number("segment", segmentWord(s.Name, g, 0))
				}
				p.feeds[n] = append(p.feeds[n], e)
			}
		}
		t.sources = append(t.sources, p)
		t.sourceOf[p.number] = i
	}
	for n := range t.names.of {
		kind, name := t.names.split(uint32(n))
		unique := kind == "attribute" && t.cfg.Unique != nil && t.cfg.Unique(name)
		t.unique = append(t.unique, unique)
		if unique {
			t.uniques = append(t.uniques, uint32(n))
		}
	}
	slices.SortFunc(t.uniques, func(a, b uint32) int { return cmp.Compare(t.attributeName(a), t.attributeName(b)) })
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

func (t *Table) attributeName(n uint32) string { _, name := t.names.split(n); return name }
