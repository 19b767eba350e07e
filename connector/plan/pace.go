package plan

import "time"

// Pace is how long imports take, as measured: a floor, and so much for each row. It is a fit through the last few, each
// counting less than the next. It lies in a row of the table, so that a successor knows when to look.
type Pace struct {
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

// Note takes an import of so many rows up.
func (p *Pace) Note(rows int, took time.Duration) {
	x, y := float64(rows), took.Seconds()
	*p = Pace{p.N*paceFades + 1, p.X*paceFades + x, p.Y*paceFades + y, p.XX*paceFades + x*x, p.XY*paceFades + x*y}
}

// Known says whether an import was measured.
func (p *Pace) Known() bool { return p.N > 0 }

// Of is how long an import of so many rows should take.
func (p *Pace) Of(rows int) time.Duration {
	if !p.Known() {
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
