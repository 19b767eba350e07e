package state

import (
	"encoding/binary"
	"slices"
	"strconv"
)

// countsKey is the row that says how many people and contacts have a row, as of the checkpoint that wrote it last.
const countsKey = "counts"

// Missing compares a table that was read back with what its last checkpoint said of it: how many rows of people and
// contacts are there, and how many there should be. counted is false if no checkpoint has said so.
func (t *Table) Missing() (have, want int, counted bool) {
	r := reader{b: t.journal.meta[countsKey]}
	people, contacts, names := int(r.uint()), int(r.uint()), int(r.uint())
	if r.err != nil {
		return 0, 0, false
	}
	have, want = int(t.store.people.Len())+t.journal.stored+t.names.named(), people+contacts+names
	return have, want, have <= want // more were written by a version that did not count
}

// padNames keeps the numbers of names that were lost from being given again: what has them means nothing any more.
func (t *Table) padNames() {
	r := reader{b: t.journal.meta[countsKey]}
	_, _, _, names := r.uint(), r.uint(), r.uint(), int(r.uint())
	for r.err == nil && len(t.names.of) < names {
		t.names.of = append(t.names.of, "")
	}
}

// Position is where reading of a partition stands in the rows: the next offset, -1 if they do not say.
func (t *Table) Position(topic uint32, partition int32) int64 {
	r := reader{b: t.journal.meta[positionKey(topic, partition)]}
	if next := r.int(); r.err == nil {
		return next
	}
	return -1
}

// SetPosition notes where reading of a partition stands, for the next checkpoint.
func (t *Table) SetPosition(topic uint32, partition int32, next int64) {
	t.SetMeta(positionKey(topic, partition), binary.AppendVarint(nil, next))
}

func positionKey(topic uint32, partition int32) string {
	return "pos/" + strconv.FormatUint(uint64(topic), 10) + "/" + strconv.FormatInt(int64(partition), 10)
}

// forgetNameless drops what a contact's row says of attributes whose names were lost: nothing can be sent for them.
func (v *view) forgetNameless() {
	r, lost := &v.row, v.t.names.lost
	before := len(r.standing) + len(r.refused)
	r.standing = slices.DeleteFunc(r.standing, func(s standing) bool { return lost(s.name) })
	r.refused = slices.DeleteFunc(r.refused, func(f refusal) bool { return lost(f.name) })
	if len(r.standing)+len(r.refused) != before {
		r.hash = 0
		v.store()
	}
}
