package state

import (
	"slices"
	"strings"
	"time"

	"segsync/sink"
)

// CallTold is a call that concerned a contact.
type CallTold struct {
	Kind      string    `json:"kind"`
	Enters    []int64   `json:"enters,omitempty"`
	Leaves    []int64   `json:"leaves,omitempty"`
	Contacts  int       `json:"contacts"`          // that it was for, of one part of its announcement
	Announced time.Time `json:"announced"`         // in a checkpoint: it was made after that
	Settled   time.Time `json:"settled,omitzero"`  // when what came of it was written
	Result    string    `json:"result"`            // "under way" until then
	Process   int64     `json:"process,omitempty"` // of an import
	hash      uint64    // of the attributes that it set
}

// Calls gathers, from the rows of the table's topic in their order, the calls that concerned a contact, and what came of each: an
// announcement says what is sent, and the contact's row, in the checkpoint that takes the announcement away, what came of it. What
// compaction has removed is not told.
type Calls struct {
	All     []*CallTold
	Address string

	open map[string]*CallTold // by the request
	row  contactRow           // of the contact
}

// Row takes a row, written at a time.
func (c *Calls) Row(key, row []byte, at time.Time) error {
	k := string(key)
	switch {
	case k == "c/"+c.Address:
		return c.row.decode(row)
	case !strings.HasPrefix(k, "r/"):
		return nil
	}
	if c.open == nil {
		c.open = map[string]*CallTold{}
	}
	request, part, _ := strings.Cut(k, ".")
	call := c.open[request]
	switch {
	case part == "process" && call != nil && row != nil:
		r := reader{b: row}
		r.version()
		call.Process = r.int()
		return r.err
	case part == "process":
	case row == nil && call != nil:
		call.Settled, call.Result = at, c.result(call)
		delete(c.open, request)
	case row != nil:
		return c.announced(request, row, at)
	}
	return nil
}

// announced notes a request that holds the contact.
func (c *Calls) announced(request string, row []byte, at time.Time) error {
	r, holds, hash, n := Request{}, false, uint64(0), 0
	err := readRequest(row, &r, func(address []byte, h uint64) {
		n++
		if string(address) == c.Address {
			holds, hash = true, h
		}
	})
	if !holds {
		return err
	}
	c.open[request] = &CallTold{Kind: r.Kind.String(), Enters: r.Lists, Leaves: r.unlink, Contacts: n, Announced: at, Result: "under way", hash: hash}
	c.All = append(c.All, c.open[request])
	return err
}

// result is what came of a call, by the contact's row.
func (c *Calls) result(call *CallTold) string {
	r := &c.row
	is := func(want ...delivery) func(list int64) bool {
		return func(list int64) bool { return slices.Contains(want, r.state(list)) }
	}
	done := !slices.ContainsFunc(call.Enters, func(l int64) bool { return !is(in)(l) }) && !slices.ContainsFunc(call.Leaves, func(l int64) bool { return !is(out, absent)(l) })
	switch {
	case r.rejected == NoContact && r.rejectedAt >= millis(call.Announced):
		return "the account has no such contact"
	case r.rejected != "" && r.rejectedAt >= millis(call.Announced):
		return "rejected: " + r.rejected
	case slices.ContainsFunc(slices.Concat(call.Enters, call.Leaves), is(unknown, doubtful)), r.unknownSince >= millis(call.Announced):
		return "no answer: it is said once more"
	case call.Kind == sink.Look.String():
		return "looked at"
	case !done, len(call.Enters)+len(call.Leaves) == 0 && call.Kind != sink.Delete.String() && r.hash != call.hash:
		return "not done"
	}
	return "done"
}
