package connector

import (
	"encoding/json"
	"time"

	"segsync/sink"
)

// pace is how long imports take, as measured: a floor, and so much for each row. It is a fit through the last few, each
// counting less than the next. It lies in a row of the table, so that a successor knows when to look.
type pace struct {
	N  float64 `json:"n"`
	X  float64 `json:"x"` // rows
	Y  float64 `json:"y"` // seconds
	XX float64 `json:"xx"`
	XY float64 `json:"xy"`
}

const (
	paceFades = 0.7                    // of what was measured, with each import
	usualRow  = 100 * time.Microsecond // for each row, until imports of different lengths were measured
	usualTime = 10 * time.Second       // until one was measured
)

// note takes an import of so many rows up.
func (p *pace) note(rows int, took time.Duration) {
	x, y := float64(rows), took.Seconds()
	*p = pace{p.N*paceFades + 1, p.X*paceFades + x, p.Y*paceFades + y, p.XX*paceFades + x*x, p.XY*paceFades + x*y}
}

// known says whether an import was measured.
func (p *pace) known() bool { return p.N > 0 }

// of is how long an import of so many rows should take.
func (p *pace) of(rows int) time.Duration {
	if !p.known() {
		return usualTime + time.Duration(rows)*usualRow
	}
	x, y := p.X/p.N, p.Y/p.N
	perRow := usualRow.Seconds()
	if spread := p.XX/p.N - x*x; spread > x*x/100 { // lengths that differ by a tenth and more
		perRow = max(0, (p.XY/p.N-x*y)/spread)
	}
	if x > 0 {
		perRow = min(perRow, y/x)
	}
	return time.Duration((y + perRow*(float64(rows)-x)) * float64(time.Second))
}

// looks is a bucket of looks at what is under way: so many may be made in a row before they are spaced as the account
// allows in the long run.
type looks struct {
	Left   float64   `json:"left"`
	Filled time.Time `json:"filled"`
}

// next is when there is a look.
func (l *looks) next(now time.Time, limits *sink.Limits) time.Time {
	most, every := float64(limits.LooksMost), limits.LookEvery
	if l.Filled.IsZero() || l.Filled.After(now) {
		*l = looks{most, now}
	}
	l.Left = min(most, l.Left+now.Sub(l.Filled).Seconds()/every.Seconds())
	l.Filled = now
	if l.Left >= 1 {
		return now
	}
	return now.Add(time.Duration((1 - l.Left) * float64(every)))
}

// paceKey is the row with what a successor must know of imports.
const paceKey = "imports"

type paceRow struct {
	Pace    pace      `json:"pace"`
	Looks   looks     `json:"looks"`
	Suspect time.Time `json:"suspect"` // until when an import that was lost may come all the same
}

func (e *engine) restorePace() {
	var row paceRow
	if json.Unmarshal(e.table.Meta(paceKey), &row) == nil {
		e.sight.pace, e.sight.looks, e.sight.suspect = row.Pace, row.Looks, row.Suspect
	}
}

// storePace is for the next checkpoint. Under the lock.
func (e *engine) storePace(now time.Time) {
	if row, err := json.Marshal(paceRow{e.sight.pace, e.sight.looks, e.sight.suspect}); err == nil {
		e.table.SetMeta(paceKey, row)
		e.changed(now)
		e.nudge()
	}
}
