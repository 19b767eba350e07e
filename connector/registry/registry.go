// Package registry reads schemas from a schema registry (Confluent's API), behind mapping's interface. Schemas never
// change, so what was read once is kept; an id that is not known is asked for again, but not at every record.
package registry

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"sync"
	"time"

	"github.com/twmb/franz-go/pkg/sr"
	"golang.org/x/sync/singleflight"

	"segsync/mapping"
)

// Options of a Client.
type Options struct {
	URLs               []string
	Username, Password string
	Token              string
	HTTP               *http.Client // nil: the standard one
	// Patience is how long a caller waits for a schema; the question goes on, and a later call has the answer. 0: to its
	// end.
	Patience time.Duration
}

// Client is a mapping.Schemas.
type Client struct {
	sr *sr.Client
	// ctx ends with the process: mapping's interface has none.
	timeout  time.Duration
	patience time.Duration
	asked    singleflight.Group
	mu       sync.Mutex
	known    map[int]schema
	failed   map[int]failure
}

type schema struct {
	text       string
	references []string
}

// failure keeps a refused look-up for a moment, so that a topic full of one unknown id does not storm the registry.
type failure struct {
	err   error
	until time.Time
}

const again = time.Second

var _ mapping.Schemas = (*Client)(nil)

// New makes a client.
func New(o Options) (*Client, error) {
	opts := []sr.ClientOpt{sr.URLs(o.URLs...), sr.UserAgent("segsync")}
	if o.Username != "" {
		opts = append(opts, sr.BasicAuth(o.Username, o.Password))
	}
	if o.Token != "" {
		opts = append(opts, sr.BearerToken(o.Token))
	}
	client := http.Client{Timeout: callMost}
	if o.HTTP != nil {
		client = *o.HTTP
	}
	client.Transport = bounded{client.Transport}
	client.CheckRedirect = func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse } // credentials go to no other host
	opts = append(opts, sr.HTTPClient(&client))
	cl, err := sr.NewClient(opts...)
	if err != nil {
		return nil, fmt.Errorf("schema registry: %w", err)
	}
	return &Client{sr: cl, timeout: 10 * time.Second, patience: o.Patience, known: map[int]schema{}, failed: map[int]failure{}}, nil
}

// Bounds of what a registry can answer: the body of one answer, in bytes, the time of one call, and the schemas that a
// schema refers to.
const (
	bodyMost       = 4 << 20
	callMost       = 15 * time.Second
	referencesMost = 200
)

// bounded reads no more of an answer than bodyMost, and asks for no compression: three megabytes can become gigabytes.
type bounded struct{ next http.RoundTripper }

// RoundTrip implements http.RoundTripper.
func (b bounded) RoundTrip(req *http.Request) (*http.Response, error) {
	next := b.next
	if next == nil {
		next = http.DefaultTransport
	}
	req = req.Clone(req.Context())
	req.Header.Set("Accept-Encoding", "identity")
	resp, err := next.RoundTrip(req)
	if err == nil {
		resp.Body = http.MaxBytesReader(nil, resp.Body, bodyMost)
	}
	return resp, err
}

// Schema implements mapping.Schemas.
func (c *Client) Schema(id int) (string, []string, error) {
	answer := c.asked.DoChan(strconv.Itoa(id), func() (any, error) { return c.schema(id) })
	var late <-chan time.Time
	if c.patience > 0 {
		t := time.NewTimer(c.patience)
		defer t.Stop()
		late = t.C
	}
	select {
	case got := <-answer:
		s, _ := got.Val.(schema)
		return s.text, s.references, got.Err
	case <-late:
		return "", nil, fmt.Errorf("%w: it has not answered yet", mapping.ErrRegistry)
	}
}

// schema looks a schema up, or asks for it; nobody else asks for it meanwhile.
func (c *Client) schema(id int) (schema, error) {
	c.mu.Lock()
	s, known := c.known[id]
	f, failed := c.failed[id]
	c.mu.Unlock()
	if known {
		return s, nil
	}
	if failed && time.Now().Before(f.until) {
		return s, f.err
	}
	ctx, cancel := context.WithTimeout(context.Background(), c.timeout)
	defer cancel()
	s, err := c.fetch(ctx, id)
	c.mu.Lock()
	defer c.mu.Unlock()
	if err != nil {
		pause := again
		if errors.Is(err, errReferences) || errors.Is(err, mapping.ErrNotAvro) {
			pause = time.Minute
		}
		c.failed[id] = failure{err, time.Now().Add(pause)}
		return s, err
	}
	delete(c.failed, id)
	c.known[id] = s
	return s, nil
}

func (c *Client) fetch(ctx context.Context, id int) (schema, error) {
	got, err := c.sr.SchemaByID(ctx, id)
	if err != nil {
		return schema{}, explain(err)
	}
	if got.Type != sr.TypeAvro {
		return schema{}, fmt.Errorf("schema id %d: %w, but %s", id, mapping.ErrNotAvro, got.Type)
	}
	refs, err := c.references(ctx, got.References, map[string]bool{})
	return schema{got.Schema, refs}, err
}

// references fetches the schemas that a schema names, deepest first.
func (c *Client) references(ctx context.Context, refs []sr.SchemaReference, seen map[string]bool) ([]string, error) {
	var all []string
	for _, r := range refs {
		key := fmt.Sprintf("%s/%d", r.Subject, r.Version)
		if seen[key] {
			continue
		}
		if seen[key] = true; len(seen) > referencesMost {
			return nil, fmt.Errorf("%w: %w", mapping.ErrNoSchema, errReferences)
		}
		s, err := c.sr.SchemaByVersion(ctx, r.Subject, r.Version)
		if err != nil {
			return nil, explain(err)
		}
		inner, err := c.references(ctx, s.References, seen)
		if err != nil {
			return nil, err
		}
		all = append(append(all, inner...), s.Schema.Schema)
	}
	return all, nil
}

// versionsMost is how many versions of a schema are asked for, the newest.
const versionsMost = 20

// Versions are the newest versions of the schema of a topic's values, the newest first, under the registry's usual naming.
func (c *Client) Versions(ctx context.Context, topic string) ([]mapping.Version, error) {
	subject := topic + "-value"
	numbers, err := c.sr.SubjectVersions(ctx, subject)
	if err != nil {
		return nil, explain(err)
	}
	slices.Sort(numbers)
	slices.Reverse(numbers)
	var all []mapping.Version
	for _, n := range numbers[:min(len(numbers), versionsMost)] {
		s, err := c.sr.SchemaByVersion(ctx, subject, n)
		if err != nil {
			return nil, explain(err)
		}
		refs, err := c.references(ctx, s.References, map[string]bool{})
		if err != nil {
			return nil, err
		}
		all = append(all, mapping.Version{Text: s.Schema.Schema, References: refs})
	}
	return all, nil
}

var errReferences = fmt.Errorf("the schema refers to more than %d others", referencesMost)

// explain tells what the registry does not know from what it could not answer, without what it answered: that may be
// anybody's.
func explain(err error) error {
	if resp, ok := errors.AsType[*sr.ResponseError](err); ok {
		switch {
		case resp.StatusCode == http.StatusNotFound && resp.ErrorCode == 0:
			return fmt.Errorf("%w: it answers 404, and is no schema registry, perhaps: check schema_registry.url", mapping.ErrNoSchema)
		case resp.StatusCode == http.StatusNotFound || sr.IsNotFoundError(resp.ErrorCode):
			return mapping.ErrNoSchema
		case resp.StatusCode >= 300 && resp.StatusCode < 400:
			return fmt.Errorf("%w: it answers with a redirect, which is not followed: check schema_registry.url", mapping.ErrRegistry)
		case resp.StatusCode == http.StatusUnauthorized || resp.StatusCode == http.StatusForbidden:
			return fmt.Errorf("%w: it answers %d: check the credentials of schema_registry", mapping.ErrRegistry, resp.StatusCode)
		}
		return fmt.Errorf("%w: it answers %d (code %d)", mapping.ErrRegistry, resp.StatusCode, resp.ErrorCode)
	}
	if asked, ok := errors.AsType[*url.Error](err); ok { // its text holds the address, with a user in it, perhaps
		err = asked.Err
	}
	var op *net.OpError
	switch {
	case errors.As(err, &op), errors.Is(err, context.DeadlineExceeded):
		return fmt.Errorf("%w: %w", mapping.ErrRegistry, err)
	}
	return fmt.Errorf("%w: its answer is not as described, or too long", mapping.ErrRegistry)
}
