// Package admin serves a process's health, metrics and status to whoever runs it. It is for the operator's network: it
// shows counts and names of exports, never a person's data.
package admin

import (
	"context"
	"encoding/json"
	"errors"
	"net"
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/client_golang/prometheus/promhttp"
	"golang.org/x/net/netutil"

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

// Bounds of who speaks to the admin address.
const (
	connectionsMost = 64
	headersMost     = 16 << 10 // bytes
	idle            = 30 * time.Second
	answerIn        = 30 * time.Second
)

// guardHost refuses names of others: a page that somebody has open could otherwise read the answers under a name of its
// own that points here. Addresses, names without a dot, and those that are configured are let through.
func guardHost(next http.Handler, names []string) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		host := r.Host
		if h, _, err := net.SplitHostPort(host); err == nil {
			host = h
		}
		host = strings.ToLower(strings.Trim(host, "[]"))
		if net.ParseIP(host) == nil && strings.Contains(host, ".") && !slices.Contains(names, host) {
			say(w, http.StatusMisdirectedRequest, "this name is not served here: name it in admin.hosts")
			return
		}
		next.ServeHTTP(w, r)
	})
}

// Serve serves until ctx ends, under addresses, names without a dot, and the names given. The address that it listens on
// is handed to listening.
func Serve(ctx context.Context, address string, names []string, h http.Handler, listening func(net.Addr)) error {
	var lc net.ListenConfig
	l, err := lc.Listen(ctx, "tcp", address)
	if err != nil {
		return err
	}
	if listening != nil {
		listening(l.Addr())
	}
	s := &http.Server{
		Handler: guardHost(h, names), ReadHeaderTimeout: 10 * time.Second, ReadTimeout: 15 * time.Second, WriteTimeout: answerIn, IdleTimeout: idle, MaxHeaderBytes: headersMost,
	}
	stop := context.AfterFunc(ctx, func() { _ = s.Close() })
	defer stop()
	if err := s.Serve(netutil.LimitListener(l, connectionsMost)); !errors.Is(err, http.ErrServerClosed) {
		return err
	}
	return nil
}
