package main

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"segsync/cmd/segsync/config"
	"segsync/connector"
	"segsync/connector/commands"
)

// forgetFlags are those of forget.
type forgetFlags struct {
	giveFlags
	connection string
	empty, yes bool
}

func newForget() *cobra.Command {
	var f forgetFlags
	cmd := &cobra.Command{
		Use:   "forget -c segsync.yaml --export NAME --yes",
		Short: "Remove what segsync holds of an export",
		Long:  "Of an export that was taken out of the configuration, beside others of its connection: removes from the table what was delivered to its list, and memberships, attributes and addresses that nobody else asks for. Its people stay in the list; with --empty-list they leave it instead, and a second forget, when they have left, removes the rest. It is given through Kafka, and carried out by whoever owns the connection.\nOf an export that is its connection's only one: deletes the connection's table, group and commands from Kafka. No replica may run; the list keeps its people.",
		Args:  noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			w, err := f.load()
			if err != nil {
				return err
			}
			defer w.release()
			if !f.yes {
				return &exitError{exitUsage, errors.New("this removes what segsync knows for good: say --yes")}
			}
			at := slices.IndexFunc(w.c.Exports, func(e config.Export) bool { return e.Name == f.export })
			if at < 0 {
				return f.one(cmd, w)
			}
			return f.all(cmd, w, &w.c.Exports[at])
		},
	}
	f.add(cmd, "the export")
	cmd.Flags().StringVar(&f.connection, "connection", "", "whose export it was; without it the only connection")
	cmd.Flags().BoolVar(&f.empty, "empty-list", false, "take its people out of its list, first")
	cmd.Flags().BoolVar(&f.yes, "yes", false, "really")
	return cmd
}

// one forgets one of several exports, which is not configured any more.
func (f *forgetFlags) one(cmd *cobra.Command, w *wiring) error {
	configs, err := w.connections()
	if err != nil {
		return err
	}
	var names []string
	for i := range configs {
		names = append(names, configs[i].Name)
	}
	if f.connection == "" && len(configs) == 1 {
		f.connection = configs[0].Name
	}
	at := slices.Index(names, f.connection)
	if at < 0 {
		return &exitError{exitUsage, fmt.Errorf("export %s is not configured: say with --connection whose it was; there are: %s", f.export, strings.Join(names, ", "))}
	}
	return f.giveAndTell(cmd, w, &configs[at], commands.Command{Kind: commands.Forget, Export: f.export, Empty: f.empty})
}

// all forgets a connection, whose only export it is.
func (f *forgetFlags) all(cmd *cobra.Command, w *wiring, e *config.Export) error {
	_, cfg, err := w.exportOf(e.Name)
	switch {
	case err != nil:
		return err
	case len(cfg.Exports) > 1:
		return &exitError{exitUsage, fmt.Errorf("connection %s has other exports, which share its table: take export %s out of the configuration, let segsync run with that, and forget it then", e.Connection, e.Name)}
	case f.empty:
		return &exitError{exitUsage, errors.New("--empty-list is for an export that is not configured any more; before this one is forgotten, its list can be emptied in the account")}
	}
	c := connector.New(cfg)
	if err := waitIdle(cmd.Context(), c, cfg.Session+5*time.Second); err != nil {
		return failed(err)
	}
	if err := c.Forget(cmd.Context()); err != nil {
		return failed(err)
	}
	cmd.Println("forgotten: the table, the group and the commands of connection " + e.Connection + " are deleted; dead letters in topic " + w.c.DeadLetters + " are not")
	return nil
}

// waitIdle gives a killed replica's session time to end.
func waitIdle(ctx context.Context, c *connector.Connection, most time.Duration) error {
	end := time.Now().Add(most)
	for {
		err := c.Idle(ctx)
		if err == nil || !errors.Is(err, connector.ErrRunning) || time.Now().After(end) {
			return err
		}
		select {
		case <-time.After(time.Second):
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}
