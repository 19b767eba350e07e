package connector

import (
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// Metrics are all of segsync's metrics: their names are here and nowhere else. No label carries a person's data.
type Metrics struct {
	Events      *prometheus.CounterVec   // connection
	Changes     *prometheus.CounterVec   // connection, result
	Freshness   *prometheus.HistogramVec // connection
	Calls       *prometheus.CounterVec   // connection, endpoint, status
	CallSeconds *prometheus.HistogramVec // connection, endpoint
	Outcomes    *prometheus.CounterVec   // connection, verdict
	DeadLetters *prometheus.CounterVec   // connection, class
	LostLetters *prometheus.CounterVec   // connection
	AttrFailed  *prometheus.CounterVec   // connection
	Checkpoints *prometheus.CounterVec   // connection, result
	all         []prometheus.Collector
}

// NewMetrics makes them, unregistered.
func NewMetrics() *Metrics {
	m := &Metrics{}
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
	m.Calls = counter("calls_total", "API calls by endpoint and status (0: no answer).", "endpoint", "status")
	m.CallSeconds = histogram("call_seconds", "API call times by endpoint.", seconds, "endpoint")
	m.Outcomes = counter("outcomes_total", "Outcomes of contacts in requests, by verdict.", "verdict")
	m.DeadLetters = counter("dead_letters_total", "Dead letters by class.", "class")
	m.LostLetters = counter("dead_letters_lost_total", "Dead letters that their topic refused, and that were dropped.")
	m.AttrFailed = counter("attribute_failures_total", "Attributes that could not be mapped and were left out.")
	m.Checkpoints = counter("checkpoints_total", "Checkpoints by result (committed, aborted, ended).", "result")
	return m
}

// Collectors are all metrics, to be registered.
func (m *Metrics) Collectors() []prometheus.Collector { return m.all }

// ObserveCall counts an API call.
func (m *Metrics) ObserveCall(connection string) func(endpoint string, status int, took time.Duration) {
	return func(endpoint string, status int, took time.Duration) {
		m.Calls.WithLabelValues(connection, endpoint, itoa(status)).Inc()
		m.CallSeconds.WithLabelValues(connection, endpoint).Observe(took.Seconds())
	}
}
