package engine

import (
	"testing"
	"time"

	"segsync/connector/state"
	"segsync/mapping"
)

// Whether a table is whole is what its rows say, not what the configuration adds to them.
func TestATableIsJudgedAsItWasWritten(t *testing.T) {
	now := time.Unix(1e9, 0)
	cfg := func(attributes ...string) *Config {
		s := Source{Name: "s", Spec: mapping.Spec{Segments: []string{"vip"}}}
		for _, a := range attributes {
			s.Spec.Attributes = append(s.Spec.Attributes, mapping.Attribute{Name: a})
		}
		c := Config{Name: "c", Sources: []Source{s}, Exports: []Export{{Name: "x", Enabled: true, Segments: []string{"vip"}, List: 42, Attributes: attributes}}}
		full := c.WithDefaults()
		return &full
	}
	table := state.New(cfg("A").tableConfig())
	if _, err := table.Ready(now); err != nil {
		t.Fatal(err)
	}
	table.Fold(&state.Change{
		Person: state.KeyOf("s", "ann"), Stamp: state.Stamp{Topic: 9, Offset: 1, Time: 1}, Memberships: []state.Membership{{Segment: 0, In: true}},
		Profile: &state.Profile{Address: "ann@example.com"},
	}, now)
	table.Refresh(now)
	rows := table.Cut(nil).Rows
	for name, c := range map[string]struct {
		lost  string // rows that begin with it
		start int64
		whole bool
	}{
		"nothing is lost":                          {"", 0, true},
		"nor where its topic begins later":         {"", 5, true},
		"a person's row is lost":                   {"p/", 0, false},
		"what counts them, and the topic is whole": {"k/counts", 0, true},
		"what counts them, and the topic is not":   {"k/counts", 5, false},
	} {
		t.Run(name, func(t *testing.T) {
			o, err := Open(cfg("A", "B"), func(apply func(key, v []byte) error) error {
				for _, r := range rows {
					if c.lost != "" && len(r.Key) >= len(c.lost) && string(r.Key[:len(c.lost)]) == c.lost {
						continue
					}
					if err := apply(r.Key, r.Value); err != nil {
						return err
					}
				}
				return nil
			}, now)
			if err != nil || o.Whole(c.start) != c.whole {
				t.Errorf("it is whole: %v, %v", o.Whole(c.start), err)
			}
		})
	}
}
