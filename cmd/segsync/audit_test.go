//go:build !integration && !bench

package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"segsync/connector"
	"segsync/connector/oracle"
	"segsync/sink/sandbox"
)

// command runs a command in this process. It returns what it printed, and its exit code.
func command(args ...string) (string, int) {
	root, out := newRoot(), &bytes.Buffer{}
	root.SetArgs(args)
	root.SetOut(out)
	root.SetErr(out)
	if err := root.Execute(); err != nil {
		return out.String() + err.Error(), exitCode(err)
	}
	return out.String(), 0
}

func TestAuditTellsWhatIsWrongAndRepairsIt(t *testing.T) {
	w, err := oracle.NewWorld(oracle.WorldOptions{
		Network: oracle.Loopback{}, Partitions: 3, Sandbox: sandbox.Options{ExportTime: 100 * time.Millisecond},
		Exports: []oracle.Export{{List: 42, Segments: []string{"vip"}, Attributes: []string{"FIRSTNAME"}}},
	})
	if err != nil {
		t.Fatal(err)
	}
	defer w.Close()
	for i := range 6 {
		e := oracle.Event{Person: fmt.Sprint(i), Segment: "vip", In: true, At: time.Now(), Partition: -1, Profile: &oracle.Profile{Email: fmt.Sprintf("p%d@example.com", i), First: "Ann"}}
		if err := w.Produce(t.Context(), e); err != nil {
			t.Fatal(err)
		}
	}
	config := filepath.Join(t.TempDir(), "segsync.yaml")
	text := configOf(w, "FIRSTNAME: profile.first_name", "audit: { every: 12h }\nunknown_schema: { wait: 10s }\nadmin: { addr: \"\" }")
	if err := os.WriteFile(config, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	once := func() {
		t.Helper()
		if out, code := command("run", "--once", "-c", config); code != 0 || !strings.Contains(out, "calls made") {
			t.Fatalf("run --once ends with %d: %s", code, out)
		}
	}
	audit := func(code int, parts []string, args ...string) {
		t.Helper()
		out, got := command(append([]string{"audit", "-c", config}, args...)...)
		if got != code {
			t.Errorf("audit %v ends with %d, not %d:\n%s", args, got, code, out)
		}
		for _, part := range parts {
			if !strings.Contains(out, part) {
				t.Errorf("audit %v does not say %q:\n%s", args, part, out)
			}
		}
		if strings.Contains(out, "p1@example.com") {
			t.Errorf("an address is shown:\n%s", out)
		}
	}
	once()
	audit(0, []string{"export vip, list 42: 6 contacts", "nothing is wrong"})
	w.Sandbox.TakeOut("p1@example.com", 42)
	w.Sandbox.Put("p2@example.com", nil, map[string]any{"FIRSTNAME": "Bob"})
	w.Sandbox.Put("other@example.com", []int64{42}, nil)
	w.Sandbox.Unsubscribe("p3@example.com")
	audit(exitFailed, []string{"missing             1", "p***@example.com", "changed             1", "extra               1", "unsubscribed        1", "3 contacts differ", "--repair"})
	out, code := command("audit", "-c", config, "--export", "vip", "--json")
	var all []connector.AuditReport
	document := out[strings.IndexByte(out, '['):]
	if err := json.NewDecoder(strings.NewReader(document)).Decode(&all); err != nil || code != exitFailed || len(all) != 1 || all[0].Findings.Missing != 1 || !slices.Equal(all[0].Findings.Examples["missing"], []string{"p***@example.com"}) {
		t.Errorf("%d, %v: %s", code, err, out)
	}
	if _, in := w.Sandbox.List(42)["p1@example.com"]; in {
		t.Error("somebody was put back unasked")
	}
	audit(exitFailed, []string{"put back", "mended              2"}, "--repair")
	once()
	if _, in := w.Sandbox.List(42)["p1@example.com"]; !in || w.Sandbox.List(42)["p2@example.com"]["FIRSTNAME"] != "Ann" {
		t.Errorf("not repaired: %v", w.Sandbox.List(42))
	}
	w.Sandbox.Drop("other@example.com")
	audit(0, []string{"unsubscribed        1", "nothing is wrong"})
	if out, code := command("audit", "-c", config, "--export", "none"); code != exitUsage {
		t.Errorf("an unknown export ends with %d: %s", code, out)
	}
}
