package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/user"
	"regexp"
	"time"

	"github.com/spf13/cobra"
	"github.com/twmb/franz-go/pkg/kgo"

	"segsync/cmd/segsync/config"
	"segsync/connector"
	"segsync/connector/changelog"
	"segsync/connector/commands"
)

// giveFlags are those of a command that is given, through Kafka, to whoever owns an export's connection.
type giveFlags struct {
	exportFlags
	by, reason string
	wait       time.Duration
}

// anAddress is what looks like one: a reason is shown, logged and kept.
var anAddress = regexp.MustCompile(`[^\s<>"']+@[^\s<>"']+`)

// answerWithin is how long an owner may take to carry a command out before the program waits no longer.
const answerWithin = 30 * time.Second

func (f *giveFlags) add(cmd *cobra.Command, usage string) {
	f.exportFlags.add(cmd, usage)
	f.addGiver(cmd)
	cmd.Flags().DurationVar(&f.wait, "wait", answerWithin, "how long to wait until it is carried out")
}

// addGiver adds the flags of who gives a command, and why.
func (f *giveFlags) addGiver(cmd *cobra.Command) {
	cmd.Flags().StringVar(&f.by, "by", giver(), "who gives it")
	cmd.Flags().StringVar(&f.reason, "reason", "", "why, for whoever asks later")
}

// giver is who gives a command: user and machine.
func giver() string {
	name := "somebody"
	if u, err := user.Current(); err == nil {
		name = u.Username
	}
	if host, err := os.Hostname(); err == nil {
		name += "@" + host
	}
	return name
}

// give writes a command for the owner of a connection.
func (w *wiring) give(ctx context.Context, cfg *connector.Config, f *giveFlags, c commands.Command) (*commands.Given, error) {
	cl, err := kgo.NewClient(cfg.Kafka...)
	if err != nil {
		return nil, err
	}
	defer cl.Close()
	ctx, cancel := context.WithTimeout(ctx, answerWithin)
	defer cancel()
	if err := changelog.Ensure(ctx, cl, commands.Topic(cfg.Prefix)); err != nil {
		return nil, fmt.Errorf("%w: %w", connector.ErrEnvironment, err)
	}
	c.Connection, c.By, c.Reason = cfg.Name, f.by, anAddress.ReplaceAllStringFunc(f.reason, connector.MaskAddress)
	g, err := commands.Give(ctx, cfg.Kafka, cfg.Prefix, c)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", connector.ErrEnvironment, err)
	}
	return g, nil
}

// tellOutcome shows what came of a command; one that was not carried out is an error.
func tellOutcome(cmd *cobra.Command, o *commands.Outcome) error {
	if o.State == commands.Refused || o.State == commands.Failed {
		return &exitError{exitFailed, errors.New(o.State + ": " + o.Text)}
	}
	cmd.Println(o.Text)
	return nil
}

// newGive makes a command that is carried out at once by whoever owns the connection, or by the next to own it. long says more
// than short.
func newGive(kind commands.Kind, short, long string, wholeToo bool) *cobra.Command {
	var f giveFlags
	cmd := &cobra.Command{
		Use: string(kind) + " -c segsync.yaml --export NAME", Short: short, Args: noArgs,
		Long: short + long + "\nIt is given through Kafka, and carried out by whoever owns the connection: at once, or when segsync runs again.",
		RunE: func(cmd *cobra.Command, _ []string) error {
			return f.each(func(w *wiring, e *config.Export, cfg *connector.Config) error {
				c := commands.Command{Kind: kind}
				if e != nil {
					c.Export = e.Name
				}
				return f.giveAndTell(cmd, w, cfg, c)
			})
		},
	}
	f.add(cmd, "the export")
	if wholeToo {
		cmd.Use = string(kind) + " -c segsync.yaml [--export NAME]"
		cmd.Flags().Lookup("export").Usage = "the export; without it all of every connection"
		delete(cmd.Flags().Lookup("export").Annotations, cobra.BashCompOneRequiredFlag)
	}
	return cmd
}

// giveAndTell gives a command, and shows what comes of it.
func (f *giveFlags) giveAndTell(cmd *cobra.Command, w *wiring, cfg *connector.Config, c commands.Command) error {
	g, err := w.give(cmd.Context(), cfg, f, c)
	if err != nil {
		return failed(err)
	}
	if err := connector.New(*cfg).Idle(cmd.Context()); err == nil {
		cmd.Printf("connection %s: given (command %s): no segsync runs; it takes effect when one does, before anything is sent\n", cfg.Name, g.ID)
		return nil
	} else if !errors.Is(err, connector.ErrRunning) {
		return failed(err)
	}
	ctx, cancel := context.WithTimeout(cmd.Context(), f.wait)
	defer cancel()
	o, err := g.Await(ctx, nil)
	if errors.Is(err, commands.ErrNoAnswer) && o != nil {
		cmd.Printf("connection %s: %s (command %s): segsync runs tells what came of it\n", cfg.Name, o.Text, g.ID)
		return nil
	}
	if errors.Is(err, commands.ErrNoAnswer) {
		cmd.Printf("connection %s: given (command %s), and not carried out within %s: it stands, and takes effect when an owner reads it\n", cfg.Name, g.ID, f.wait)
		return nil
	}
	if err != nil {
		return failed(err)
	}
	return tellOutcome(cmd, o)
}

// each opens the export that is named, or without a name each connection as a whole.
func (f *exportFlags) each(do func(w *wiring, e *config.Export, cfg *connector.Config) error) error {
	if f.export != "" {
		w, e, cfg, err := f.open()
		if err != nil {
			return err
		}
		defer w.release()
		return do(w, e, &cfg)
	}
	w, err := f.load()
	if err != nil {
		return err
	}
	defer w.release()
	all, err := w.connections()
	if err != nil {
		return err
	}
	var failed []error
	for i := range all { // one that fails does not keep the others from being paused
		failed = append(failed, do(w, nil, &all[i]))
	}
	return errors.Join(failed...)
}

func newPause() *cobra.Command {
	return newGive(commands.Pause, "Send nothing for an export, or for any", ", until resume. Events are read on: what is owed stays in the table.", true)
}

func newResume() *cobra.Command {
	return newGive(commands.Resume, "End a pause", ": what is owed by then is sent.", true)
}

func newApprove() *cobra.Command {
	return newGive(commands.Approve, "Let the removals go that the guard withholds", ": of the export's list, and of a list that it fed before. It covers what is withheld when it is carried out.", false)
}

func newRefuse() *cobra.Command {
	return newGive(commands.Refuse, "Keep the people in whose removal the guard withholds, until newer events say otherwise", ": in the export's list, and in a list that it fed before. It covers what is withheld when it is carried out.", false)
}

func newRetry() *cobra.Command {
	return newGive(commands.Retry, "Try the contacts again that were rejected, or that wait for an import that does not end", ".", false)
}

func newRunNow() *cobra.Command {
	return newGive(commands.RunNow, "Send what is owed to an export that has a schedule, now", ", until it is worked off. An export without a schedule is sent all the time.", false)
}

// answer waits for what comes of a command, and tells meanwhile how the connection stands. Where no segsync runs, or none does
// any more, this process works the connection, as run --once does.
func (w *wiring) answer(ctx context.Context, cfg *connector.Config, g *commands.Given, tell func(connector.Status)) (*commands.Outcome, error) {
	c := connector.New(*cfg)
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	watching, stop := context.WithCancel(ctx)
	ended := make(chan error, 1)
	go func() {
		err := watch(watching, cfg, c, func(_ time.Time, s connector.Status) { tell(s) })
		if err == nil && watching.Err() == nil {
			err = c.Once(ctx, func(p connector.Progress) { tell(p.Status) })
			tell(c.Status())
		}
		ended <- err
		if err != nil {
			cancel(err)
		}
	}()
	o, err := g.Await(ctx, nil)
	stop()
	if cause := context.Cause(ctx); err != nil && cause != nil {
		err = cause
	}
	if err != nil {
		cancel(err)
	}
	return o, errors.Join(err, <-ended)
}

// watchEvery is how often it is asked how another process's connection stands.
const watchEvery = time.Second

// watchMost is how long Kafka may not tell whether anybody works a connection.
const watchMost = time.Minute

// watch tells how a connection stands that other processes work, until none does or ctx ends.
func watch(ctx context.Context, cfg *connector.Config, c *connector.Connection, tell func(at time.Time, s connector.Status)) error {
	known := time.Now() // when Kafka last told whether anybody runs
	for ctx.Err() == nil {
		err := c.Idle(ctx)
		switch {
		case errors.Is(err, connector.ErrRunning):
			known = time.Now()
		case ctx.Err() != nil:
			return nil
		case err == nil || time.Since(known) > watchMost:
			return err
		}
		if all, err := connector.Reports(ctx, cfg.Kafka, cfg.Prefix); err == nil {
			if r := ownerOf(all[cfg.Name], time.Now()); r != nil {
				tell(r.At, r.Status)
			}
		}
		select {
		case <-time.After(watchEvery):
		case <-ctx.Done():
		}
	}
	return nil
}

// fresh is how a connection stands that another process owns, as it reports after a time.
func (w *wiring) fresh(ctx context.Context, cfg *connector.Config, after time.Time) (s connector.Status) {
	ctx, cancel := context.WithTimeout(ctx, answerWithin)
	defer cancel()
	c := connector.New(*cfg)
	_ = watch(ctx, cfg, c, func(at time.Time, told connector.Status) {
		if s = told; at.After(after) {
			cancel()
		}
	})
	return s
}

// ownerOf is the newest report of whoever owns a connection, or of anybody; nil: nobody has told of it for a while.
func ownerOf(all []connector.Report, now time.Time) (best *connector.Report) {
	for i := range all {
		r := &all[i]
		switch {
		case now.Sub(r.At) > connector.ReportStale:
		case best == nil, r.Status.Owns && !best.Status.Owns, r.Status.Owns == best.Status.Owns && r.At.After(best.At):
			best = r
		}
	}
	return best
}
