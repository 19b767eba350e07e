//go:build !integration && !bench

package main

import "testing"

// The contract: unknown flags and files that are not there end with 2.
func TestExitCodes(t *testing.T) {
	for want, args := range map[int][]string{0: {"version"}, exitUsage: {"run", "-c", "/nowhere.yaml"}} {
		if got := run(args); got != want {
			t.Errorf("%v ends with %d, not %d", args, got, want)
		}
	}
	if got := run([]string{"help", "nonsense"}); got != exitUsage {
		t.Errorf("help about an unknown command ends with %d", got)
	}
	if got := run([]string{"nonsense"}); got != exitUsage {
		t.Errorf("an unknown command ends with %d", got)
	}
}
