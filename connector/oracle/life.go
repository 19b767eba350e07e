package oracle

import (
	"context"
	_ "embed"
	"fmt"
	"net/http"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"

	"segsync/connector"
	"segsync/connector/registry"
	"segsync/mapping"
	"segsync/sink"
	"segsync/sink/sendinblue"
)

// Source is the mapping of the default event.
func (w *World) Source(schemas mapping.Schemas) (connector.Source, error) {
	value, err := mapping.NewDecoder(mapping.Confluent, schemas)
	if err != nil {
		return connector.Source{}, err
	}
	key, err := mapping.NewDecoder(mapping.Raw, nil)
	if err != nil {
		return connector.Source{}, err
	}
	s := connector.Source{
		Name: "cdp", Topics: []string{w.topic}, OutOfRange: connector.OutOfRangeHalt, Tombstone: connector.TombstoneIgnore, Value: value, Key: key,
		Spec: mapping.Spec{
			Events: []mapping.Event{{Person: "profile_id", Segment: "segment_id", Member: `change == "ENTERED"`, Time: "occurred_at"}},
			Email:  "profile.email",
		},
	}
	expr := map[string]string{
		"FIRSTNAME": "profile.first_name", "LASTNAME": "profile.last_name", "SMS": `phone(profile.phone, "FR")`, "COUNTRY": "profile.country",
	}
	segments, attributes := map[string]bool{}, map[string]bool{}
	for _, x := range w.Exports {
		for _, g := range x.Segments {
			if !segments[g] {
				segments[g] = true
				s.Spec.Segments = append(s.Spec.Segments, g)
			}
		}
		for _, a := range x.Attributes {
			if !attributes[a] {
				attributes[a] = true
				s.Spec.Attributes = append(s.Spec.Attributes, mapping.Attribute{Name: a, Expr: expr[a]})
			}
		}
	}
	if w.ways != nil {
		w.ways.source(&s)
	}
	return s, nil
}

// Process is one life of segsync in a world.
type Process struct {
	Connection *connector.Connection
	Dialer     *Cutter
	cancel     context.CancelFunc
	done       chan struct{}
}

// Start begins a life whose network is d. instance is the static instance id of its membership.
func (w *World) Start(instance string, d *Cutter, tune ...func(*connector.Config)) (*Process, error) {
	cfg, err := w.config(instance, d)
	if err != nil {
		return nil, err
	}
	for _, f := range tune {
		f(&cfg)
	}
	ctx, cancel := context.WithCancel(context.Background())
	p := &Process{Connection: connector.New(cfg), Dialer: d, cancel: cancel, done: make(chan struct{})}
	go func() {
		defer close(p.done)
		_ = p.Connection.Run(ctx)
	}()
	return p, nil
}

// Cutter is a network for one life.
func (w *World) Cutter() *Cutter { return &Cutter{dial: w.Network.DialContext} }

// Prepare makes a connection that does not run yet.
func (w *World) Prepare(instance string, tune func(*connector.Config)) (*connector.Connection, error) {
	cfg, err := w.config(instance, w.Cutter())
	if err != nil {
		return nil, err
	}
	tune(&cfg)
	return connector.New(cfg), nil
}

// config is segsync's in this world.
func (w *World) config(instance string, d *Cutter) (connector.Config, error) {
	schemas, err := registry.New(registry.Options{URLs: []string{w.Registry}, Patience: time.Second, HTTP: &http.Client{
		Timeout: 10 * time.Second, Transport: &http.Transport{DialContext: d.DialContext},
	}})
	if err != nil {
		return connector.Config{}, err
	}
	src, err := w.Source(schemas)
	if err != nil {
		return connector.Config{}, err
	}
	compressor, err := kgo.DefaultCompressor(kgo.SnappyCompression()) // made once: clients that are made at a time may share it
	if err != nil {
		return connector.Config{}, err
	}
	cfg := connector.Config{
		Name: connection, Prefix: prefix, Instance: instance, Session: 10 * time.Second, Sources: []connector.Source{src},
		// Not lz4: its buffers take 4 MiB each, which is most of the time with the race detector.
		Kafka:       []kgo.Opt{kgo.SeedBrokers(w.brokers...), kgo.Dialer(d.DialContext), kgo.DisableClientMetrics(), kgo.WithCompressor(compressor)},
		DeadLetters: DeadLetters, Log: w.Log, Breaker: connector.Breaker{Rejects: 100, OfLast: 1000},
		Audit: connector.Audit{AfterImports: true, Every: 24 * time.Hour}, Times: connector.Times{Report: time.Hour},
	}
	cfg.Metrics, cfg.Limits = connector.NewMetrics(), sendinblue.Limits(w.Rate)
	options := sendinblue.Options{
		BaseURL: w.API, Key: func() string { return Key }, Rate: w.Rate, Dial: d.DialContext,
	}
	if w.Keys != nil {
		account := sendinblue.NewAccount(options, w.Keys)
		options.Key, cfg.Account = account.Key, account
	}
	cfg.Lists = func(ctx context.Context) ([]sink.ListInfo, error) {
		api := sendinblue.New(options)
		defer api.Close()
		return api.Lists(ctx)
	}
	cfg.Sender = func(lease func() bool) sink.Destination {
		o := options
		o.Observe = cfg.Metrics.ObserveCall(cfg.Name)
		o.Lease = lease
		return sendinblue.New(o)
	}
	for i, x := range w.Exports {
		cfg.Exports = append(cfg.Exports, connector.Export{
			Enabled: true, Name: fmt.Sprintf("export-%d", i+1), Segments: x.Segments, List: x.List, Attributes: x.Attributes, OnlyExisting: x.OnlyExisting,
		})
	}
	if w.Tune != nil {
		w.Tune(&cfg)
	}
	return cfg, nil
}

// Stop ends a life in order.
func (p *Process) Stop() {
	p.cancel()
	<-p.done
}

// Kill ends a life as kill -9 does: nothing it writes reaches anybody any more. It returns at once; what is left of it
// ends in its own time.
func (p *Process) Kill() {
	p.Dialer.Cut()
	p.cancel()
}

// Wait waits until what is left of a life has ended.
func (p *Process) Wait() { <-p.done }
