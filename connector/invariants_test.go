package connector

import (
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// Every test that INVARIANTS.md names is there, and every file.
func TestTheInvariantsNameWhatThereIs(t *testing.T) {
	page, err := os.ReadFile("INVARIANTS.md")
	if err != nil {
		t.Fatal(err)
	}
	var tests strings.Builder
	err = filepath.WalkDir("..", func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() || !strings.HasSuffix(path, "_test.go") {
			return err
		}
		b, err := os.ReadFile(path)
		tests.Write(b)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	named := regexp.MustCompile(`Test[A-Z]\w+…?`).FindAllString(string(page), -1)
	for _, name := range named {
		whole := "func " + strings.TrimSuffix(name, "…")
		if !strings.HasSuffix(name, "…") {
			whole += "("
		}
		if !strings.Contains(tests.String(), whole) {
			t.Errorf("there is no %s", name)
		}
	}
	files := regexp.MustCompile("`([a-z/]+\\.go)`").FindAllStringSubmatch(string(page), -1)
	for _, f := range files {
		_, here := os.Stat(f[1])
		_, above := os.Stat(filepath.Join("..", f[1]))
		if here != nil && above != nil {
			t.Errorf("there is no %s", f[1])
		}
	}
	if len(named) < 20 || len(files) < 20 {
		t.Errorf("only %d tests and %d files are named", len(named), len(files))
	}
}
