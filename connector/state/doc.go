// Package state is the table of one connection: people, contacts, what is wanted of each contact and what was
// delivered. Changes are folded in; contacts where the two differ are dirty; dirty contacts are taken by requests,
// whose outcomes are settled here.
//
// It is pure: no I/O, no goroutine, no clock (times are handed in), no lock (the engine holds one mutex around it).
// People and contacts lie in pointer-free tables; the variable part of each is kept as the very bytes of its row in
// the changelog, so that a row written is a row copied, and a table restored is a table filled.
package state
