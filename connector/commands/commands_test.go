package commands

import (
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"
)

// A command is read back as it was written; what is none of the connection's, or no command, is not taken for one.
func TestParse(t *testing.T) {
	c := Command{ID: "1", Kind: Backfill, Connection: "crm", Export: "vip", By: "ann", At: time.Unix(1e9, 0).UTC(), Reason: "why", Range: &Range{Segments: []string{"vip"}, Sweep: true}}
	r := c.Record("segsync")
	if r.Topic != "segsync-commands" || string(r.Key) != "crm/1" {
		t.Errorf("%s, %s", r.Topic, r.Key)
	}
	got, ok := Parse(r, "crm")
	if !ok || got.Range == nil || !got.Range.Sweep || got.Range.Segments[0] != "vip" || got.By != "ann" || !got.At.Equal(c.At) || got.Outcome.Over() {
		t.Errorf("%+v", got)
	}
	for name, r := range map[string]*kgo.Record{
		"of another connection":             c.Record("segsync"),
		"of one whose name begins likewise": {Key: []byte("crm2/1"), Value: r.Value},
		"under another key":                 {Key: []byte("crm/2"), Value: r.Value},
		"that is no command":                {Key: []byte("crm/1"), Value: []byte("{")},
		"that is removed":                   {Key: []byte("crm/1")},
	} {
		connection := "crm"
		if name == "of another connection" {
			connection = "dwh"
		}
		if _, ok := Parse(r, connection); ok {
			t.Errorf("a record %s is taken for a command", name)
		}
	}
	c.Outcome = &Outcome{State: Begun}
	begun, _ := Parse(c.Record("segsync"), "crm")
	c.Outcome = &Outcome{State: Failed}
	failed, _ := Parse(c.Record("segsync"), "crm")
	if begun.Outcome.Over() || !failed.Outcome.Over() {
		t.Error("what is begun is not over; what has failed is")
	}
}

// An address is named by its hash, however it is written; ids are not the same twice.
func TestNames(t *testing.T) {
	if a := HashOf("Ann@Example.com "); a != HashOf("ann@example.com") || a == HashOf("bob@example.com") || len(a) != 32 {
		t.Error(a)
	}
	if a, b := NewID(), NewID(); a == b || len(a) != 12 {
		t.Error(a, b)
	}
}
