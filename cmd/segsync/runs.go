package main

import (
	"context"
	"encoding/json"
	"fmt"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"segsync/connector"
)

func newRuns() *cobra.Command {
	var f configFlags
	var export string
	var asJSON bool
	cmd := &cobra.Command{
		Use: "runs -c segsync.yaml [--export NAME]", Short: "Show what was done: backfills, scheduled runs, audits, hours of live work", Args: noArgs,
		Long: "Shows the last pieces of work of each connection, the newest first, as its owner reports them, or, where nobody runs, as its table has them: who or what began each, what came of it, and what the connection did meanwhile.",
		RunE: func(cmd *cobra.Command, _ []string) error {
			w, err := f.load()
			if err != nil {
				return err
			}
			defer w.release()
			if export != "" {
				if _, _, err := w.exportOf(export); err != nil {
					return err
				}
			}
			standings, err := w.standings(cmd.Context())
			if err != nil {
				return &exitError{exitEnvironment, err}
			}
			type told struct {
				Connection string `json:"connection"`
				connector.Run
			}
			all := []told{}
			for i := range standings {
				if err := w.runsOfNobody(cmd.Context(), &standings[i]); err != nil {
					return &exitError{exitEnvironment, err}
				}
				for _, r := range standings[i].Runs {
					if export == "" || r.Export == export {
						all = append(all, told{standings[i].Name, r})
					}
				}
			}
			if asJSON {
				e := json.NewEncoder(cmd.OutOrStdout())
				e.SetIndent("", "  ")
				return e.Encode(all)
			}
			if len(all) == 0 {
				cmd.Println("no run is known: nothing was done yet")
				return nil
			}
			t := tabwriter.NewWriter(cmd.OutOrStdout(), 0, 4, 2, ' ', 0)
			_, _ = fmt.Fprintln(t, "BEGAN\tTOOK\tCONNECTION\tEXPORT\tKIND\tSTATE\tBY\tEVENTS\tWRITTEN\tREMOVED\tREJECTED\tOUTCOME")
			for i := range all {
				r := &all[i]
				took := "-"
				if !r.Ended.IsZero() {
					took = r.Ended.Sub(r.Began).Round(time.Second).String()
				}
				_, _ = fmt.Fprintf(t, "%s\t%s\t%s\t%s\t%s\t%s\t%s\t%d\t%d\t%d\t%d\t%s\n", r.Began.UTC().Format(time.RFC3339), took, r.Connection, orNone(r.Export), r.Kind, r.State, orNone(r.By),
					r.Did.Events, r.Did.Upserted+r.Did.Updated, r.Did.Removed, r.Did.Rejected, r.Text)
			}
			return t.Flush()
		},
	}
	f.add(cmd)
	cmd.Flags().StringVar(&export, "export", "", "only this export's")
	cmd.Flags().BoolVar(&asJSON, "json", false, "as JSON")
	return cmd
}

// runsOfNobody reads the runs of a connection that nobody works at the moment.
func (w *wiring) runsOfNobody(ctx context.Context, s *standing) error {
	if s.Owns || len(s.Runs) > 0 {
		return nil
	}
	configs, err := w.connections()
	if err != nil {
		return err
	}
	for i := range configs {
		if configs[i].Name == s.Name {
			s.Runs, err = connector.New(configs[i]).Runs(ctx)
		}
	}
	return err
}
