package oracle

import (
	"context"
	_ "embed"
	"fmt"
	"hash/fnv"
	"maps"
	"math/rand/v2"
	"net"
	"net/http"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/linkedin/goavro/v2"
	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/sr"
	"github.com/twmb/franz-go/pkg/sr/srfake"
	"go.uber.org/zap"

	"segsync/connector"
	"segsync/sink/sandbox"
	"segsync/sink/sendinblue"
)

// EventSchema is the Avro schema of the default event.
//
//go:embed event.avsc
var EventSchema string

// Network is where a world lives: kfake's virtual one, or the loopback interface.
type Network interface {
	Listen(network, address string) (net.Listener, error)
	DialContext(ctx context.Context, network, address string) (net.Conn, error)
}

// Loopback is the real network, on this machine.
type Loopback struct{}

// Listen implements Network.
func (Loopback) Listen(network, address string) (net.Listener, error) {
	var lc net.ListenConfig
	return lc.Listen(context.Background(), network, address)
}

// DialContext implements Network.
func (Loopback) DialContext(ctx context.Context, network, address string) (net.Conn, error) {
	var d net.Dialer
	return d.DialContext(ctx, network, address)
}

// Names of a world.
const (
	Topic       = "cdp.segment-membership"
	DeadLetters = "segsync-dlq"
	Key         = "sandbox-key"
	SpareList   = 44 // no default export feeds it
)

// World is everything around segsync: Kafka, a schema registry, the sandbox, and the truth.
type World struct {
	Network  Network
	Cluster  *kfake.Cluster
	Sandbox  *sandbox.Server
	API      string // base URL
	Registry string
	Exports  []Export
	Truth    *Truth
	Log      *zap.Logger
	Tune     func(*connector.Config)
	Rate     sendinblue.Rate
	// Keys reads the connection's key, whose account is checked then. nil: it is Key, and not checked.
	Keys func() string
	// Others are further accounts behind the same API, by their keys.
	Others map[string]*sandbox.Server

	ways     *ways // nil: every event is a record of the default schema
	brokers  []string
	topic    string
	parts    int32
	schemaID int
	down     atomic.Bool // the registry
	codec    *goavro.Codec
	poison   []string // where undecodable records lie
	producer *kgo.Client
	own      *Cutter // the producer's network
	servers  []*http.Server
	calls    sync.WaitGroup // under way
	mu       sync.Mutex
}

// WorldOptions shape a world.
type WorldOptions struct {
	Network    Network
	Brokers    []string // of a Kafka that is there; none: an embedded one is started
	DataDir    string   // of the embedded one; "" memory
	Ports      []int    // of the embedded one's brokers; none: one broker
	Topic      string   // of the events; "" the usual one
	APIAddr    string
	RegAddr    string
	Partitions int32
	Sandbox    sandbox.Options
	Exports    []Export
	Log        *zap.Logger
	// Ways puts events into records in several ways, chosen by this seed; profiles of people in no segment are kept. 0: in
	// one.
	Ways uint64
}

// DefaultExports are two exports of one source that share contacts and attributes.
func DefaultExports() []Export {
	return []Export{
		{List: 42, Segments: []string{"vip", "gold"}, Attributes: []string{"FIRSTNAME", "LASTNAME", "SMS"}},
		{List: 43, Segments: []string{"gold", "news"}, Attributes: []string{"FIRSTNAME", "COUNTRY"}},
	}
}

// NewWorld starts one.
func NewWorld(o WorldOptions) (*World, error) {
	if o.Exports == nil {
		o.Exports = DefaultExports()
	}
	if o.Log == nil {
		o.Log = zap.NewNop()
	}
	if o.Topic == "" {
		o.Topic = Topic
	}
	w := &World{
		Network: o.Network, Exports: o.Exports, Truth: NewTruth(o.Exports), Log: o.Log, Rate: sendinblue.Plans["general"], brokers: o.Brokers, topic: o.Topic, parts: o.Partitions,
	}
	var err error
	if len(o.Brokers) == 0 {
		opts := []kfake.Opt{kfake.NumBrokers(max(len(o.Ports), 1)), kfake.ListenFn(o.Network.Listen), kfake.SeedTopics(o.Partitions, o.Topic, profilesTopic, peopleTopic)}
		if len(o.Ports) > 0 {
			opts = append(opts, kfake.Ports(o.Ports...))
		}
		if o.DataDir != "" {
			opts = append(opts, kfake.DataDir(o.DataDir))
		}
		w.Cluster, err = kfake.NewCluster(opts...)
		if err != nil {
			return nil, fmt.Errorf("starting the embedded Kafka: %w", err)
		}
		w.brokers = w.Cluster.ListenAddrs()
	}
	if o.Sandbox.Key == "" {
		o.Sandbox.Key = Key
	}
	o.Sandbox.Lists = append(o.Sandbox.Lists, SpareList)
	for _, x := range o.Exports {
		o.Sandbox.Lists = append(o.Sandbox.Lists, x.List)
	}
	w.Sandbox = sandbox.New(o.Sandbox)
	w.Truth.exists = func(address string) bool { _, ok := w.Sandbox.Contact(address); return ok }
	if w.API, err = w.serve(o.APIAddr, http.HandlerFunc(w.account)); err != nil {
		return nil, err
	}
	w.Sandbox.SetBaseURL(w.API)
	w.API += "/v3"
	reg := srfake.NewRegistry()
	if w.schemaID, _, err = reg.RegisterSchema(o.Topic+"-value", sr.Schema{Schema: EventSchema}); err != nil {
		return nil, fmt.Errorf("registering the event's schema: %w", err)
	}
	if w.Registry, err = w.serve(o.RegAddr, w.unlessDown(reg.Handler())); err != nil {
		return nil, err
	}
	if w.codec, err = goavro.NewCodec(EventSchema); err != nil {
		return nil, err
	}
	if o.Ways != 0 {
		w.Truth.keep = true
		w.ways = &ways{rand: rand.New(rand.NewPCG(o.Ways, 7)), parts: o.Partitions} //nolint:gosec // to be repeated, not secret
		if w.ways.profiles, err = register(reg, profilesTopic, profilesSchema); err == nil {
			w.ways.people, err = register(reg, peopleTopic, peopleSchema)
		}
		if err != nil {
			return nil, err
		}
	}
	w.own = w.Cutter()
	w.producer, err = kgo.NewClient(kgo.SeedBrokers(w.brokers...), kgo.Dialer(w.own.DialContext), kgo.RecordPartitioner(kgo.ManualPartitioner()))
	if err == nil { // before it is needed: several brokers at once would wait for it under a lock
		_, _, err = w.producer.ProducerID(context.Background())
	}
	if err == nil && w.Cluster == nil {
		_, err = kadm.NewClient(w.producer).CreateTopic(context.Background(), o.Partitions, 1, nil, o.Topic)
	}
	return w, err
}

// account serves the account that a call's key belongs to.
func (w *World) account(rw http.ResponseWriter, r *http.Request) {
	if other, ok := w.Others[r.Header.Get("api-key")]; ok {
		other.ServeHTTP(rw, r)
		return
	}
	w.Sandbox.ServeHTTP(rw, r)
}

// unlessDown answers 503 in h's stead while the registry is down.
func (w *World) unlessDown(h http.Handler) http.Handler {
	return http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
		if w.down.Load() {
			http.Error(rw, "down", http.StatusServiceUnavailable)
			return
		}
		h.ServeHTTP(rw, r)
	})
}

func (w *World) serve(address string, h http.Handler) (string, error) {
	if address == "" {
		address = "127.0.0.1:0"
	}
	l, err := w.Network.Listen("tcp", address)
	if err != nil {
		return "", fmt.Errorf("listening on %s: %w", address, err)
	}
	counted := http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
		w.calls.Add(1)
		defer w.calls.Done()
		h.ServeHTTP(rw, r)
	})
	s := &http.Server{Handler: counted, ReadHeaderTimeout: time.Minute, ErrorLog: nil}
	w.servers = append(w.servers, s)
	go func() { _ = s.Serve(l) }()
	return "http://" + l.Addr().String(), nil
}

// Close ends the world.
func (w *World) Close() {
	w.producer.Close()
	for _, s := range w.servers {
		_ = s.Close()
	}
	w.calls.Wait()
	if w.Cluster != nil {
		w.Cluster.Close()
	}
}

// Brokers are Kafka's addresses.
func (w *World) Brokers() []string { return w.brokers }

// Encode is an event's value in Confluent's wire format.
func (w *World) Encode(e Event) ([]byte, error) {
	if e.Poison != nil {
		return e.Poison, nil
	}
	change := "EXITED"
	if e.In {
		change = "ENTERED"
	}
	m := map[string]any{
		"event_id": "00000000-0000-4000-8000-000000000000", "segment_id": e.Segment, "profile_id": e.Person, "change": change,
		"occurred_at": e.At, "profile": nil,
	}
	if p := e.Profile; p != nil {
		native := p.native()
		maps.Copy(native, map[string]any{"birthday": nil, "lifetime_value": nil, "newsletter": nil, "tags": []any{}})
		m["profile"] = goavro.Union("cdp.segments.Profile", native)
	}
	head := []byte{0, byte(w.schemaID >> 24), byte(w.schemaID >> 16), byte(w.schemaID >> 8), byte(w.schemaID)}
	return w.codec.BinaryFromNative(head, m)
}

// Produce writes events to the topic, in order, and tells the truth.
func (w *World) Produce(ctx context.Context, events ...Event) error {
	var records []*kgo.Record
	if w.ways != nil {
		var err error
		if records, events, err = w.ways.records(w, events); err != nil {
			return err
		}
	} else {
		for _, e := range events {
			r, err := w.record(e)
			if err != nil {
				return err
			}
			records = append(records, r)
		}
	}
	if err := w.producer.ProduceSync(ctx, records...).FirstErr(); err != nil {
		return err
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, e := range events {
		w.Truth.Apply(e)
	}
	for _, r := range records {
		if r.Value[0] != 0 {
			w.poison = append(w.poison, position(r.Topic, r.Partition, r.Offset))
		}
	}
	return nil
}

// record is an event in the default schema.
func (w *World) record(e Event) (*kgo.Record, error) {
	v, err := w.Encode(e)
	p := e.Partition
	if p < 0 {
		p = int32(hash(e.Person) % uint32(w.parts))
	}
	return &kgo.Record{Topic: w.topic, Partition: p, Key: []byte(e.Person), Value: v, Timestamp: e.when()}, err
}

// when is an event's time; without one it is now.
func (e *Event) when() time.Time {
	if e.At.IsZero() {
		return time.Now()
	}
	return e.At
}

// native is a profile for goavro.
func (p *Profile) native() map[string]any {
	null := func(s string) any {
		if s == "" {
			return nil
		}
		return goavro.Union("string", s)
	}
	return map[string]any{"email": null(p.Email), "first_name": null(p.First), "last_name": null(p.Last), "phone": null(p.Phone), "country": null(p.Country)}
}

// Renew lets the producer look the topic up again, which was made again.
func (w *World) Renew() { w.producer.PurgeTopicsFromProducing(w.topic) }

func position(topic string, partition int32, offset int64) string {
	return fmt.Sprintf("%s/%d/%d", topic, partition, offset)
}

// Untold lists the undecodable records that no dead letter tells of.
func (w *World) Untold(ctx context.Context) ([]string, error) {
	letters, err := w.letters(ctx)
	if err != nil {
		return nil, err
	}
	told := map[string]bool{}
	for _, h := range letters {
		told[h["topic"]+"/"+h["partition"]+"/"+h["offset"]] = true
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	return slices.DeleteFunc(slices.Clone(w.poison), func(p string) bool { return told[p] }), nil
}

// letters are the headers of all dead letters, by their last word.
func (w *World) letters(ctx context.Context) (all []map[string]string, err error) {
	cl, err := kgo.NewClient(kgo.SeedBrokers(w.brokers...), kgo.Dialer(w.own.DialContext), kgo.FetchIsolationLevel(kgo.ReadCommitted()), kgo.KeepControlRecords())
	if err != nil {
		return nil, err
	}
	defer cl.Close()
	end, err := kadm.NewClient(cl).ListCommittedOffsets(ctx, DeadLetters)
	if err != nil {
		return nil, err
	}
	last, ok := end.Lookup(DeadLetters, 0)
	if !ok || last.Offset <= 0 {
		return nil, nil
	}
	// Its last record is the marker of a transaction: that is what is waited for.
	cl.AddConsumePartitions(map[string]map[int32]kgo.Offset{DeadLetters: {0: kgo.NewOffset().AtStart()}})
	for at := int64(0); at < last.Offset; {
		fetches := cl.PollFetches(ctx)
		if err := fetches.Err0(); err != nil {
			return nil, err
		}
		fetches.EachRecord(func(r *kgo.Record) {
			at = r.Offset + 1
			if r.Attrs.IsControl() {
				return
			}
			h := map[string]string{}
			for _, kv := range r.Headers {
				h[kv.Key[strings.LastIndexByte(kv.Key, '.')+1:]] = string(kv.Value)
			}
			all = append(all, h)
		})
	}
	return all, nil
}

func hash(s string) uint32 {
	h := fnv.New32a()
	_, _ = h.Write([]byte(s))
	return h.Sum32()
}

// Reconfigure changes the exports of the lives that are started from now on.
func (w *World) Reconfigure(exports []Export) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.Exports, w.Truth.exports = exports, exports
}

// Wrong compares every list with the truth.
func (w *World) Wrong() []Wrong {
	w.mu.Lock()
	defer w.mu.Unlock()
	var all []Wrong
	for _, x := range w.Exports {
		all = append(all, Compare(x.List, w.Truth.List(x.List), w.Sandbox.List(x.List), w.Sandbox.Holder)...)
	}
	return all
}

// Wanted is how many contacts the lists must hold.
func (w *World) Wanted() (n int) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, x := range w.Exports {
		n += len(w.Truth.List(x.List))
	}
	return n
}
