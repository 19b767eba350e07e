package connector

import (
	"segsync/connector/engine"
	"segsync/connector/state"
)

// What a connection is configured by, and what it tells.
type (
	Config       = engine.Config
	Source       = engine.Source
	Export       = engine.Export
	ListName     = engine.ListName
	Start        = engine.Start
	OutOfRange   = engine.OutOfRange
	Tombstone    = engine.Tombstone
	Breaker      = engine.Breaker
	Audit        = engine.Audit
	Times        = engine.Times
	Backfill     = engine.Backfill
	Planned      = engine.Planned
	Run          = engine.Run
	RunCounts    = engine.RunCounts
	Account      = engine.Account
	Metrics      = engine.Metrics
	Status       = engine.Status
	ExportStatus = engine.ExportStatus
	Halted       = engine.Halted
	Counters     = engine.Counters
	Guard        = state.Guard
	Findings     = state.Findings
	AuditReport  = engine.AuditReport
	CallTold     = state.CallTold
)

// What an audit finds of a contact (Findings.Examples).
const (
	NoContact         = state.NoContact
	FoundLost         = state.FoundLost
	FoundMissing      = state.FoundMissing
	FoundChanged      = state.FoundChanged
	FoundExtra        = state.FoundExtra
	FoundUnsubscribed = state.FoundUnsubscribed
)

// The policies for a position that the log has lost, the meanings of a record without a value, and others.
const (
	OutOfRangeHalt     = engine.OutOfRangeHalt
	OutOfRangeEarliest = engine.OutOfRangeEarliest
	OutOfRangeLatest   = engine.OutOfRangeLatest
	TombstoneIgnore    = engine.TombstoneIgnore
	TombstoneRemove    = engine.TombstoneRemove
	TombstoneDelete    = engine.TombstoneDelete
	DefaultSession     = engine.DefaultSession
	ImportStuck        = engine.ImportStuck
	StateWorking       = engine.StateWorking
	StateRestoring     = engine.StateRestoring
	StateDraining      = engine.StateDraining
	StateStandby       = engine.StateStandby
	StateWaiting       = engine.StateWaiting
	StateRetrying      = engine.StateRetrying
	StateHeld          = engine.StateHeld
	StateAway          = engine.StateAway
)

// Manual is the schedule of an export that is sent when somebody says so.
const Manual = engine.Manual

// ParseSchedule reads a schedule; nil: manual.
func ParseSchedule(s string) (*engine.Schedule, error) { return engine.ParseSchedule(s) }

// NewMetrics makes the metrics, unregistered.
func NewMetrics() *Metrics { return engine.NewMetrics() }
