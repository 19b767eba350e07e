package mapping

import (
	"errors"
	"slices"
	"time"
)

// Event says how a record speaks of memberships, as expressions over the decoded record. One of: Segment and Member; Joins
// and Leaves, lists of segments, which leave the others alone; Memberships, the list of segments that the person is in, or a
// map of segment to boolean, as the whole truth. With none of these it carries the person's profile alone.
type Event struct {
	// Each is a list, or a map, about whose items the event is: item is at hand then, item.key and item.value of a map.
	Each                                        string
	When, Person                                string
	Segment, Member, Joins, Leaves, Memberships string
	Time                                        string
	Sequence                                    string     // a whole number that orders events in place of a time
	Until                                       string     // when what it joins lapses
	Groups                                      [][]string // of segments: joining one leaves the others of its group
}

// OfMemberships says whether an event speaks of memberships; else it carries a profile alone.
func (e *Event) OfMemberships() bool {
	return e.Segment != "" || e.Joins != "" || e.Leaves != "" || e.Memberships != ""
}

// Attribute is one attribute to be mapped.
type Attribute struct {
	Name    string
	Expr    string
	Type    AttributeType
	Options []string // what a category or a multiple choice takes; empty: anything
	Clear   bool     // a null empties it; otherwise a null leaves what stands
}

// Spec is a source's mapping.
type Spec struct {
	Events     []Event
	Email      string
	HaltWhen   string
	Tombstone  string // the person of a record without a value; "" its key
	Segments   []string
	Attributes []Attribute
}

// Record is what is mapped. Time is the record's own, Read when it was read, in nanoseconds since 1970.
type Record struct {
	Key, Value []byte
	Headers    map[string][]byte
	Topic      string
	Partition  int32
	Offset     int64
	Time       int64
	Read       int64
}

// A record's own time is believed from 2000 on (Kafka is younger) until a day ahead of our clock.
var sane = time.Date(2000, 1, 1, 0, 0, 0, 0, time.UTC).UnixNano()

const ahead = 24 * time.Hour

// written is when the record was written: its own time or, where a producer's clock has made that absurd, when it was
// read.
func (r *Record) written() int64 {
	if r.Time < sane || r.Read > 0 && r.Time > r.Read+ahead.Nanoseconds() {
		return max(r.Read, 0)
	}
	return r.Time
}

// Membership is one segment's say, by place in Spec.Segments.
type Membership struct {
	Segment int
	In      bool
	Until   int64 // when it lapses, in seconds since 1970; 0: never
	Time    int64 // of its event, as a change's; items of one record may have times of their own
}

// Change is what a record says of one person.
type Change struct {
	Person      string
	Time        int64 // nanoseconds since 1970, or a sequence number: of the whole truth, else of the latest event
	Memberships []Membership
	Whole       bool // what is not named is out
	Profile     int  // place in Result.Profiles; -1: it says nothing of what the person is
	entered     bool // some segment is joined, or all are named
	round       int  // the last one that has touched it
}

// Profile is what a record says of a person's address and attributes.
type Profile struct {
	Address string // "" none
	// BadAddress: it names an address that is none.
	BadAddress bool
	Values     []Value
}

// Value is a mapped attribute, by place in Spec.Attributes: a JSON literal, nil for a null that keeps.
type Value struct {
	Attribute int
	JSON      []byte
}

// Result is what a record maps to. Its slices are reused by the next call.
type Result struct {
	Changes   []Change
	Profiles  []Profile
	Tombstone bool
	Failures  []Failure // attributes that could not be mapped
	Costly    []int     // those among them that took too much work, by place in Spec.Attributes
	// Lacks are the fields that expressions name and the record's schema does not have: they are null. They are told of a
	// schema once.
	Lacks []string
}

// Profile is what a change says of the person; nil if nothing.
func (r *Result) Profile(c *Change) *Profile {
	if c.Profile < 0 {
		return nil
	}
	return &r.Profiles[c.Profile]
}

// BadAddress: an address is none. The memberships move all the same.
func (r *Result) BadAddress() bool {
	return slices.ContainsFunc(r.Profiles, func(p Profile) bool { return p.BadAddress })
}

// Failure is an attribute, by place in Spec.Attributes, that could not be mapped, and why, in a few words that carry nothing
// of the value.
type Failure struct {
	Attribute int
	Cause     string
}

// RejectError says why a record is a dead letter.
type RejectError struct {
	Class string // decode, schema, mapping, person, segment, member, time
	Err   error
}

func (e *RejectError) Error() string { return e.Class + ": " + e.Err.Error() }
func (e *RejectError) Unwrap() error { return e.Err }

// ErrHalt says that a record met the source's halt_when.
var ErrHalt = errors.New("halt_when holds for a record")

// skew is how far an event's time may lie behind the record's own; more is capped there, so that an event dated 2099
// does not fence everything after it.
const skew = 5 * time.Minute
