package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"segsync/cmd/segsync/config"
	"segsync/connector"
)

// exportFlags are those of a command that acts on an export's connection while no replica of it runs.
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

// idle makes the connection once no replica runs; one that was killed counts until its session has ended.
func idle(ctx context.Context, cfg connector.Config) (*connector.Connection, error) {
	c := connector.New(cfg)
	return c, waitIdle(ctx, c, cfg.Session+5*time.Second)
}

// offline makes a command that works on an export's connection while no replica runs. long says more than short.
func offline(use, short, long string, work func(cmd *cobra.Command, c *connector.Connection, e *config.Export) error) *cobra.Command {
	var f exportFlags
	cmd := &cobra.Command{
		Use: use + " -c segsync.yaml --export NAME", Short: short, Long: short + long, Args: noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			w, e, cfg, err := f.open()
			if err != nil {
				return err
			}
			defer w.release()
			c, err := idle(cmd.Context(), cfg)
			if err == nil {
				err = work(cmd, c, e)
			}
			return failed(err)
		},
	}
	f.add(cmd, "the export")
	return cmd
}

func newApprove() *cobra.Command {
	return decide("approve", "Let the removals go that the guard withholds", "approved: %d people leave the list of export %s when segsync runs\n", true)
}

func newRefuse() *cobra.Command {
	return decide("refuse", "Keep the people in whose removal the guard withholds, until newer events say otherwise", "refused: %d people stay in the list of export %s until newer events say otherwise\n", false)
}

// decide makes a command that decides on what the guard withholds of an export.
func decide(use, short, done string, approved bool) *cobra.Command {
	long := ": of the export's list, and of a list that it fed before.\nIt needs that no replica of the connection runs, and covers what is withheld then."
	return offline(use, short, long, func(cmd *cobra.Command, c *connector.Connection, e *config.Export) error {
		n, err := c.Decide(cmd.Context(), e.Name, approved)
		if err == nil {
			cmd.Printf(done, n, e.Name)
		}
		return err
	})
}

func newRetry() *cobra.Command {
	short := "Try the contacts again that were rejected, or that wait for an import that does not end"
	return offline("retry", short, ".\nIt needs that no replica of the connection runs.", func(cmd *cobra.Command, c *connector.Connection, e *config.Export) error {
		r, err := c.Retry(cmd.Context(), e.List)
		if err != nil {
			return err
		}
		cmd.Printf("%d rejected contacts are tried again when segsync runs\n", r.Rejected)
		if r.Imports > 0 {
			cmd.Printf("%d contacts of %d imports that were begun more than %s ago are sent again when segsync runs, and once more when the imports end, should they not have ended\n", r.Contacts, r.Imports, connector.ImportStuck)
		}
		return nil
	})
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
			c, err := idle(cmd.Context(), cfg)
			if err != nil {
				return failed(err)
			}
			if err := c.Forget(cmd.Context()); err != nil {
				return failed(err)
			}
			cmd.Println("forgotten: the table and the group of connection " + e.Connection + " are deleted; dead letters in topic " + w.c.DeadLetters + " are not")
			return nil
		},
	}
	f.add(cmd, "the export")
	cmd.Flags().BoolVar(&yes, "yes", false, "really")
	return cmd
}

func newStatus() *cobra.Command {
	var addr string
	var asJSON bool
	cmd := &cobra.Command{
		Use: "status", Short: "Show what a running segsync is doing", Args: noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			b, err := fetchStatus(cmd.Context(), addr)
			if err != nil {
				return &exitError{exitEnvironment, err}
			}
			if asJSON {
				_, err = cmd.OutOrStdout().Write(b)
				return err
			}
			return showStatus(cmd.OutOrStdout(), b)
		},
	}
	cmd.Flags().StringVar(&addr, "addr", "localhost:9400", "the admin address of the process")
	cmd.Flags().BoolVar(&asJSON, "json", false, "as JSON")
	return cmd
}

func fetchStatus(ctx context.Context, addr string) ([]byte, error) {
	ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	addr = strings.TrimSuffix(strings.TrimPrefix(addr, "http://"), "/status")
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+addr+"/status", nil)
	if err != nil {
		return nil, err
	}
	client := &http.Client{}
	resp, err := client.Do(req)
	if err != nil {
		return nil, fmt.Errorf("no segsync answers at %s: %w", addr, err)
	}
	defer func() { _ = resp.Body.Close() }()
	return io.ReadAll(io.LimitReader(resp.Body, 8<<20))
}

func showStatus(out io.Writer, b []byte) error {
	var all struct {
		Connections []connector.Status `json:"connections"`
	}
	if err := json.Unmarshal(b, &all); err != nil {
		return fmt.Errorf("the answer is no status: %w", err)
	}
	w := tabwriter.NewWriter(out, 0, 4, 2, ' ', 0)
	_, _ = fmt.Fprintln(w, "CONNECTION\tSTATE\tLAG\tPENDING\tOLDEST\tPEOPLE\tWITHHELD\tREJECTED\tDEAD LETTERS\tIMPORTS")
	for _, s := range all.Connections {
		_, _ = fmt.Fprintf(w, "%s\t%s\t%d\t%d\t%s\t%d\t%d\t%d\t%d\t%d\n", s.Name, s.Doing, s.Lag, s.Pending, s.Oldest.Round(time.Millisecond), s.People, s.Withheld, s.Rejected, s.Counters.DeadLetters, s.Imports)
	}
	_ = w.Flush()
	for _, s := range all.Connections {
		if s.Why != "" && s.Doing != connector.StateHeld {
			_, _ = fmt.Fprintf(out, "%s: %s: %s\n", s.Name, s.Doing, s.Why)
		}
		if s.Differs {
			_, _ = fmt.Fprintf(out, "%s: the owner, %s, has another configuration than this process\n", s.Name, s.Owner)
		}
		for _, x := range s.Failures {
			_, _ = fmt.Fprintf(out, "%s: export %s: attribute %s was left out in %d records: %s\n", s.Name, x.Export, x.Attribute, x.Records, x.Cause)
		}
		for _, h := range s.Halted {
			what := "the account"
			switch {
			case h.Source != "":
				what = "reading source " + h.Source
			case h.Code == "import_stuck":
				what = "imports"
			case h.List != 0:
				what = fmt.Sprintf("list %d", h.List)
			}
			_, _ = fmt.Fprintf(out, "%s: %s: held since %s: %s: %s\n", s.Name, what, h.Since.UTC().Format(time.RFC3339), h.Code, h.Mend)
		}
	}
	return nil
}
