package state

import (
	"slices"
	"testing"
	"time"
)

// one is a table of one source with two segments, each with a list of its own.
func one(t *testing.T) *Table {
	t.Helper()
	table := New(Config{
		Sources: []Source{{Name: "s", Segments: []string{"vip", "gold"}}},
		Exports: []Export{{Name: "a", Segments: []string{"vip"}, List: 1}, {Name: "b", Segments: []string{"gold"}, List: 2}},
	})
	if _, err := table.Ready(now); err != nil {
		t.Fatal(err)
	}
	return table
}

var now = time.Unix(1e9, 0)

func (t *Table) wants(address string) (lists []int64) {
	for _, list := range []int64{1, 2} {
		t.Walk(list, now, func(a string, wanted, _ bool) {
			if a == address && wanted {
				lists = append(lists, list)
			}
		})
	}
	return lists
}

// What a change says of segments that are not heard moves nothing, neither by name nor by a snapshot's silence.
func TestOnlySomeSegmentsAreHeard(t *testing.T) {
	table := one(t)
	say := func(offset int64, whole bool, only []int, all ...Membership) {
		table.Fold(&Change{
			Person: KeyOf("s", "ann"), Stamp: Stamp{Topic: 1, Offset: offset, Time: offset}, Memberships: all, Whole: whole, Only: only,
			Profile: &Profile{Address: "ann@example.com"},
		}, now)
		table.Refresh(now)
	}
	say(1, false, nil, Membership{Segment: 0, In: true}, Membership{Segment: 1, In: true})
	for i, c := range []struct {
		whole bool
		only  []int
		all   []Membership
		want  []int64
	}{
		{false, []int{0}, []Membership{{Segment: 0}, {Segment: 1}}, []int64{2}},
		{true, []int{0}, nil, []int64{2}},
		{true, []int{0}, []Membership{{Segment: 0, In: true}}, []int64{1, 2}},
		{true, []int{1}, nil, []int64{1}},
		{true, nil, nil, nil},
	} {
		say(int64(i+2), c.whole, c.only, c.all...)
		if got := table.wants("ann@example.com"); !slices.Equal(got, c.want) {
			t.Errorf("%d: wanted in %v, not %v", i, got, c.want)
		}
	}
	table.Fold(&Change{Person: KeyOf("s", "bob"), Stamp: Stamp{Topic: 1, Offset: 9, Time: 9}, Memberships: []Membership{{Segment: 1, In: true}}, Only: []int{0}}, now)
	if n := table.Counts().People; n != 1 {
		t.Errorf("%d people", n)
	}
}

// A sweep ends memberships whose standing record was not read, of the segments that are swept, and no others; a newer record
// puts people in again, an older one does not.
func TestASweepEndsWhatIsNotMentioned(t *testing.T) {
	table := one(t)
	say := func(person string, offset int64, in bool, segments ...int) {
		c := &Change{Person: KeyOf("s", person), Stamp: Stamp{Topic: 1, Offset: offset, Time: offset}, Profile: &Profile{Address: person + "@example.com"}}
		for _, g := range segments {
			c.Memberships = append(c.Memberships, Membership{Segment: g, In: in})
		}
		table.Fold(c, now)
		table.Refresh(now)
	}
	say("ann", 1, true, 0, 1)
	say("bob", 2, true, 0)
	say("bob", 8, true, 0)
	say("cy", 9, true, 1)
	ended := 0
	for from, more := uint32(0), true; more; more = from != 0 {
		var n int
		from, n = table.Sweep(0, []int{0}, func(topic uint32, partition int32, offset int64) bool {
			return topic == 1 && partition == 0 && offset >= 5
		}, from, now)
		ended += n
	}
	want := func(person string, lists ...int64) {
		t.Helper()
		if got := table.wants(person + "@example.com"); !slices.Equal(got, lists) {
			t.Errorf("%s is wanted in %v, not %v", person, got, lists)
		}
	}
	if ended != 1 {
		t.Errorf("%d have ended", ended)
	}
	want("ann", 2)
	want("bob", 1)
	want("cy", 2)
	say("ann", 1, true, 0)
	want("ann", 2)
	say("ann", 20, true, 0)
	want("ann", 1, 2)
}
