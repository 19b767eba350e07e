package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"
	"golang.org/x/term"

	"segsync/connector"
)

// statusFlags are those of status.
type statusFlags struct {
	configFlags
	addr   string
	asJSON bool
	watch  bool
}

func newStatus() *cobra.Command {
	var f statusFlags
	cmd := &cobra.Command{
		Use: "status -c segsync.yaml", Short: "Show what the connections are doing, and why", Args: noArgs,
		Long: "Shows, for each connection and export, who owns it, what it is doing, what holds it and how to mend that. It asks Kafka, where every process reports every few seconds; with --addr instead the admin address of one process.",
		RunE: func(cmd *cobra.Command, _ []string) error {
			if len(f.files) > 0 && cmd.Flags().Changed("addr") {
				return &exitError{exitUsage, errors.New("-c asks Kafka, --addr one process: give one of them")}
			}
			ask := f.askProcess
			if len(f.files) > 0 {
				w, err := f.load()
				if err != nil {
					return err
				}
				defer w.release()
				ask = w.standings
			}
			for {
				all, err := ask(cmd.Context())
				if err != nil {
					return &exitError{exitEnvironment, err}
				}
				if f.watch && !f.asJSON && term.IsTerminal(int(os.Stdout.Fd())) {
					_, _ = os.Stdout.WriteString("\x1b[H\x1b[2J") // past the filter: it is our own
				}
				if err := f.show(cmd.OutOrStdout(), all); err != nil || !f.watch {
					return err
				}
				select {
				case <-time.After(watchEvery):
				case <-cmd.Context().Done():
					return nil
				}
			}
		},
	}
	f.add(cmd)
	cmd.Flags().StringVar(&f.addr, "addr", "localhost:9400", "without -c: the admin address of the process")
	cmd.Flags().BoolVar(&f.asJSON, "json", false, "as JSON")
	cmd.Flags().BoolVar(&f.watch, "watch", false, "again and again")
	return cmd
}

// standing is how a connection stands.
type standing struct {
	connector.Status
	Reported  time.Time `json:"reported,omitzero"`   // when its owner has told that; zero: just now
	Processes []string  `json:"processes,omitempty"` // that report of it, each with what it does
}

// show shows how connections stand.
func (f *statusFlags) show(out io.Writer, all []standing) error {
	if f.asJSON {
		e := json.NewEncoder(out)
		e.SetIndent("", "  ")
		return e.Encode(map[string]any{"connections": all})
	}
	showStatus(out, all)
	return nil
}

// standings are how the configured connections stand, as their processes report through Kafka.
func (w *wiring) standings(ctx context.Context) ([]standing, error) {
	configs, err := w.connections()
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeout(ctx, answerWithin)
	defer cancel()
	reports, err := connector.Reports(ctx, w.kafka, w.c.Kafka.Prefix)
	if err != nil {
		return nil, err
	}
	now := time.Now()
	all := make([]standing, 0, len(configs))
	for i := range configs {
		cfg := &configs[i]
		s := standing{Status: connector.Status{Name: cfg.Name, Doing: connector.StateAway, Why: "no segsync reports of it: none runs with this configuration, or it cannot reach Kafka"}}
		if r := ownerOf(reports[cfg.Name], now); r != nil {
			s.Status, s.Reported = r.Status, r.At
		}
		for _, r := range reports[cfg.Name] {
			if now.Sub(r.At) <= connector.ReportStale {
				s.Processes = append(s.Processes, r.Process+": "+r.Status.Doing)
			}
		}
		all = append(all, s)
	}
	return all, nil
}

// askProcess asks a process by its admin address.
func (f *statusFlags) askProcess(ctx context.Context) ([]standing, error) {
	ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	addr := strings.TrimSuffix(strings.TrimPrefix(f.addr, "http://"), "/status")
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+addr+"/status", nil)
	if err != nil {
		return nil, err
	}
	client := &http.Client{}
	resp, err := client.Do(req)
	if err != nil {
		return nil, fmt.Errorf("no segsync answers at %s: %w", addr, err)
	}
	defer func() { _ = resp.Body.Close() }()
	var all struct {
		Connections []standing `json:"connections"`
	}
	if err := json.NewDecoder(io.LimitReader(resp.Body, 8<<20)).Decode(&all); err != nil {
		return nil, fmt.Errorf("the answer of %s is no status: %w", addr, err)
	}
	return all.Connections, nil
}

func showStatus(out io.Writer, all []standing) {
	w := tabwriter.NewWriter(out, 0, 4, 2, ' ', 0)
	_, _ = fmt.Fprintln(w, "CONNECTION\tSTATE\tOWNER\tLAG\tPENDING\tOLDEST\tPEOPLE\tWITHHELD\tREJECTED\tDEAD LETTERS\tIMPORTS")
	for i := range all {
		s := &all[i].Status
		_, _ = fmt.Fprintf(w, "%s\t%s\t%s\t%d\t%d\t%s\t%d\t%d\t%d\t%d\t%d\n", s.Name, s.Doing, orNone(s.Owner), s.Lag, s.Pending, s.Oldest.Round(time.Millisecond), s.People, s.Withheld, s.Rejected, s.Counters.DeadLetters, s.Imports)
	}
	_ = w.Flush()
	showExports(out, all)
	for i := range all {
		showWhy(out, &all[i])
	}
}

func orNone(s string) string {
	if s == "" {
		return "-"
	}
	return s
}

func showExports(out io.Writer, all []standing) {
	w := tabwriter.NewWriter(out, 0, 4, 2, ' ', 0)
	_, _ = fmt.Fprintln(w, "\nEXPORT\tCONNECTION\tLIST\tSTATE\tIN THE LIST\tWITHHELD\tFRESHNESS\tLAST AUDIT")
	n := 0
	for i := range all {
		s := &all[i].Status
		for j := range s.Exports {
			x := &s.Exports[j]
			n++
			audit := "-"
			if !x.Audited.IsZero() {
				audit = fmt.Sprintf("%s: %d wrong", x.Audited.UTC().Format(time.RFC3339), x.Findings.Wrong())
			}
			fresh := "-"
			if x.Freshness > 0 {
				fresh = x.Freshness.Round(time.Millisecond).String()
			}
			doing := x.Doing
			if !x.NextRun.IsZero() {
				doing += ", next " + x.NextRun.Format(time.RFC3339)
			}
			_, _ = fmt.Fprintf(w, "%s\t%s\t%d\t%s\t%d\t%d\t%s\t%s\n", x.Name, s.Name, x.List, doing, x.In, x.Withheld, fresh, audit)
		}
	}
	if n > 0 {
		_ = w.Flush()
	}
}

// showWhy says what stands in a connection's way, and what is under way.
func showWhy(out io.Writer, all *standing) {
	s := &all.Status
	line := func(format string, args ...any) { _, _ = fmt.Fprintf(out, s.Name+": "+format+"\n", args...) }
	if s.Why != "" && s.Doing != connector.StateHeld {
		line("%s: %s", s.Doing, s.Why)
	}
	if s.Differs {
		line("the owner, %s, has another configuration than this process", s.Owner)
	}
	for _, x := range s.Failures {
		line("export %s: attribute %s was left out in %d records: %s", x.Export, x.Attribute, x.Records, x.Cause)
	}
	for _, b := range s.Backfills {
		line("source %s is read again (%s): %d records read, %d left", b.Source, b.Phase, b.Records, b.Left)
	}
	for _, h := range s.Halted {
		what := "the account"
		switch {
		case h.Source != "":
			what = "reading source " + h.Source
		case h.Code == "import_stuck":
			what = "imports"
		case h.List != 0:
			what = fmt.Sprintf("list %d", h.List)
		}
		line("%s: held since %s: %s: %s", what, h.Since.UTC().Format(time.RFC3339), h.Code, h.Mend)
	}
	if !all.Reported.IsZero() && s.Doing != connector.StateAway {
		line("as of %s ago", time.Since(all.Reported).Round(time.Second))
	}
	if len(all.Processes) > 1 {
		line("processes: %s", strings.Join(all.Processes, ", "))
	}
}
