package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"segsync/connector"
)

func newAudit() *cobra.Command {
	var f configFlags
	var export string
	var repair, asJSON bool
	cmd := &cobra.Command{
		Use: "audit -c segsync.yaml [--export NAME]", Short: "Compare the lists with what was delivered into them", Args: noArgs,
		Long: "Reads the lists of all exports, or of one, whole, and says who is missing, has other attributes than were delivered, is in without anybody's wanting it, or has unsubscribed.\nIt needs that no replica of the connection runs. Whom an import has lost is sent again when segsync runs; with --repair so are those who are missing, and attributes that were changed; who has unsubscribed never is. It ends with 0 only when nothing is wrong.",
		RunE: func(cmd *cobra.Command, _ []string) error {
			w, err := f.load()
			if err != nil {
				return err
			}
			defer w.release()
			configs, exports, err := w.audited(export)
			if err != nil {
				return err
			}
			var all []connector.AuditReport
			var errs []error
			for _, cfg := range configs {
				c, err := idle(cmd.Context(), cfg)
				if err != nil {
					return failed(err)
				}
				reports, err := c.Audit(cmd.Context(), exports, repair, func(export string, list int64) {
					if !asJSON {
						cmd.PrintErrf("reading list %d of export %s\n", list, export)
					}
				})
				errs = append(errs, err)
				all = append(all, reports...)
			}
			wrong := tellAudit(cmd.OutOrStdout(), all, asJSON)
			if err := errors.Join(errs...); err != nil {
				return failed(err)
			}
			return wrong
		},
	}
	f.add(cmd)
	cmd.Flags().StringVar(&export, "export", "", "only this export's list")
	cmd.Flags().BoolVar(&repair, "repair", false, "put back who is missing, and attributes that were changed, when segsync runs")
	cmd.Flags().BoolVar(&asJSON, "json", false, "as JSON")
	return cmd
}

// audited are the connections to audit, and the exports: none means all.
func (w *wiring) audited(export string) ([]connector.Config, []string, error) {
	if export == "" {
		all, err := w.connections()
		return all, nil, err
	}
	_, cfg, err := w.exportOf(export)
	return []connector.Config{cfg}, []string{export}, err
}

// tellAudit shows what audits found. Its error says that something is wrong.
func tellAudit(out io.Writer, all []connector.AuditReport, asJSON bool) error {
	wrong := 0
	for i := range all {
		wrong += all[i].Findings.Wrong()
	}
	if asJSON {
		if all == nil {
			all = []connector.AuditReport{}
		}
		e := json.NewEncoder(out)
		e.SetIndent("", "  ")
		if err := e.Encode(all); err != nil {
			return err
		}
	} else {
		for i := range all {
			tellList(out, &all[i])
		}
	}
	if wrong > 0 {
		return &exitError{exitFailed, fmt.Errorf("the lists are not as they were delivered: %d contacts differ", wrong)}
	}
	return nil
}

func tellList(out io.Writer, r *connector.AuditReport) {
	f := &r.Findings
	_, _ = fmt.Fprintf(out, "export %s, list %d: %d contacts, read in %s\n", r.Export, r.List, f.Listed, r.Took.Round(time.Second/10))
	put := "put back only with --repair"
	if r.Repair {
		put = "put back when segsync runs"
	}
	for _, line := range []struct {
		n          int
		what, note string
		found      string
	}{
		{f.Lost, "lost", "by an import: sent again when segsync runs", connector.FoundLost},
		{f.Missing, "missing", "somebody took them out, or deleted them: " + put, connector.FoundMissing},
		{f.Changed, "changed", "somebody gave them other attributes: " + put, connector.FoundChanged},
		{f.Extra, "extra", "in the list, but no event put them there: left alone", connector.FoundExtra},
		{f.Unsubscribed, "unsubscribed", "or blocked: left alone", connector.FoundUnsubscribed},
		{f.Settled, "settled", "left before segsync ever put them in, and are not in the list: nothing to do", ""},
		{f.Skipped, "not compared", "something of theirs is owed or under way", ""},
	} {
		if line.n == 0 {
			continue
		}
		_, _ = fmt.Fprintf(out, "  %-13s %7d  %s\n", line.what, line.n, line.note)
		if names := f.Examples[line.found]; len(names) > 0 {
			more := ""
			if len(names) < line.n {
				more = ", …"
			}
			_, _ = fmt.Fprintf(out, "  %-13s          %s%s\n", "", strings.Join(slices.Sorted(slices.Values(names)), ", "), more)
		}
	}
	switch {
	case r.Delivered+f.Lost == 0:
		_, _ = fmt.Fprintln(out, "  nothing has been delivered to this list yet")
	case f.Wrong() == 0:
		_, _ = fmt.Fprintln(out, "  nothing is wrong")
	}
	if r.Pending > 0 {
		_, _ = fmt.Fprintf(out, "  %d contacts of the connection wait to be sent when segsync runs\n", r.Pending)
	}
}
