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
	says                    []string // person [segment=in] address, and the time where it is not the record's own
}

const at = "2026-01-01T00:00:10.5Z"

func optional(names ...string) string {
	var all []string
	for _, n := range names {
		all = append(all, fmt.Sprintf(`{"name":%q,"type":["null","string"],"default":null}`, n))
	}
	return strings.Join(all, ",")
}

var shapes = map[string]shape{
	"Adobe XDM profile": {
		segments: "a, b, c, d",
		schema: `{"type":"record","name":"Profile","fields":[{"name":"identity","type":"string"},{"name":"timestamp","type":{"type":"long","logicalType":"timestamp-millis"}},
			{"name":"segmentMembership","type":{"type":"map","values":{"type":"map","values":{"type":"record","name":"State","fields":[` + optional("status", "validUntil") + `]}}}},
			{"name":"identityMap","type":{"type":"map","values":{"type":"array","items":{"type":"record","name":"Identity","fields":[{"name":"id","type":"string"},{"name":"primary","type":"boolean"}]}}}}]}`,
		records: []string{
			`{"identity":"p","timestamp":1767225610500,"segmentMembership":{"ups":{"a":{"status":{"string":"realized"},"validUntil":null},"b":{"status":{"string":"exited"},"validUntil":null}},"aam":{"c":{"status":null,"validUntil":null}}},"identityMap":{"email":[{"id":"old@example.com","primary":false},{"id":"ann@example.com","primary":true}]}}`,
			`{"identity":"p","timestamp":1767225610500,"segmentMembership":{},"identityMap":{}}`,
			`{"identity":"p","timestamp":1767225610500,"segmentMembership":{"ups":{}},"identityMap":{"email":[{"id":"ann@example.com","primary":false}]}}`,
		},
		says: []string{"p a c whole ann@example.com " + at, "p whole " + at, "p whole ann@example.com " + at},
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
	"PostHog cohort_membership_changed": {
		segments: `"7"`,
		schema:   `{"type":"record","name":"Change","fields":[{"name":"cohort_id","type":"int"},{"name":"person_id","type":{"type":"string","logicalType":"uuid"}},{"name":"last_updated","type":"string"},{"name":"status","type":"string"}]}`,
		records: []string{
			`{"cohort_id":7,"person_id":"550e8400-e29b-41d4-a716-446655440000","last_updated":"2026-01-01 00:00:10.500000","status":"entered"}`,
			`{"cohort_id":7,"person_id":"550e8400-e29b-41d4-a716-446655440000","last_updated":"2026-01-01 00:00:10.500000","status":"left"}`,
			`{"cohort_id":7,"person_id":"550e8400-e29b-41d4-a716-446655440000","last_updated":"2026-01-01 00:00:10.500000","status":"reconciled"}`,
		},
		says: []string{"550e8400-e29b-41d4-a716-446655440000 7 " + at, "550e8400-e29b-41d4-a716-446655440000 -7 " + at, "550e8400-e29b-41d4-a716-446655440000 " + at},
	},
	"Open edX event bus": {
		segments: "go101", headers: map[string][]byte{"ce_time": []byte("2026-01-01T00:00:10.500000+00:00")},
		schema: `{"type":"record","name":"CloudEvent","namespace":"org.openedx","fields":[{"name":"enrollment","type":{"type":"record","name":"CourseEnrollmentData","fields":[
			{"name":"user","type":{"type":"record","name":"UserData","fields":[{"name":"id","type":"long"},{"name":"is_active","type":"boolean"},{"name":"pii","type":{"type":"record","name":"Pii","fields":[{"name":"email","type":"string"}]}}]}},
			{"name":"course","type":{"type":"record","name":"CourseData","fields":[{"name":"course_key","type":"string"}]}},{"name":"is_active","type":"boolean"}]}}]}`,
		records: []string{
			`{"enrollment":{"user":{"id":5,"is_active":true,"pii":{"email":"ann@example.com"}},"course":{"course_key":"go101"},"is_active":true}}`,
			`{"enrollment":{"user":{"id":5,"is_active":true,"pii":{"email":"ann@example.com"}},"course":{"course_key":"go101"},"is_active":false}}`,
		},
		says: []string{"5 go101 ann@example.com " + at, "5 -go101 ann@example.com " + at},
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

// Each shape is read by the lines that mapping/SHAPES.md gives for it.
func TestShapesOfTheWorld(t *testing.T) {
	text, err := os.ReadFile("../../mapping/SHAPES.md")
	if err != nil {
		t.Fatal(err)
	}
	lines := map[string]string{}
	for _, m := range regexp.MustCompile("(?s)\n## ([^\n]+)\n[^#]*?```yaml\n(.*?)```").FindAllSubmatch(text, -1) {
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
			w := s.worker(t, lines[name])
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
		})
	}
}

// worker maps by the lines of a source.
func (s *shape) worker(t *testing.T, lines string) *mapping.Worker {
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
	if err := m.Check(mapping.Version{Text: s.schema}); err != nil {
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
	case err != nil:
		return "error: " + err.Error()
	case len(r.Changes) == 0:
		return ""
	}
	segments := strings.Split(strings.ReplaceAll(s.segments, `"`, ""), ", ")
	c := r.Changes[0]
	slices.SortFunc(c.Memberships, func(a, b mapping.Membership) int { return a.Segment - b.Segment })
	parts := []string{c.Person}
	for _, m := range c.Memberships {
		parts = append(parts, map[bool]string{true: "", false: "-"}[m.In]+segments[m.Segment])
	}
	if c.Whole {
		parts = append(parts, "whole")
	}
	if p := r.Profile(&c); p != nil && p.Address != "" {
		parts = append(parts, p.Address)
	}
	if c.Time != now {
		parts = append(parts, time.Unix(0, c.Time).UTC().Format(time.RFC3339Nano))
	}
	return strings.Join(parts, " ")
}
