// Package mapping turns a record into changes: wire formats (wire.go), Avro (schema.go, guard.go, avro.go), expressions
// (expression.go, functions.go) and attribute values (value.go). It is deterministic and does no I/O: schemas come
// through the Schemas interface, and whoever implements it decides how to wait for them.
//
// Every byte of a record is somebody else's: hostile ones cost one error, never a panic, memory or time without bound.
package mapping
