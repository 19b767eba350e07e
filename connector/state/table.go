package state

import "time"

// Table is the table of one connection: its parts, and what they do together.
type Table struct {
	cfg      Config
	compiled *compiled // the configuration with durable numbers
	store    *store    // people, contacts and who carries which address
	names    *names    // durable numbers
	journal  *journal  // what the next cut writes
	tally    *tally    // figures
	agenda   *agenda   // which contacts are to be looked at, and when
	guards   *guards
	refusals *refusals
	requests *requests
	audits   *audits
	views    lender[view]
	persons  lender[person]
}

// New makes an empty table. Rows are applied with Apply; Ready ends the restore.
func New(cfg Config) *Table {
	j, y := newJournal(), newTally()
	s := newStore(j, y)
	a := newAgenda(s, y)
	return &Table{
		cfg: cfg, compiled: &compiled{}, store: s, names: newNames(j), journal: j, tally: y, agenda: a,
		guards: &guards{journal: j, lists: map[int64]*guardCount{}}, refusals: newRefusals(j, a, cfg.RetryRefused),
		requests: &requests{open: map[uint64]*Request{}}, audits: newAudits(j),
	}
}

// Bytes is roughly what the table takes in memory.
func (t *Table) Bytes() int { return t.store.takes() }

func millis(now time.Time) int64 { return now.UnixMilli() }
