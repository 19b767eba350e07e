//go:build !integration && !bench

package main

import (
	"os"
	"path/filepath"
	"regexp"
	"testing"
)

// The README's configurations are what check takes, and its commands are there.
func TestTheReadmeIsTrue(t *testing.T) {
	readme, err := os.ReadFile("../../README.md")
	if err != nil {
		t.Fatal(err)
	}
	configs := regexp.MustCompile("(?s)```yaml\n(# segsync.yaml\n.*?)```").FindAllSubmatch(readme, -1)
	if len(configs) != 2 {
		t.Errorf("%d configurations are found", len(configs))
	}
	for i, c := range configs {
		file := filepath.Join(t.TempDir(), "segsync.yaml")
		if err := os.WriteFile(file, c[1], 0o600); err != nil {
			t.Fatal(err)
		}
		if out, code := command("check", "--offline", "-c", file); code != 0 {
			t.Errorf("configuration %d: check ends with %d: %s", i, code, out)
		}
	}
	commands := regexp.MustCompile("(?m)^\\| `([a-z]+)[` ]").FindAllSubmatch(readme, -1)
	known := map[string]bool{}
	for _, c := range newRoot().Commands() {
		known[c.Name()] = true
	}
	found := 0
	for _, c := range commands {
		if known[string(c[1])] {
			found++
		}
	}
	if found < 9 {
		t.Errorf("only %d of %d commands of the README are there", found, len(commands))
	}
	for _, link := range regexp.MustCompile(`\]\(([^)h][^)]*)\)`).FindAllSubmatch(readme, -1) {
		if _, err := os.Stat(filepath.Join("../..", string(link[1]))); err != nil {
			t.Errorf("a link leads nowhere: %s", link[1])
		}
	}
}
