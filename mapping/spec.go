package mapping

import (
	"errors"
	"time"
)

// Event says how a record speaks of memberships, as expressions over the decoded record. Either Segment and Member,
// or Memberships: the list of segments the person is in, or a map of segment to boolean, as a whole truth.
type Event struct {
	When, Person, Segment, Member, Time, Memberships string
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
}

// Change is what a record says of one person.
type Change struct {
	Person      string
	Time        int64 // nanoseconds since 1970
	Memberships []Membership
	Whole       bool // what is not named is out
	HasProfile  bool
}

// Value is a mapped attribute, by place in Spec.Attributes: a JSON literal, nil for a null that keeps.
type Value struct {
	Attribute int
	JSON      []byte
}

// Result is what a record maps to. Its slices are reused by the next call.
type Result struct {
	Changes   []Change
	Address   string // "" none
	Values    []Value
	Tombstone bool
	Failures  []Failure // attributes that could not be mapped
	Costly    []int     // those among them that took too much work, by place in Spec.Attributes
	// Lacks are the fields that expressions name and the record's schema does not have: they are null. They are told of a
	// schema once.
	Lacks []string
	// BadAddress: the record names an address that is none; its memberships move all the same.
	BadAddress bool
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
