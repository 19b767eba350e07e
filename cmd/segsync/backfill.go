package main

import (
	"fmt"
	"io"
	"time"

	"github.com/spf13/cobra"

	"segsync/connector"
)

// exportOf finds an export and its connection's configuration.
func (w *wiring) exportOf(name string) (*exportConfig, connector.Config, error) {
	for i := range w.c.Exports {
		e := &w.c.Exports[i]
		if e.Name != name {
			continue
		}
		cfg, _, err := w.connection(w.c.connection(e.Connection))
		return e, cfg, err
	}
	return nil, connector.Config{}, &exitError{exitUsage, fmt.Errorf("no export is named %q", name)}
}

func newBackfill() *cobra.Command {
	var f exportFlags
	var from string
	var resend bool
	cmd := &cobra.Command{
		Use:   "backfill -c segsync.yaml --export NAME --from earliest|TIME|-7d",
		Short: "Read an export's source again from an earlier point, to the end",
		Long:  "Reads an export's source again, from an earlier point to its present end, and tells what came of it. Old records change nothing that is newer.\nIt needs that no replica of the connection runs. --resend sends everything of the export's list again, and maps records anew.",
		Args:  cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			w, e, cfg, err := f.open()
			if err != nil {
				return err
			}
			defer w.release()
			start, err := parseFrom(from, time.Now())
			if err != nil || start.Latest {
				return &exitError{exitUsage, fmt.Errorf("--from must be earliest, a time such as 2026-01-31T00:00:00Z, or a span back such as -7d")}
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
	receipt(cmd.OutOrStdout(), last.Status)
	return nil
}

// receipt says what a bounded run did.
func receipt(out io.Writer, s connector.Status) {
	n := s.Counters
	touched := n.Upserted + n.Updated + n.Removed
	saved := uint64(0)
	if n.Events > n.Calls {
		saved = n.Events - n.Calls
	}
	unchanged := uint64(max(0, s.Contacts-int(touched)))
	_, _ = fmt.Fprintf(out, "done: %d records read\n  added or updated %d, changed in place %d, removed %d, rejected %d, unchanged %d, withheld %d\n  calls made %d, calls saved against one a record %d, dead letters %d\n",
		n.Events, n.Upserted, n.Updated, n.Removed, n.Rejected, unchanged, s.Withheld, n.Calls, saved, n.DeadLetters)
}
