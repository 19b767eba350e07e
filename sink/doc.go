// Package sink is the vocabulary between the engine and a destination of contacts: what is asked (Request, Contact),
// what became of it (Answer, Outcome, Verdict), and who does it (Sender).
//
// It imports nothing of ours, does no I/O, starts no goroutine and reads no clock.
package sink
