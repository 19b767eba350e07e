package main

import (
	"errors"
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"segsync/cmd/segsync/config"
	"segsync/connector"
	"segsync/mapping"
)

// exportOf finds an export and its connection's configuration.
func (w *wiring) exportOf(name string) (*config.Export, connector.Config, error) {
	for i := range w.c.Exports {
		e := &w.c.Exports[i]
		if e.Name != name {
			continue
		}
		cfg, _, err := w.connection(w.c.Connection(e.Connection))
		return e, cfg, err
	}
	var names []string
	for i := range w.c.Exports {
		names = append(names, w.c.Exports[i].Name)
	}
	return nil, connector.Config{}, &exitError{exitUsage, fmt.Errorf("no export is named %q%s; there are: %s", name, mapping.Closest(name, names), strings.Join(names, ", "))}
}

func newBackfill() *cobra.Command {
	var f exportFlags
	var from string
	var resend bool
	cmd := &cobra.Command{
		Use:   "backfill -c segsync.yaml --export NAME --from earliest|TIME|-7d",
		Short: "Read an export's source again from an earlier point, to the end",
		Long:  "Reads an export's source again, from an earlier point to its present end, and tells what came of it. Old records change nothing that is newer.\nIt needs that no replica of the connection runs. --resend sends everything of the export's list again, and maps records anew.",
		Args:  noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			w, e, cfg, err := f.open()
			if err != nil {
				return err
			}
			defer w.release()
			start, err := config.ParseStart(from, time.Now())
			if err != nil || start.Latest {
				return &exitError{exitUsage, fmt.Errorf("--from must be earliest, a time such as 2026-01-31T00:00:00Z, or a span back such as -7d")}
			}
			if start.At.After(time.Now()) {
				return &exitError{exitUsage, errors.New("--from lies ahead: nothing would be read")}
			}
			source := 0
			for i := range cfg.Sources {
				if cfg.Sources[i].Name == e.Source {
					source = i
				}
			}
			cfg.Rewind = &connector.Rewind{Source: source, From: start, Resend: resend, Lists: []int64{e.List}}
			c, err := idle(cmd.Context(), cfg)
			if err != nil {
				return failed(err)
			}
			return failed(follow(cmd, c))
		},
	}
	f.add(cmd, "the export whose source is read again")
	cmd.Flags().StringVar(&from, "from", "earliest", "where to begin")
	cmd.Flags().BoolVar(&resend, "resend", false, "send everything of the list again, and map records anew")
	return cmd
}

// follow runs a connection to the end of its topics, with progress and a receipt.
func follow(cmd *cobra.Command, c *connector.Connection) error {
	var last connector.Progress
	shown := time.Time{}
	err := c.Once(cmd.Context(), func(p connector.Progress) {
		last = p
		if time.Since(shown) > 2*time.Second {
			shown = time.Now()
			cmd.Printf("%9d records left, %7d contacts pending, %d calls made\n", p.Left, p.Pending, p.Status.Counters.Calls)
		}
	})
	if err != nil {
		return err
	}
	receipt(cmd.OutOrStdout(), c, last.Status)
	return worth(last.Status)
}

// receipt says what a bounded run of a connection did, and what is left.
func receipt(out io.Writer, c *connector.Connection, s connector.Status) {
	n := s.Counters
	_, _ = fmt.Fprintf(out, "done: connection %s: %d records read\n", s.Name, n.Events)
	if owner := c.Elsewhere(); owner != "" {
		_, _ = fmt.Fprintf(out, "  another process (%s) owns the connection, and has worked everything off\n", owner)
		return
	}
	_, _ = fmt.Fprintf(out, "  added or updated %d, changed in place %d, removed %d, rejected %d, unchanged %d\n  calls made %d: %s; saved %d\n  dead letters %d, attributes left out %d, contacts still pending %d\n",
		n.Upserted, n.Updated, n.Removed, n.Rejected, max(0, s.Contacts-int(n.Upserted+n.Updated+n.Removed)), n.Calls, n.Kinds, n.Saved(), n.DeadLetters, n.Failed, s.Pending)
	for _, x := range s.Exports {
		_, _ = fmt.Fprintf(out, "  export %s, list %d: %d people in, withheld %d%s%s\n", x.Name, x.List, x.In, x.Withheld, audited(x), note(x))
	}
	for _, x := range s.Failures {
		_, _ = fmt.Fprintf(out, "  left out: %s of export %s in %d records: %s\n", x.Attribute, x.Export, x.Records, x.Cause)
	}
	for _, h := range s.Halted {
		_, _ = fmt.Fprintf(out, "  held: %s: %s\n", h.Code, h.Mend)
	}
}

// errNothingMapped says that not one record of many could be used.
var errNothingMapped = errors.New("no record that was read could be mapped: the dead letters say why")

// worth is the error of a bounded run that has read records and could use none.
func worth(s connector.Status) error {
	if n := s.Counters; n.Events > 0 && n.DeadLetters >= n.Events {
		return errNothingMapped
	}
	return nil
}

// audited says what the last audit of an export's list found.
func audited(x connector.ExportStatus) string {
	f := x.Findings
	switch {
	case f == nil:
		return ""
	case f.Wrong() == 0:
		return fmt.Sprintf("; last audit %s: %d listed, nothing wrong", x.Audited.UTC().Format(time.RFC3339), f.Listed)
	}
	return fmt.Sprintf("; last audit %s: %d lost by imports and sent again, %d missing, %d changed, %d extra", x.Audited.UTC().Format(time.RFC3339), f.Lost, f.Missing, f.Changed, f.Extra)
}

func note(x connector.ExportStatus) string {
	if !x.Enabled {
		return "; it is off (enabled: false): nothing is sent"
	}
	return ""
}
