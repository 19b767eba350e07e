package registry

import (
	"errors"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"segsync/mapping"
)

// While the registry does not answer about one schema, those that are known are given, and nobody asks twice.
func TestAHangingAnswerKeepsNobodyElseWaiting(t *testing.T) {
	release := make(chan struct{})
	asked := make(chan string, 10)
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		asked <- r.URL.Path
		if strings.HasSuffix(r.URL.Path, "/1") {
			<-release
		}
		w.Header().Set("Content-Type", "application/json")
		_, _ = w.Write([]byte(`{"schema":"\"string\""}`))
	}))
	defer s.Close()
	c, err := New(Options{URLs: []string{s.URL}})
	if err != nil {
		t.Fatal(err)
	}
	if _, _, err := c.Schema(2); err != nil {
		t.Fatal(err)
	}
	<-asked
	answers := make(chan error, 2)
	for range 2 {
		go func() { _, _, err := c.Schema(1); answers <- err }()
	}
	<-asked
	known := make(chan error, 1)
	go func() { _, _, err := c.Schema(2); known <- err }()
	select {
	case err := <-known:
		if err != nil {
			t.Error(err)
		}
	case <-time.After(5 * time.Second):
		t.Error("a known schema waits for another")
	}
	close(release)
	for range 2 {
		if err := <-answers; err != nil {
			t.Error(err)
		}
	}
	if len(asked) > 0 {
		t.Error("it is asked twice")
	}
}

// What the registry does not know is told from what it cannot say, and neither is asked for again at once.
func TestUnknownIsNotUnanswered(t *testing.T) {
	status, n := http.StatusNotFound, 0
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		n++
		w.WriteHeader(status)
		_, _ = w.Write([]byte(`{"error_code":40403,"message":"Schema not found"}`))
	}))
	defer s.Close()
	c, err := New(Options{URLs: []string{s.URL}})
	if err != nil {
		t.Fatal(err)
	}
	for range 3 {
		if _, _, err := c.Schema(7); !errors.Is(err, mapping.ErrNoSchema) {
			t.Errorf("an unknown id: %v", err)
		}
	}
	if n != 1 {
		t.Errorf("it was asked %d times in a row", n)
	}
	s.Close()
	if _, _, err := c.Schema(8); !errors.Is(err, mapping.ErrRegistry) {
		t.Errorf("no registry: %v", err)
	}
}

// S83: an answer without end, a redirect, references without end: each ends soon, and what was answered is told nobody
// (ADVERSARY S6, S7).
func TestS83WhatARegistryCanDoIsBounded(t *testing.T) {
	const inner = "MARKED-ANSWER"
	hit := false
	elsewhere := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		hit = true
		_, _ = w.Write([]byte(inner))
	}))
	defer elsewhere.Close()
	for name, c := range map[string]struct {
		answer http.HandlerFunc
		want   error
	}{
		"without end": {func(w http.ResponseWriter, _ *http.Request) {
			_, _ = w.Write([]byte(`{"schema":"`))
			for range 64 {
				_, _ = w.Write(make([]byte, 1<<20))
			}
		}, mapping.ErrRegistry},
		"a redirect": {func(w http.ResponseWriter, r *http.Request) { http.Redirect(w, r, elsewhere.URL, http.StatusFound) }, mapping.ErrRegistry},
		"an error with a text": {func(w http.ResponseWriter, _ *http.Request) {
			w.WriteHeader(http.StatusInternalServerError)
			_, _ = w.Write([]byte(`{"error_code":50001,"message":"` + inner + `"}`))
		}, mapping.ErrRegistry},
		"no schema registry": {func(w http.ResponseWriter, _ *http.Request) { http.Error(w, inner, http.StatusNotFound) }, mapping.ErrNoSchema},
		"references without end": {func(w http.ResponseWriter, r *http.Request) {
			w.Header().Set("Content-Type", "application/json")
			n := len(r.URL.Path)
			_, _ = w.Write([]byte(`{"schema":"\"string\"","references":[{"name":"n","subject":"` + strings.Repeat("s", n) + `","version":1}]}`))
		}, mapping.ErrNoSchema},
	} {
		t.Run(name, func(t *testing.T) {
			s := httptest.NewServer(c.answer)
			defer s.Close()
			r, err := New(Options{URLs: []string{s.URL}, HTTP: &http.Client{Timeout: 10 * time.Second}})
			if err != nil {
				t.Fatal(err)
			}
			_, _, err = r.Schema(7)
			if !errors.Is(err, c.want) || strings.Contains(err.Error(), inner) {
				t.Errorf("%v", err)
			}
		})
	}
	if hit {
		t.Error("a redirect is followed")
	}
}
