package state

import (
	"fmt"
	"testing"
	"time"

	"segsync/sink"
)

// A membership that lapses ends by itself, at its time, also in a table that was read back from its rows, and no sooner
// where it was made longer meanwhile.
func TestAMembershipLapses(t *testing.T) {
	d := newDesk(t)
	end := d.now.Add(time.Hour)
	join := func(until time.Time) {
		d.fold(Change{Memberships: []Membership{{0, true, until.Unix(), 0}}, Profile: &Profile{Address: "x@example.com"}})
	}
	join(end)
	if sent := d.send(sink.Outcome{Verdict: sink.Applied}); len(sent) != 1 || len(sent[0].Lists) != 1 {
		t.Fatalf("at first %+v was sent", sent)
	}
	d.now = end.Add(-time.Second)
	if sent := d.send(sink.Outcome{Verdict: sink.Applied}); len(sent) != 0 {
		t.Fatalf("a second before it lapses %+v was sent", sent[0])
	}
	rows := d.Cut(nil).Rows
	d.now = end
	if next := d.Tick(d.now); next != 0 {
		t.Errorf("the next is due at %d, and nothing lapses any more", next)
	}
	back := New(d.cfg)
	for _, r := range rows {
		if err := back.Apply(r.Key, r.Value); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := back.Ready(end.Add(-time.Second)); err != nil {
		t.Fatal(err)
	}
	for name, table := range map[string]*Table{"the table": d.Table, "what was read back": back} {
		x := &desk{T: t, Table: table, now: end, n: d.n}
		if sent := x.send(sink.Outcome{Verdict: sink.Applied}); len(sent) != 1 || len(sent[0].Unlink) != 1 {
			t.Fatalf("of %s %+v was sent when it lapsed", name, sent)
		}
		d.Table, d.now, d.n = table, end, x.n
		join(end.Add(time.Hour)) // and is in again
		if sent := d.send(sink.Outcome{Verdict: sink.Applied}); len(sent) != 1 || len(sent[0].Lists) != 1 {
			t.Fatalf("of %s %+v was sent when it was renewed", name, sent)
		}
		join(end.Add(2 * time.Hour)) // made longer before it lapses
		d.now = end.Add(time.Hour)
		if sent := d.send(sink.Outcome{Verdict: sink.Applied}); len(sent) != 0 {
			t.Fatalf("of %s %+v was sent at the end that no longer holds", name, sent[0])
		}
		d.now = end.Add(2 * time.Hour)
		if sent := d.send(sink.Outcome{Verdict: sink.Applied}); len(sent) != 1 || len(sent[0].Unlink) != 1 {
			t.Fatalf("of %s %+v was sent when the longer one lapsed", name, sent)
		}
	}
}

// An older record says nothing new after a lapse, and a replay does not put anybody in again.
func TestALapseStands(t *testing.T) {
	d := newDesk(t)
	c := Change{Memberships: []Membership{{0, true, d.now.Add(time.Hour).Unix(), 0}}, Profile: &Profile{Address: "x@example.com"}, Stamp: Stamp{Topic: 9, Offset: 5, Time: 5}}
	d.fold(c)
	d.send(sink.Outcome{Verdict: sink.Applied})
	d.now = d.now.Add(time.Hour)
	d.send(sink.Outcome{Verdict: sink.Applied})
	c.Remap = true
	d.fold(c)
	older := c
	older.Stamp.Offset, older.Memberships = 4, []Membership{{0, true, 0, 0}}
	d.fold(older)
	if sent := d.send(sink.Outcome{Verdict: sink.Applied}); len(sent) != 0 {
		t.Errorf("%+v was sent", sent[0])
	}
}

// Rows of the version before are read: no membership lapses there.
func TestPeopleOfOlderVersionsAreRead(t *testing.T) {
	row := []byte{4, 0, 2, 9, 0, 1, 2, 2, 0, 0, 1, 0, 0, 2, 7 << 1, 0, 5<<1 | 1, 0, 1, 'x', 0, 1, 1, 0, 0}
	var p person
	if err := p.decode(row); err != nil {
		t.Fatal(err)
	}
	if got := fmt.Sprint(p.memberships, string(p.address)); got != "[{7 false 0 {9 0 -1 1 1}} {5 true 0 {9 0 -1 1 1}}]x" {
		t.Errorf("it reads %s", got)
	}
}

// Profiles of people of whom no membership is known are kept where that was asked for, in every order; and who is in and has
// no address is counted.
func TestProfilesApart(t *testing.T) {
	for _, keep := range []bool{false, true} {
		for _, first := range []string{"the profile", "the membership"} {
			d := newDesk(t)
			cfg := d.cfg
			cfg.Sources[0].KeepProfiles = keep
			d.Table = New(cfg)
			if _, err := d.Ready(d.now); err != nil {
				t.Fatal(err)
			}
			profile := Change{Profile: &Profile{Address: "x@example.com"}}
			member := Change{Memberships: []Membership{{0, true, 0, 0}}}
			both := []Change{profile, member}
			if first == "the membership" {
				both = []Change{member, profile}
			}
			d.fold(both[0])
			if n := d.Counts().WithoutAddress; n != int(bit(first == "the membership")) {
				t.Errorf("after %s %d people wait for an address", first, n)
			}
			d.fold(both[1])
			wanted := keep || first == "the membership"
			if sent := d.send(sink.Outcome{Verdict: sink.Applied}); (len(sent) == 1) != wanted || d.Counts().WithoutAddress != int(bit(!wanted)) {
				t.Errorf("kept: %v, %s first: %d were sent, %d wait for an address", keep, first, len(sent), d.Counts().WithoutAddress)
			}
		}
	}
}

// What a profile of somebody of whom no membership is known takes, with an address and three attributes: what the README says.
func TestAKeptProfileIsSmall(t *testing.T) {
	cfg := newTable(t).cfg
	cfg.Sources[0].KeepProfiles, cfg.Sources[0].Attributes = true, []string{"A", "SMS", "C"}
	tab := New(cfg)
	now := time.Unix(1e9, 0)
	if _, err := tab.Ready(now); err != nil {
		t.Fatal(err)
	}
	const people = 100_000
	rows := 0
	for i := range people {
		tab.Fold(&Change{
			Person: KeyOf("s", fmt.Sprint(i)), Stamp: Stamp{Topic: 1, Partition: int32(i % 12), Offset: int64(i), Time: 1767225610500000000 + int64(i)},
			Profile: &Profile{Address: fmt.Sprintf("first.last%d@example.com", i), Values: []Value{{0, []byte(`"Marie-Anne"`)}, {1, fmt.Appendf(nil, `"+336399%05d"`, i)}, {2, []byte(`"FR"`)}}},
		}, now)
	}
	for _, r := range tab.Cut(nil).Rows {
		rows += len(r.Key) + len(r.Value)
	}
	memory, kafka := tab.Bytes()/people, rows/people
	t.Logf("%d bytes of memory a person, %d in Kafka", memory, kafka)
	if memory > 300 || kafka > 150 {
		t.Errorf("a profile takes %d bytes of memory, and %d in Kafka", memory, kafka)
	}
}

// A membership that has a time of its own stands against others with that, not with the change's.
func TestAMembershipsOwnTime(t *testing.T) {
	d := newDesk(t)
	d.fold(Change{Stamp: Stamp{Topic: 9, Partition: 0, Offset: 1, Time: 10}, Memberships: []Membership{{0, true, 0, 5}, {1, true, 0, 10}}, Profile: &Profile{Address: "x@example.com"}})
	d.fold(Change{Stamp: Stamp{Topic: 9, Partition: 1, Offset: 1, Time: 7}, Memberships: []Membership{{0, false, 0, 0}, {1, false, 0, 0}}})
	p := d.Table.person(0)
	defer d.endPerson(p)
	if len(p.memberships) != 2 || p.memberships[0].in || !p.memberships[1].in {
		t.Errorf("%+v", p.memberships)
	}
}

// A membership whose own time is before the person's erasure says nothing any more.
func TestAMembershipBeforeTheErasure(t *testing.T) {
	d := newDesk(t)
	d.fold(Change{Stamp: Stamp{Topic: 9, Partition: 1, Offset: 1, Time: 7}, Erase: true})
	d.fold(Change{Stamp: Stamp{Topic: 9, Partition: 0, Offset: 1, Time: 10}, Memberships: []Membership{{0, true, 0, 5}, {1, true, 0, 10}}, Profile: &Profile{Address: "x@example.com"}})
	p := d.Table.person(0)
	defer d.endPerson(p)
	if p.memberships[0].in || !p.memberships[1].in {
		t.Errorf("%+v", p.memberships)
	}
}
