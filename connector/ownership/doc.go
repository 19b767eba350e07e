// Package ownership decides which process works a connection, and lets that process prove it: a group balancer that
// gives every partition to one member, a lease that heartbeats extend, and an instance id that survives a restart.
package ownership
