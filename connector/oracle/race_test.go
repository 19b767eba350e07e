//go:build race

package oracle

import "runtime/debug"

// slower divides the seeds: the race detector makes a run several times slower.
const slower = 3

// Collecting garbage is what the race detector makes slowest.
func init() { debug.SetGCPercent(400) }
