package main

import (
	"fmt"
	"strings"

	"segsync/connector/oracle"
)

// configOf is the configuration of one export, vip, in a world whose account has no limits to speak of. more is further
// keys.
func configOf(w *oracle.World, attributes, more string) string {
	return fmt.Sprintf(`
kafka: { brokers: ["%s"], session_timeout: 6s }
schema_registry: { url: "%s" }
sources:
  - name: cdp
    topics: [%s]
    event: { person: profile_id, segment: segment_id, member: change == "ENTERED", time: occurred_at }
    email: profile.email
connections:
  - name: main
    api_key: %s
    base_url: %s
    consent: { by: dpo@example.com, on: 2026-11-01 }
    rate: { plan: custom, contacts_per_second: 10000, contacts_per_hour: 36000000, other_per_hour: 36000, share: 1 }
exports:
  - { name: vip, connection: main, source: cdp, segments: [vip], list: 42, attributes: { %s }, guard: { share: 0 } }
%s
`, w.Brokers()[0], w.Registry, oracle.Topic, oracle.Key, w.API, attributes, more)
}

func split(s string) []string { return strings.Fields(s) }
