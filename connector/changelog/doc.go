// Package changelog keeps the rows of a table in Kafka: the topic <prefix>-<connection>-table, one partition,
// compacted, written by transactions only. A checkpoint is one transaction of rows, dead letters and source offsets;
// a restore reads the topic to a sentinel row that the new owner has written behind its predecessor's last one.
//
// What a row says is state's; when a checkpoint is made, the engine's.
package changelog
