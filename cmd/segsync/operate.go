package main

import (
	"errors"
	"fmt"
	"time"

	"github.com/spf13/cobra"

	"segsync/cmd/segsync/config"
	"segsync/connector"
)

// exportFlags are those of a command about an export.
type exportFlags struct {
	configFlags
	export string
}

func (f *exportFlags) add(cmd *cobra.Command, usage string) {
	f.configFlags.add(cmd)
	cmd.Flags().StringVar(&f.export, "export", "", usage)
	_ = cmd.MarkFlagRequired("export")
}

// open reads the configuration and finds the export in it. The wiring must be released.
func (f *exportFlags) open() (*wiring, *config.Export, connector.Config, error) {
	w, err := f.load()
	if err != nil {
		return nil, nil, connector.Config{}, err
	}
	e, cfg, err := w.exportOf(f.export)
	if err != nil {
		w.release()
		return nil, nil, cfg, err
	}
	return w, e, cfg, nil
}

func newForget() *cobra.Command {
	var f exportFlags
	var yes bool
	cmd := &cobra.Command{
		Use:   "forget -c segsync.yaml --export NAME --yes",
		Short: "Remove what segsync holds of an export's connection",
		Long:  "Deletes the table (people's hashes, addresses, attributes) and the group of the export's connection from Kafka. The list keeps its people.\nThe export must be the connection's only one, and no replica may run.",
		Args:  cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			w, e, cfg, err := f.open()
			if err != nil {
				return err
			}
			defer w.release()
			if len(cfg.Exports) > 1 {
				return &exitError{exitUsage, fmt.Errorf("connection %s has other exports, which share its table: take them out of the configuration first", e.Connection)}
			}
			if !yes {
				return &exitError{exitUsage, errors.New("this deletes the table for good: say --yes")}
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
		},
	}
	f.add(cmd, "the export")
	cmd.Flags().BoolVar(&yes, "yes", false, "really")
	return cmd
}
