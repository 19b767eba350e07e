package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"segsync/connector"
)

func newTrace() *cobra.Command {
	var f exportFlags
	var show, asJSON bool
	cmd := &cobra.Command{
		Use:   "trace -c segsync.yaml --export NAME PERSON|ADDRESS",
		Short: "Say why somebody is in a list, or is not",
		Long:  "Shows what the table holds of a person (by the id that the events name them by, or by their address), the records of the source that speak of them and which of these stand, the calls that concerned their contact and what came of them, their dead letters, what is to be done with their contact, and what the account says now. It reads the source whole; segsync may run meanwhile. Addresses and values are masked unless --show.",
		Args:  cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			if args[0] == "" {
				return &exitError{exitUsage, errors.New("name a person, or an address")}
			}
			w, e, cfg, err := f.open()
			if err != nil {
				return err
			}
			defer w.release()
			tell, end := reading(cmd.OutOrStdout(), asJSON)
			t, err := connector.Trace(cmd.Context(), &cfg, e.Name, args[0], show, tell)
			end()
			if err != nil {
				return failed(err)
			}
			if asJSON {
				enc := json.NewEncoder(cmd.OutOrStdout())
				enc.SetIndent("", "  ")
				return enc.Encode(t)
			}
			showTrace(cmd.OutOrStdout(), t)
			return nil
		},
	}
	f.add(cmd, "the export whose list is asked about")
	cmd.Flags().BoolVar(&show, "show", false, "show addresses and values")
	cmd.Flags().BoolVar(&asJSON, "json", false, "as JSON")
	return cmd
}

func showTrace(out io.Writer, t *connector.Traced) {
	line := func(format string, args ...any) { _, _ = fmt.Fprintf(out, format+"\n", args...) }
	stamp := func(at time.Time) string { return at.UTC().Format(time.RFC3339) }
	line("events (%d):", len(t.Events))
	for _, e := range t.Events {
		mark := "older than what stands, or no change"
		switch {
		case len(e.Says) == 0:
			e.Says, mark = []string{"nothing"}, "of what exports of this connection ask for"
		case e.Error != "":
			mark = "dead letter: " + e.Error
		case e.Stands:
			mark = "stands"
		}
		line("  %s  %s/%d@%d  %s  [%s]", stamp(e.At), e.Topic, e.Partition, e.Offset, strings.Join(e.Says, ", "), mark)
	}
	if t.Unread > 0 {
		line("  %d records of the source did not come: they were compacted away, or a broker is slow", t.Unread)
	}
	if len(t.People) == 0 {
		line("the table knows nobody of that name: no record that was read puts them in or out")
	}
	for i := range t.People {
		p := &t.People[i]
		line("person %s of source %s: address %s", p.Hash[:8], p.Source, orNone(p.Address))
		if p.Erased != nil {
			line("  erased at %s: nothing older counts", stamp(p.Erased.Time))
		}
		for _, m := range p.Memberships {
			word := "out of"
			if m.In {
				word = "in"
			}
			if !m.Until.IsZero() {
				word += " (until " + stamp(m.Until) + ")"
			}
			line("  %s %s since %s, by %s/%d@%d", word, m.Segment, stamp(m.At.Time), m.At.Topic, m.At.Partition, m.At.Offset)
		}
		for _, a := range p.Attributes {
			line("  %s = %s by %s/%d@%d", a.Name, a.Value, a.At.Topic, a.At.Partition, a.At.Offset)
		}
	}
	showContact(line, t)
	showCalls(line, t)
	for _, l := range t.Letters {
		line("dead letter %s of record %s: %s %s: %s", l.At, l.From, l.Class, l.Code, l.Message)
	}
	switch a := t.Account; {
	case a == nil:
		line("no address is known: the account is not asked")
	case a.Error != "":
		line("the account cannot be asked: %s", a.Error)
	case !a.Known:
		line("the account has no such contact")
	default:
		line("the account says: in the lists %v; blocked or unsubscribed: %t", a.Lists, a.Blocked)
	}
}

// showCalls says which calls concerned the contact, and what came of them.
func showCalls(line func(format string, args ...any), t *connector.Traced) {
	if t.Contact == nil && len(t.Calls) == 0 {
		return
	}
	line("calls (%d, as far as the table's topic still has them):", len(t.Calls))
	for _, c := range t.Calls {
		what := c.Kind
		if len(c.Enters) > 0 {
			what += fmt.Sprintf(" into %v", c.Enters)
		}
		if len(c.Leaves) > 0 {
			what += fmt.Sprintf(" out of %v", c.Leaves)
		}
		if c.Contacts > 1 {
			what += fmt.Sprintf(", with %d others", c.Contacts-1)
		}
		if c.Process != 0 {
			what += fmt.Sprintf(", process %d", c.Process)
		}
		end := ""
		if !c.Settled.IsZero() {
			end = fmt.Sprintf(", within %s", c.Settled.Sub(c.Announced).Round(time.Millisecond))
		}
		line("  %s  %s  [%s%s]", c.Announced.Format(time.RFC3339), what, c.Result, end)
	}
}

// showContact says what the table holds of the contact, and what is to be done with it.
func showContact(line func(format string, args ...any), t *connector.Traced) {
	c := t.Contact
	if c == nil {
		line("the table has no contact of theirs: nothing was sent, and nothing is to be")
		return
	}
	if len(c.Wanted) == 0 {
		line("contact %s: wanted in no list", c.Address)
	} else {
		line("contact %s: wanted in lists %v", c.Address, c.Wanted)
	}
	for _, l := range c.Lists {
		how := ""
		if l.Imported {
			how = ", by an import"
		}
		if l.Guard != "" {
			how += ", its removal was " + l.Guard
		}
		line("  list %d: %s since %s%s", l.List, l.State, l.At.UTC().Format(time.RFC3339), how)
	}
	var owed []string
	if len(c.Add) > 0 {
		owed = append(owed, fmt.Sprintf("enters lists %v", c.Add))
	}
	if len(c.Remove) > 0 {
		owed = append(owed, fmt.Sprintf("leaves lists %v", c.Remove))
	}
	if c.Attributes {
		owed = append(owed, "gets attributes")
	}
	if len(owed) > 0 {
		line("  to be sent: it %s", strings.Join(owed, ", "))
	}
	if c.InFlight {
		line("  a request that holds it is under way")
	}
	if c.Waits != "" {
		line("  something of it waits, for: %s", c.Waits)
	}
	if !c.Unknown.IsZero() {
		line("  a request had no answer at %s: it is sent once more", c.Unknown.Format(time.RFC3339))
	}
	switch c.Rejected {
	case "":
	case connector.NoContact:
		line("  the account had no such contact at %s, and only_existing lets none be created: tried again when what is wanted changes, or by segsync retry", c.RejectedAt.Format(time.RFC3339))
	default:
		line("  rejected at %s: %s", c.RejectedAt.Format(time.RFC3339), c.Rejected)
	}
	if len(c.Refused) > 0 {
		line("  refused attributes, sent empty: %s", strings.Join(c.Refused, ", "))
	}
}
