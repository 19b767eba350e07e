//go:build race

package oracle

// slower divides the seeds: the race detector makes a run some ten times slower. What it is for needs few of them.
const slower = 5
