package state

import (
	"fmt"
	"slices"
	"time"

	"segsync/sink"
)

// reopen reads an open request back. Its contacts are in flight, or only pinned if it was freed.
func (t *Table) reopen(number uint64, parts map[string][]byte) error {
	r := &Request{Number: number, freed: t.journal.meta[freedKey(number)] != nil}
	for part, v := range parts {
		if part == "process" {
			rd := reader{b: v}
			rd.version()
			r.Process, r.process = rd.int(), true // others follow in rows of version 2 and 3
			if rd.err != nil {
				return rd.err
			}
			continue
		}
		r.parts++
		if err := readRequest(v, r, func(address []byte, hash uint64) {
			r.Taken = append(r.Taken, Taken{Contact: t.store.findContact(address), Hash: hash})
		}); err != nil {
			return err
		}
	}
	for i := range r.Taken {
		c := t.store.contacts.At(r.Taken[i].Contact)
		if r.freed {
			c.flags |= flagPinned
			continue
		}
		c.flags |= flagInFlight
		t.tally.counts.InFlight++
	}
	t.requests.open[number] = r
	return nil
}

// readRequest reads a part of an announcement into r, and shows take the contacts that the request holds.
func readRequest(row []byte, r *Request, take func(address []byte, hash uint64)) error {
	rd := reader{b: row}
	rd.version()
	r.Kind = sink.Kind(rd.uint())
	r.At = time.UnixMilli(rd.int())
	var lists [2][]int64
	for i := range lists {
		for range rd.count() {
			lists[i] = append(lists[i], rd.int())
		}
	}
	r.Lists, r.unlink = lists[0], lists[1]
	for rd.err == nil && len(rd.b) > 0 {
		if address, hash := rd.bytes(), rd.fixed64(); rd.err == nil {
			take(address, hash)
		}
	}
	return rd.err
}

// Rows about an import that does not end: its contacts are to be freed, and were.
func freeKey(number uint64) string  { return fmt.Sprintf("free/%016x", number) }
func freedKey(number uint64) string { return fmt.Sprintf("freed/%016x", number) }

// ToFree asks that the contacts of a list's imports be freed that were announced before a time, should the imports
// still not have ended. It is for a table that was read by Peek.
func (t *Table) ToFree(list int64, before time.Time) (imports, contacts int) {
	for _, r := range t.requests.open {
		if r.Kind == sink.Import && !r.freed && r.At.Before(before) && slices.Contains(r.Lists, list) {
			t.SetMeta(freeKey(r.Number), EncodeTime(before))
			imports++
			contacts += len(r.Taken)
		}
	}
	return imports, contacts
}

// Free lets the contacts of an import go that does not end, if that was asked for: they are unknown, and wait for it no
// more. The import stays open. Until it ends they stay in the table, however they stand, and none is deleted: when it
// does (Abandon), they are unknown once more, for it may have undone what was sent meanwhile.
func (t *Table) Free(r *Request, now time.Time) bool {
	if t.journal.meta[freeKey(r.Number)] == nil || r.freed {
		return false
	}
	r.freed = true
	t.SetMeta(freeKey(r.Number), nil)
	t.SetMeta(freedKey(r.Number), EncodeTime(now))
	for i := range r.Taken {
		t.land(r.Taken[i].Contact)
		t.store.contacts.At(r.Taken[i].Contact).flags |= flagPinned
	}
	t.unknow(r, now)
	return true
}

// forgetFreed removes what says that an import's contacts are to be freed, or were.
func (t *Table) forgetFreed(r *Request) {
	for _, key := range []string{freeKey(r.Number), freedKey(r.Number)} {
		if t.journal.meta[key] != nil {
			t.SetMeta(key, nil)
		}
	}
}

// Hanging is about the imports that were announced before a time and have not ended: whether there are any, and how many
// contacts wait for them.
func (t *Table) Hanging(before time.Time) (hangs bool, contacts int) {
	for _, r := range t.requests.open {
		if r.Kind == sink.Import && r.At.Before(before) {
			hangs = true
			if !r.freed {
				contacts += len(r.Taken)
			}
		}
	}
	return hangs, contacts
}

// Freed says whether an import's contacts no longer wait for it.
func (r *Request) Freed() bool { return r.freed }

// Abandon ends a request whose outcome will never be known: its contacts are unknown from now on.
func (t *Table) Abandon(r *Request, now time.Time) {
	for i := range r.Taken {
		if r.freed { // they may be in flight elsewhere
			t.store.contacts.At(r.Taken[i].Contact).flags &^= flagPinned
		} else {
			t.land(r.Taken[i].Contact)
		}
	}
	t.unknow(r, now)
	t.Close(r)
	t.releaseSettled(now)
}

// unknow makes the contacts of a request unknown.
func (t *Table) unknow(r *Request, now time.Time) {
	for i := range r.Taken {
		ci := r.Taken[i].Contact
		v := t.view(ci)
		v.unanswered(r, i, now)
		v.store()
		t.agenda.remind(ci, v.row.unknownSince+t.cfg.LateApply.Milliseconds())
		v.end()
		w := t.agenda.waitOf(ci, now)
		w.reason = "unknown"
		t.agenda.waitUntil(ci, w, millis(now)+t.cfg.Rest.Milliseconds())
		t.reconsider(ci, now)
	}
}
