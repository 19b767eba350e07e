package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"runtime/debug"
	"sync"

	"github.com/spf13/cobra"
	"go.uber.org/zap"

	"segsync/connector"
	"segsync/connector/admin"
	"segsync/connector/commands"
)

func newRun() *cobra.Command {
	var f configFlags
	var once bool
	var export string
	cmd := &cobra.Command{
		Use:   "run -c segsync.yaml",
		Short: "Keep the lists as the events say, until stopped",
		Long:  "Keeps the lists as the events say. It waits for its environment, saying what it waits for, and ends in order on SIGTERM or Ctrl-C.\nWith --once it works everything off up to the present end of the topics and exits.",
		Args:  noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			w, err := f.load()
			if err != nil {
				return err
			}
			defer w.release()
			w.out = cmd.OutOrStdout()
			if os.Getenv("GOGC") == "" {
				debug.SetGCPercent(60) // most of the memory is the table, which is no garbage
			}
			if export != "" {
				return w.runExport(cmd, export, once)
			}
			return failed(w.run(cmd.Context(), once))
		},
	}
	f.add(cmd)
	cmd.Flags().BoolVar(&once, "once", false, "exit when everything up to the present end of the topics is delivered")
	cmd.Flags().StringVar(&export, "export", "", "with --once: let this export go, whatever its schedule says, and work its connection alone")
	return cmd
}

// runExport lets one export go, and works its connection until that is done.
func (w *wiring) runExport(cmd *cobra.Command, name string, once bool) error {
	if !once {
		return &exitError{exitUsage, errors.New("--export goes with --once")}
	}
	e, cfg, err := w.exportOf(name)
	if err != nil {
		return err
	}
	f := giveFlags{by: giver(), reason: "run --once"}
	g, err := w.give(cmd.Context(), &cfg, &f, commands.Command{Kind: commands.RunNow, Export: e.Name})
	if err != nil {
		return failed(err)
	}
	var last connector.Status
	o, err := w.answer(cmd.Context(), &cfg, g, func(s connector.Status) { last = s })
	if err != nil {
		return failed(err)
	}
	if err := tellOutcome(cmd, o); err != nil {
		return err
	}
	receipt(cmd.OutOrStdout(), last, "")
	return failed(worth(last))
}

// run works all connections.
func (w *wiring) run(ctx context.Context, once bool) error {
	configs, err := w.connections()
	if err != nil {
		return &exitError{exitUsage, err}
	}
	if len(configs) == 0 {
		return &exitError{exitUsage, errors.New("no export is configured: nothing would be done")}
	}
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	var sources []admin.Source
	var all []*connector.Connection
	for _, cfg := range configs {
		c := connector.New(cfg)
		all = append(all, c)
		sources = append(sources, c)
	}
	var served sync.WaitGroup
	defer served.Wait()
	serving, stop := context.WithCancel(context.WithoutCancel(ctx))
	defer stop()
	if w.c.AdminAddr != "" {
		served.Go(func() {
			err := admin.Serve(serving, w.c.AdminAddr, w.c.AdminHosts, admin.Handler(sources, w.metrics), func(a net.Addr) {
				w.log.Info("admin address", zap.String("addr", a.String()))
			})
			if err != nil {
				cancel(fmt.Errorf("%w: %w; another segsync on this host? Give each its own admin.addr", errAdmin, err))
			}
		})
	}
	if !once {
		n, silence, err := w.notifier()
		if err != nil {
			return &exitError{exitUsage, err}
		}
		if n != nil {
			told := make([]connector.Told, len(all))
			for i, c := range all {
				told[i] = c
			}
			served.Go(func() { n.Run(serving, told, silence) })
		}
	}
	w.announce(once)
	errs := make([]error, len(all))
	var wg sync.WaitGroup
	var told sync.Mutex // receipts one after another
	for i, c := range all {
		wg.Go(func() {
			if once {
				var last connector.Progress
				if errs[i] = c.Once(ctx, func(p connector.Progress) { last = p }); errs[i] == nil {
					told.Lock()
					receipt(w.out, last.Status, c.Elsewhere())
					told.Unlock()
					errs[i] = worth(last.Status)
				}
				return
			}
			errs[i] = c.Run(ctx)
		})
	}
	wg.Wait()
	if err := context.Cause(ctx); errors.Is(err, errAdmin) {
		return err
	}
	return errors.Join(errs...)
}

// announce says what will happen.
func (w *wiring) announce(once bool) {
	w.log.Info("segsync starts", zap.String("version", programVersion()), zap.Bool("once", once), zap.String("instance", w.c.Instance))
	for i := range w.c.Exports {
		e := &w.c.Exports[i]
		con := w.c.Connection(e.Connection)
		w.log.Info("export", zap.String("export", e.Name), zap.String("connection", e.Connection), zap.String("source", e.Source), zap.String("people", e.People()), zap.String("list", e.Of()),
			zap.Bool("enabled", e.Enabled), zap.String("consent", con.ConsentBy+", "+con.ConsentOn))
	}
}

// errAdmin says that the admin address cannot be served.
var errAdmin = errors.New("admin.addr cannot be served")
