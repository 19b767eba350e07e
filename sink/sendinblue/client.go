package sendinblue

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"slices"
	"strings"
	"syscall"
	"time"

	"segsync/sink"
)

// DefaultBaseURL is the API's address.
const DefaultBaseURL = "https://api.brevo.com/v3"

const (
	callTimeout   = 60 * time.Second
	importTimeout = 3 * time.Minute
	answerMost    = 16 << 20
)

// Options of a Client.
type Options struct {
	BaseURL string
	Key     func() string // the API key, asked for at each call; "" while none may be used
	Rate    Rate
	Dial    func(ctx context.Context, network, address string) (net.Conn, error) // nil: the network
	Roots   *x509.CertPool                                                       // nil: the system's
	// Hosts are further ones that reports may lie at, beside the API's own.
	Hosts []string
	// Lease is asked before each byte of a call is written; once it has ended, nothing is written any more.
	Lease func() bool
	// Observe is told of each call made.
	Observe func(c sink.Call)
	Now     func() time.Time
}

// Client is a sink.Destination.
type Client struct {
	o       Options
	http    *http.Client
	reports *http.Client
	limiter *limiter
}

var _ sink.Destination = (*Client)(nil)

// New makes a client. It speaks HTTP/1.1, one request a connection at a time, so that a write refused by the lease
// concerns one request; it honours HTTPS_PROXY.
func New(o Options) *Client {
	if o.Now == nil {
		o.Now = time.Now
	}
	if o.BaseURL == "" {
		o.BaseURL = DefaultBaseURL
	}
	o.BaseURL = strings.TrimSuffix(o.BaseURL, "/")
	if o.Dial == nil {
		o.Dial = dialer.DialContext
	}
	c := &Client{o: o, limiter: newLimiter(o.Rate, o.Now)}
	c.http = &http.Client{Transport: c.transport(c.dialLeased), CheckRedirect: noRedirect}
	reports := o.Dial
	if custom := o.Dial; !local(o.BaseURL) {
		reports = func(ctx context.Context, network, address string) (net.Conn, error) {
			return dialPublic(ctx, custom, network, address)
		}
	}
	c.reports = &http.Client{Transport: c.transport(reports), CheckRedirect: noRedirect}
	return c
}

func (c *Client) transport(dial func(context.Context, string, string) (net.Conn, error)) *http.Transport {
	return &http.Transport{
		Proxy: http.ProxyFromEnvironment, DialContext: dial, MaxIdleConnsPerHost: 32, IdleConnTimeout: 30 * time.Second,
		TLSClientConfig:     &tls.Config{RootCAs: c.o.Roots, MinVersion: tls.VersionTLS12},
		TLSHandshakeTimeout: 10 * time.Second, TLSNextProto: map[string]func(string, *tls.Conn) http.RoundTripper{},
	}
}

// A redirect is an answer like another: following it would carry the key to another host.
func noRedirect(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }

// userTimeout is how long written bytes may wait unacknowledged in a socket: less than late_apply, so that what a
// dead network holds back cannot be applied after we have stopped expecting it.
const userTimeout = 60 * time.Second

var dialer = &net.Dialer{Timeout: 10 * time.Second, Control: func(_, _ string, raw syscall.RawConn) error {
	return raw.Control(func(fd uintptr) { setUserTimeout(fd, userTimeout) })
}}

// leased is a connection that writes under the lease only.
type leased struct {
	net.Conn
	lease func() bool
}

var errLease = errors.New("the lease on the connection has ended: nothing is sent")

func (l *leased) Write(b []byte) (int, error) {
	if !l.lease() {
		return 0, errLease
	}
	return l.Conn.Write(b)
}

func (c *Client) dialLeased(ctx context.Context, network, address string) (net.Conn, error) {
	conn, err := c.o.Dial(ctx, network, address)
	if err != nil || c.o.Lease == nil {
		return conn, err
	}
	return &leased{conn, c.o.Lease}, nil
}

// Close lets go of idle connections.
func (c *Client) Close() {
	c.http.CloseIdleConnections()
	c.reports.CloseIdleConnections()
}

// Limits are those of an account, for a rate.
func Limits(r Rate) sink.Limits {
	l := newLimiter(r, time.Now)
	second, hour := l.contacts.windows[0], l.contacts.windows[1]
	other := min(l.other.windows[0].ours, looksMost)
	looks := max(1, min(20, other/4)) // with the others they are no more than an hour's
	return sink.Limits{
		Batch: batchMost, ImportBytes: importMost, Unique: slices.Clone(unique),
		PerSecond: min(float64(second.ours), float64(hour.ours)/3600),
		Looks:     max(1, second.ours-1),
		LooksMost: looks, LookEvery: time.Hour / time.Duration(max(1, other-looks)),
	}
}

// looksMost is how many looks an hour any plan allows, whatever the rate is said to be.
const looksMost = 600

// Row implements sink.Writer.
func (c *Client) Row(contact *sink.Contact) (string, int, bool, bool) { return row(contact) }

// Reserve implements sink.Budget.
func (c *Client) Reserve(calls int) (bool, time.Time) {
	return c.limiter.reserve(&c.limiter.contacts, calls)
}

// Unreserve implements sink.Budget.
func (c *Client) Unreserve(calls int) { c.limiter.unreserve(&c.limiter.contacts, calls) }

// Rest implements sink.Budget.
func (c *Client) Rest() { c.limiter.rest() }

// errNoKey says that no key may be used: none is configured, or the account behind it is not known yet.
var errNoKey = errors.New("no key may be used before its account is known")

// answer is what came back of a call.
type answer struct {
	status int
	header http.Header
	body   []byte
}

// do makes a call whose budget has been reserved.
func (c *Client) do(ctx context.Context, cl call) (answer, error) {
	b := &c.limiter.contacts
	if cl.scarce() {
		b = &c.limiter.other
	}
	key := c.o.Key()
	if key == "" {
		c.limiter.unreserve(b, 1)
		return answer{}, errNoKey
	}
	ticket := c.limiter.use(b)
	timeout := callTimeout
	if len(cl.body) > 1<<20 {
		timeout = importTimeout
	}
	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, cl.method, c.o.BaseURL+cl.path, bytes.NewReader(cl.body))
	if err != nil {
		c.limiter.answered(b, ticket, false)
		return answer{}, err
	}
	// net/http must not make a call a second time, which it does to a GET whose kept connection breaks: no budget was
	// taken for it. It takes what has a body that it cannot rewind as not to be repeated, even if that is empty.
	req.GetBody, req.Body = nil, io.NopCloser(bytes.NewReader(cl.body))
	req.Header.Set("api-key", key)
	req.Header.Set("Accept", "application/json")
	req.Header.Set("User-Agent", "segsync")
	if cl.body != nil {
		req.Header.Set("Content-Type", "application/json")
	}
	start := c.o.Now()
	a, err := c.roundTrip(req)
	c.limiter.answered(b, ticket, err == nil)
	if c.o.Observe != nil {
		c.o.Observe(sink.Call{Endpoint: cl.method + " " + cl.endpoint, Kind: cl.kind, Purpose: cl.purpose, Status: a.status, Took: c.o.Now().Sub(start)})
	}
	if err == nil {
		c.limiter.follow(b, a.header, a.status)
	}
	return a, err
}

func (c *Client) roundTrip(req *http.Request) (answer, error) {
	resp, err := c.http.Do(req)
	if err != nil {
		return answer{}, err
	}
	defer func() { _ = resp.Body.Close() }()
	body, err := io.ReadAll(io.LimitReader(resp.Body, answerMost))
	return answer{status: resp.StatusCode, header: resp.Header, body: body}, err
}

// unanswered is the outcome of a call without an answer. Only where no connection was made is it certain that
// nothing was applied.
func unanswered(err error) sink.Outcome {
	o := sink.Outcome{Verdict: sink.Retry, Code: "no_answer", Message: "the call was not answered", Alone: true}
	if errors.Is(err, errNoKey) {
		o.Certain, o.Alone, o.Code, o.Message = true, false, "account_unchecked", errNoKey.Error()
	}
	var op *net.OpError
	if errors.As(err, &op) && op.Op == "dial" {
		o.Certain, o.Alone, o.Code, o.Message = true, false, "no_connection", "the API cannot be reached"
	}
	if errors.Is(err, context.DeadlineExceeded) {
		o.Code, o.Message = "timeout", "the call timed out"
	}
	return o
}

// Send implements sink.Writer.
func (c *Client) Send(ctx context.Context, r *sink.Request) sink.Answer {
	for i, address := range r.Look {
		seen, o := c.look(ctx, look(address))
		blocked := seen.blocked
		own := r.Kind == sink.Delete
		if o.Verdict == sink.Applied && blocked && own {
			// Deleted and created again they would be mailable: leaving the list is all.
			plain := *r
			plain.Kind, plain.Look = sink.Update, nil
			answer := c.write(ctx, &plain, update(&plain))
			for i := range answer.Outcomes {
				answer.Outcomes[i].Unlinked = true
			}
			return answer
		}
		if o.Verdict == sink.Applied && !blocked {
			continue
		}
		c.Unreserve(r.Calls() - 1 - i) // the other looks, and the write
		if blocked {
			return sink.All(sink.Outcome{Verdict: sink.Blocked, Code: "unsubscribed", Address: address})
		}
		return sink.All(o)
	}
	if r.Kind == sink.Look {
		return sink.All(sink.Outcome{Verdict: sink.Applied})
	}
	return c.write(ctx, r, build(r))
}

func (c *Client) write(ctx context.Context, r *sink.Request, cl call) sink.Answer {
	cl.kind = r.Kind
	if r.Again {
		cl.purpose = sink.ToResend
	}
	a, err := c.do(ctx, cl)
	if err != nil {
		return sink.All(unanswered(err))
	}
	answer := classify(r, a.status, a.header, a.body)
	if lists := slices.Concat(r.Lists, r.Unlink); len(lists) > 1 && answer.Of(0).Code == codeListGone {
		return sink.All(c.gone(ctx, lists, answer.Of(0)))
	}
	return answer
}

// gone finds out which of several lists does not exist. Nothing was written; where all of them are there, it was
// something else.
func (c *Client) gone(ctx context.Context, lists []int64, o sink.Outcome) sink.Outcome {
	for _, list := range lists {
		_, err := c.List(ctx, list)
		var asked *sink.OutcomeError
		if errors.As(err, &asked) && asked.Outcome.Absent {
			o.List = list
			return o
		}
		if err != nil {
			break
		}
	}
	return sink.Outcome{Verdict: sink.Retry, Certain: true, Code: codeListGone, Message: "one of several lists was said to be gone, and none was found to be"}
}

// seen is what a look at a contact shows.
type seen struct {
	blocked bool // or unsubscribed
	lists   []int64
}

// look looks at a contact. One that does not exist is neither blocked nor in any list.
func (c *Client) look(ctx context.Context, cl call) (s seen, o sink.Outcome) {
	a, err := c.do(ctx, cl)
	if err != nil {
		o := unanswered(err)
		o.Certain = true // nothing was written
		return s, o
	}
	if a.status == http.StatusNotFound {
		return s, sink.Outcome{Verdict: sink.Applied}
	}
	o, ok := status(a.status, parseOK(a), waitOf(a.header))
	if !ok {
		o.Verdict = sink.Retry
	}
	if o.Verdict != sink.Applied {
		o.Certain = true
		return s, o
	}
	var contact struct {
		Email        bool    `json:"emailBlacklisted"`
		SMS          bool    `json:"smsBlacklisted"`
		Lists        []int64 `json:"listIds"`
		Unsubscribed []int64 `json:"listUnsubscribed"`
		Groups       []struct {
			Status string `json:"status"`
		} `json:"consentGroups"`
	}
	if err := json.Unmarshal(a.body, &contact); err != nil {
		return s, sink.Outcome{Verdict: sink.Retry, Certain: true, Code: "bad_answer", Message: "the look at a contact was not answered with JSON"}
	}
	s.blocked, s.lists = contact.Email || contact.SMS || len(contact.Unsubscribed) > 0, contact.Lists
	for _, g := range contact.Groups {
		s.blocked = s.blocked || g.Status == "unsubscribed"
	}
	return s, o
}

func parseOK(a answer) problem {
	if a.status < 300 {
		return problem{}
	}
	return parseProblem(a.body)
}

func errorf(o sink.Outcome, format string, args ...any) error {
	return fmt.Errorf(format+": %w", append(args, &sink.OutcomeError{Outcome: o})...)
}
