package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"segsync/connector"
	"segsync/connector/commands"
)

// eraseFlags are those of erase.
type eraseFlags struct {
	giveFlags
	source string
	delete bool
	verify string
	asJSON bool
}

func newErase() *cobra.Command {
	var f eraseFlags
	cmd := &cobra.Command{
		Use:   "erase -c segsync.yaml --source NAME PERSON | erase -c segsync.yaml --verify ID",
		Short: "Remove all that is held of a person, and take them out of the lists",
		Long:  "Removes what the table of each connection of a source holds of a person (the id that the events name them by): memberships, address, attributes. Their contact leaves the lists, whatever the guard says; with --delete-contact it is deleted from the account, unless somebody else carries the address. Nothing that was said of them until now brings them in again, however often it is read; events from now on do.\nIt ends with a receipt. --verify ID looks afterwards for what is left: old rows of the table's topic go with its compaction, within a day. The sources' own records and dead letters are not segsync's to remove: it names the letters.",
		Args:  cobra.MaximumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			switch {
			case f.verify != "" && len(args) > 0:
				return &exitError{exitUsage, errors.New("--verify is of an erasure that was made: it takes no person")}
			case f.verify == "" && len(args) == 0:
				return &exitError{exitUsage, errors.New("name the person, or give --verify with the id of an erasure")}
			case f.verify != "":
				return f.check(cmd)
			case args[0] == "":
				return &exitError{exitUsage, errors.New("the person's id is empty")}
			}
			return f.erase(cmd, args[0])
		},
	}
	f.configFlags.add(cmd)
	f.addGiver(cmd)
	flags := cmd.Flags()
	flags.StringVar(&f.source, "source", "", "whose id it is; without it the only source")
	flags.BoolVar(&f.delete, "delete-contact", false, "delete the contact from the account")
	flags.StringVar(&f.verify, "verify", "", "look for what is left after this erasure")
	flags.DurationVar(&f.wait, "wait", answerWithin, "how long to wait until it is carried out")
	flags.BoolVar(&f.asJSON, "json", false, "as JSON")
	return cmd
}

// erasure is what came of one connection's.
type erasure struct {
	Connection  string            `json:"connection"`
	Command     string            `json:"command"`
	State       string            `json:"state"` // given: nobody has carried it out yet
	Text        string            `json:"text"`
	Receipt     *connector.Erased `json:"receipt,omitempty"`
	DeadLetters []string          `json:"dead_letters,omitempty"`
	Opaque      int               `json:"dead_letters_not_decoded,omitempty"` // of the source: whose they are is not known
}

func (f *eraseFlags) erase(cmd *cobra.Command, person string) error {
	w, err := f.load()
	if err != nil {
		return err
	}
	defer w.release()
	if f.source == "" && len(w.c.Sources) == 1 {
		f.source = w.c.Sources[0].Name
	}
	configs, err := w.connections()
	if err != nil {
		return err
	}
	all := []erasure{}
	waits := false
	for i := range configs {
		source := slices.IndexFunc(configs[i].Sources, func(s connector.Source) bool { return s.Name == f.source })
		if source < 0 {
			continue
		}
		e, err := f.eraseFrom(cmd.Context(), w, &configs[i], source, person)
		if err != nil {
			e = &erasure{Connection: configs[i].Name, State: commands.Failed, Text: "it could not be given: " + err.Error()}
		}
		waits = waits || e.State != commands.Done
		all = append(all, *e)
	}
	if len(all) == 0 {
		return &exitError{exitUsage, fmt.Errorf("no connection exports a source %q: name one with --source", f.source)}
	}
	if err := tellErasures(cmd.OutOrStdout(), all, f.asJSON); err != nil {
		return err
	}
	if strings.Contains(person, "@") && !slices.ContainsFunc(all, func(e erasure) bool { return e.Receipt == nil || e.Receipt.Known }) {
		return &exitError{exitFailed, errors.New("nobody is erased: the events name nobody by this; if it is an address, segsync trace --export NAME ADDRESS names the records that speak of its person, and their id is in these")}
	}
	if waits {
		return &exitError{exitFailed, errors.New("not all of it is carried out: what was given is, by the next owner of the connection")}
	}
	return nil
}

func (f *eraseFlags) eraseFrom(ctx context.Context, w *wiring, cfg *connector.Config, source int, person string) (*erasure, error) {
	g, err := w.give(ctx, cfg, &f.giveFlags, commands.Command{
		Kind: commands.Erase, Person: &commands.Person{Source: f.source, Hash: connector.PersonHash(f.source, person), Delete: f.delete},
	})
	if err != nil {
		return nil, err
	}
	e := &erasure{Connection: cfg.Name, Command: g.ID, State: "given", Text: "no segsync runs: it is carried out when one does, before anything is sent"}
	defer func() {
		var err error
		if e.DeadLetters, e.Opaque, err = connector.LettersOf(ctx, cfg, source, person); err != nil {
			e.Text += "; its dead letters could not be looked through: " + err.Error()
		}
	}()
	if err := connector.New(*cfg).Idle(ctx); err == nil {
		return e, nil
	} else if !errors.Is(err, connector.ErrRunning) {
		e.Text = "it was given, and what comes of it is not known: " + err.Error()
		return e, nil
	}
	waiting, cancel := context.WithTimeout(ctx, f.wait)
	defer cancel()
	o, err := g.Await(waiting, nil)
	switch {
	case errors.Is(err, commands.ErrNoAnswer):
		e.Text = "it is not carried out yet"
		return e, nil
	case err != nil:
		e.Text = "it was given, and what came of it is not known: " + err.Error()
		return e, nil
	}
	e.State, e.Text = o.State, o.Text
	if len(o.Detail) > 0 {
		err = json.Unmarshal(o.Detail, &e.Receipt)
	}
	return e, err
}

func tellErasures(out io.Writer, all []erasure, asJSON bool) error {
	if asJSON {
		e := json.NewEncoder(out)
		e.SetIndent("", "  ")
		return e.Encode(all)
	}
	for i := range all {
		e := &all[i]
		_, _ = fmt.Fprintf(out, "connection %s: receipt %s: %s: %s\n", e.Connection, e.Command, e.State, e.Text)
		if r := e.Receipt; r != nil && r.Address != "" {
			_, _ = fmt.Fprintf(out, "  address %s, lists %v\n", r.Address, r.Lists)
		}
		if e.Opaque > 0 {
			_, _ = fmt.Fprintf(out, "  %d dead letters of the source cannot be decoded: whose they are is not known\n", e.Opaque)
		}
		for _, at := range e.DeadLetters {
			_, _ = fmt.Fprintf(out, "  dead letter %s holds a record of theirs: it goes with the topic's retention, or delete the topic's records up to it\n", at)
		}
	}
	return nil
}

// check looks for what is left after an erasure.
func (f *eraseFlags) check(cmd *cobra.Command) error {
	w, err := f.load()
	if err != nil {
		return err
	}
	defer w.release()
	configs, err := w.connections()
	if err != nil {
		return err
	}
	for i := range configs {
		full := configs[i].WithDefaults()
		c, err := connector.CheckErasure(cmd.Context(), &full, f.verify)
		if err != nil {
			return failed(err)
		}
		if c == nil {
			continue
		}
		if f.asJSON {
			e := json.NewEncoder(cmd.OutOrStdout())
			e.SetIndent("", "  ")
			if err := e.Encode(c); err != nil {
				return err
			}
		}
		switch {
		case c.Holds > 0:
			return &exitError{exitFailed, fmt.Errorf("the table of connection %s holds %d rows of theirs: they have come back by newer events, or something of their contact is under way; %d old rows wait for compaction", c.Connection, c.Holds, c.Old)}
		case c.Old > 0:
			return &exitError{exitFailed, fmt.Errorf("the table of connection %s holds nothing of theirs; %d old rows of its topic wait for Kafka to compact them away, within a day: ask again then", c.Connection, c.Old)}
		case !f.asJSON:
			cmd.Printf("connection %s: nothing is left of them\n", c.Connection)
		}
		return nil
	}
	return &exitError{exitUsage, fmt.Errorf("no erasure has the id %q in the connections of this configuration", f.verify)}
}
