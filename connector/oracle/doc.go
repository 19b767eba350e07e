// Package oracle is the harness that holds segsync against the truth: it makes histories of segment events, says from
// the events alone who must be where with which attributes, and compares that with what the sandbox's lists hold. It
// shares no code with the table it judges. The demo shows its verdict; tests run it over hundreds of seeds with kills
// and faults.
package oracle
