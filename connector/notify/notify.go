// Package notify tells people, by webhooks and commands, what needs them: what is held for good and when it goes on, what an
// audit has found, removals that the guard withholds, runs that have ended, exports of which nothing is heard any more. What is
// being tried again is not told. It sees what a connection answers when it is asked, not its insides.
package notify

import (
	"bytes"
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"os/exec"
	"strconv"
	"sync"
	"time"

	"go.uber.org/zap"

	"segsync/connector/backoff"
)

// Message is something that somebody should know.
type Message struct {
	Kind       string    `json:"kind"` // held, resumed, withheld, losses, run, silent, test
	Connection string    `json:"connection,omitempty"`
	Export     string    `json:"export,omitempty"`
	List       int64     `json:"list,omitempty"`
	Code       string    `json:"code,omitempty"` // why something is held
	Text       string    `json:"text"`
	At         time.Time `json:"at"`
}

// Target is who is told. A webhook or a command.
type Target struct {
	Webhook string // https, or of this machine
	Slack   bool   // {"text": …} in place of the message as JSON
	// Secret signs what is sent to a webhook (Signature); nil: it is not signed.
	Secret  func() (string, error)
	Command []string // gets the message as JSON on its standard input
}

// Bounds of telling.
const (
	tellMost  = 30 * time.Second // one try
	tries     = 5
	queueMost = 256 // messages that wait for a target
	again     = 15 * time.Minute
)

// Notifier tells targets of messages.
type Notifier struct {
	targets []Target
	log     *zap.Logger
	client  *http.Client

	mu    sync.Mutex
	told  map[Message]time.Time // when a message like this (without its time and text) was last told
	later map[Message]Message   // that came too soon after that: it is told when its time has come, if it still holds
}

// New makes a notifier. dial is how webhooks are reached; nil: as usual.
func New(targets []Target, log *zap.Logger, dial func(ctx context.Context, network, address string) (net.Conn, error)) *Notifier {
	t := http.DefaultTransport.(*http.Transport).Clone() //nolint:forcetypeassert // it is one
	if dial != nil {
		t.DialContext = dial
	}
	return &Notifier{targets: targets, log: log, client: &http.Client{
		Transport: t, Timeout: tellMost, CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }, // what is signed goes to nobody else
	}, told: map[Message]time.Time{}, later: map[Message]Message{}}
}

// like is what makes two messages the same.
func (m Message) like() Message {
	m.At, m.Text = time.Time{}, ""
	return m
}

// opposite is the message that this one ends; or that has ended it.
func (m Message) opposite() Message {
	m = m.like()
	switch m.Kind {
	case "resumed":
		m.Kind = "held"
		if m.Code == "guard" {
			m.Kind = "withheld"
		}
	case "held", "withheld":
		m.Kind = "resumed"
	}
	return m
}

// throttled says whether a message like this one was told a moment ago. It is told later, then, unless its opposite comes first:
// what people heard last is how things stand.
func (n *Notifier) throttled(m *Message) bool {
	like := m.like()
	n.mu.Lock()
	defer n.mu.Unlock()
	if _, waits := n.later[m.opposite()]; waits && m.opposite() != like {
		delete(n.later, m.opposite())
		return true // neither was heard of
	}
	if last, ok := n.told[like]; ok && m.At.Sub(last) < again && m.Kind != "run" {
		n.later[like] = *m
		return true
	}
	delete(n.later, like)
	n.told[like] = m.At
	for k, at := range n.told {
		if m.At.Sub(at) > again {
			delete(n.told, k)
		}
	}
	return false
}

// due are the messages whose time has come.
func (n *Notifier) due(now time.Time) (all []Message) {
	n.mu.Lock()
	defer n.mu.Unlock()
	for like, m := range n.later {
		if now.Sub(n.told[like]) >= again {
			all = append(all, m)
			n.told[like] = now
			delete(n.later, like)
		}
	}
	return all
}

// serve tells a target what comes, until in is closed.
func (n *Notifier) serve(ctx context.Context, t *Target, in <-chan Message) {
	for m := range in {
		if err := n.Tell(ctx, t, &m); err != nil && ctx.Err() == nil {
			n.log.Warn("somebody could not be told", zap.String("target", t.name()), zap.String("kind", m.Kind), zap.Error(err))
		}
	}
}

// name is what a target is called in the log: a webhook's path may be a secret.
func (t *Target) name() string {
	if len(t.Command) > 0 {
		return t.Command[0]
	}
	if u, err := url.Parse(t.Webhook); err == nil {
		return u.Host
	}
	return "webhook"
}

// Tell tells one target, again for a while where it does not take it.
func (n *Notifier) Tell(ctx context.Context, t *Target, m *Message) (err error) {
	for try := range tries {
		if err = n.once(ctx, t, m); err == nil || ctx.Err() != nil {
			return err
		}
		if try < tries-1 {
			backoff.Sleep(ctx, backoff.Jitter(backoff.Pause(time.Second, 30*time.Second, try)))
		}
	}
	return err
}

func (n *Notifier) once(ctx context.Context, t *Target, m *Message) error {
	ctx, cancel := context.WithTimeout(ctx, tellMost)
	defer cancel()
	body, err := t.body(m)
	if err != nil {
		return err
	}
	if len(t.Command) > 0 {
		cmd := exec.CommandContext(ctx, t.Command[0], t.Command[1:]...) //nolint:gosec // the operator's own command
		cmd.Stdin = bytes.NewReader(body)
		if err := cmd.Run(); err != nil {
			return fmt.Errorf("the command failed: %w", err)
		}
		return nil
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, t.Webhook, bytes.NewReader(body))
	if err != nil {
		return fmt.Errorf("the webhook's address: %w", hidden(err))
	}
	req.Header.Set("Content-Type", "application/json")
	req.Header.Set("User-Agent", "segsync")
	if t.Secret != nil {
		secret, err := t.Secret()
		if err != nil {
			return err
		}
		at := strconv.FormatInt(m.At.Unix(), 10)
		req.Header.Set("X-Segsync-Timestamp", at)
		req.Header.Set("X-Segsync-Signature", Signature(secret, at, body))
	}
	resp, err := n.client.Do(req)
	if err != nil {
		return hidden(err)
	}
	defer func() { _ = resp.Body.Close() }()
	_, _ = io.Copy(io.Discard, io.LimitReader(resp.Body, 64<<10))
	if resp.StatusCode/100 != 2 {
		return fmt.Errorf("the webhook answers %d", resp.StatusCode)
	}
	return nil
}

// hidden is an error of a call without the address that was called.
func hidden(err error) error {
	if u, ok := err.(*url.Error); ok { //nolint:errorlint // the outermost one names the address
		return u.Err
	}
	return err
}

// body is a message as a target takes it.
func (t *Target) body(m *Message) ([]byte, error) {
	if t.Slack {
		return json.Marshal(map[string]string{"text": m.line()})
	}
	return json.Marshal(m)
}

// line is a message in one line.
func (m *Message) line() string {
	where := "segsync"
	if m.Connection != "" {
		where += ", connection " + m.Connection
	}
	if m.Export != "" {
		where += ", export " + m.Export
	}
	return where + ": " + m.Text
}

// Signature is that of a body: "sha256=" and the HMAC-SHA256 of the timestamp, a point, and the body, in hexadecimal digits.
func Signature(secret, timestamp string, body []byte) string {
	h := hmac.New(sha256.New, []byte(secret))
	h.Write([]byte(timestamp + "."))
	h.Write(body)
	return "sha256=" + hex.EncodeToString(h.Sum(nil))
}
