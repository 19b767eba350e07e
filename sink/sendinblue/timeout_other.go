//go:build !linux

package sendinblue

import "time"

// setUserTimeout has no portable form: elsewhere a dead connection is noticed by the call's own timeout.
func setUserTimeout(uintptr, time.Duration) {}
