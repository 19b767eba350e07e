// Package connector is the engine of one connection: it keeps the lists of one Sendinblue account as the events of
// its sources say. It is a reconciler over one table:
//
//	poller        takes records from Kafka and never waits for anything below
//	workers       decode and map them, and fold the changes into the table: what each person wants
//	table         knows what was delivered to each contact; contacts where the two differ are dirty
//	checkpointer  plans dirty contacts into requests and commits one Kafka transaction of changed rows, announced
//	              requests, closings, dead letters and source offsets: one consistent cut; then hands the requests over
//	senders       make the calls and settle what became of each contact in the table
//	watcher       follows imports and exports, which the API carries out later
//	auditor       reads lists whole, and compares them with what was delivered
//
// One rule makes it exact: nothing runs ahead of the table's rows, no offset and no request. The first byte of a request
// is written after the checkpoint that announces it was committed. After a crash the table is read back; what was
// announced and has no outcome is unknown, and is sent again, whatever is wanted by then; reading goes on where the
// table stands. So an outage of the API stops neither reading nor offsets: the difference is simply still there.
//
// A connection is worked by one process at a time, elected by Kafka (ownership). An engine is an epoch of that: it is
// thrown away when the ownership ends, and never patched.
//
// Where to read on: Connection (connection.go) wins and loses ownership; engine.go is one epoch; take-over in
// takeover.go; poller.go, worker.go, checkpointer.go, planner.go, sender.go, watcher.go and audits.go are the actors
// above, with requests.go (how the planner fills them), imports.go (what became of an import) and pace.go (how long one
// takes).
//
// What must never happen, and where it is prevented: sending with a key whose account is not known (account.go), or
// beside another connection to the account (claim.go); removing a mass of people unasked (guard.go, and state's);
// trusting a table that is not whole (damage.go), or a log that has gone back (era.go); taking silence for the end of a
// partition (tails.go); standing still, or losing something, because Kafka refuses a dead letter (refused.go);
// taking an import's word for what it has done (audits.go, and state's). Why something is not sent or read is
// told by holds.go alone; status.go says in one word what a connection is doing.
package connector
