// Package admin serves a process's health, metrics and status to whoever runs it. It is for the operator's network: it
// shows counts and names of exports, never a person's data.
package admin

import (
	"context"
	"encoding/json"
	"errors"
	"net"
	"net/http"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/client_golang/prometheus/promhttp"

	"segsync/connector"
)

// Source tells what a connection is doing.
type Source = connector.Told

// Handler serves /livez, /readyz, /metrics and /status.
//
// Ready is a process that is up, whatever it waits for: a sidecar must not take its application out of service because
// Kafka is away or an account is blocked. ?strict asks whether every connection works or stands by.
func Handler(sources []Source, metrics *connector.Metrics) http.Handler {
	reg := prometheus.NewRegistry()
	reg.MustRegister(collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	reg.MustRegister(metrics.Collectors()...)
	reg.MustRegister(connector.NewCollector(sources))
	mux := http.NewServeMux()
	mux.HandleFunc("GET /livez", func(w http.ResponseWriter, _ *http.Request) { say(w, http.StatusOK, "alive") })
	mux.HandleFunc("GET /readyz", func(w http.ResponseWriter, r *http.Request) {
		_, strict := r.URL.Query()["strict"]
		for _, s := range sources {
			if st := s.Status(); strict && (st.Doing == connector.StateWaiting || st.Doing == connector.StateHeld || st.Doing == connector.StateRetrying) {
				say(w, http.StatusServiceUnavailable, st.Name+": "+st.Doing+": "+st.Why)
				return
			}
		}
		say(w, http.StatusOK, "ready")
	})
	mux.Handle("GET /metrics", promhttp.HandlerFor(reg, promhttp.HandlerOpts{}))
	mux.HandleFunc("GET /status", func(w http.ResponseWriter, _ *http.Request) {
		all := make([]connector.Status, len(sources))
		for i, s := range sources {
			all[i] = s.Status()
		}
		w.Header().Set("Content-Type", "application/json")
		_ = json.NewEncoder(w).Encode(map[string]any{"connections": all})
	})
	return mux
}

func say(w http.ResponseWriter, status int, text string) {
	w.Header().Set("Content-Type", "text/plain; charset=utf-8")
	w.WriteHeader(status)
	_, _ = w.Write([]byte(text + "\n"))
}

// Serve serves until ctx ends. The address that it listens on is handed to listening.
func Serve(ctx context.Context, address string, h http.Handler, listening func(net.Addr)) error {
	var lc net.ListenConfig
	l, err := lc.Listen(ctx, "tcp", address)
	if err != nil {
		return err
	}
	if listening != nil {
		listening(l.Addr())
	}
	s := &http.Server{Handler: h, ReadHeaderTimeout: 10 * time.Second}
	stop := context.AfterFunc(ctx, func() { _ = s.Close() })
	defer stop()
	if err := s.Serve(l); !errors.Is(err, http.ErrServerClosed) {
		return err
	}
	return nil
}
