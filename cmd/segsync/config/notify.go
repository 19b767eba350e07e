package config

import (
	"net"
	"net/url"
	"time"

	"github.com/goccy/go-yaml/ast"
)

// Notify is one target that is told what needs somebody: a webhook, or a command.
type Notify struct {
	Webhook Secret // its path may be one
	Slack   bool
	Signing Secret
	Command []string
}

func readNotify(d *document, n ast.Node) (t Notify) {
	f := d.mapping(n, "webhook", "format", "secret", "command")
	if f.has("webhook") == f.has("command") {
		d.fail(n, "a target of notify is a webhook: URL, or a command: [PROGRAM, ARGUMENT, …]")
		return t
	}
	if f.has("command") {
		if t.Command = f.texts("command"); len(t.Command) == 0 {
			d.fail(f.keys["command"], "command must be a list: the program, and its arguments")
		}
		return t
	}
	f.secretText("webhook")
	t.Webhook, t.Slack = f.raw("webhook"), f.oneOf("format", "json", "slack") == "slack"
	if f.has("secret") {
		f.secretText("secret")
		t.Signing = f.raw("secret")
	}
	if v, err := t.Webhook.Value(); err == nil && v != "" && !mayBeTold(v) {
		d.fail(f.keys["webhook"], "a webhook must be https://…, or lie on this machine")
	}
	return t
}

// mayBeTold says whether a webhook is one that nobody else can listen to.
func mayBeTold(address string) bool {
	u, err := url.Parse(address)
	if err != nil || u.Host == "" {
		return false
	}
	ip := net.ParseIP(u.Hostname())
	return u.Scheme == "https" || u.Scheme == "http" && (u.Hostname() == "localhost" || ip != nil && ip.IsLoopback())
}

// leastExpected is how often an event of an export may be expected.
const leastExpected = time.Minute
