package state

import (
	"fmt"
	"maps"
	"runtime"
	"slices"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"

	"segsync/sink"
)

func newTable(t interface{ Fatal(...any) }) *Table {
	tab := New(Config{
		Sources: []Source{{Name: "s", Segments: []string{"vip", "gold"}, Attributes: []string{"A", "SMS"}}},
		Exports: []Export{{Name: "e", Segments: []string{"vip", "gold"}, List: 42, Attributes: []string{"A", "SMS"}}},
		Unique:  func(a string) bool { return a == "SMS" }, Rest: time.Second, LateApply: time.Minute, RetryRefused: time.Hour,
	})
	if _, err := tab.Ready(time.Unix(1e9, 0)); err != nil {
		t.Fatal(err)
	}
	return tab
}

// view is everything that a row of a person says, for comparison.
func (t *Table) told(key PersonKey) string {
	pi, ok := t.store.findPerson(key, false)
	if !ok {
		return "unknown"
	}
	var p person
	t.store.loadPerson(pi, &p)
	members := map[uint32]string{}
	for _, m := range p.memberships {
		members[m.segment] = fmt.Sprint(m.in, m.until)
	}
	values := map[uint32]string{}
	for _, v := range p.values {
		values[v.name] = string(v.json)
	}
	s := ""
	for _, k := range slices.Sorted(maps.Keys(members)) {
		s += fmt.Sprint(k, members[k], " ")
	}
	for _, k := range slices.Sorted(maps.Keys(values)) {
		s += fmt.Sprint(k, values[k], " ")
	}
	return s + string(p.address)
}

// S34, S35: the same changes give the same person in every order that keeps each partition's own; nulls that keep
// included. The first change of each order makes the person known: a profile of an unknown one is lost, as documented.
func TestAFoldDoesNotDependOnTheOrderOfPartitions(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		key := KeyOf("s", "p")
		var parts [3][]Change
		for n := range parts {
			for i := range rapid.IntRange(1, 4).Draw(t, "changes") {
				c := Change{Person: key, Stamp: Stamp{Topic: 9, Partition: int32(n), Offset: int64(i), Time: int64(rapid.IntRange(0, 9).Draw(t, "time"))*3 + int64(n)}}
				c.Memberships = []Membership{{rapid.IntRange(0, 1).Draw(t, "segment"), rapid.Bool().Draw(t, "in"), int64(rapid.IntRange(0, 2).Draw(t, "until")) * 1e9, 0}}
				if rapid.Bool().Draw(t, "profile") {
					c.Profile = &Profile{Address: rapid.SampledFrom([]string{"", "x@example.com", "y@example.com"}).Draw(t, "address")}
					if v := rapid.SampledFrom([]string{"", `"a"`, `"b"`}).Draw(t, "value"); v != "" {
						c.Profile.Values = []Value{{0, []byte(v)}}
					}
				}
				parts[n] = append(parts[n], c)
			}
		}
		fold := func(label string) string {
			tab := newTable(t)
			var at [3]int
			for {
				var open []int
				for n := range parts {
					if at[n] < len(parts[n]) {
						open = append(open, n)
					}
				}
				if len(open) == 0 {
					return tab.told(key)
				}
				n := rapid.SampledFrom(open).Draw(t, label)
				tab.Fold(&parts[n][at[n]], time.Unix(1e9, 0))
				at[n]++
			}
		}
		if a, b := fold("first"), fold("second"); a != b {
			t.Fatalf("one order gives %q, another %q", a, b)
		}
	})
}

// A table read back from its rows is the table that wrote them, and wants the same.
func TestATableIsWhatItsRowsSay(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		tab, now := newTable(t), time.Unix(1e9, 0)
		var rows []Row
		for i := range rapid.IntRange(1, 60).Draw(t, "steps") {
			now = now.Add(time.Second)
			switch rapid.IntRange(0, 3).Draw(t, "step") {
			case 0, 1:
				p := rapid.IntRange(0, 5).Draw(t, "person")
				c := Change{Person: KeyOf("s", fmt.Sprint(p)), Stamp: Stamp{Topic: 9, Offset: int64(i), Time: int64(i)}, Memberships: []Membership{{rapid.IntRange(0, 1).Draw(t, "segment"), rapid.Bool().Draw(t, "in"), int64(rapid.IntRange(0, 2).Draw(t, "until")) * 1e9, 0}}}
				if rapid.Bool().Draw(t, "profile") {
					c.Profile = &Profile{Address: fmt.Sprintf("a%d@example.com", rapid.IntRange(0, 7).Draw(t, "address")), Values: []Value{{0, []byte(`"v"`)}, {1, fmt.Appendf(nil, `"%d"`, p)}}}
				}
				tab.Fold(&c, now)
			case 2:
				deliver(t, tab, now)
			case 3:
				c := tab.Cut(nil)
				if rapid.Bool().Draw(t, "committed") {
					rows = append(rows, c.Rows...)
				} else {
					tab.GiveBack(c)
				}
			}
			invariant(t, tab, now)
		}
		rows = append(rows, tab.Cut(nil).Rows...)
		back := New(tab.cfg)
		for _, r := range rows {
			if err := back.Apply(r.Key, r.Value); err != nil {
				t.Fatal(err)
			}
		}
		if have, want, counted := back.Missing(); len(rows) > 0 && (!counted || have != want) {
			t.Fatalf("%d rows of people and contacts are read back, %d were counted (%v)", have, want, counted)
		}
		if _, err := back.Ready(now); err != nil {
			t.Fatal(err)
		}
		for pi := range tab.store.people.Len() {
			key := tab.store.people.At(pi).key
			if a, b := tab.told(key), back.told(key); a != b {
				t.Fatalf("%q was written, %q read back", a, b)
			}
		}
		if tab.In(42) != back.In(42) {
			t.Fatalf("%d delivered, %d read back", tab.In(42), back.In(42))
		}
		invariant(t, back, now)
	})
}

// deliver takes one contact and settles it with a drawn outcome.
func deliver(t *rapid.T, tab *Table, now time.Time) {
	for _, q := range tab.Queues(now) {
		n := tab.Pop(q.Kind, q.List, now)
		if n == nil {
			continue
		}
		r := tab.NewRequest(sink.Update, slices.Clone(n.Add), slices.Clone(n.Remove), now)
		r.Send.Look = slices.Clone(n.Look)
		tab.Take(r, n, n.Contact(n.Attributes), now)
		o := rapid.SampledFrom([]sink.Outcome{
			{Verdict: sink.Applied}, {Verdict: sink.Applied, Absent: true}, {Verdict: sink.Retry}, {Verdict: sink.Retry, Certain: true}, {Verdict: sink.Reject, Code: "bad"},
			{Verdict: sink.Reject, Attribute: "SMS", Code: "taken"},
		}).Draw(t, "outcome")
		tab.Settle(r, 0, o, true, now)
		tab.Close(r)
		return
	}
}

// Two who want one number: it ends, whoever has it.
func TestTwoWhoWantOneNumberComeToRest(t *testing.T) {
	tab, now := newTable(t), time.Unix(1e9, 0)
	for p := range 2 {
		tab.Fold(&Change{Person: KeyOf("s", fmt.Sprint(p)), Stamp: Stamp{Topic: 9, Offset: int64(p), Time: 1}, Memberships: []Membership{{0, true, 0, 0}}, Profile: &Profile{Address: fmt.Sprintf("a%d@example.com", p), Values: []Value{{1, []byte(`"+33639980001"`)}}}}, now)
	}
	holder, calls := "", 0
	for range 20 {
		now = now.Add(time.Minute)
		tab.Tick(now)
		for _, q := range tab.Queues(now) {
			for n := tab.Pop(q.Kind, q.List, now); n != nil; n = tab.Pop(q.Kind, q.List, now) {
				calls++
				r := tab.NewRequest(sink.Upsert, slices.Clone(n.Add), nil, now)
				tab.Take(r, n, n.Contact(true), now)
				o := sink.Outcome{Verdict: sink.Applied}
				for _, a := range r.Send.Contacts[0].Attributes {
					if a.Name == "SMS" && !a.Empties() && holder != "" && holder != n.Address {
						o = sink.Outcome{Verdict: sink.Reject, Attribute: "SMS"}
					} else if a.Name == "SMS" && !a.Empties() {
						holder = r.Send.Contacts[0].Address
					}
				}
				tab.Settle(r, 0, o, true, now)
				tab.Close(r)
			}
		}
	}
	if calls > 4 || tab.Counts().Pending != 0 {
		t.Errorf("%d calls, %d pending", calls, tab.Counts().Pending)
	}
}

func TestARowOfANewerVersionIsRefused(t *testing.T) {
	tab := New(Config{})
	if err := tab.Apply([]byte("c/x@example.com"), []byte{Version + 1, 0}); err == nil {
		t.Error("it is taken")
	}
}

func fill(tab *Table, people int) {
	now := time.Unix(1e9, 0)
	for i := range people {
		tab.Fold(&Change{
			Person: KeyOf("s", fmt.Sprint(i)), Stamp: Stamp{Topic: 9, Offset: int64(i), Time: int64(i) * 1e6}, Memberships: []Membership{{0, true, 0, 0}},
			Profile: &Profile{Address: fmt.Sprintf("person-%d@example.com", i), Values: []Value{{0, []byte(`"First Name"`)}, {1, []byte(`"+33639980001"`)}}},
		}, now)
	}
}

// S20: a hot person takes no memory.
func TestAHotPersonTakesNoMemory(t *testing.T) {
	tab, now := newTable(t), time.Unix(1e9, 0)
	fold := func(n, from int) {
		for i := range n {
			tab.Fold(&Change{Person: KeyOf("s", "hot"), Stamp: Stamp{Topic: 9, Offset: int64(from + i), Time: int64(i)}, Memberships: []Membership{{0, i%2 == 0, 0, 0}}, Profile: &Profile{Address: fmt.Sprintf("h%d@example.com", i%2)}}, now)
		}
		tab.Cut(nil)
	}
	fold(1000, 0)
	before := heapBytes()
	fold(200_000, 1000)
	if grown := heapBytes() - before; grown > 4<<20 {
		t.Errorf("%d bytes more", grown)
	}
}

func heapBytes() int64 {
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return int64(m.HeapAlloc)
}

func BenchmarkFold(b *testing.B) {
	tab := newTable(b)
	fill(tab, 100_000)
	tab.Cut(nil)
	changes := make([]Change, 100_000)
	for i := range changes {
		changes[i] = Change{Person: KeyOf("s", fmt.Sprint(i)), Memberships: []Membership{{0, true, 0, 0}}, Profile: &Profile{Address: fmt.Sprintf("person-%d@example.com", i), Values: []Value{{0, []byte(`"First Name"`)}}}}
	}
	now := time.Unix(1e9, 0)
	b.ReportAllocs()
	n := 0
	for b.Loop() {
		c := &changes[n%len(changes)]
		c.Stamp = Stamp{Topic: 9, Offset: int64(1e6 + n), Time: int64(1e12 + n)}
		tab.Fold(c, now)
		if n++; n%100_000 == 0 {
			tab.Cut(nil)
		}
	}
}

// BenchmarkMemory tells what a million people take, and how long they take to be made ready.
func BenchmarkMemory(b *testing.B) {
	for b.Loop() {
		before := heapBytes()
		tab := newTable(b)
		fill(tab, 1_000_000)
		rows := tab.Cut(nil).Rows
		after := heapBytes()
		runtime.KeepAlive(rows)
		rowBytes := 0
		for _, r := range rows {
			rowBytes += cap(r.Key) + cap(r.Value) + 48
		}
		b.ReportMetric(float64(after-before-int64(rowBytes))/1e6, "MB/1M-people")
		began := time.Now()
		back := New(tab.cfg)
		for _, r := range rows {
			if err := back.Apply(r.Key, r.Value); err != nil {
				b.Fatal(err)
			}
		}
		if _, err := back.Ready(time.Unix(1e9, 0)); err != nil {
			b.Fatal(err)
		}
		b.ReportMetric(time.Since(began).Seconds(), "s/restore")
		runtime.KeepAlive(tab)
	}
}

// S66: a table that has lost a row of somebody says so (H6).
func TestS66ALostRowIsMissed(t *testing.T) {
	d := newDesk(t)
	d.crowd(10)
	d.send(applied)
	rows := d.Cut(nil).Rows
	for lost := range rows {
		if k := string(rows[lost].Key); k[0] != 'p' && k[0] != 'c' {
			continue
		}
		back := New(d.cfg)
		for i, r := range rows {
			if i == lost {
				continue
			}
			if err := back.Apply(r.Key, r.Value); err != nil {
				t.Fatal(err)
			}
		}
		if have, want, counted := back.Missing(); !counted || have != want-1 {
			t.Errorf("without %.2q: %d of %d, %v", rows[lost].Key, have, want, counted)
		}
	}
}

// S78: 3,000 new addresses of one person while nothing can be sent: its row and the contacts stay few (K7).
func TestS78AddressesOfOnePersonDoNotAddUp(t *testing.T) {
	d := newDesk(t)
	d.enter("first@example.com")
	d.send(applied)
	d.Hold(0, "no_answer", d.now)
	for i := range 3000 {
		d.enter(fmt.Sprintf("a%d@example.com", i))
	}
	pi, _ := d.store.findPerson(KeyOf("s", "p"), false)
	if n := len(d.store.blobs.Get(d.store.people.At(pi).row)); n > 1000 || d.Counts().Contacts > formerMost+2 {
		t.Errorf("a row of %d bytes, %d contacts", n, d.Counts().Contacts)
	}
	d.Release(0, "no_answer", d.now)
	for range 10 {
		d.rest()
	}
	if d.In(42) != 1 || d.Counts().Pending != 0 || d.Counts().Contacts != 1 {
		t.Errorf("%d are in, %d pending, %d contacts", d.In(42), d.Counts().Pending, d.Counts().Contacts)
	}
}

// S78: attributes that fill a person's row over many records: what does not fit is refused, the memberships move.
func TestS78ARowHasAnEnd(t *testing.T) {
	tab := New(Config{
		Sources: []Source{{Name: "s", Segments: []string{"vip"}, Attributes: slices.Collect(func(yield func(string) bool) {
			for i := range 50 {
				if !yield(fmt.Sprint("A", i)) {
					return
				}
			}
		})}},
		Exports: []Export{{Name: "e", Segments: []string{"vip"}, List: 42, Attributes: []string{"A0"}}},
	})
	now := time.Unix(1e9, 0)
	if _, err := tab.Ready(now); err != nil {
		t.Fatal(err)
	}
	large := []byte(`"` + strings.Repeat("x", 32<<10-2) + `"`)
	refused := 0
	for i := range 50 {
		f := tab.Fold(&Change{
			Person: KeyOf("s", "p"), Stamp: Stamp{Topic: 9, Offset: int64(i), Time: int64(i)}, Memberships: []Membership{{0, i%2 == 0, 0, 0}},
			Profile: &Profile{Address: "x@example.com", Values: []Value{{i, large}}},
		}, now)
		refused += int(bit(f.TooLarge))
		if !f.Moved {
			t.Errorf("membership %d did not move", i)
		}
	}
	pi, _ := tab.store.findPerson(KeyOf("s", "p"), false)
	if n := len(tab.store.blobs.Get(tab.store.people.At(pi).row)); n > rowBytes || refused != 50-7 {
		t.Errorf("a row of %d bytes; %d refused", n, refused)
	}
}

// S79: thousands of people with one address: a change of one does not cost a look at all of them (K8).
func TestS79ACrowdWithOneAddressIsLinear(t *testing.T) {
	took := func(n int) time.Duration {
		d := newDesk(t)
		began := time.Now()
		for i := range n {
			d.n++
			d.Fold(&Change{Person: KeyOf("s", fmt.Sprint(i)), Stamp: Stamp{Topic: 9, Offset: d.n, Time: d.n}, Memberships: []Membership{{0, true, 0, 0}}, Profile: &Profile{Address: "none@example.com", Values: []Value{{0, []byte(`"v"`)}}}}, d.now)
			if i%512 == 0 { // as a worker does
				d.Refresh(d.now)
			}
		}
		return time.Since(began)
	}
	took(100)
	for try := 1; ; try++ { // the machine may be busy
		few, many := took(2000), took(16000)
		if many <= 60*few {
			return
		}
		if try == 5 {
			t.Fatalf("2,000 take %s, 16,000 %s", few, many)
		}
	}
}
