//go:build race

package oracle

import "runtime/debug"

// slower divides the seeds: the race detector makes a run some ten times slower. What it is for needs few of them.
const slower = 5

// Collecting garbage is what the race detector makes slowest.
func init() { debug.SetGCPercent(400) }
