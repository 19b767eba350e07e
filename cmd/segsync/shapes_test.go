//go:build !integration && !bench

package main

import (
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/linkedin/goavro/v2"
	"go.uber.org/zap"

	"segsync/cmd/segsync/config"
	"segsync/mapping"
)

// shape is what somebody publishes: a schema, records as JSON, and what the ten lines of mapping/SHAPES.md make of them.
type shape struct {
	topic, segments, schema string
	headers                 map[string][]byte
	records                 []string
	says                    []string // of each person the id, segments, address, and the time where it is not the record's own
	other                   *shape   // what comes on another topic of the source
}

const at = "2026-01-01T00:00:10.5Z"

func optional(names ...string) string {
	var all []string
	for _, n := range names {
		all = append(all, fmt.Sprintf(`{"name":%q,"type":["null","string"],"default":null}`, n))
	}
	return strings.Join(all, ",")
}

// What Debezium sends of a row: it is made, changed, deleted; and a truncate.
var (
	envelope = `{"type":"record","name":"Envelope","fields":[{"name":"before","type":["null",{"type":"record","name":"Value","fields":[{"name":"customer_id","type":"long"},{"name":"segment","type":"string"},` + optional("email") + `]}]},{"name":"after","type":["null","Value"]},{"name":"op","type":"string"},{"name":"ts_ms","type":["null","long"]},{"name":"source","type":{"type":"record","name":"Source","fields":[{"name":"lsn","type":["null","long"]}]}}]}`
	images   = []string{
		`{"before":null,"after":{"Value":{"customer_id":9,"segment":"vip","email":{"string":"ann@example.com"}}},"op":"c","ts_ms":{"long":1767225610500},"source":{"lsn":{"long":24023128}}}`,
		`{"before":{"Value":{"customer_id":9,"segment":"vip","email":{"string":"ann@example.com"}}},"after":{"Value":{"customer_id":9,"segment":"gold","email":{"string":"ann@example.com"}}},"op":"u","ts_ms":{"long":1767225610500},"source":{"lsn":{"long":24023128}}}`,
		`{"before":{"Value":{"customer_id":9,"segment":"gold","email":null}},"after":null,"op":"d","ts_ms":{"long":1767225610500},"source":{"lsn":{"long":24023128}}}`,
		`{"before":null,"after":null,"op":"t","ts_ms":{"long":1767225610500},"source":{"lsn":null}}`,
	}
)

var shapes = map[string]shape{
	"Adobe XDM profile": {
		segments: "a, b, c, d",
		schema: `{"type":"record","name":"Profile","fields":[{"name":"identity","type":"string"},{"name":"timestamp","type":{"type":"long","logicalType":"timestamp-millis"}},
			{"name":"segmentMembership","type":{"type":"map","values":{"type":"map","values":{"type":"record","name":"State","fields":[` + optional("status", "validUntil") + `]}}}},
			{"name":"identityMap","type":{"type":"map","values":{"type":"array","items":{"type":"record","name":"Identity","fields":[{"name":"id","type":"string"},{"name":"primary","type":"boolean"}]}}}}]}`,
		records: []string{
			`{"identity":"p","timestamp":1767225610500,"segmentMembership":{"ups":{"a":{"status":{"string":"realized"},"validUntil":{"string":"2026-02-01T00:00:00Z"}},"b":{"status":{"string":"exited"},"validUntil":null}},"aam":{"c":{"status":null,"validUntil":null}}},"identityMap":{"email":[{"id":"old@example.com","primary":false},{"id":"ann@example.com","primary":true}]}}`,
			`{"identity":"p","timestamp":1767225610500,"segmentMembership":{},"identityMap":{}}`,
			`{"identity":"p","timestamp":1767225610500,"segmentMembership":{"ups":{}},"identityMap":{"email":[{"id":"ann@example.com","primary":false}]}}`,
		},
		says: []string{"p a until 2026-02-01 c whole ann@example.com " + at, "p whole " + at, "p whole ann@example.com " + at},
	},
	"mParticle audience feed": {
		segments: `"7", "8", "9"`,
		schema: `{"type":"record","name":"Message","fields":[{"name":"type","type":"string"},{"name":"timestamp_ms","type":"long"},{"name":"user_profiles","type":{"type":"array","items":{"type":"record","name":"UserProfile","fields":[
			{"name":"mpid","type":"long"},{"name":"user_identities","type":["null",{"type":"array","items":{"type":"record","name":"UserIdentity","fields":[{"name":"type","type":"string"},{"name":"value","type":"string"},` + optional("encoding") + `]}}]},
			{"name":"audiences","type":["null",{"type":"array","items":{"type":"record","name":"Audience","fields":[{"name":"audience_id","type":"int"},{"name":"action","type":"string"}]}}]}]}}}]}`,
		records: []string{
			`{"type":"audience_membership_change_request","timestamp_ms":1767225610500,"user_profiles":[
				{"mpid":1,"user_identities":{"array":[{"type":"customer_id","value":"c1","encoding":null},{"type":"email","value":"ann@example.com","encoding":{"string":"raw"}}]},"audiences":{"array":[{"audience_id":7,"action":"add"},{"audience_id":8,"action":"delete"},{"audience_id":9,"action":"attribute_update"}]}},
				{"mpid":2,"user_identities":{"array":[{"type":"email","value":"b58996c504c5638798eb6b511e6f49af","encoding":{"string":"md5"}}]},"audiences":{"array":[{"audience_id":7,"action":"add"}]}},
				{"mpid":3,"user_identities":null,"audiences":null}]}`,
			`{"type":"audience_membership_change_request","timestamp_ms":1767225610500,"user_profiles":[]}`,
		},
		says: []string{"1 7 -8 ann@example.com " + at + "; 2 7 " + at + "; 3 " + at, ""},
	},
	"Twilio Segment Engage": {
		segments: "vip",
		schema: `{"type":"record","name":"Call","fields":[` + optional("userId", "anonymousId", "timestamp") + `,
			{"name":"traits","type":["null",{"type":"map","values":["null","boolean","string"]}]},{"name":"properties","type":["null",{"type":"map","values":["null","boolean","string"]}]},
			{"name":"context","type":{"type":"record","name":"Context","fields":[{"name":"personas","type":["null",{"type":"record","name":"Personas","fields":[` + optional("computation_class", "computation_key") + `]}]}]}}]}`,
		records: []string{
			`{"userId":{"string":"u"},"anonymousId":null,"timestamp":{"string":"2026-01-01T00:00:10.5Z"},"traits":{"map":{"vip":{"boolean":true},"email":{"string":"ann@example.com"}}},"properties":null,"context":{"personas":{"Personas":{"computation_class":{"string":"audience"},"computation_key":{"string":"vip"}}}}}`,
			`{"userId":null,"anonymousId":{"string":"a"},"timestamp":{"string":"2026-01-01T00:00:10.5Z"},"traits":null,"properties":{"map":{"vip":{"boolean":false}}},"context":{"personas":{"Personas":{"computation_class":{"string":"audience"},"computation_key":{"string":"vip"}}}}}`,
			`{"userId":{"string":"u"},"anonymousId":null,"timestamp":{"string":"2026-01-01T00:00:10.5Z"},"traits":{"map":{"vip":{"string":"gold"}}},"properties":null,"context":{"personas":{"Personas":{"computation_class":{"string":"audience"},"computation_key":{"string":"vip"}}}}}`,
			`{"userId":{"string":"u"},"anonymousId":null,"timestamp":null,"traits":{"map":{}},"properties":null,"context":{"personas":{"Personas":{"computation_class":{"string":"trait"},"computation_key":{"string":"vip"}}}}}`,
			`{"userId":{"string":"u"},"anonymousId":null,"timestamp":null,"traits":null,"properties":null,"context":{"personas":null}}`,
		},
		says: []string{"u vip ann@example.com " + at, "a -vip " + at, "u " + at, "", ""},
	},
	"RudderStack record": {
		topic: "audience.vip", segments: "vip",
		schema: `{"type":"record","name":"Record","fields":[{"name":"action","type":"string"},{"name":"recordId","type":"string"},{"name":"receivedAt","type":"string"},{"name":"identifiers","type":{"type":"map","values":"string"}}]}`,
		records: []string{
			`{"action":"insert","recordId":"1","receivedAt":"2026-01-01T00:00:10.500Z","identifiers":{"email":"ann@example.com"}}`,
			`{"action":"delete","recordId":"1","receivedAt":"2026-01-01T00:00:10.500Z","identifiers":{}}`,
			`{"action":"refresh","recordId":"1","receivedAt":"2026-01-01T00:00:10.500Z","identifiers":{}}`,
		},
		says: []string{"1 vip ann@example.com " + at, "1 -vip " + at, "1 " + at},
	},
	"RudderStack lists of people": {
		topic: "audience.vip", segments: "vip",
		schema: `{"type":"record","name":"Call","fields":[{"name":"receivedAt","type":"string"},{"name":"properties","type":{"type":"record","name":"Properties","fields":[{"name":"listData","type":{"type":"map","values":{"type":"array","items":{"type":"map","values":"string"}}}}]}}]}`,
		records: []string{
			`{"receivedAt":"2026-01-01T00:00:10.500Z","properties":{"listData":{"add":[{"email":"ann@example.com"},{"email":"bob@example.com"}],"remove":[{"email":"cy@example.com"}]}}}`,
			`{"receivedAt":"2026-01-01T00:00:10.500Z","properties":{"listData":{"remove":[{"email":"ann@example.com"},{"name":"nobody"},{"email":"bob@example.com"}]}}}`,
		},
		says: []string{
			"ann@example.com vip ann@example.com " + at + "; bob@example.com vip bob@example.com " + at + "; cy@example.com -vip cy@example.com " + at,
			"ann@example.com -vip ann@example.com " + at + "; bob@example.com -vip bob@example.com " + at + "; error: person: item 2: the record names no person",
		},
	},
	"PostHog cohort_membership_changed": {
		segments: `"7"`,
		schema:   `{"type":"record","name":"Change","fields":[{"name":"cohort_id","type":"int"},{"name":"person_id","type":{"type":"string","logicalType":"uuid"}},{"name":"last_updated","type":"string"},{"name":"status","type":"string"}]}`,
		records: []string{
			`{"cohort_id":7,"person_id":"550e8400-e29b-41d4-a716-446655440000","last_updated":"2026-01-01 00:00:10.500000","status":"entered"}`,
			`{"cohort_id":7,"person_id":"550e8400-e29b-41d4-a716-446655440000","last_updated":"2026-01-01 00:00:10.500000","status":"left"}`,
			`{"cohort_id":7,"person_id":"550e8400-e29b-41d4-a716-446655440000","last_updated":"2026-01-01 00:00:10.500000","status":"reconciled"}`,
		},
		says: []string{"550e8400-e29b-41d4-a716-446655440000 7 " + at, "550e8400-e29b-41d4-a716-446655440000 -7 " + at, "550e8400-e29b-41d4-a716-446655440000 " + at},
		other: &shape{
			topic:   "persons",
			schema:  `{"type":"record","name":"Person","fields":[{"name":"id","type":"string"},{"name":"timestamp","type":"string"},{"name":"properties","type":"string"}]}`,
			records: []string{`{"id":"550e8400-e29b-41d4-a716-446655440000","timestamp":"2026-01-01 00:00:10.500000","properties":"{\"email\":\"ann@example.com\"}"}`},
			says:    []string{"550e8400-e29b-41d4-a716-446655440000 ann@example.com " + at},
		},
	},
	"Open edX event bus": {
		segments: "go101/audit, go101/verified", headers: map[string][]byte{"ce_time": []byte("2026-01-01T00:00:10.500000+00:00")},
		schema: `{"type":"record","name":"CloudEvent","namespace":"org.openedx","fields":[{"name":"enrollment","type":{"type":"record","name":"CourseEnrollmentData","fields":[
			{"name":"user","type":{"type":"record","name":"UserData","fields":[{"name":"id","type":"long"},{"name":"is_active","type":"boolean"},{"name":"pii","type":{"type":"record","name":"Pii","fields":[{"name":"email","type":"string"}]}}]}},
			{"name":"course","type":{"type":"record","name":"CourseData","fields":[{"name":"course_key","type":"string"}]}},{"name":"mode","type":"string"},{"name":"is_active","type":"boolean"}]}}]}`,
		records: []string{
			`{"enrollment":{"user":{"id":5,"is_active":true,"pii":{"email":"ann@example.com"}},"course":{"course_key":"go101"},"mode":"verified","is_active":true}}`,
			`{"enrollment":{"user":{"id":5,"is_active":true,"pii":{"email":"ann@example.com"}},"course":{"course_key":"go101"},"mode":"audit","is_active":false}}`,
		},
		says: []string{"5 -go101/audit go101/verified ann@example.com " + at, "5 -go101/audit ann@example.com " + at},
	},
	"Salesforce Data Cloud": {
		segments: "vip",
		schema:   `{"type":"record","name":"Event","fields":[{"name":"ActionDeveloperName","type":"string"},{"name":"EventPrompt","type":"string"},{"name":"EventCreationDateTime","type":"string"},` + optional("PayloadCurrentValue", "PayloadPrevValue", "ProfileIdValue") + `]}`,
		records: []string{
			`{"ActionDeveloperName":"vip","EventPrompt":"INSERT","EventCreationDateTime":"2026-01-01T00:00:10.500+0000","PayloadCurrentValue":{"string":"{\"Id\":1234567,\"Email\":\"ann@example.com\"}"},"PayloadPrevValue":null,"ProfileIdValue":null}`,
			`{"ActionDeveloperName":"vip","EventPrompt":"DELETE","EventCreationDateTime":"2026-01-01T00:00:10.500+0000","PayloadCurrentValue":null,"PayloadPrevValue":{"string":"{\"Email\":\"ann@example.com\"}"},"ProfileIdValue":{"string":"1234567"}}`,
		},
		says: []string{"1234567 vip ann@example.com " + at, "1234567 -vip ann@example.com " + at},
	},
	"Braze Currents": {
		segments: "g1",
		schema:   `{"type":"record","name":"Change","fields":[{"name":"user_id","type":"string"},` + optional("external_user_id", "email_address") + `,{"name":"subscription_group_id","type":"string"},{"name":"subscription_status","type":"string"},{"name":"time","type":"int"}]}`,
		records: []string{
			`{"user_id":"u","external_user_id":{"string":"x"},"email_address":{"string":"ann@example.com"},"subscription_group_id":"g1","subscription_status":"Subscribed","time":1767225610}`,
			`{"user_id":"u","external_user_id":null,"email_address":null,"subscription_group_id":"g1","subscription_status":"Unsubscribed","time":1767225610}`,
		},
		says: []string{"x g1 ann@example.com 2026-01-01T00:00:10Z", "u -g1 2026-01-01T00:00:10Z"},
	},
	"Tealium AudienceStream": {
		segments: "1001, 1002",
		schema:   `{"type":"record","name":"Visitor","fields":[{"name":"visitor_id","type":"string"},{"name":"audiences","type":["null",{"type":"array","items":"string"}]},{"name":"properties","type":{"type":"map","values":"string"}}]}`,
		records: []string{
			`{"visitor_id":"v","audiences":{"array":["1001"]},"properties":{"Email Address":"ann@example.com"}}`,
			`{"visitor_id":"v","audiences":null,"properties":{}}`,
			`{"visitor_id":"v","audiences":{"array":[]},"properties":{}}`,
		},
		says: []string{"v 1001 whole ann@example.com", "v", "v whole"},
	},
	"Debezium": {
		segments: "vip, gold",
		schema:   envelope,
		records:  images,
		says:     []string{"9 vip ann@example.com " + at, "9 -vip gold ann@example.com " + at, "9 -gold " + at, "halt"},
	},
	"Debezium, PostgreSQL": {
		segments: "vip, gold",
		schema:   envelope,
		records:  images,
		says:     []string{"9 vip ann@example.com #24023128", "9 -vip gold ann@example.com #24023128", "9 -gold #24023128", "halt"},
	},
	"Debezium, flattened": {
		segments: "vip",
		schema:   `{"type":"record","name":"Value","fields":[{"name":"customer_id","type":"long"},{"name":"segment","type":"string"},` + optional("email", "__deleted", "__op") + `,{"name":"__ts_ms","type":["null","long"]}]}`,
		records: []string{
			`{"customer_id":9,"segment":"vip","email":{"string":"ann@example.com"},"__deleted":{"string":"false"},"__op":{"string":"c"},"__ts_ms":{"long":1767225610500}}`,
			`{"customer_id":9,"segment":"vip","email":null,"__deleted":{"string":"true"},"__op":{"string":"d"},"__ts_ms":{"long":1767225610500}}`,
			`{"customer_id":9,"segment":"vip","email":null,"__deleted":null,"__op":{"string":"t"},"__ts_ms":null}`,
		},
		says: []string{"9 vip ann@example.com " + at, "9 -vip " + at, "halt"},
	},
}

func shapesPage(t *testing.T) []byte {
	t.Helper()
	text, err := os.ReadFile("../../mapping/SHAPES.md")
	if err != nil {
		t.Fatal(err)
	}
	return text
}

// Each shape is read by the lines that mapping/SHAPES.md gives for it.
func TestShapesOfTheWorld(t *testing.T) {
	lines := map[string]string{}
	for _, m := range regexp.MustCompile("(?s)\n## ([^\n]+)\n[^#]*?```yaml\n(.*?)```").FindAllSubmatch(shapesPage(t), -1) {
		lines[string(m[1])] = string(m[2])
	}
	if len(lines) != len(shapes) {
		t.Errorf("%d shapes are written, %d are tested", len(lines), len(shapes))
	}
	for name, s := range shapes {
		t.Run(name, func(t *testing.T) {
			if n := strings.Count(lines[name], "\n"); n == 0 || n > 10 {
				t.Fatalf("it has %d lines", n)
			}
			versions := []mapping.Version{{Text: s.schema}}
			if s.other != nil {
				s.other.segments = s.segments
				versions = append(versions, mapping.Version{Text: s.other.schema})
				s.other.check(t, lines[name], versions)
			}
			s.check(t, lines[name], versions)
		})
	}
}

// check maps the records of a shape by the lines of a source.
func (s *shape) check(t *testing.T, lines string, versions []mapping.Version) {
	t.Helper()
	w := s.worker(t, lines, versions)
	codec, err := goavro.NewCodec(s.schema)
	if err != nil {
		t.Fatal(err)
	}
	for i, record := range s.records {
		native, _, err := codec.NativeFromTextual([]byte(record))
		if err != nil {
			t.Fatal(err)
		}
		value, err := codec.BinaryFromNative(nil, native)
		if err != nil {
			t.Fatal(err)
		}
		if got := s.said(w, value); got != s.says[i] {
			t.Errorf("record %d says %q, not %q", i, got, s.says[i])
		}
	}
}

// A preset fills in the lines that mapping/SHAPES.md gives for it, word by word.
func TestPresetsAreTheShapes(t *testing.T) {
	told := map[string]bool{}
	for _, m := range regexp.MustCompile("`preset: ([^`]+)`\n```yaml\n([^`]*)```").FindAllSubmatch(shapesPage(t), -1) {
		file := filepath.Join(t.TempDir(), "segsync.yaml")
		content := "kafka: { brokers: [localhost:9092] }\nschema_registry: { url: http://localhost:8081 }\nsources:\n  - name: s\n    topics: [x]\n    preset: " + string(m[1]) +
			"\nconnections:\n  - { name: c, api_key: k, consent: { by: dpo@example.com, on: 2026-11-01 } }\nexports:\n  - { name: e, connection: c, source: s, segments: [vip], list: 42 }\n"
		if err := os.WriteFile(file, []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
		c, err := config.Load([]string{file}, true)
		if err != nil {
			t.Errorf("preset %s: %v", m[1], err)
			continue
		}
		if s := c.Sources[0]; s.Filled != string(m[2]) {
			t.Errorf("preset %s fills in\n%snot\n%s", m[1], s.Filled, m[2])
		} else {
			told[s.Preset] = true
		}
	}
	for _, name := range config.Presets() {
		if !told[name] {
			t.Errorf("mapping/SHAPES.md does not tell of preset %s", name)
		}
	}
}

// worker maps by the lines of a source.
func (s *shape) worker(t *testing.T, lines string, versions []mapping.Version) *mapping.Worker {
	t.Helper()
	dir := t.TempDir()
	schema, file := filepath.Join(dir, "schema.avsc"), filepath.Join(dir, "segsync.yaml")
	text := "kafka: { brokers: [localhost:9092] }\nsources:\n  - name: s\n    topics: [x]\n    value: { format: avro, schema: ['" + schema + "'] }\n    " + strings.ReplaceAll(strings.TrimSpace(lines), "\n", "\n    ") +
		"\nconnections:\n  - { name: c, api_key: k, consent: { by: dpo@example.com, on: 2026-11-01 } }\nexports:\n  - { name: e, connection: c, source: s, segments: [" + s.segments + "], list: 42 }\n"
	for name, content := range map[string]string{schema: s.schema, file: text} {
		if err := os.WriteFile(name, []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	c, err := config.Load([]string{file}, true)
	if err != nil {
		t.Fatalf("%s\n%v", text, err)
	}
	wired, err := newWiring(c, zap.NewNop())
	if err != nil {
		t.Fatal(err)
	}
	defer wired.release()
	all, err := wired.connections()
	if err != nil {
		t.Fatal(err)
	}
	source := all[0].Sources[0]
	m, err := mapping.NewMapper(source.Spec, source.Value, source.Key)
	if err != nil {
		t.Fatal(err)
	}
	if err := m.Check(versions...); err != nil {
		t.Errorf("check says: %v", err)
	}
	return m.NewWorker()
}

// said is what a record says, in a line.
func (s *shape) said(w *mapping.Worker, value []byte) string {
	now := time.Date(2026, 11, 1, 0, 0, 0, 0, time.UTC).UnixNano()
	r, err := w.Map(&mapping.Record{Value: value, Key: []byte("k"), Topic: s.topic, Headers: s.headers, Time: now, Read: now})
	switch {
	case err == mapping.ErrHalt: //nolint:errorlint // it is never wrapped
		return "halt"
	case len(r.Changes) == 0 && err == nil:
		return ""
	}
	var all []string
	for i := range r.Changes {
		all = append(all, s.change(r, &r.Changes[i], now))
	}
	if err != nil {
		all = append(all, "error: "+err.Error())
	}
	return strings.Join(all, "; ")
}

// change is what is said of a person.
func (s *shape) change(r *mapping.Result, c *mapping.Change, now int64) string {
	segments := strings.Split(strings.ReplaceAll(s.segments, `"`, ""), ", ")
	slices.SortFunc(c.Memberships, func(a, b mapping.Membership) int { return a.Segment - b.Segment })
	parts := []string{c.Person}
	for _, m := range c.Memberships {
		parts = append(parts, map[bool]string{true: "", false: "-"}[m.In]+segments[m.Segment])
		if m.Until != 0 {
			parts = append(parts, "until", time.Unix(m.Until, 0).UTC().Format(time.DateOnly))
		}
	}
	if c.Whole {
		parts = append(parts, "whole")
	}
	if p := r.Profile(c); p != nil && p.Address != "" {
		parts = append(parts, p.Address)
	}
	switch {
	case c.Time < 1e18: // a sequence number
		parts = append(parts, fmt.Sprintf("#%d", c.Time))
	case c.Time != now:
		parts = append(parts, time.Unix(0, c.Time).UTC().Format(time.RFC3339Nano))
	}
	return strings.Join(parts, " ")
}
