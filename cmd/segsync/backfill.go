package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"segsync/cmd/segsync/config"
	"segsync/connector"
	"segsync/connector/commands"
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

// backfillFlags are those of backfill.
type backfillFlags struct {
	giveFlags
	from     string
	segments []string
	resend   bool
	sweep    bool
	cancel   bool
	detach   bool
	stops    string // what Ctrl-C does
}

func newBackfill() *cobra.Command {
	var f backfillFlags
	cmd := &cobra.Command{
		Use:   "backfill -c segsync.yaml --export NAME --from earliest|TIME|-7d",
		Short: "Read an export's source again from an earlier point, up to the present",
		Long:  "Reads an export's source again, from an earlier point to where reading stands, and tells what came of it. Old records change nothing that is newer.\nWhoever owns the connection does it, beside live events, which go first; where no segsync runs, this process works the connection meanwhile, as run --once does.\nCtrl-C leaves it running; with --on-interrupt cancel it ends it where it stands.",
		Args:  noArgs,
		RunE:  func(cmd *cobra.Command, _ []string) error { return f.run(cmd) },
	}
	f.exportFlags.add(cmd, "the export whose source is read again")
	f.addGiver(cmd)
	f.addSpan(cmd)
	flags := cmd.Flags()
	flags.BoolVar(&f.cancel, "cancel", false, "end the one that is under way, where it stands")
	flags.BoolVar(&f.detach, "detach", false, "do not wait for its end; it needs that segsync runs")
	flags.StringVar(&f.stops, "on-interrupt", "leave", "what Ctrl-C does: leave it running, or cancel it")
	return cmd
}

// addSpan adds the flags of what is read.
func (f *backfillFlags) addSpan(cmd *cobra.Command) {
	flags := cmd.Flags()
	flags.StringVar(&f.from, "from", "earliest", "where to begin")
	flags.StringSliceVar(&f.segments, "segments", nil, "hear only what is said of these segments")
	flags.BoolVar(&f.resend, "resend", false, "send everything of the list again, and map records anew")
	flags.BoolVar(&f.sweep, "sweep", false, "who is in by a record that is not read, leaves, through the guard")
}

// span is what is read.
func (f *backfillFlags) span() (r commands.Range, err error) {
	start, err := config.ParseStart(f.from, time.Now())
	switch {
	case err != nil || start.Latest:
		return r, &exitError{exitUsage, fmt.Errorf("--from must be earliest, a time such as 2026-01-31T00:00:00Z, or a span back such as -7d")}
	case start.At.After(time.Now()):
		return r, &exitError{exitUsage, errors.New("--from lies ahead: nothing would be read")}
	}
	return commands.Range{From: start.At, Segments: f.segments, Resend: f.resend, Sweep: f.sweep}, nil
}

// known refuses segments that an export does not have.
func (f *backfillFlags) known(e *config.Export) error {
	for _, g := range f.segments {
		if !slices.Contains(e.Segments, g) {
			return &exitError{exitUsage, fmt.Errorf("export %s has no segment %q%s", e.Name, g, mapping.Closest(g, e.Segments))}
		}
	}
	return nil
}

func (f *backfillFlags) run(cmd *cobra.Command) error {
	of, err := f.span()
	if err != nil {
		return err
	}
	if f.stops != "leave" && f.stops != "cancel" {
		return &exitError{exitUsage, errors.New("--on-interrupt is leave or cancel")}
	}
	w, e, cfg, err := f.open()
	if err != nil {
		return err
	}
	defer w.release()
	if err := f.known(e); err != nil {
		return err
	}
	if f.cancel {
		return f.end(cmd.Context(), cmd, w, &cfg)
	}
	ctx := cmd.Context()
	idle := connector.New(cfg).Idle(ctx)
	if idle != nil && !errors.Is(idle, connector.ErrRunning) {
		return failed(idle)
	}
	if idle == nil && f.detach {
		return &exitError{exitEnvironment, errors.New("no segsync runs: without --detach this process does it")}
	}
	g, err := w.give(ctx, &cfg, &f.giveFlags, commands.Command{Kind: commands.Backfill, Export: e.Name, Range: &of})
	if err != nil {
		return failed(err)
	}
	if f.detach {
		cmd.Printf("given (command %s): segsync status -c … shows how far it is\n", g.ID)
		return nil
	}
	bar := newProgress(cmd.OutOrStdout(), g.ID)
	o, err := w.answer(ctx, &cfg, g, bar.show)
	bar.end()
	if ctx.Err() != nil {
		return f.interrupted(cmd, w, &cfg, g, idle != nil)
	}
	if err != nil {
		return failed(err)
	}
	if err := tellOutcome(cmd, o); err != nil {
		return err
	}
	if bar.last.Owns && idle == nil {
		receipt(cmd.OutOrStdout(), bar.last, "")
		return failed(worth(bar.last))
	}
	last := w.fresh(ctx, &cfg, o.At)
	for i := range last.Exports {
		if x := &last.Exports[i]; x.Name == e.Name {
			cmd.Printf("  export %s, list %d: %d people in, withheld %d; %d contacts of the connection wait to be sent\n", x.Name, x.List, x.In, x.Withheld, last.Pending)
		}
	}
	return nil
}

// interrupted is what Ctrl-C does.
func (f *backfillFlags) interrupted(cmd *cobra.Command, w *wiring, cfg *connector.Config, g *commands.Given, running bool) error {
	ctx := context.WithoutCancel(cmd.Context())
	if f.stops == "cancel" && running {
		return f.end(ctx, cmd, w, cfg)
	}
	if f.stops == "cancel" {
		if _, err := w.give(ctx, cfg, &f.giveFlags, commands.Command{Kind: commands.Cancel, Export: g.Export}); err != nil {
			return failed(err)
		}
		return &exitError{exitFailed, errors.New("interrupted: it is cancelled when segsync runs")}
	}
	if running {
		return &exitError{exitFailed, fmt.Errorf("interrupted: the backfill (command %s) goes on; segsync backfill --cancel ends it", g.ID)}
	}
	return &exitError{exitFailed, fmt.Errorf("interrupted: the backfill (command %s) goes on when segsync runs; segsync backfill --cancel ends it", g.ID)}
}

// end ends the backfill that is under way.
func (f *backfillFlags) end(ctx context.Context, cmd *cobra.Command, w *wiring, cfg *connector.Config) error {
	g, err := w.give(ctx, cfg, &f.giveFlags, commands.Command{Kind: commands.Cancel, Export: f.export})
	if err != nil {
		return failed(err)
	}
	ctx, stop := context.WithTimeout(ctx, answerWithin)
	defer stop()
	o, err := g.Await(ctx, nil)
	if errors.Is(err, commands.ErrNoAnswer) {
		cmd.Printf("given (command %s), and not carried out yet: it is when an owner reads it\n", g.ID)
		return nil
	}
	if err != nil {
		return failed(err)
	}
	return tellOutcome(cmd, o)
}

// receipt says what a bounded run of a connection did, and what is left; elsewhere is the process that did it in its stead.
func receipt(out io.Writer, s connector.Status, elsewhere string) {
	n := s.Counters
	_, _ = fmt.Fprintf(out, "done: connection %s: %d records read\n", s.Name, n.Events)
	if elsewhere != "" {
		_, _ = fmt.Fprintf(out, "  another process (%s) owns the connection, and has worked everything off\n", elsewhere)
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
