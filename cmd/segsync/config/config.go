package config

import (
	"maps"
	"net"
	"net/url"
	"regexp"
	"slices"
	"strings"
	"time"

	"github.com/goccy/go-yaml/ast"

	"segsync/connector"
	"segsync/sink/sendinblue"
)

// Config is a whole configuration, composed of one or more files.
type Config struct {
	Kafka       Kafka
	Registry    Registry
	Sources     []Source
	Connections []Connection
	Owners      map[string]string
	Exports     []Export
	Breaker     connector.Breaker
	Audit       connector.Audit
	UnknownID   time.Duration
	DeadLetters string
	Notify      []Notify // who is told what needs somebody
	AdminAddr   string
	AdminHosts  []string // further names that it is served under
	Instance    string
	Troubled    map[string]Problems // owners whose files have problems: their exports are off
}

// at remembers where something was said, for problems found later.
type at struct {
	d    *document
	node ast.Node
}

func (a at) fail(format string, args ...any) { a.d.fail(a.node, format, args...) }

// Kafka is how to reach Kafka.
type Kafka struct {
	Brokers    []string
	Prefix     string
	TLS        bool
	CA         string
	Cert, Key  string
	ServerName string
	SASL       SASL
	Session    time.Duration
}

// Registry is how to reach the schema registry.
type Registry struct {
	URLs               []string
	Username, Password Secret
	Token              Secret
	CA                 string
}

// Connection is an account.
type Connection struct {
	at
	Name, Display string
	Key           Secret
	BaseURL       string
	ConsentBy     string
	ConsentOn     string
	UsableBy      map[string]usable
	Hosts         []string // further ones of reports
	Rate          sendinblue.Rate
	CA            string
}

// Load reads files, owners' folders among them, and checks what can be checked without asking anybody; offline,
// secrets need not be there. Its error is problems of the admins' files. Those of an owner's are his alone: c.Troubled.
func Load(files []string, offline bool) (*Config, error) {
	c := &Config{Owners: map[string]string{}, Breaker: connector.Breaker{Rejects: 100, OfLast: 1000}, Audit: connector.Audit{AfterImports: true, Every: 24 * time.Hour}, DeadLetters: "segsync-dlq", AdminAddr: "localhost:9400", Troubled: map[string]Problems{}}
	var docs []*document
	for i, f := range files {
		if slices.Contains(files[:i], f) {
			return nil, Problems{{File: f, Message: "the file is given twice"}}
		}
		d, n := readDocument(f)
		d.offline = offline
		docs = append(docs, d)
		if n != nil {
			c.read(d, n)
		}
	}
	for _, owner := range slices.Sorted(maps.Keys(c.Owners)) {
		docs = append(docs, c.readOwner(owner, c.Owners[owner])...)
	}
	if len(docs) == 0 {
		return nil, Problems{{File: "segsync", Message: "no configuration is given: use -c FILE"}}
	}
	c.validate(docs[0])
	var all Problems
	for _, d := range docs {
		if d.owner == "" {
			all = append(all, d.problems...)
		} else if len(d.problems) > 0 {
			c.Troubled[d.owner] = append(c.Troubled[d.owner], d.problems...)
		}
	}
	if len(all) > 0 {
		return nil, all
	}
	c.disableTroubled()
	return c, nil
}

func (c *Config) read(d *document, n ast.Node) {
	top := d.mapping(n, "kafka", "schema_registry", "sources", "connections", "owners", "exports", "breaker", "audit", "unknown_schema", "dead_letters", "notify", "admin", "instance_id")
	if k, ok := top.keys["kafka"]; ok {
		c.Kafka = readKafka(d, k)
	}
	if r, ok := top.keys["schema_registry"]; ok {
		c.Registry = readRegistry(d, r)
	}
	for _, s := range d.list(top.keys["sources"]) {
		c.Sources = append(c.Sources, readSource(d, s))
	}
	for _, s := range d.list(top.keys["connections"]) {
		c.Connections = append(c.Connections, readConnection(d, s))
	}
	if o, ok := top.keys["owners"]; ok {
		for _, v := range d.entries(o) {
			c.Owners[v.Key.GetToken().Value] = d.scalar(v.Value)
		}
	}
	for _, s := range d.list(top.keys["exports"]) {
		for _, e := range readExports(d, s) {
			if e.Owner != "" && !e.copied {
				d.fail(s, "export %q says owner %q: an owner's exports come from its own folder (owners: {%s: FOLDER})", e.Name, e.Owner, e.Owner)
			}
			c.Exports = append(c.Exports, e)
		}
	}
	if b, ok := top.keys["breaker"]; ok {
		f := d.mapping(b, "rejects", "of_last")
		c.Breaker = connector.Breaker{Rejects: f.whole("rejects", 100), OfLast: f.whole("of_last", 1000)}
		if c.Breaker.Rejects < 1 || c.Breaker.OfLast < c.Breaker.Rejects {
			d.fail(b, "breaker needs 1 <= rejects <= of_last")
		}
	}
	if b, ok := top.keys["audit"]; ok {
		f := d.mapping(b, "after_imports", "every", "repair")
		c.Audit = connector.Audit{AfterImports: f.flag("after_imports", true), Every: 24 * time.Hour, Repair: f.flag("repair", false)}
		switch every, ok := f.keys["every"]; {
		case ok && d.scalar(every) == "never":
			c.Audit.Every = 0
		case ok:
			v, err := time.ParseDuration(d.scalar(every))
			if c.Audit.Every = v; err != nil || v < leastAudit {
				d.fail(every, "audit.every must be a duration of %s or more, such as 24h, or never: each audit reads a whole list", leastAudit)
			}
		}
	}
	if b, ok := top.keys["unknown_schema"]; ok {
		c.UnknownID = d.mapping(b, "wait").duration("wait", 30*time.Second)
	}
	if b, ok := top.keys["dead_letters"]; ok {
		f := d.mapping(b, "topic")
		if c.DeadLetters = f.text("topic"); c.DeadLetters != "" && !topicName.MatchString(c.DeadLetters) {
			d.fail(f.keys["topic"], "a topic's name may hold letters, digits, '.', '_' and '-' only")
		}
	}
	if b, ok := top.keys["admin"]; ok {
		f := d.mapping(b, "addr", "hosts")
		c.AdminAddr, c.AdminHosts = f.text("addr"), f.texts("hosts")
		if _, _, err := net.SplitHostPort(c.AdminAddr); err != nil && c.AdminAddr != "" {
			d.fail(f.keys["addr"], "addr must be a host and a port, such as localhost:9400, or :9400")
		}
	}
	for _, t := range d.list(top.keys["notify"]) {
		c.Notify = append(c.Notify, readNotify(d, t))
	}
	if top.has("instance_id") {
		c.Instance = top.text("instance_id")
	}
}

// leastAudit is how often lists may be audited on a schedule.
const leastAudit = 10 * time.Minute

func readKafka(d *document, n ast.Node) Kafka {
	f := d.mapping(n, "brokers", "prefix", "tls", "sasl", "session_timeout")
	f.need("brokers")
	k := Kafka{Brokers: f.texts("brokers"), Prefix: "segsync", Session: f.duration("session_timeout", connector.DefaultSession)}
	if f.has("prefix") {
		k.Prefix = f.text("prefix")
	}
	if k.Session < 6*time.Second || k.Session > 30*time.Minute {
		d.fail(f.keys["session_timeout"], "session_timeout must be between 6s and 30m, which brokers allow by default")
	}
	for i, b := range k.Brokers {
		if _, _, err := net.SplitHostPort(b); err != nil && !d.offline || strings.Contains(b, "://") {
			d.fail(d.list(f.keys["brokers"])[i], "a broker is a host and a port, such as kafka:9092")
		}
	}
	if !topicName.MatchString(k.Prefix) {
		d.fail(f.keys["prefix"], "prefix may hold letters, digits, '.', '_' and '-' only: topics are named by it")
	}
	if t, ok := f.keys["tls"]; ok {
		k.TLS = true
		tf := d.mapping(t, "ca_file", "cert_file", "key_file", "server_name")
		k.CA, k.Cert, k.Key, k.ServerName = tf.text("ca_file"), tf.text("cert_file"), tf.text("key_file"), tf.text("server_name")
		if (k.Cert == "") != (k.Key == "") {
			d.fail(t, "cert_file and key_file go together")
		}
	}
	if s, ok := f.keys["sasl"]; ok {
		k.SASL = readSASL(d, s, k.TLS)
	}
	return k
}

var topicName = regexp.MustCompile(`^[a-zA-Z0-9._-]{1,200}$`)

func readRegistry(d *document, n ast.Node) Registry {
	f := d.mapping(n, "url", "username", "password", "token", "ca_file")
	f.need("url")
	r := Registry{URLs: f.texts("url"), Username: f.raw("username"), Password: f.raw("password"), Token: f.raw("token"), CA: f.text("ca_file")}
	for _, k := range []string{"username", "password", "token"} {
		f.secretText(k)
	}
	for _, u := range r.URLs {
		p, err := url.Parse(u)
		if err == nil && p.User != nil {
			d.fail(f.keys["url"], "a user in an address ends up in logs: use username and password")
		}
		if err != nil || p.Host == "" {
			d.fail(f.keys["url"], "url must be an address such as https://registry:8081")
		} else if p.Scheme != "https" && !sendinblue.Loopback(p.Hostname()) && (f.has("password") || f.has("token")) {
			d.fail(f.keys["url"], "credentials would travel in clear text: use https")
		}
	}
	return r
}

func readConnection(d *document, n ast.Node) Connection {
	f := d.mapping(n, "name", "display_name", "api_key", "base_url", "consent", "usable_by", "rate", "ca_file", "report_hosts")
	f.need("name", "api_key")
	c := Connection{
		at: at{d, n}, Name: f.text("name"), Display: f.text("display_name"), Key: f.raw("api_key"), BaseURL: f.text("base_url"), UsableBy: readUsable(d, f.keys["usable_by"]), CA: f.text("ca_file"), Hosts: f.texts("report_hosts"),
	}
	f.secretText("api_key")
	if !topicName.MatchString(c.Name) {
		d.fail(f.all["name"], "a connection's name may hold letters, digits, '.', '_' and '-' only: its topic is named by it")
	}
	if c.BaseURL == "" {
		c.BaseURL = sendinblue.DefaultBaseURL
	}
	u, err := url.Parse(c.BaseURL)
	switch {
	case err != nil || u.Host == "" || u.Scheme != "http" && u.Scheme != "https":
		d.fail(f.keys["base_url"], "base_url must be an address such as %s", sendinblue.DefaultBaseURL)
	case u.User != nil || u.RawQuery != "":
		d.fail(f.keys["base_url"], "base_url holds a user or a query: the key belongs into api_key")
	case !strings.HasSuffix(strings.TrimSuffix(u.Path, "/"), "/v3"):
		d.fail(f.keys["base_url"], "base_url must end in /v3, as %s does", sendinblue.DefaultBaseURL)
	case u.Scheme == "http" && !sendinblue.Loopback(u.Hostname()):
		d.fail(f.keys["base_url"], "base_url is plain http to a host that is not this machine: the key and people's data would travel in clear text; use https")
	}
	if consent, ok := f.keys["consent"]; ok {
		cf := d.mapping(consent, "by", "on")
		cf.need("by", "on")
		c.ConsentBy, c.ConsentOn = cf.text("by"), cf.text("on")
		on, err := time.Parse(time.DateOnly, c.ConsentOn)
		switch {
		case cf.has("by") && strings.TrimSpace(c.ConsentBy) == "":
			d.fail(cf.keys["by"], "by says who agreed: it is empty")
		case err != nil && cf.has("on"):
			d.fail(cf.keys["on"], "on must be a day such as 2026-11-01")
		case err == nil && time.Until(on) > 24*time.Hour:
			d.fail(cf.keys["on"], "on lies ahead: data leaves from now on")
		}
	} else {
		d.fail(n, "connection %q has no consent: people's data leaves for a third party; say who agreed to it and when: consent: { by: dpo@example.com, on: 2026-11-01 }", c.Name)
	}
	c.Rate = readRate(d, f.keys["rate"])
	return c
}

func readRate(d *document, n ast.Node) sendinblue.Rate {
	if n == nil {
		r := sendinblue.Plans["general"]
		r.Share = 0.8
		return r
	}
	f := d.mapping(n, "plan", "share", "contacts_per_second", "contacts_per_hour", "other_per_hour")
	plan := f.oneOf("plan", "general", "professional", "extended", "custom")
	r := sendinblue.Plans[plan]
	r.Share = f.number("share", 0.8)
	if r.Share <= 0 || r.Share > 1 {
		d.fail(f.keys["share"], "share must be above 0 and at most 1")
	}
	custom := f.has("contacts_per_second") || f.has("contacts_per_hour") || f.has("other_per_hour")
	if plan == "custom" {
		f.need("contacts_per_second", "contacts_per_hour", "other_per_hour")
		r.ContactsPerSecond, r.ContactsPerHour, r.OtherPerHour = f.whole("contacts_per_second", 10), f.whole("contacts_per_hour", 36000), f.whole("other_per_hour", 100)
	} else if custom {
		d.fail(n, "contacts_per_second, contacts_per_hour and other_per_hour go with plan: custom")
	}
	if float64(r.ContactsPerSecond)*r.Share < 2 {
		d.fail(n, "the share of contacts_per_second must allow two calls a second: a look and a write go together")
	}
	return r
}
