package engine

import (
	"fmt"
	"strconv"
	"strings"
	"sync"

	"github.com/prometheus/client_golang/prometheus"

	"segsync/connector/deadletter"
	"segsync/sink"
)

// Metrics are all of segsync's metrics: their names are here and nowhere else. No label carries a person's data.
type Metrics struct {
	Events      *prometheus.CounterVec   // connection
	Changes     *prometheus.CounterVec   // connection, result
	Freshness   *prometheus.HistogramVec // connection
	Calls       *prometheus.CounterVec   // connection, endpoint, status, purpose
	CallSeconds *prometheus.HistogramVec // connection, endpoint
	Outcomes    *prometheus.CounterVec   // connection, verdict
	DeadLetters *prometheus.CounterVec   // connection, class
	LostLetters *prometheus.CounterVec   // connection
	AttrFailed  *prometheus.CounterVec   // connection, export, attribute, cause
	Checkpoints *prometheus.CounterVec   // connection, result
	Audits      *prometheus.CounterVec   // connection, result
	all         []prometheus.Collector

	mu    sync.Mutex
	calls map[string]*CallCounts // by connection
}

// NewMetrics makes them, unregistered.
func NewMetrics() *Metrics {
	m := &Metrics{calls: map[string]*CallCounts{}}
	counter := func(name, help string, labels ...string) *prometheus.CounterVec {
		c := prometheus.NewCounterVec(prometheus.CounterOpts{Name: "segsync_" + name, Help: help}, append([]string{"connection"}, labels...))
		m.all = append(m.all, c)
		return c
	}
	histogram := func(name, help string, buckets []float64, labels ...string) *prometheus.HistogramVec {
		h := prometheus.NewHistogramVec(prometheus.HistogramOpts{Name: "segsync_" + name, Help: help, Buckets: buckets}, append([]string{"connection"}, labels...))
		m.all = append(m.all, h)
		return h
	}
	seconds := []float64{.01, .025, .05, .1, .25, .5, 1, 2.5, 5, 10, 30, 60, 300, 1800, 7200}
	m.Events = counter("events_total", "Records read and folded.")
	m.Changes = counter("changes_total", "Changes folded into the table, by result (moved, stale, ignored).", "result")
	m.Freshness = histogram("freshness_seconds", "From a contact becoming pending to its delivery being confirmed.", seconds)
	m.Calls = counter("calls_total", "API calls by endpoint, status (0: no answer) and purpose (send, resend, look, audit, ask).", "endpoint", "status", "purpose")
	m.CallSeconds = histogram("call_seconds", "API call times by endpoint.", seconds, "endpoint")
	m.Outcomes = counter("outcomes_total", "Outcomes of contacts in requests, by verdict.", "verdict")
	m.DeadLetters = counter("dead_letters_total", "Dead letters by class.", "class")
	m.LostLetters = counter("dead_letters_lost_total", "Dead letters that their topic refused, and that were dropped.")
	m.AttrFailed = counter("attribute_failures_total", "Attributes that could not be mapped and were left out, by export, attribute and cause.", "export", "attribute", "cause")
	m.Checkpoints = counter("checkpoints_total", "Checkpoints by result (committed, aborted, ended).", "result")
	m.Audits = counter("audits_total", "Audits of lists by result (finished, failed).", "result")
	return m
}

// Collectors are all metrics, to be registered.
func (m *Metrics) Collectors() []prometheus.Collector { return m.all }

// CallCounts are the calls of a connection in this process: writes by kind, and what they were for.
type CallCounts struct {
	All     uint64 `json:"all"`
	Upserts uint64 `json:"upserts"`
	Updates uint64 `json:"updates"`
	Adds    uint64 `json:"adds"`
	Removes uint64 `json:"removes"`
	Deletes uint64 `json:"deletes"`
	Imports uint64 `json:"imports"`
	Resends uint64 `json:"resends"` // of these: they said again what had no answer
	Looks   uint64 `json:"looks"`   // at contacts, and at imports and exports under way
	Audits  uint64 `json:"audits"`
	Asks    uint64 `json:"asks"` // for lists, attributes and the account
}

// String lists the kinds that there were.
func (c CallCounts) String() string {
	var all []string
	for _, k := range []struct {
		n    uint64
		what string
	}{
		{c.Upserts, "upserts"}, {c.Updates, "updates"}, {c.Adds, "adds"}, {c.Removes, "removals"}, {c.Deletes, "deletions"}, {c.Imports, "imports"},
		{c.Looks, "looks"}, {c.Audits, "for audits"}, {c.Asks, "questions"},
	} {
		if k.n > 0 {
			all = append(all, fmt.Sprintf("%d %s", k.n, k.what))
		}
	}
	text := strings.Join(all, ", ")
	if c.Resends > 0 {
		text += fmt.Sprintf("; %d of them re-sends", c.Resends)
	}
	return text
}

func (c *CallCounts) count(call sink.Call) {
	c.All++
	switch call.Kind {
	case sink.Upsert:
		c.Upserts++
	case sink.Update:
		c.Updates++
	case sink.Add:
		c.Adds++
	case sink.Remove:
		c.Removes++
	case sink.Delete:
		c.Deletes++
	case sink.Import:
		c.Imports++
	case sink.Look: // a reading call, by its purpose
	}
	switch call.Purpose {
	case sink.ToLook:
		c.Looks++
	case sink.ToAudit:
		c.Audits++
	case sink.ToAsk:
		c.Asks++
	case sink.ToSend, sink.ToResend:
	}
	if call.Purpose == sink.ToResend {
		c.Resends++
	}
}

// ObserveCall counts an API call.
func (m *Metrics) ObserveCall(connection string) func(sink.Call) {
	return func(c sink.Call) {
		m.Calls.WithLabelValues(connection, c.Endpoint, strconv.Itoa(c.Status), string(c.Purpose)).Inc()
		m.CallSeconds.WithLabelValues(connection, c.Endpoint).Observe(c.Took.Seconds())
		m.mu.Lock()
		defer m.mu.Unlock()
		if m.calls[connection] == nil {
			m.calls[connection] = &CallCounts{}
		}
		m.calls[connection].count(c)
	}
}

// CallsOf are a connection's calls.
func (m *Metrics) CallsOf(connection string) CallCounts {
	m.mu.Lock()
	defer m.mu.Unlock()
	if c := m.calls[connection]; c != nil {
		return *c
	}
	return CallCounts{}
}

// meters are a connection's own children of the metrics, looked up once.
type meters struct {
	events, moved, stale, ignored, lost prometheus.Counter
	committed, aborted, ended           prometheus.Counter // checkpoints
	audited, unaudited                  prometheus.Counter
	outcomes                            map[sink.Verdict]prometheus.Counter
	letters                             map[deadletter.Class]prometheus.Counter
	freshness                           prometheus.Observer
}

func (m *Metrics) of(connection string) *meters {
	all := &meters{
		events: m.Events.WithLabelValues(connection),
		moved:  m.Changes.WithLabelValues(connection, "moved"), stale: m.Changes.WithLabelValues(connection, "stale"), ignored: m.Changes.WithLabelValues(connection, "ignored"),
		lost:      m.LostLetters.WithLabelValues(connection),
		committed: m.Checkpoints.WithLabelValues(connection, "committed"), aborted: m.Checkpoints.WithLabelValues(connection, "aborted"), ended: m.Checkpoints.WithLabelValues(connection, "ended"),
		audited: m.Audits.WithLabelValues(connection, "finished"), unaudited: m.Audits.WithLabelValues(connection, "failed"),
		outcomes: map[sink.Verdict]prometheus.Counter{}, letters: map[deadletter.Class]prometheus.Counter{},
		freshness: m.Freshness.WithLabelValues(connection),
	}
	for v := sink.Retry; v <= sink.Blocked; v++ {
		all.outcomes[v] = m.Outcomes.WithLabelValues(connection, v.String())
	}
	for _, class := range deadletter.Classes() {
		all.letters[class] = m.DeadLetters.WithLabelValues(connection, string(class))
	}
	return all
}
