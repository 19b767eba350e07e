package main

import (
	"io"
	"strings"
	"unicode"
)

// terminal is where people read: what others have said, in records or answers, must not be obeyed by it.
type terminal struct{ w io.Writer }

// Write implements io.Writer: control characters become a sign that there was one.
func (t *terminal) Write(b []byte) (int, error) {
	clean := strings.Map(func(r rune) rune {
		if r != '\n' && r != '\t' && (unicode.IsControl(r) || unicode.Is(unicode.Cf, r)) {
			return unicode.ReplacementChar
		}
		return r
	}, string(b))
	if _, err := io.WriteString(t.w, clean); err != nil {
		return 0, err
	}
	return len(b), nil
}
