//go:build !integration && !bench

package config

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"segsync/connector"
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

func load(t *testing.T, text string, more ...string) (*Config, string) {
	t.Helper()
	t.Setenv("TEST_KEY", "a-secret-key")
	t.Setenv("TEST_LINES", "a\nb")
	dir := t.TempDir()
	file := filepath.Join(dir, "segsync.yaml")
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	c, err := Load(append([]string{file}, more...), false)
	if err == nil {
		var troubled string
		for _, p := range c.Troubled {
			troubled += p.Error()
		}
		return c, troubled
	}
	var p Problems
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
	if !e.Enabled || e.GuardShare != 0.3 || e.GuardLeast != 100 || con.Rate.Share != 0.8 || con.Rate.ContactsPerSecond != 10 || c.DeadLetters != "segsync-dlq" || c.Audit != (connector.Audit{AfterImports: true, Every: 24 * time.Hour}) || c.Kafka.Prefix != "segsync" {
		t.Errorf("%+v", c)
	}
}

// Rules of segments, schedules, who is told.
func TestRulesAndSchedules(t *testing.T) {
	c, problems := load(t, strings.Replace(good, "segments: [vip]", "segments: { any: [vip, gold], all: [adult], none: [suppressed] }\n    schedule: 0 6 * * 1-5 Europe/Paris\n    only_own: true\n    expect_every: 24h", 1)+
		"notify: [ { webhook: https://hooks.example.com/x, format: slack, secret: \"${env:TEST_KEY}\" }, { command: [logger, -t, segsync] } ]\n")
	if problems != "" {
		t.Fatal(problems)
	}
	e := c.Exports[0]
	if !slices.Equal(e.Segments, []string{"vip", "gold", "adult", "suppressed"}) || !slices.Equal(e.All, []string{"adult"}) || !slices.Equal(e.None, []string{"suppressed"}) || !e.OnlyOwn || e.Expect != 24*time.Hour || e.Schedule != "0 6 * * 1-5 Europe/Paris" {
		t.Errorf("%+v", e)
	}
	if people := e.People(); people != "in vip, gold, and in all of adult, and in none of suppressed" {
		t.Error(people)
	}
	if len(c.Notify) != 2 || !c.Notify[0].Slack || len(c.Notify[1].Command) != 3 {
		t.Errorf("%+v", c.Notify)
	}
	if key, err := c.Notify[0].Signing.Value(); err != nil || key != "a-secret-key" {
		t.Error(err)
	}
}

// A text in the place of a list may have commas; an item of a list is taken as it is.
func TestListsByComma(t *testing.T) {
	t.Setenv("TEST_BROKERS", "a:9092, b:9092")
	text := strings.Replace(strings.Replace(good, "[localhost:9092]", `"${env:TEST_BROKERS}"`, 1), "segments: [vip]", "segments: vip,gold", 1)
	c, problems := load(t, text)
	if problems != "" || fmt.Sprintf("%q %q", c.Kafka.Brokers, c.Exports[0].Segments) != `["a:9092" "b:9092"] ["vip" "gold"]` {
		t.Fatalf("%+v %s", c, problems)
	}
	c, problems = load(t, strings.Replace(good, "segments: [vip]", `segments: ["vip,gold"]`, 1))
	if problems != "" || fmt.Sprintf("%q", c.Exports[0].Segments) != `["vip,gold"]` {
		t.Errorf("%+v %s", c, problems)
	}
}

// What is written is not filled in; what is filled in has the preset's place in the file.
func TestPresetsFillInWhatIsNotWritten(t *testing.T) {
	c, problems := load(t, strings.Replace(good, "    email: profile.email\n", "    preset: { name: debezium, email: mail }\n", 1))
	if problems != "" || c.Sources[0].Email != "after.mail ?? before.mail" || c.Sources[0].HaltWhen != `op == "t"` || c.Sources[0].Events[0].Person != "profile_id" || strings.Contains(c.Sources[0].Filled, "event:") {
		t.Errorf("%+v %s", c.Sources[0], problems)
	}
	lines := strings.Split(good, "\n")
	at := slices.IndexFunc(lines, func(l string) bool { return strings.Contains(l, "event:") })
	lines[at] = "    preset: { name: debezium, person: p }"
	_, problems = load(t, strings.Join(lines, "\n"))
	if want := fmt.Sprintf("segsync.yaml:%d:13: ", at+1); !strings.Contains(problems, want+"preset debezium needs the names of fields") {
		t.Errorf("%s is not in %s", want, problems)
	}
	_, problems = load(t, strings.Replace(good, `    event: { person: profile_id, segment: segment_id, member: change == "ENTERED" }`, "    preset: postgres-cdc\n    event: { person: p, joins: j }\n    on_tombstone: delete_contact", 1))
	if problems != "" {
		t.Error(problems)
	}
	_, problems = load(t, strings.Replace(good, `    event: { person: profile_id, segment: segment_id, member: change == "ENTERED" }`, "    preset: { name: postgres-cdc, person: p, segment: s }\n    on_tombstone: delete_contact", 1))
	if !strings.Contains(problems, "on_tombstone and sequence do not go together") {
		t.Error(problems)
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
		"a schedule that is none": {with("list: 42", "list: 42\n    schedule: 25 h"), "schedule must be manual, or five fields as of cron"},
		"a zone that is none":     {with("list: 42", "list: 42\n    schedule: 0 6 * * * Europe/Pari"), `"Europe/Pari" is no time zone`},
		"only whom not":           {with("segments: [vip]", "segments: { none: [vip] }"), "at least one segment whose members are wanted"},
		"a segment in two rules":  {with("segments: [vip]", "segments: { any: [vip], none: [vip] }"), `segment "vip" is named twice`},
		"an unknown rule":         {with("segments: [vip]", "segments: { any: [vip], nor: [x] }"), `unknown key "nor" (did you mean "none"?)`},
		"a webhook in the open":   {good + "notify: [ { webhook: http://hooks.example.com/x } ]\n", "a webhook must be https"},
		"nobody to be told":       {good + "notify: [ { format: slack } ]\n", "a target of notify is a webhook: URL, or a command"},
		"expected all the time":   {with("list: 42", "list: 42\n    expect_every: 1s"), "expect_every must be a duration of 1m0s or more"},
		"no consent":              {with("    consent: { by: dpo@example.com, on: 2026-11-01 }\n", ""), "segsync.yaml:10:9: connection \"fr\" has no consent"},
		"an unknown key":          {with("segments: [vip]", "segment: [vip]"), `unknown key "segment" (did you mean "segments"?)`},
		"a missing key":           {with("    list: 42\n", ""), `"list" is missing`},
		"a key given twice":       {with("    list: 42\n", "    list: 42\n    list: 43\n"), `key "list" already defined`},
		"two exports on a list":   {good + fmt.Sprintf(second, 42, "profile.first_name"), `exports "vip" and "gold" write the same list 42`},
		"one attribute, two":      {good + fmt.Sprintf(second, 43, "profile.last_name"), `map FIRSTNAME of source "cdp" differently`}, // S30
		"plain http":              {with("api_key:", "base_url: http://api.example.com/v3\n    api_key:"), "plain http to a host that is not this machine"},
		"an unset variable":       {with("TEST_KEY", "TEST_NONE"), "the environment variable TEST_NONE is not set"},
		"an unknown connection":   {with("connection: fr", "connection: de"), `connection "de", which is not configured`},
		"an unknown source":       {with("source: cdp", "source: crm"), `source "crm", which is not configured`},
		"a broken expression":     {with("profile.first_name", `"profile.("`), "FIRSTNAME"},
		"a cut expression":        {with("    email: profile.email", "    email: profile.tag == \"a #1\" ? profile.email : nil"), `takes what follows " #" for a comment`},
		"an attribute in lower":   {with("FIRSTNAME", "Firstname"), "attribute names are upper case: FIRSTNAME"},
		"an owner's name here":    {with("    segments: [vip]", "    owner: crm\n    segments: [vip]"), "an owner's exports come from its own folder"},
		"a share that is none":    {with("usable_by: [crm]", "rate: { share: 1.5 }"), "share must be above 0"},
		"a flow with a variable":  {with("consent: {", "x: { y: ${file:/k} }\n    consent: {"), "needs quotes"},
		"a time that is none":     {with("topics: [events]", "topics: [events]\n    start: yesterday"), "start must be earliest, latest or a time"},
		"no token":                {with("brokers: [localhost:9092]", "brokers: [localhost:9092], sasl: { mechanism: OAUTHBEARER }"), "OAUTHBEARER needs either token"},
		"a token over http":       {with("brokers: [localhost:9092]", "brokers: [localhost:9092], sasl: { mechanism: OAUTHBEARER, token_url: http://login.example.com/t, client_id: a, client_secret: b }"), "would travel in clear text"},
		"MSK without TLS":         {with("brokers: [localhost:9092]", "brokers: [localhost:9092], sasl: { mechanism: AWS_MSK_IAM }"), "over TLS only"},
		"half of a key pair":      {with("brokers: [localhost:9092]", "brokers: [localhost:9092], tls: {}, sasl: { mechanism: AWS_MSK_IAM, access_key: a }"), "access_key and secret_key go together"},
		"an empty expression":     {with("profile.first_name", `""`), "attribute FIRSTNAME has no expression"},
		"no export at all":        {good[:strings.Index(good, "exports:")], "no export is configured"},
		"two letters away":        {with("    list: 42", "    atributes: {}\n    list: 42"), `(did you mean "attributes"?)`},
		"swapped letters":         {with("email: profile", "emial: profile"), `(did you mean "email"?)`},
		"an alias":                {with("${env:TEST_KEY}", "*SECRET"), "anchors and aliases"},
		"base_url without /v3":    {with("api_key:", "base_url: https://api.brevo.com\n    api_key:"), "base_url must end in /v3"},
		"a broker without port":   {with("localhost:9092", "localhost"), "a broker is a host and a port"},
		"a broker with http":      {with("[localhost:9092]", `["http://localhost:9092"]`), "a broker is a host and a port"},
		"a session of weeks":      {with("brokers: [localhost:9092]", "brokers: [localhost:9092], session_timeout: 999h"), "between 6s and 30m"},
		"a consent by nobody":     {with("by: dpo@example.com", `by: ""`), "it is empty"},
		"a consent to come":       {with("on: 2026-11-01", "on: 2126-11-01"), "on lies ahead"},
		"a key of two lines":      {with("${env:TEST_KEY}", "${env:TEST_LINES}"), "holds a line break"},
		"an empty key":            {with("${env:TEST_KEY}", `""`), `"api_key" is empty`},
		"a topic with a blank":    {with("topics: [events]", "topics: [my events]"), "a topic's name may hold"},
		"its own dead letters":    {with("topics: [events]", "topics: [segsync-dlq]"), "segsync itself writes"},
		"its own table":           {with("topics: [events]", "topics: [segsync-fr-table]"), "segsync itself writes"},
		"a list of 1e20":          {with("list: 42", "list: 1e20"), "must be the number of a list"},
		"a segment twice":         {with("segments: [vip]", "segments: [vip, vip]"), "is named twice"},
		"an admin port alone":     {good + "admin: { addr: \"19400\" }\n", "addr must be a host and a port"},
		"a tab":                   {with("    list: 42", "\tlist: 42"), "a tab"},
		"UTF-16":                  {"\xff\xfek\x00", "the file is UTF-16"},
		"Latin-1":                 {good + "# \xe9\n", "is not UTF-8"},
		"a binary file":           {"\x7fELF\x00\x01", "it is no text"},
		"an empty file":           {"# nothing\n", "the file is empty"},
		"a known connection":      {with("connection: fr", "connection: frr"), `configured are: fr (did you mean "fr"?)`},
		"audits each minute":      {good + "audit: { every: 1m }\n", "audit.every must be a duration of 10m0s or more"},
		"no wait for a schema":    {good + "unknown_schema: { wait: never }\n", "must be a duration"},
		"joins and member":        {with(`member: change == "ENTERED"`, `member: "true", joins: x`), "not both"},
		"segment alone":           {with(`, member: change == "ENTERED"`, ""), "segment and member go together"},
		"time and sequence":       {with(`"ENTERED" }`, `"ENTERED", time: occurred_at, sequence: lsn }`), "sequence orders events in place of time"},
		"a sequence here only":    {with(`event: {`, "event:\n      - { person: p, joins: j, sequence: lsn }\n      - {"), "either all events of a source have a sequence, or none"},
		"sequence and tombstone":  {with(`"ENTERED" }`, "\"ENTERED\", sequence: lsn }\n    on_tombstone: delete_contact"), "on_tombstone and sequence do not go together"},
		"a group of one":          {with(`"ENTERED" }`, `"ENTERED", group: [vip] }`), "group is a list of two segments or more"},
		"until of a profile":      {with(`event: {`, "event:\n      - { person: p, until: u }\n      - {"), "until and group are about memberships"},
		"profiles, not said":      {with(`event: {`, "event:\n      - { person: p }\n      - {"), "profiles: keep"},
		"profiles only":           {with(`, segment: segment_id, member: change == "ENTERED"`, ""), "no event speaks of memberships"},
		"an unknown preset":       {with("topics: [events]", "topics: [events]\n    preset: debesium"), `unknown preset "debesium" (did you mean "debezium"?)`},
		"a preset's fields":       {with("    email: profile.email\n", "    preset: debezium\n"), "preset debezium needs the names of fields: preset: { name: debezium, email: … }"},
		"a preset's expression":   {with("    email: profile.email\n", "    preset: { name: debezium, email: lower(email) }\n"), "for an expression write the key"},
		"a preset without use":    {with("topics: [events]", "topics: [events]\n    preset: { name: tealium, person: x }"), "preset tealium has no use for person"},
		"memberships and member":  {with(`member: change == "ENTERED"`, `member: "true", memberships: x`), "memberships is the whole truth"},
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

// S82: an owner's files: nothing of the admins' or of others' is read by them or quoted, their problems are the owner's
// alone, and what he may do is the admins' to say (ADVERSARY S1, S2, S5, S15).
func TestS82AnOwnersFilesAreTheOwnersProblem(t *testing.T) {
	secret := filepath.Join(t.TempDir(), "key")
	if err := os.WriteFile(secret, []byte("exports: [MARKED-SECRET]\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	t.Setenv("MARKED", "MARKED-SECRET")
	export := func(more string) string {
		return "exports:\n  - name: theirs\n    connection: fr\n    source: cdp\n    segments: [a]\n    list: 77\n" + more
	}
	for name, c := range map[string]struct {
		file, usable, want string
		kept               bool // the export, switched off
	}{
		"well":               {export(""), "[crm]", "", true},
		"a variable":         {export("    attributes: { A: \"${env:MARKED}\" }\n"), "[crm]", "an owner's file holds plain values only", true},
		"a file as a name":   {strings.Replace(export(""), "theirs", "\"${file:"+secret+"}\"", 1), "[crm]", "an owner's file holds plain values only", false},
		"a slip of the pen":  {export("    colour: red\n"), "[crm]", `unknown key "colour"`, true},
		"no YAML":            {"exports: [", "[crm]", "x.yaml", false},
		"brackets":           {strings.Repeat("[", 200_000), "[crm]", "nested too deeply", false},
		"dashes":             {strings.Repeat("- ", 100_000), "[crm]", "nested too deeply", false},
		"long":               {export("# " + strings.Repeat("x", 2<<20)), "[crm]", "longer than a configuration", false},
		"another list":       {export(""), "{ crm: [42, 43] }", `owner "crm" may not use list 77`, true},
		"the list":           {export(""), "{ crm: [77] }", "", true},
		"deletes":            {export("    on_exit: delete_contact\n"), "[crm]", "an admin lets owner", true},
		"deletes allowed":    {export("    on_exit: delete_contact\n"), "{ crm: { lists: [77], delete_contact: true } }", "", true},
		"no guard":           {export("    guard: { share: 0 }\n"), "{ crm: [77] }", "a guard that is off is an admin's", true},
		"the admins' list":   {strings.Replace(export(""), "77", "42", 1), "[crm]", "write the same list 42", false},
		"the admins' name":   {strings.Replace(export(""), "theirs", "vip", 1), "[crm]", "two exports are named", false},
		"another's files":    {"", "[crm]", "no regular file", false},
		"an unknown account": {strings.Replace(export(""), "fr", "de", 1), "[crm]", "which is not configured", false},
	} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			file := filepath.Join(dir, "x.yaml")
			if c.file == "" {
				if err := os.Symlink(secret, file); err != nil {
					t.Fatal(err)
				}
			} else if err := os.WriteFile(file, []byte(c.file), 0o600); err != nil {
				t.Fatal(err)
			}
			began := time.Now()
			got, told := load(t, strings.Replace(good, "[crm]", c.usable, 1)+"owners: { crm: "+dir+" }\n")
			if got == nil {
				t.Fatalf("nobody's exports go: %s", told)
			}
			if !strings.Contains(told, c.want) || c.want == "" && told != "" || strings.Contains(told, "MARKED-SECRET") {
				t.Errorf("it is told as %q", told)
			}
			if len(got.Exports) != 1+map[bool]int{true: 1}[c.kept] || !got.Exports[0].Enabled {
				t.Errorf("%d exports: %+v", len(got.Exports), got.Exports)
			} else if c.kept && got.Exports[1].Enabled != (c.want == "") {
				t.Errorf("the export is enabled: %v", got.Exports[1].Enabled)
			}
			if took := time.Since(began); took > 5*time.Second {
				t.Errorf("it took %s", took)
			}
		})
	}
}

// S85: a secret stands at every key, right and misspelt, beside a mistake: nothing that is printed holds it (D1).
func TestS85NoSecretIsPrinted(t *testing.T) {
	const marked = "MARKED-SECRET"
	keys := []string{"api_key", "apikey", "apiKey", "api-key", "password", "pasword", "passwort", "token", "tokn", "client_secret", "client_secrt", "secret_key", "secretkey", "session_token", "sesion_token", "access_key", "key_id", "credentials", "\"api_key\"", "'password'"}
	for _, k := range keys {
		for at, text := range map[string]string{
			"in a connection":  strings.Replace(good, "    api_key: ${env:TEST_KEY}", "    "+k+": "+marked+"\n    nonsense: 1", 1),
			"in sasl":          strings.Replace(good, "brokers: [localhost:9092]", "brokers: [localhost:9092], sasl: { mechanism: NONE, "+k+": "+marked+" }", 1),
			"behind a mistake": strings.Replace(good, "    api_key: ${env:TEST_KEY}", "    speed: 9, "+k+": "+marked, 1),
			"on the next line": strings.Replace(good, "    api_key: ${env:TEST_KEY}", "    "+k+":\n      "+marked+": [", 1),
			"a list":           strings.Replace(good, "    api_key: ${env:TEST_KEY}", "    "+k+": ["+marked+"]", 1),
			"unclosed":         strings.Replace(good, "    api_key: ${env:TEST_KEY}", "    "+k+": \""+marked, 1),
			"in the registry":  strings.Replace(good, "exports:", "schema_registry: { url: http://registry:8081, "+k+": "+marked+" }\nexports:", 1),
		} {
			if _, told := load(t, text); strings.Contains(told, marked) {
				t.Errorf("%s %s: %s", k, at, told)
			}
		}
	}
	for _, text := range []string{
		strings.Replace(good, "http://localhost", "http://me:"+marked+"@localhost", 1),
		strings.Replace(good, "    api_key:", "    base_url: https://me:"+marked+"@api.example.com/v3\n    api_key:", 1),
		strings.Replace(good, "    api_key:", "    base_url: https://api.example.com/v3?key="+marked+"\n    api_key:", 1),
		strings.Replace(good, "${env:TEST_KEY}", "${env:TEST_KEY}\n    nonsense: https://me:"+marked+"@x", 1),
	} {
		if _, told := load(t, text); told == "" || strings.Contains(told, marked) {
			t.Errorf("%s", told)
		}
	}
}

// One export is written for many segments; lists are named.
func TestAnExportForEachSegment(t *testing.T) {
	each := strings.NewReplacer("segments: [vip]", "for_each: [vip, gold]\n    only_existing: true", "list: 42", `list: { name: "Segment {segment}", folder: 12 }`).Replace(good)
	name := regexp.MustCompile(`(exports:\n +- name: )\S+`)
	c, problems := load(t, name.ReplaceAllString(each, `$1"all-{segment}"`))
	if problems != "" {
		t.Fatal(problems)
	}
	var got []string
	for _, e := range c.Exports {
		got = append(got, fmt.Sprint(e.Name, e.Segments, e.Of(), e.OnlyExisting, len(e.Attributes)))
	}
	n := len(c.Exports[0].Attributes)
	if want := []string{fmt.Sprintf("all-vip[vip]%q in folder 12true %d", "Segment vip", n), fmt.Sprintf("all-gold[gold]%q in folder 12true %d", "Segment gold", n)}; !slices.Equal(got, want) {
		t.Errorf("%q, not %q", got, want)
	}
	twice := name.ReplaceAllString(each, `$1"all-{segment}"`)
	for says, text := range map[string]string{
		`such as "`:                                each,
		"each export needs a list of its own":      strings.Replace(twice, "Segment {segment}", "Segments", 1),
		"exclude each other":                       strings.Replace(twice, "for_each", "segments: [vip]\n    for_each", 1),
		`"gold" is named twice`:                    strings.Replace(twice, "[vip, gold]", "[vip, gold, gold]", 1),
		"for_each needs at least one segment":      strings.Replace(twice, "[vip, gold]", "[]", 1),
		"the list's name is empty":                 strings.Replace(good, "list: 42", `list: { name: " " }`, 1),
		"folder must be the number of a folder":    strings.Replace(good, "list: 42", `list: { name: VIP, folder: 0 }`, 1),
		`"name" is missing`:                        strings.Replace(good, "list: 42", `list: { folder: 1 }`, 1),
		`or its name: { name: "VIP", folder: 12 }`: strings.Replace(good, "list: 42", `list: VIP`, 1),
	} {
		if _, problems := load(t, text); !strings.Contains(problems, says) || strings.Count(problems, "\n") > 1 {
			t.Errorf("it is not said that %s: %s", says, problems)
		}
	}
	wrong := strings.Replace(twice, "source: ", "source: no", 1)
	if _, problems := load(t, wrong); strings.Count(problems, "is not configured") != 1 {
		t.Errorf("what is wrong with it is not said once: %s", problems)
	}
}
