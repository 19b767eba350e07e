package state

import (
	"fmt"
	"slices"
	"time"

	"segsync/sink"
)

// readRequest reads the rows of an open request back; its contacts are handed to each.
func readRequest(number uint64, parts map[string][]byte, each func(address []byte, hash uint64)) (*Request, error) {
	r := &Request{Number: number}
	for part, v := range parts {
		rd := reader{b: v}
		rd.version()
		if part == "process" {
			r.Process, r.process = rd.int(), true
			continue
		}
		r.parts++
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
			address, hash := rd.bytes(), rd.fixed64()
			if rd.err != nil {
				break
			}
			each(address, hash)
		}
		if rd.err != nil {
			return nil, rd.err
		}
	}
	return r, nil
}

// reopen reads an open request back and puts its contacts in flight, or lets them go if it was freed.
func (t *Table) reopen(number uint64, parts map[string][]byte, now time.Time) (*Request, error) {
	freed := string(t.meta[freedKey(number)])
	var addresses [][]byte
	var taken []Taken
	r, err := readRequest(number, parts, func(address []byte, hash uint64) {
		if freed != "" {
			addresses = append(addresses, slices.Clone(address))
		}
		if freed != isFreed {
			taken = append(taken, Taken{Contact: t.findContact(address), Hash: hash})
		}
	})
	if err != nil {
		return nil, err
	}
	r.Taken, r.freed = taken, addresses
	t.open[number] = r
	switch freed {
	case "":
		for i := range taken {
			t.contacts.at(taken[i].Contact).flags |= flagInFlight
			t.Counts.InFlight++
		}
	case toBeFreed:
		t.unknow(r, now)
		t.SetMeta(freedKey(number), []byte(isFreed))
	}
	return r, nil
}

// The row of an import whose contacts no longer wait for it.
const (
	toBeFreed = "asked" // by Free
	isFreed   = "freed" // they were made unknown
)

func freedKey(number uint64) string { return fmt.Sprintf("freed/%016x", number) }

// Free lets the contacts of a list's imports go that were announced before a time and have not ended: the next owner
// makes them unknown and sends them again. It follows the imports all the same: when one ends they are unknown once
// more, for it may have undone what was sent meanwhile. It is for a table that was read by Peek.
func (t *Table) Free(list int64, before time.Time) (imports, contacts int, err error) {
	for n, parts := range t.parts {
		held := 0
		r, err := readRequest(n, parts, func([]byte, uint64) { held++ })
		if err != nil {
			return imports, contacts, err
		}
		if r.Kind != sink.Import || !slices.Contains(r.Lists, list) || r.At.After(before) || t.meta[freedKey(n)] != nil {
			continue
		}
		t.SetMeta(freedKey(n), []byte(toBeFreed))
		imports++
		contacts += held
	}
	return imports, contacts, nil
}

// Freed says whether an import's contacts no longer wait for it.
func (r *Request) Freed() bool { return len(r.freed) > 0 }

// Abandon ends a request whose outcome will never be known: its contacts are unknown from now on.
func (t *Table) Abandon(r *Request, now time.Time) {
	if r.Freed() { // they may be in flight elsewhere, or gone: then what lands late is sent over later
		r.Taken = nil
		for _, address := range r.freed {
			r.Taken = append(r.Taken, Taken{Contact: t.findContact(address)})
		}
		t.SetMeta(freedKey(r.Number), nil)
	} else {
		for i := range r.Taken {
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
		t.loadContact(ci, &t.row)
		t.unanswered(ci, &t.row, r, i, now)
		t.storeContact(ci, &t.row)
		t.remind(ci, t.row.unknownSince+t.cfg.LateApply.Milliseconds())
		w, ok := t.waits[ci]
		if !ok {
			w = &wait{failing: millis(now)}
			t.waits[ci] = w
		}
		w.reason = "unknown"
		t.waitUntil(ci, w, millis(now)+t.cfg.Rest.Milliseconds())
		t.reconsider(ci, now)
	}
}
