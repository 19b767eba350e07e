//go:build !integration && !bench

package main

import (
	"bytes"
	"encoding/json"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"segsync/connector/oracle"
)

// A field must be in some registered version of a topic's schema, not in the newest.
func TestCheckKnowsEveryVersionOfASchema(t *testing.T) {
	w, err := oracle.NewWorld(oracle.WorldOptions{
		Network: oracle.Loopback{}, Partitions: 1, Exports: []oracle.Export{{List: 42, Segments: []string{"vip"}, Attributes: []string{"FIRSTNAME"}}},
	})
	if err != nil {
		t.Fatal(err)
	}
	defer w.Close()
	body, _ := json.Marshal(map[string]string{"schema": `{"type":"record","name":"Beat","fields":[{"name":"mail","type":"string"}]}`})
	resp, err := http.Post(w.Registry+"/subjects/cdp.segment-membership-value/versions", "application/json", bytes.NewReader(body))
	if err != nil || resp.StatusCode != http.StatusOK {
		t.Fatal(resp, err)
	}
	_ = resp.Body.Close()
	for expr, fits := range map[string]bool{"profile.first_name": true, "profile.first_name ?? mail": true, "profile.first_nam": false, "profile.first_name ?? male": false} {
		config := filepath.Join(t.TempDir(), "segsync.yaml")
		if err := os.WriteFile(config, []byte(configOf(w, "FIRSTNAME: "+expr, "admin: { addr: \"\" }")), 0o600); err != nil {
			t.Fatal(err)
		}
		if out, _ := command("check", "-c", config); strings.Contains(out, "expressions fit the 2 versions") != fits {
			t.Errorf("%s: %s", expr, out)
		} else if !fits && strings.Contains(expr, "nam") && !strings.Contains(out, "first_nam") {
			t.Errorf("%s: it is not said what is missing: %s", expr, out)
		}
	}
}

// What no contact can be given is refused, with the reason.
func TestCheckKnowsAttributesOfNoContact(t *testing.T) {
	w, err := oracle.NewWorld(oracle.WorldOptions{
		Network: oracle.Loopback{}, Partitions: 1, Exports: []oracle.Export{{List: 42, Segments: []string{"vip"}, Attributes: []string{"FIRSTNAME"}}},
	})
	if err != nil {
		t.Fatal(err)
	}
	defer w.Close()
	config := filepath.Join(t.TempDir(), "segsync.yaml")
	if err := os.WriteFile(config, []byte(configOf(w, "FIRSTNAME: profile.first_name", "admin: { addr: \"\" }")), 0o600); err != nil {
		t.Fatal(err)
	}
	for kind, says := range map[string]string{
		"calculated": "FIRSTNAME is calculated: the account computes it", "transactional": "FIRSTNAME is transactional: it belongs to orders",
		"category": `FIRSTNAME is category, one of ["1" "2" "Man" "Woman"]`,
	} {
		w.Sandbox.Retype("FIRSTNAME", kind)
		w.Sandbox.Offer("FIRSTNAME", "Man", "Woman")
		if out, _ := command("check", "-c", config); !strings.Contains(out, says) {
			t.Errorf("%s: %s", kind, out)
		}
	}
}

// A sample shows a record's way from its bytes to the request, masked unless that is asked for; nothing is sent.
func TestASampleShowsHowARecordIsMapped(t *testing.T) {
	w, err := oracle.NewWorld(oracle.WorldOptions{
		Network: oracle.Loopback{}, Partitions: 1, Exports: []oracle.Export{{List: 42, Segments: []string{"vip"}, Attributes: []string{"FIRSTNAME", "SMS"}}},
	})
	if err != nil {
		t.Fatal(err)
	}
	defer w.Close()
	say := func(e oracle.Event) {
		t.Helper()
		e.At, e.Partition = time.Now(), 0
		if err := w.Produce(t.Context(), e); err != nil {
			t.Fatal(err)
		}
	}
	say(oracle.Event{Person: "person-1", Segment: "vip", In: true, Profile: &oracle.Profile{Email: "ann@example.com", First: "Ann", Phone: "none"}})
	say(oracle.Event{Person: "person-1", Segment: "vip", Profile: &oracle.Profile{Email: "ann@example.com", First: "Ann"}})
	say(oracle.Event{Poison: []byte("no Avro")})
	config := filepath.Join(t.TempDir(), "segsync.yaml")
	if err := os.WriteFile(config, []byte(configOf(w, "FIRSTNAME: profile.first_name, SMS: phone(profile.phone)", "admin: { addr: \"\" }")), 0o600); err != nil {
		t.Fatal(err)
	}
	w.Sandbox.Retype("FIRSTNAME", "category")
	w.Sandbox.Offer("FIRSTNAME", "Ann", "Bob")
	file := filepath.Join(t.TempDir(), "value")
	if err := os.WriteFile(file, []byte("no Avro"), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		args []string
		code int
		says []string
		not  string
	}{
		{[]string{"--sample", oracle.Topic + "/0@0"}, 0, []string{
			`"email": "a***"`, "event 1 segment", "vip", "not a telephone number", "in      vip",
			`POST /contacts`, `{"email":"a***@example.com","attributes":{"FIRSTNAME":"***"},"listIds":[42],"updateEnabled":true}`,
		}, "ann@"},
		{[]string{"--sample", oracle.Topic + "/0@0", "--show"}, 0, []string{`{"email":"ann@example.com","attributes":{"FIRSTNAME":"Ann"},"listIds":[42],"updateEnabled":true}`}, "***"},
		{[]string{"--sample", oracle.Topic + "/0@0"}, 0, []string{"before  not in list 42"}, "ann@"},
		{[]string{"--sample", oracle.Topic + "/0@1"}, 0, []string{"out of  vip", "before  not in list 42", "POST /contacts/lists/42/contacts/remove", `{"emails":["a***@example.com"]}`}, "ann@"},
		{[]string{"--sample", oracle.Topic + "/0@2"}, exitFailed, []string{"would be a dead letter", "magic byte"}, "POST"},
		{[]string{"--sample", oracle.Topic + "/0@9"}, exitEnvironment, []string{"0@9", "from 0 up to 2"}, "POST"},
		{[]string{"--sample", file}, exitFailed, []string{"magic byte"}, "POST"},
		{[]string{"--sample", file + ".none"}, exitEnvironment, []string{"TOPIC/PARTITION@OFFSET"}, "POST"},
		{[]string{"--sample", "other/0@0"}, exitEnvironment, []string{"other"}, "POST"},
		{[]string{"--sample", file, "--source", "other"}, exitUsage, []string{"source other"}, "POST"},
	} {
		out, code := command(append([]string{"check", "-c", config}, c.args...)...)
		if code != c.code || strings.Contains(out, c.not) {
			t.Errorf("%v ends with %d:\n%s", c.args, code, out)
		}
		for _, part := range c.says {
			if !strings.Contains(out, part) {
				t.Errorf("%v does not say %q:\n%s", c.args, part, out)
			}
		}
	}
	if n := len(w.Sandbox.List(42)); n != 0 {
		t.Errorf("%d contacts were written", n)
	}
}
