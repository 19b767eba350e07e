package main

import (
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
