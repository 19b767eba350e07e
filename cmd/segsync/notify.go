package main

import (
	"errors"
	"fmt"
	"time"

	"github.com/spf13/cobra"

	"segsync/cmd/segsync/config"
	"segsync/connector/notify"
)

// notifier makes the notifier of the configuration, and how long nothing may be heard of its exports; nil: nobody is told.
func (w *wiring) notifier() (*notify.Notifier, map[notify.Expectation]time.Duration, error) {
	targets, err := targetsOf(w.c)
	if err != nil || len(targets) == 0 {
		return nil, nil, err
	}
	silence := map[notify.Expectation]time.Duration{}
	for i := range w.c.Exports {
		if e := &w.c.Exports[i]; e.Expect > 0 {
			silence[notify.Expectation{Connection: e.Connection, Export: e.Name}] = e.Expect
		}
	}
	return notify.New(targets, w.log.Named("notify"), nil), silence, nil
}

func targetsOf(c *config.Config) (all []notify.Target, err error) {
	for i := range c.Notify {
		t := &c.Notify[i]
		target := notify.Target{Slack: t.Slack, Command: t.Command}
		if len(t.Command) == 0 {
			if target.Webhook, err = t.Webhook.Value(); err != nil {
				return nil, err
			}
			if t.Signing != (config.Secret{}) {
				target.Secret = t.Signing.Value
			}
		}
		all = append(all, target)
	}
	return all, nil
}

func newNotify() *cobra.Command {
	cmd := &cobra.Command{Use: "notify", Short: "Tell people what needs them", Args: noArgs, RunE: func(cmd *cobra.Command, _ []string) error { return cmd.Help() }}
	var f configFlags
	test := &cobra.Command{
		Use: "test -c segsync.yaml", Short: "Send a test message to every target of notify", Args: noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			w, err := f.load()
			if err != nil {
				return err
			}
			defer w.release()
			targets, err := targetsOf(w.c)
			if err != nil {
				return failed(err)
			}
			if len(targets) == 0 {
				return &exitError{exitUsage, errors.New("the configuration names nobody to be told (notify:)")}
			}
			n := notify.New(targets, w.log, nil)
			var errs []error
			for i := range targets {
				m := notify.Message{Kind: "test", Text: "this is a test: segsync can tell you what needs you", At: time.Now().UTC()}
				if err := n.Tell(cmd.Context(), &targets[i], &m); err != nil {
					errs = append(errs, fmt.Errorf("target %d: %w", i+1, err))
					continue
				}
				cmd.Printf("target %d: told\n", i+1)
			}
			return failed(errors.Join(errs...))
		},
	}
	f.add(test)
	cmd.AddCommand(test)
	return cmd
}
