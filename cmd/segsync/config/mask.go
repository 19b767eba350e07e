package config

import (
	"regexp"
	"slices"
	"strings"
)

// harmless are the keys whose values may be shown. What stands at any other, misspelt ones among them, may be a secret.
var harmless = strings.Fields(`kafka schema_registry sources connections owners exports breaker audit after_imports every repair unknown_schema wait dead_letters admin instance_id
	brokers prefix tls sasl session_timeout ca_file cert_file key_file server_name mechanism topics topics_regex name start
	out_of_range value key format schema event person segment member time memberships when email on_tombstone tombstone_person halt_when
	display_name base_url consent by on usable_by rate plan share contacts_per_second contacts_per_hour other_per_hour report_hosts
	owner enabled connection source segments list lists attributes nulls on_exit guard at_least rejects of_last topic addr hosts scope delete_contact guard_off url
	schedule only_own only_existing expect_every any all none notify format`)

var (
	keyInLine = regexp.MustCompile(`["']?([A-Za-z_][\w.-]*)["']?\s*:(?:\s|$)`)
	userInURL = regexp.MustCompile(`://[^/@\s"']*@`)
	queryOf   = regexp.MustCompile(`(://[^\s"'?]*)\?[^\s"',}\]]*`)
)

// blank hides what may be a secret in a line: everything after a key that is not known to be harmless, and a line without
// a key, which may go on with one. Attribute names, in upper case, are harmless.
func blank(line string) string {
	keys := keyInLine.FindAllStringSubmatchIndex(line, -1)
	if len(keys) == 0 {
		return "…"
	}
	for _, k := range keys {
		name := line[k[2]:k[3]]
		if !slices.Contains(harmless, name) && name != strings.ToUpper(name) {
			return redact(line[:k[1]]) + " …"
		}
	}
	if at := keys[0][0]; strings.TrimLeft(line[:at], " -{[") != "" {
		line = "… " + line[at:]
	}
	return redact(line)
}

// redact takes users and queries out of addresses.
func redact(s string) string {
	return queryOf.ReplaceAllString(userInURL.ReplaceAllString(s, "://…@"), "$1?…")
}
