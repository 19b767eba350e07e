package engine

import (
	"fmt"
	"testing"
	"time"

	"go.uber.org/zap"
	"go.uber.org/zap/zaptest/observer"
)

// What is left out is counted by export, attribute and cause, and told of once a minute.
func TestWhatIsLeftOutIsTold(t *testing.T) {
	cfg := (&Config{Name: "c", Exports: []Export{{Name: "x", Attributes: []string{"SMS"}}, {Name: "y", Attributes: []string{"SMS", "B"}}, {Name: "other", Source: 1, Attributes: []string{"SMS"}}}}).WithDefaults()
	core, lines := observer.New(zap.WarnLevel)
	var f failures
	now := time.Unix(1e9, 0)
	for i := range 3 {
		f.add(&cfg, zap.New(core), 0, map[Failure]int{{Attribute: "SMS", Cause: "not a telephone number"}: 2}, now.Add(time.Duration(i)*time.Second))
	}
	f.add(&cfg, zap.New(core), 0, map[Failure]int{{Attribute: "B", Cause: "not a boolean"}: 1}, now)
	f.add(&cfg, zap.New(core), 0, map[Failure]int{{Attribute: "SMS", Cause: "not a telephone number"}: 1}, now.Add(2*time.Minute))
	want := "[{x SMS not a telephone number 7} {y SMS not a telephone number 7} {y B not a boolean 1}]"
	if got := fmt.Sprint(f.list()); got != want {
		t.Errorf("%s, not %s", got, want)
	}
	if n := lines.Len(); n != 3 {
		t.Errorf("%d lines", n)
	}
	if last := lines.All()[2].ContextMap(); last["records"] != int64(5) {
		t.Errorf("the last line says %v", last)
	}
}
