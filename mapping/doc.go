// Package mapping turns a record into changes.
//
//   - Bytes: wire formats (wire.go), schemas (schema.go), what fits them (hostile.go). A record of a schema fills the cells
//     that closures ask for (plan.go, cell.go); reader.go decodes what the VM asks for; avro.go holds goavro beside both.
//   - Values: the kinds (kinds.go), and what each becomes (convert.go, value.go, phone.go).
//   - Expressions: compiled, as closures where they are simple (expression.go, quick.go, functions.go), with a budget of work
//     (meter.go), over what they see of a record (scope.go). What can be told of them beforehand: check.go.
//   - Changes: a mapping (spec.go, mapper.go), the record at hand (worker.go), what its events say of people (event.go) and what
//     people are (profile.go). explain.go does it step by step.
//
// It is deterministic and does no I/O: schemas come through the Schemas interface, and whoever implements it decides how to
// wait for them. Every byte of a record is somebody else's: hostile ones cost one error, never a panic, memory or time without
// bound.
package mapping
