package engine

import (
	"encoding/hex"
	"fmt"
	"slices"
	"time"

	"segsync/connector/commands"
	"segsync/connector/state"
)

// Erased is the receipt of an erasure.
type Erased struct {
	Known         bool     `json:"known"`                    // the table held something of the person
	Memberships   int      `json:"memberships"`              // that were removed
	Attributes    int      `json:"attributes"`               // likewise
	Address       string   `json:"address,omitempty"`        // masked
	AddressHashes []string `json:"address_hashes,omitempty"` // commands.HashOf, of former ones too: what a check afterwards looks for
	Former        int      `json:"former_addresses"`
	Lists         []int64  `json:"lists"`            // into which they were delivered: they leave these
	Shared        bool     `json:"shared,omitempty"` // somebody else carries the address: the contact stays as these want it
	Delete        bool     `json:"delete"`           // the contact is deleted from the account
}

// eraseLocked removes all that the table holds of a person, as a tombstone does of a time: nothing older brings them
// back. Their contact leaves the lists; the guard does not keep one who was erased.
//
// +checklocks:c.mu
func (c *control) eraseLocked(cmd *commands.Command, offset int64, at, now time.Time) (outcome, text string, detail *Erased) {
	if cmd.Person == nil {
		return commands.Refused, "an erasure is of one person: name them", nil
	}
	source := slices.IndexFunc(c.cfg.Sources, func(s Source) bool { return s.Name == cmd.Person.Source })
	b, err := hex.DecodeString(cmd.Person.Hash)
	if source < 0 || err != nil || len(b) != len(state.PersonKey{}) {
		return commands.Refused, "the owner's configuration has no source " + cmd.Person.Source, nil
	}
	key := state.PersonKey(b)
	e := &Erased{Delete: cmd.Person.Delete, Lists: []int64{}}
	if p := c.table.TellPerson(key); p != nil {
		e.Known, e.Memberships, e.Attributes, e.Former = p.Erased == nil, len(p.Memberships), len(p.Attributes), len(p.Former)
		if p.Address != "" {
			e.Address = state.Mask(p.Address)
			e.Shared = len(c.table.CarriersOf(p.Address)) > 1
			if held := c.table.TellContact(p.Address, now); held != nil {
				for _, l := range held.Lists {
					if l.State != "out" {
						e.Lists = append(e.Lists, l.List)
					}
				}
			}
		}
		for _, a := range append(p.Former, p.Address) {
			if a == "" {
				continue
			}
			e.AddressHashes = append(e.AddressHashes, commands.HashOf(a))
			if len(c.table.CarriersOf(a)) == 1 {
				defer c.table.LetGo(a, now)
			}
		}
	}
	c.table.Fold(&state.Change{
		Source: source, Person: key, Erase: true, Delete: cmd.Person.Delete,
		Stamp: state.Stamp{Topic: c.table.Topic(c.position.Topic, commands.Topic(c.cfg.Prefix)), Epoch: -1, Offset: offset, Time: at.UnixNano()},
	}, now)
	c.table.Refresh(now)
	text = fmt.Sprintf("erased: %d memberships, %d attributes, %d former addresses; they leave %d lists", e.Memberships, e.Attributes, e.Former, len(e.Lists))
	switch {
	case !e.Known:
		text = "nothing was held of anybody of this id; what was said of it until now cannot bring anybody in any more"
	case e.Shared:
		text += "; somebody else carries the address: the contact stays where they want it"
	case e.Delete:
		text += ", and the contact is deleted from the account"
	}
	return commands.Done, text, e
}
