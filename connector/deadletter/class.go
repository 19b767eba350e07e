package deadletter

import (
	"maps"
	"slices"
)

// Class is why something is a dead letter, in one word. It is a header of the letter, and a label of the metric.
type Class string

// All classes there are. Those of records that say nothing usable are mapping's words (mapping.RejectError).
const (
	Decode         Class = "decode"          // the bytes are not as their schema says
	Schema         Class = "schema"          // the schema cannot be used
	SchemaUnknown  Class = "schema_unknown"  // the registry does not know its id
	Mapping        Class = "mapping"         // an expression failed
	Person         Class = "person"          // it names no person
	Segment        Class = "segment"         // it names no segment
	Member         Class = "member"          // it does not say whether they are in
	Time           Class = "time"            // its time is none
	TooLarge       Class = "too_large"       // it, or what it says of a person, is too large
	InvalidAddress Class = "invalid_address" // the e-mail address is none
	NoAddress      Class = "no_address"      // no address of the person is known
	Rejected       Class = "rejected"        // the destination refused the contact
)

// stages say where each class comes about.
var stages = map[Class]string{
	Decode: "decode", Schema: "decode", SchemaUnknown: "decode",
	Mapping: "map", Person: "map", Segment: "map", Member: "map", Time: "map", InvalidAddress: "map",
	TooLarge: "map", NoAddress: "map", Rejected: "deliver",
}

// Stage is where a letter of the class comes about: decode, map or deliver.
func (c Class) Stage() string { return stages[c] }

// Fault says whether a letter of the class counts as a reject: somebody without an address is no fault of the source's.
func (c Class) Fault() bool { return c != NoAddress }

// Classes lists them, sorted.
func Classes() []Class { return slices.Sorted(maps.Keys(stages)) }
