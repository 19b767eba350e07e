package main

import (
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"os"
	"slices"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/schollz/progressbar/v3"
	"github.com/spf13/cobra"
	"golang.org/x/term"

	"segsync/connector"
)

func newPlan() *cobra.Command {
	var f backfillFlags
	var asJSON bool
	cmd := &cobra.Command{
		Use:   "plan -c segsync.yaml --export NAME --from earliest|TIME|-7d",
		Short: "Say what a backfill would do, and do nothing",
		Long:  "Reads an export's source as backfill would, upon the table as it stands, and says for each export of the source how many people would enter, leave, change and stay, which dead letters there would be, how many calls, and how long they take at the account's rate. It writes nothing, neither to Kafka nor to the account; segsync may run meanwhile.",
		Args:  noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			of, err := f.span()
			if err != nil {
				return err
			}
			w, e, cfg, err := f.open()
			if err != nil {
				return err
			}
			defer w.release()
			if err := f.known(e); err != nil {
				return err
			}
			show, end := reading(cmd.OutOrStdout(), asJSON)
			p, err := connector.Plan(cmd.Context(), &cfg, e.Name, of, show)
			end()
			if err != nil {
				return failed(err)
			}
			if asJSON {
				enc := json.NewEncoder(cmd.OutOrStdout())
				enc.SetIndent("", "  ")
				return enc.Encode(p)
			}
			showPlan(cmd.OutOrStdout(), p)
			return nil
		},
	}
	f.exportFlags.add(cmd, "the export whose source is read")
	f.addSpan(cmd)
	cmd.Flags().BoolVar(&asJSON, "json", false, "as JSON")
	return cmd
}

// reading shows how many records are left: a bar where a person looks on, plain lines elsewhere.
func reading(out io.Writer, quiet bool) (show func(left, total int64), end func()) {
	_, people := out.(*terminal)
	switch {
	case quiet:
		return func(int64, int64) {}, func() {}
	case !people || !term.IsTerminal(int(os.Stderr.Fd())):
		shown := time.Now()
		return func(left, total int64) {
			if time.Since(shown) > lineEvery {
				shown = time.Now()
				_, _ = fmt.Fprintf(out, "reading: %9d of %d records left\n", left, total)
			}
		}, func() {}
	}
	bar := newBar()
	return func(left, total int64) {
		bar.ChangeMax64(total)
		_ = bar.Set64(total - left)
	}, func() { _, _ = bar.Exit(), bar.Clear() }
}

// newBar makes a bar of records.
func newBar() *progressbar.ProgressBar {
	return progressbar.NewOptions64(-1, progressbar.OptionSetWriter(os.Stderr), progressbar.OptionSetDescription("reading"), progressbar.OptionShowCount(),
		progressbar.OptionShowIts(), progressbar.OptionSetItsString("records"), progressbar.OptionSetPredictTime(true), progressbar.OptionThrottle(100*time.Millisecond),
		progressbar.OptionFullWidth(), progressbar.OptionClearOnFinish())
}

func showPlan(out io.Writer, p *connector.Planned) {
	line := func(format string, args ...any) { _, _ = fmt.Fprintf(out, format+"\n", args...) }
	line("connection %s, source %s: %d records read: %d changes are newer than what stands, %d are not, %d concern nobody in a list", p.Connection, p.Source, p.Read.Records, p.Read.Moved, p.Read.Stale, p.Read.Ignored)
	if p.Read.Swept > 0 {
		line("  %d memberships that nothing mentions would end", p.Read.Swept)
	}
	w := tabwriter.NewWriter(out, 0, 4, 2, ' ', 0)
	_, _ = fmt.Fprintln(w, "EXPORT\tLIST\tENTER\tLEAVE\tCHANGE\tSTAY\tWITHHELD\tREJECTED\tPERHAPS LEAVE")
	for _, x := range p.Lists {
		_, _ = fmt.Fprintf(w, "%s\t%d\t%d\t%d\t%d\t%d\t%d\t%d\t%d\n", x.Export, x.List, x.Add, x.Remove, x.Update, x.Unchanged, x.Withheld, x.Rejected, x.Perhaps)
	}
	_ = w.Flush()
	for _, x := range p.Lists {
		if x.NoContact > 0 {
			line("export %s: %d more people are not contacts of the account, and only_existing lets none be created", x.Export, x.NoContact)
		}
	}
	var calls []string
	for _, kind := range slices.Sorted(maps.Keys(p.Calls)) {
		calls = append(calls, fmt.Sprintf("%d %s", p.Calls[kind], kind))
	}
	if len(calls) == 0 {
		line("no call would be made")
	} else {
		line("calls: %s; %s at the account's rate", strings.Join(calls, ", "), p.Sending.Round(time.Second))
	}
	for _, h := range p.Held {
		line("not sent as things stand: %s", h)
	}
	for _, l := range p.Letters {
		line("dead letters: %d of class %s: %s (%s)", l.Count, l.Class, l.Message, strings.Join(l.Examples, ", "))
		line("  such as %s", l.Sample)
	}
	if len(p.Lacks) > 0 {
		line("the account lacks the attributes %s: segsync check --create-attributes makes them", strings.Join(p.Lacks, ", "))
	}
	for _, x := range p.Failures {
		line("left out: %s of export %s in %d records: %s", x.Attribute, x.Export, x.Records, x.Cause)
	}
}
