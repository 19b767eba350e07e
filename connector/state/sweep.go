package state

import (
	"slices"
	"time"

	"segsync/connector/state/arena"
)

// Sweep ends the memberships of some people in segments of a source (by place in Source.Segments) whose standing record is
// none of those that were read: mentioned says whether the one at a position was. It goes on from a slot, and says where to go
// on; 0: all were looked at. n is how many memberships have ended. Their lists are left through the guard. Those of segments that
// keep people out of a list (Export.None) do not end: nobody is let in because nothing is said of them.
func (t *Table) Sweep(source int, segments []int, mentioned func(topic uint32, partition int32, offset int64) bool, from uint32, now time.Time) (next uint32, n int) {
	src := &t.compiled.sources[source]
	end := min(from+arena.ChunkLen, t.store.people.Len())
	for pi := from; pi < end; pi++ {
		n += t.sweepPerson(pi, src, segments, mentioned)
	}
	t.Refresh(now)
	if end == t.store.people.Len() {
		return 0, n
	}
	return end, n
}

func (t *Table) sweepPerson(pi uint32, src *sourcePlan, segments []int, mentioned func(topic uint32, partition int32, offset int64) bool) (n int) {
	p := t.person(pi)
	defer t.endPerson(p)
	if p.source != src.number {
		return 0
	}
	for i := range p.memberships {
		m := &p.memberships[i]
		if m.in && len(src.bars[m.segment]) == 0 && slices.ContainsFunc(segments, func(g int) bool { return src.segments[g] == m.segment }) && !mentioned(m.stamp.Topic, m.stamp.Partition, m.stamp.Offset) {
			m.in, n = false, n+1
		}
	}
	if n == 0 {
		return 0
	}
	t.store.storePerson(pi, p)
	if slot := t.store.people.At(pi); slot.contact != 0 {
		t.moved(slot.contact - 1)
		t.agenda.touch(slot.contact - 1)
	}
	return n
}
