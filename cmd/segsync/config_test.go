//go:build !integration && !bench

package main

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

const good = `
kafka: { brokers: [localhost:9092] }
schema_registry: { url: "http://localhost:8081" }
sources:
  - name: cdp
    topics: [events]
    event: { person: profile_id, segment: segment_id, member: change == "ENTERED" }
    email: profile.email
connections:
  - name: fr
    api_key: ${env:TEST_KEY}
    consent: { by: dpo@example.com, on: 2026-11-01 }
    usable_by: [crm]
exports:
  - name: vip
    connection: fr
    source: cdp
    segments: [vip]
    list: 42
    attributes: { FIRSTNAME: profile.first_name }
`

func load(t *testing.T, text string, more ...string) (*config, string) {
	t.Helper()
	t.Setenv("TEST_KEY", "a-secret-key")
	dir := t.TempDir()
	file := filepath.Join(dir, "segsync.yaml")
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	c, err := loadConfig(append([]string{file}, more...))
	if err == nil {
		return c, ""
	}
	var p problems
	if !errors.As(err, &p) {
		t.Fatalf("%T is no list of problems", err)
	}
	return nil, strings.ReplaceAll(err.Error(), dir+"/", "")
}

func TestAGoodConfigurationHasItsDefaults(t *testing.T) {
	c, problems := load(t, good)
	if problems != "" {
		t.Fatal(problems)
	}
	e, con := c.Exports[0], c.Connections[0]
	if !e.Enabled || e.GuardShare != 0.3 || e.GuardLeast != 100 || con.Rate.Share != 0.8 || con.Rate.ContactsPerSecond != 10 || c.DeadLetters != "segsync-dlq" || c.Kafka.Prefix != "segsync" {
		t.Errorf("%+v", c)
	}
}

// Each is refused with line, column and the mend.
func TestWhatIsRefused(t *testing.T) {
	with := func(old, new string) string {
		if !strings.Contains(good, old) {
			panic(old)
		}
		return strings.Replace(good, old, new, 1)
	}
	second := `
  - name: gold
    connection: fr
    source: cdp
    segments: [gold]
    list: %d
    attributes: { FIRSTNAME: %s }
`
	for name, c := range map[string]struct{ text, want string }{
		"no consent":             {with("    consent: { by: dpo@example.com, on: 2026-11-01 }\n", ""), "segsync.yaml:10:9: connection \"fr\" has no consent"},
		"an unknown key":         {with("segments: [vip]", "segment: [vip]"), `unknown key "segment" (did you mean "segments"?)`},
		"a missing key":          {with("    list: 42\n", ""), `"list" is missing`},
		"a key given twice":      {with("    list: 42\n", "    list: 42\n    list: 43\n"), `key "list" already defined`},
		"two exports on a list":  {good + fmt.Sprintf(second, 42, "profile.first_name"), `exports "vip" and "gold" write the same list 42`},
		"one attribute, two":     {good + fmt.Sprintf(second, 43, "profile.last_name"), `map FIRSTNAME of source "cdp" differently`}, // S30
		"plain http":             {with("api_key:", "base_url: http://api.example.com/v3\n    api_key:"), "plain http to a host that is not this machine"},
		"an unset variable":      {with("TEST_KEY", "TEST_NONE"), "the environment variable TEST_NONE is not set"},
		"an unknown connection":  {with("connection: fr", "connection: de"), `connection "de", which is not configured`},
		"an unknown source":      {with("source: cdp", "source: crm"), `source "crm", which is not configured`},
		"a broken expression":    {with("profile.first_name", `"profile.("`), "FIRSTNAME"},
		"a cut expression":       {with("    email: profile.email", "    email: profile.tag == \"a #1\" ? profile.email : nil"), `takes what follows " #" for a comment`},
		"an attribute in lower":  {with("FIRSTNAME", "Firstname"), "attribute names are upper case: FIRSTNAME"},
		"an owner's name here":   {with("    segments: [vip]", "    owner: crm\n    segments: [vip]"), "an owner's exports come from its own folder"},
		"a share that is none":   {with("usable_by: [crm]", "rate: { share: 1.5 }"), "share must be above 0"},
		"a flow with a variable": {with("consent: {", "x: { y: ${file:/k} }\n    consent: {"), "needs quotes"},
		"a time that is none":    {with("topics: [events]", "topics: [events]\n    start: yesterday"), "start must be earliest, latest or a time"},
		"no token":               {with("brokers: [localhost:9092]", "brokers: [localhost:9092], sasl: { mechanism: OAUTHBEARER }"), "OAUTHBEARER needs either token"},
		"a token over http":      {with("brokers: [localhost:9092]", "brokers: [localhost:9092], sasl: { mechanism: OAUTHBEARER, token_url: http://login.example.com/t, client_id: a, client_secret: b }"), "would travel in clear text"},
		"MSK without TLS":        {with("brokers: [localhost:9092]", "brokers: [localhost:9092], sasl: { mechanism: AWS_MSK_IAM }"), "over TLS only"},
		"half of a key pair":     {with("brokers: [localhost:9092]", "brokers: [localhost:9092], tls: {}, sasl: { mechanism: AWS_MSK_IAM, access_key: a }"), "access_key and secret_key go together"},
		"memberships and member": {with(`member: change == "ENTERED"`, `member: "true", memberships: x`), "memberships is the whole truth"},
	} {
		t.Run(name, func(t *testing.T) {
			_, problems := load(t, c.text)
			if !strings.Contains(problems, c.want) {
				t.Errorf("%q is not in:\n%s", c.want, problems)
			}
		})
	}
}

func TestAllProblemsAreToldAtOnceAndNoSecret(t *testing.T) {
	text := strings.NewReplacer("${env:TEST_KEY}", "xkeysib-123 # bad\n    nonsense: 1", "list: 42", "list: -1", "brokers: [localhost:9092]", "brokers: [localhost:9092], speed: 9").Replace(good)
	_, problems := load(t, text)
	for _, want := range []string{`unknown key "nonsense"`, "list must be the number of a list", `unknown key "speed"`} {
		if !strings.Contains(problems, want) {
			t.Errorf("%q is not in:\n%s", want, problems)
		}
	}
	if strings.Contains(problems, "xkeysib") {
		t.Errorf("the key is printed:\n%s", problems)
	}
	_, problems = load(t, strings.Replace(good, "api_key: ${env:TEST_KEY}", "api_key: [xkeysib-123]", 1))
	if problems == "" || strings.Contains(problems, "xkeysib") {
		t.Errorf("the key is printed:\n%s", problems)
	}
}

func TestOwnersExportsComeFromTheirFolders(t *testing.T) {
	dir := t.TempDir()
	export := func(name, more string) {
		text := "exports:\n  - name: " + name + "\n    connection: fr\n    source: cdp\n    segments: [a]\n    list: 77\n" + more
		if err := os.WriteFile(filepath.Join(dir, "x.yaml"), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	export("theirs", "")
	c, problems := load(t, good+"owners: { crm: "+dir+" }\n")
	if problems != "" || len(c.Exports) != 2 || c.Exports[1].Owner != "crm" {
		t.Errorf("%s", problems)
	}
	if _, problems = load(t, good+"owners: { sales: "+dir+" }\n"); !strings.Contains(problems, "may not use connection") {
		t.Errorf("an owner who may not use the connection: %s", problems)
	}
	export("theirs", "    owner: sales\n")
	if _, problems = load(t, good+"owners: { crm: "+dir+" }\n"); !strings.Contains(problems, "lies in the folder of") {
		t.Errorf("an export from another's folder: %s", problems)
	}
}

func TestFilesCompose(t *testing.T) {
	more := filepath.Join(t.TempDir(), "more.yaml")
	text := "exports:\n  - name: gold\n    connection: fr\n    source: cdp\n    segments: [gold]\n    list: 43\n"
	if err := os.WriteFile(more, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	if c, problems := load(t, good, more); problems != "" || len(c.Exports) != 2 {
		t.Errorf("%s", problems)
	}
}

func TestTwoConnectionsToOneAccountAreRefused(t *testing.T) {
	text := strings.Replace(good, "exports:", "  - name: again\n    api_key: ${env:TEST_KEY}\n    consent: { by: dpo@example.com, on: 2026-11-01 }\nexports:", 1)
	if _, problems := load(t, text); !strings.Contains(problems, "are one account") {
		t.Errorf("%s", problems)
	}
}

// The contract: unknown flags and files that are not there end with 2.
func TestExitCodes(t *testing.T) {
	for want, args := range map[int][]string{0: {"version"}, exitUsage: {"run", "-c", "/nowhere.yaml"}} {
		if got := run(args); got != want {
			t.Errorf("%v ends with %d, not %d", args, got, want)
		}
	}
	if got := run([]string{"nonsense"}); got != exitUsage {
		t.Errorf("an unknown command ends with %d", got)
	}
}
