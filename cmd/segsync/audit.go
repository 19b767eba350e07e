package main

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"segsync/connector"
	"segsync/connector/commands"
)

// auditFlags are those of audit.
type auditFlags struct {
	giveFlags
	repair bool
	most   int
	extras string
	asJSON bool
}

func newAudit() *cobra.Command {
	var f auditFlags
	cmd := &cobra.Command{
		Use: "audit -c segsync.yaml [--export NAME]", Short: "Compare the lists with what was delivered into them", Args: noArgs,
		Long: "Reads the lists of all exports, or of one, whole, and says who is missing, has other attributes than were delivered, is in without anybody's wanting it, or has unsubscribed.\nWhoever owns the connection does it, beside live events; where no segsync runs, this process works the connection meanwhile, as run --once does. Whom an import has lost is sent again; with --repair so are those who are missing, and attributes that were changed; who has unsubscribed never is. It ends with 0 only when nothing is wrong.",
		RunE: func(cmd *cobra.Command, _ []string) error { return f.run(cmd) },
	}
	f.configFlags.add(cmd)
	f.addGiver(cmd)
	flags := cmd.Flags()
	flags.StringVar(&f.export, "export", "", "only this export's list")
	flags.BoolVar(&f.repair, "repair", false, "put back who is missing, and attributes that were changed")
	flags.IntVar(&f.most, "most", 0, "with --repair: mend so many contacts at most; 0: all")
	flags.StringVar(&f.extras, "extras", "", "with --repair: take out of the list who is named in this file (an address a line; - is standard input), of those that no event put there")
	flags.BoolVar(&f.asJSON, "json", false, "as JSON")
	return cmd
}

func (f *auditFlags) run(cmd *cobra.Command) error {
	c := commands.Command{Kind: commands.Audit}
	if f.repair {
		c.Repair = &commands.Repair{Most: f.most}
		var err error
		if c.Repair.Extras, err = extrasOf(cmd.InOrStdin(), f.extras); err != nil {
			return &exitError{exitUsage, err}
		}
	} else if f.extras != "" || f.most != 0 {
		return &exitError{exitUsage, errors.New("--extras and --most are for --repair")}
	}
	w, err := f.load()
	if err != nil {
		return err
	}
	defer w.release()
	configs, exports, err := w.audited(f.export)
	if err != nil {
		return err
	}
	var all []connector.AuditReport
	var errs []error
	for i := range configs {
		for j := range configs[i].Exports {
			x := &configs[i].Exports[j]
			if len(exports) > 0 && !slices.Contains(exports, x.Name) {
				continue
			}
			if !f.asJSON {
				cmd.PrintErrf("reading list %s of export %s\n", x.Of(), x.Name)
			}
			c.Export = x.Name
			report, err := f.audit(cmd.Context(), w, &configs[i], c)
			if err != nil {
				errs = append(errs, fmt.Errorf("export %s: %w", x.Name, err))
				continue
			}
			all = append(all, report)
		}
	}
	wrong := tellAudit(cmd.OutOrStdout(), all, f.asJSON)
	if err := errors.Join(errs...); err != nil {
		return failed(err)
	}
	return wrong
}

// audit lets one list be audited.
func (f *auditFlags) audit(ctx context.Context, w *wiring, cfg *connector.Config, c commands.Command) (r connector.AuditReport, err error) {
	g, err := w.give(ctx, cfg, &f.giveFlags, c)
	if err != nil {
		return r, err
	}
	o, err := w.answer(ctx, cfg, g, func(connector.Status) {})
	switch {
	case o.Over() && o.State != commands.Done:
		return r, fmt.Errorf("%w: %s", connector.ErrEnvironment, o.Text)
	case err != nil:
		return r, err
	}
	return r, json.Unmarshal(o.Detail, &r)
}

// extrasOf reads the addresses that may be taken out of a list; the command names them by their hashes.
func extrasOf(stdin io.Reader, file string) (all []string, err error) {
	if file == "" {
		return nil, nil
	}
	in := stdin
	if file != "-" {
		f, err := os.Open(file)
		if err != nil {
			return nil, err
		}
		defer func() { _ = f.Close() }()
		in = f
	}
	lines := bufio.NewScanner(in)
	for lines.Scan() {
		if address := strings.TrimSpace(lines.Text()); address != "" {
			all = append(all, commands.HashOf(address))
		}
	}
	if err := lines.Err(); err != nil {
		return nil, err
	}
	if len(all) == 0 || len(all) > extrasMost {
		return nil, fmt.Errorf("--extras: %d addresses; one to %d are taken at a time", len(all), extrasMost)
	}
	return all, nil
}

// extrasMost is how many addresses a command may name: it is one record.
const extrasMost = 10_000

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
		put = "put back"
	}
	for _, line := range []struct {
		n          int
		what, note string
		found      string
	}{
		{f.Lost, "lost", "by an import: sent again", connector.FoundLost},
		{f.Missing, "missing", "somebody took them out, or deleted them: " + put, connector.FoundMissing},
		{f.Changed, "changed", "somebody gave them other attributes: " + put, connector.FoundChanged},
		{f.Extra, "extra", "in the list, but no event put them there: left alone", connector.FoundExtra},
		{f.Unsubscribed, "unsubscribed", "or blocked: left alone", connector.FoundUnsubscribed},
		{f.Settled, "settled", "left before segsync ever put them in, and are not in the list: nothing to do", ""},
		{f.Repaired, "mended", "of these, beside whom imports have lost", ""},
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
		_, _ = fmt.Fprintf(out, "  %d contacts of the connection wait to be sent\n", r.Pending)
	}
}
