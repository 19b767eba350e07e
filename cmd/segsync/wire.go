package main

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"slices"
	"sync"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/plugin/kzap"
	"go.uber.org/zap"

	"segsync/cmd/segsync/config"
	"segsync/connector"
	"segsync/connector/ownership"
	"segsync/connector/registry"
	"segsync/mapping"
	"segsync/sink"
	"segsync/sink/sendinblue"
)

// wiring makes the program's parts of a configuration.
type wiring struct {
	c        *config.Config
	log      *zap.Logger
	metrics  *connector.Metrics
	kafka    []kgo.Opt
	registry *registry.Client
	release  func()
	out      io.Writer // of receipts
}

func newWiring(c *config.Config, log *zap.Logger) (*wiring, error) {
	w := &wiring{c: c, log: log, metrics: connector.NewMetrics(), release: func() {}, out: io.Discard}
	var err error
	if w.kafka, err = kafkaOptions(c.Kafka, log); err != nil {
		return nil, err
	}
	if len(c.Registry.URLs) > 0 {
		if w.registry, err = newRegistry(c.Registry); err != nil {
			return nil, err
		}
	}
	if c.Instance == "" {
		c.Instance, w.release = ownership.Instance(c.Kafka.Prefix)
	}
	return w, nil
}

func kafkaOptions(k config.Kafka, log *zap.Logger) ([]kgo.Opt, error) {
	opts := []kgo.Opt{kgo.SeedBrokers(k.Brokers...), kgo.ClientID("segsync"), kgo.WithLogger(kzap.New(log.Named("kafka").WithOptions(zap.IncreaseLevel(max(zap.WarnLevel, log.Level())))))}
	if k.TLS {
		t := &tls.Config{MinVersion: tls.VersionTLS12, ServerName: k.ServerName}
		var err error
		if t.RootCAs, err = roots(k.CA); err != nil {
			return nil, err
		}
		if k.Cert != "" {
			pair, err := tls.LoadX509KeyPair(k.Cert, k.Key)
			if err != nil {
				return nil, fmt.Errorf("kafka.tls: %w", err)
			}
			t.Certificates = []tls.Certificate{pair}
		}
		opts = append(opts, kgo.DialTLSConfig(t))
	}
	if k.SASL.Mechanism == "" {
		return opts, nil
	}
	m, err := k.SASL.Auth()
	if err != nil {
		return nil, err
	}
	return append(opts, kgo.SASL(m)), nil
}

// roots are the certificates to trust: a file's, or the system's.
func roots(file string) (*x509.CertPool, error) {
	if file == "" {
		return nil, nil
	}
	b, err := os.ReadFile(file)
	if err != nil {
		return nil, err
	}
	pool := x509.NewCertPool()
	if !pool.AppendCertsFromPEM(b) {
		return nil, fmt.Errorf("%s holds no certificate", file)
	}
	return pool, nil
}

// registryPatience is how long a worker waits for a schema before it maps other partitions' records.
const registryPatience = time.Second

func newRegistry(r config.Registry) (*registry.Client, error) {
	pool, err := roots(r.CA)
	if err != nil {
		return nil, fmt.Errorf("schema_registry: %w", err)
	}
	o := registry.Options{URLs: r.URLs, Patience: registryPatience, HTTP: &http.Client{Timeout: 15 * time.Second, Transport: &http.Transport{
		Proxy: http.ProxyFromEnvironment, TLSClientConfig: &tls.Config{RootCAs: pool, MinVersion: tls.VersionTLS12},
	}}}
	var errs []error
	get := func(s config.Secret) string { v, err := s.Value(); errs = append(errs, err); return v }
	o.Username, o.Password, o.Token = get(r.Username), get(r.Password), get(r.Token)
	if err := errors.Join(errs...); err != nil {
		return nil, err
	}
	return registry.New(o)
}

func (w *wiring) decoder(f config.Format) (*mapping.Decoder, error) {
	var texts []string
	for _, file := range f.Schemas {
		b, err := os.ReadFile(file)
		if err != nil {
			return nil, err
		}
		texts = append(texts, string(b))
	}
	var schemas mapping.Schemas
	if w.registry != nil {
		schemas = w.registry
	}
	return mapping.NewDecoder(f.Format, schemas, texts...)
}

// api are the options of a connection's API clients.
func (w *wiring) api(c *config.Connection) (sendinblue.Options, error) {
	pool, err := roots(c.CA)
	if err != nil {
		return sendinblue.Options{}, fmt.Errorf("connection %s: %w", c.Name, err)
	}
	return sendinblue.Options{BaseURL: c.BaseURL, Key: keyReader(c.Key), Rate: c.Rate, Roots: pool, Hosts: c.Hosts, Observe: w.observe(c.Name)}, nil
}

// observe counts a connection's calls, and shows each of them where the log is to show all.
func (w *wiring) observe(connection string) func(sink.Call) {
	count, log := w.metrics.ObserveCall(connection), w.log.With(zap.String("connection", connection))
	return func(c sink.Call) {
		count(c)
		log.Debug("call", zap.String("endpoint", c.Endpoint), zap.String("purpose", string(c.Purpose)), zap.Int("status", c.Status), zap.Duration("took", c.Took))
	}
}

// keyReader reads a key where it is used: a changed file takes effect within seconds. A file that cannot be read leaves
// the last key.
func keyReader(s config.Secret) func() string {
	var mu sync.Mutex
	var last string
	var read time.Time
	return func() string {
		mu.Lock()
		defer mu.Unlock()
		if time.Since(read) > 5*time.Second {
			if v, err := s.Value(); err == nil {
				last, read = v, time.Now()
			}
		}
		return last
	}
}

// connection makes the engine's configuration of a connection; ok is false if no export uses it.
func (w *wiring) connection(c *config.Connection) (cfg connector.Config, ok bool, err error) {
	cfg = connector.Config{
		Name: c.Name, Prefix: w.c.Kafka.Prefix, Kafka: w.kafka, Instance: w.c.Instance, Session: w.c.Kafka.Session, DeadLetters: w.c.DeadLetters,
		Breaker: w.c.Breaker, Audit: w.c.Audit, Times: connector.Times{UnknownID: w.c.UnknownID}, Log: w.log, Metrics: w.metrics,
	}
	place := map[string]int{}
	for i := range w.c.Exports {
		e := &w.c.Exports[i]
		if e.Connection != c.Name {
			continue
		}
		s, have := place[e.Source]
		if !have {
			src, err := w.source(e.Source)
			if err != nil {
				return cfg, false, err
			}
			s = len(cfg.Sources)
			place[e.Source] = s
			cfg.Sources = append(cfg.Sources, src)
		}
		addExport(&cfg, s, e)
	}
	options, err := w.api(c)
	if err != nil {
		return cfg, false, err
	}
	cfg.Lists = func(ctx context.Context) ([]sink.ListInfo, error) {
		api := sendinblue.New(options)
		defer api.Close()
		return api.Lists(ctx)
	}
	account := sendinblue.NewAccount(options, options.Key)
	cfg.Account, cfg.Limits = account, sendinblue.Limits(c.Rate)
	cfg.Sender = func(lease func() bool) sink.Destination {
		o := options
		o.Key, o.Lease = account.Key, lease
		return sendinblue.New(o)
	}
	return cfg, len(cfg.Exports) > 0, nil
}

// addExport adds an export, with what it asks of its source.
func addExport(cfg *connector.Config, s int, e *config.Export) {
	x := connector.Export{
		Name: e.Name, Owner: e.Owner, Enabled: e.Enabled, Source: s, Segments: e.Segments, All: e.All, None: e.None, List: e.List, Named: e.Named, Delete: e.Delete, Schedule: e.Schedule, OnlyOwn: e.OnlyOwn, OnlyExisting: e.OnlyExisting,
		Guard: connector.Guard{Share: e.GuardShare, AtLeast: e.GuardLeast},
	}
	spec := &cfg.Sources[s].Spec
	for _, g := range e.Segments {
		if !slices.Contains(spec.Segments, g) {
			spec.Segments = append(spec.Segments, g)
		}
	}
	for name, expr := range e.Attributes {
		x.Attributes = append(x.Attributes, name)
		if !slices.ContainsFunc(spec.Attributes, func(a mapping.Attribute) bool { return a.Name == name }) {
			spec.Attributes = append(spec.Attributes, mapping.Attribute{Name: name, Expr: expr, Clear: e.Clear})
		}
	}
	slices.Sort(x.Attributes)
	cfg.Exports = append(cfg.Exports, x)
}

func (w *wiring) source(name string) (connector.Source, error) {
	for i := range w.c.Sources {
		s := &w.c.Sources[i]
		if s.Name != name {
			continue
		}
		src := connector.Source{
			Name: s.Name, Topics: s.Topics, Regex: s.Regex, Start: s.Start, OutOfRange: connector.OutOfRange(s.OutOfRange), Tombstone: connector.Tombstone(s.OnTombstone),
			Spec:         mapping.Spec{Events: s.Events, Email: s.Email, HaltWhen: s.HaltWhen, Tombstone: s.TombstoneName},
			KeepProfiles: s.Profiles == "keep",
		}
		var err error
		if src.Value, err = w.decoder(s.Value); err != nil {
			return src, fmt.Errorf("source %s: %w", name, err)
		}
		if src.Key, err = w.decoder(s.Key); err != nil {
			return src, fmt.Errorf("source %s, key: %w", name, err)
		}
		return src, nil
	}
	return connector.Source{}, fmt.Errorf("source %s is not configured", name)
}

// connections are the engine's configurations of all connections that exports use.
func (w *wiring) connections() ([]connector.Config, error) {
	var all []connector.Config
	for i := range w.c.Connections {
		cfg, used, err := w.connection(&w.c.Connections[i])
		if err != nil {
			return nil, err
		}
		if used {
			all = append(all, cfg)
		}
	}
	return all, nil
}
