// Package connector is the service: a Connection keeps the lists of one Sendinblue account as the events of its sources
// say. It joins a Kafka group, stands by, and, elected, runs an engine for as long as it owns the account.
//
// The idea, in one breath: segsync is a reconciler over one table. Events are folded into what each person wants; the
// table knows what was delivered to each contact; the plan is the difference. One rule makes it exact: nothing runs ahead
// of the table's rows, no offset and no request. A checkpoint is one Kafka transaction of changed rows, announced requests,
// closings, dead letters and source offsets, all as of one moment; the first byte of a request is written after the
// checkpoint that announces it was committed. After a crash the table is read back; what was announced and has no outcome
// is unknown, and is sent again, whatever is wanted by then; reading goes on where the table stands. So an outage of the
// API stops neither reading nor offsets: the difference is simply still there.
//
// Where things live:
//
//	connector             Connection: winning and losing ownership (connection.go), bounded runs (once.go), what may be asked of
//	                      it (status.go, reports.go, dryrun.go, trace.go, erasure.go), metrics of the moment (collector.go)
//	connector/engine      one epoch of ownership: its parts under one lock; every goroutine and retry
//	connector/commands    what people ask of a connection, through Kafka
//	connector/plan        the difference → requests; a contact's route is decided here, once
//	connector/state       the table; connector/state/arena is the memory beneath it
//	connector/changelog   its rows in Kafka: restore, announce, checkpoint
//	connector/ownership   the group's balancer, the lease, instance ids
//	connector/deadletter  classes, and what a dead letter looks like
//	connector/registry    the schema registry
//	connector/notify      webhooks and commands that are told what needs somebody
//	connector/admin       health, metrics and status over HTTP
//	connector/oracle      the tests' truth: histories, faults, who must be where
//
// What never lives here: HTTP (admin and registry apart), what the API's answers mean (sink/sendinblue), what a record says
// (mapping), flags and files (cmd/segsync).
//
// GLOSSARY.md has the words, INVARIANTS.md what must never break, with the file that keeps it and the test that turns red.
package connector
