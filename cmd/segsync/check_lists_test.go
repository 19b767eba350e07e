//go:build !integration && !bench

package main

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"segsync/connector/oracle"
)

// Lists are found by their names, and made where they are missing; then the export of each segment feeds its own.
func TestListsAreFoundByName(t *testing.T) {
	w, err := oracle.NewWorld(oracle.WorldOptions{
		Network: oracle.Loopback{}, Partitions: 1, Exports: []oracle.Export{{List: 42, Segments: []string{"vip", "gold"}, Attributes: []string{"FIRSTNAME"}}},
	})
	if err != nil {
		t.Fatal(err)
	}
	defer w.Close()
	config := filepath.Join(t.TempDir(), "segsync.yaml")
	write := func(list string) {
		text := strings.NewReplacer("name: vip,", `name: "all-{segment}",`, "segments: [vip]", "for_each: [vip, gold]", "list: 42", "list: "+list).Replace(configOf(w, "FIRSTNAME: profile.first_name", "admin: { addr: \"\" }"))
		if err := os.WriteFile(config, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	says := func(code int, args []string, parts ...string) {
		t.Helper()
		out, got := command(append(args, "-c", config)...)
		if got != code {
			t.Errorf("%v ends with %d:\n%s", args, got, out)
		}
		for _, part := range parts {
			if !strings.Contains(out, part) {
				t.Errorf("%v does not say %q:\n%s", args, part, out)
			}
		}
	}
	for i, segment := range []string{"vip", "gold"} {
		e := oracle.Event{Person: fmt.Sprint("person-", i), Segment: segment, In: true, At: time.Now(), Profile: &oracle.Profile{Email: fmt.Sprintf("p%d@example.com", i), First: "Ann"}}
		if err := w.Produce(t.Context(), e); err != nil {
			t.Fatal(err)
		}
	}
	write(`{ name: "Segment {segment}" }`)
	says(exitEnvironment, split("check"), `export all-vip: there is no list "Segment vip"`, `export all-gold: there is no list "Segment gold"`, "segsync check --create-lists")
	says(exitEnvironment, split("check --create-lists"), "its folder must be known")
	write(`{ name: "Segment {segment}", folder: 999 }`)
	says(exitEnvironment, split("check --create-lists"), "Folder ID does not exist")
	write(`{ name: "Segment {segment}", folder: 7 }`)
	says(exitEnvironment, split("plan --export all-vip"), `there is no list "Segment vip" in folder 7`)
	w.Sandbox.NameList(50, "Segment vip", 7)
	says(0, split("check --create-lists"), `export all-gold: list "Segment gold" in folder 7 was made: number 51`, "named by exports 2", "list 50 holds 0 contacts")
	says(0, split("check"), "list 51 holds 0 contacts", `→ list "Segment gold" in folder 7`)
	w.Sandbox.NameList(52, "Segment vip", 8)
	says(0, split("check"), "list 50 holds 0 contacts")
	write(`{ name: "Segment {segment}" }`)
	says(exitEnvironment, split("check"), `lists [50 52] are all named "Segment vip": say the folder or the number`)
	write(`{ name: "Segment {segment}", folder: 7 }`)
	says(0, split("plan --export all-gold"), "all-gold  51    1")
	says(0, []string{"check", "--sample", oracle.Topic + "/0@1"}, `"listIds":[51]`)
	says(0, split("run --once"), "export all-vip, list 50: 1 people in", "export all-gold, list 51: 1 people in")
	for list, address := range map[int64]string{50: "p0@example.com", 51: "p1@example.com"} {
		if have := w.Sandbox.List(list); len(have) != 1 || have[address] == nil {
			t.Errorf("list %d holds %v", list, have)
		}
	}
	for n := range int64(listsQuota) {
		w.Sandbox.AddList(1000 + n)
	}
	says(0, split("check"), "are said to hold 300")
	says(0, split("trace --export all-vip p0@example.com"), "in since")
}
