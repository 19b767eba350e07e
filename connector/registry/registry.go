// Package registry reads schemas from a schema registry (Confluent's API), behind mapping's interface. Schemas never
// change, so what was read once is kept; an id that is not known is asked for again, but not at every record.
package registry

import (
	"context"
	"errors"
	"fmt"
	"net/http"
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
}

// Client is a mapping.Schemas.
type Client struct {
	sr *sr.Client
	// ctx ends with the process: mapping's interface has none.
	timeout time.Duration
	asked   singleflight.Group
	mu      sync.Mutex
	known   map[int]schema
	failed  map[int]failure
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
	if o.HTTP != nil {
		opts = append(opts, sr.HTTPClient(o.HTTP))
	}
	cl, err := sr.NewClient(opts...)
	if err != nil {
		return nil, fmt.Errorf("schema registry: %w", err)
	}
	return &Client{sr: cl, timeout: 10 * time.Second, known: map[int]schema{}, failed: map[int]failure{}}, nil
}

// Schema implements mapping.Schemas.
func (c *Client) Schema(id int) (string, []string, error) {
	got, err, _ := c.asked.Do(strconv.Itoa(id), func() (any, error) { return c.schema(id) })
	s, _ := got.(schema)
	return s.text, s.references, err
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
		c.failed[id] = failure{err, time.Now().Add(again)}
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
		return schema{}, fmt.Errorf("%w: schema %d is not Avro", mapping.ErrNoSchema, id)
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
		seen[key] = true
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

// Newest is the newest schema of a topic's values, or keys, under the registry's usual naming.
func (c *Client) Newest(ctx context.Context, topic string, key bool) (text string, references []string, err error) {
	subject := topic + "-value"
	if key {
		subject = topic + "-key"
	}
	s, err := c.sr.SchemaByVersion(ctx, subject, -1)
	if err != nil {
		return "", nil, explain(err)
	}
	refs, err := c.references(ctx, s.References, map[string]bool{})
	return s.Schema.Schema, refs, err
}

// explain tells what the registry does not know from what it could not answer.
func explain(err error) error {
	var resp *sr.ResponseError
	if errors.As(err, &resp) && (resp.StatusCode == http.StatusNotFound || sr.IsNotFoundError(resp.ErrorCode)) {
		return fmt.Errorf("%w: %w", mapping.ErrNoSchema, err)
	}
	return fmt.Errorf("%w: %w", mapping.ErrRegistry, err)
}
