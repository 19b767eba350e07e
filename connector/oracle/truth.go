package oracle

import (
	"fmt"
	"slices"
	"sort"
	"strings"
	"time"
)

// Event is one record of a history: the default shape, one profile entering or leaving one segment.
type Event struct {
	Person, Segment string
	In              bool
	At              time.Time
	Until           time.Time // when the membership lapses, in whole seconds; zero: never. Only where events are told in several ways
	Profile         *Profile  // nil: the record carries none
	Partition       int32     // of the topic; -1 by the person
	Poison          []byte    // instead of all else: bytes that decode to nothing
}

// Profile is what an event says of the person. Empty strings are nulls.
type Profile struct {
	Email, First, Last, Phone, Country string
}

// Export is an export as the truth sees it.
type Export struct {
	List         int64
	Segments     []string
	Attributes   []string // of FIRSTNAME, LASTNAME, SMS, COUNTRY
	OnlyExisting bool     // contacts that the account does not have stay out
}

// person is what the events say of one person.
type person struct {
	in        map[string]bool
	until     map[string]time.Time // of those that lapse
	email     string
	values    map[string]string
	profileAt time.Time
}

// Truth folds events in the order of their times, which the histories keep unique for each person.
type Truth struct {
	exports []Export
	people  map[string]*person
	// Unsubscribed addresses: their people are not added anywhere else.
	Unsubscribed map[string]bool
	former       map[string][]string
	keep         bool                      // profiles of people in no segment
	exists       func(address string) bool // as contact of the account
}

// NewTruth makes an empty truth.
func NewTruth(exports []Export) *Truth {
	return &Truth{exports: exports, people: map[string]*person{}, Unsubscribed: map[string]bool{}, former: map[string][]string{}}
}

// Apply folds an event. Events of one person must come in the order of their times.
func (t *Truth) Apply(e Event) {
	if e.Poison != nil {
		return
	}
	asked := slices.ContainsFunc(t.exports, func(x Export) bool { return slices.Contains(x.Segments, e.Segment) })
	p, ok := t.people[e.Person]
	if !ok {
		if !asked && (!t.keep || e.Profile == nil) {
			return // nobody asks about this person yet: their profile is not kept
		}
		p = &person{in: map[string]bool{}, until: map[string]time.Time{}, values: map[string]string{}}
		t.people[e.Person] = p
	}
	if asked {
		p.in[e.Segment] = e.In
		p.until[e.Segment] = e.Until
	}
	if e.Profile == nil {
		return
	}
	set := func(name, v string) {
		if v != "" {
			p.values[name] = v
		}
	}
	if a := strings.ToLower(strings.TrimSpace(e.Profile.Email)); a != "" && strings.Contains(a, "@") {
		if p.email != "" && p.email != a {
			t.former[e.Person] = append(t.former[e.Person], p.email)
		}
		p.email = a
		t.former[e.Person] = slices.DeleteFunc(t.former[e.Person], func(f string) bool { return f == a })
	}
	set("FIRSTNAME", e.Profile.First)
	set("LASTNAME", e.Profile.Last)
	set("SMS", e.Profile.Phone)
	set("COUNTRY", e.Profile.Country)
	p.profileAt = e.At
}

// Want is who must be in a list, with the attributes that must stand there.
type Want map[string]map[string]string

// List derives a list from the people.
func (t *Truth) List(list int64) Want {
	w := Want{}
	only := slices.ContainsFunc(t.exports, func(x Export) bool { return x.List == list && x.OnlyExisting })
	for address, carriers := range t.carriers() {
		wanted := false
		if only && !t.exists(address) {
			continue
		}
		for _, p := range carriers {
			wanted = wanted || len(t.wants(p, list)) > 0
		}
		if wanted {
			w[address] = t.attributes(carriers)
		}
	}
	return w
}

func (t *Truth) carriers() map[string][]*person {
	all := map[string][]*person{}
	for id, p := range t.people {
		if p.email == "" || slices.ContainsFunc(t.former[id], func(a string) bool { return t.Unsubscribed[a] }) {
			continue
		}
		all[p.email] = append(all[p.email], p)
	}
	return all
}

// wants are the exports to a list (0: any) that want a person.
func (t *Truth) wants(p *person, list int64) []Export {
	var all []Export
	now := time.Now()
	for _, x := range t.exports {
		if list != 0 && x.List != list {
			continue
		}
		if slices.ContainsFunc(x.Segments, func(s string) bool { return p.in[s] && (p.until[s].IsZero() || now.Before(p.until[s])) }) {
			all = append(all, x)
		}
	}
	return all
}

// attributes are those of the newest profile among the carriers who are in by an export that asks for them.
func (t *Truth) attributes(carriers []*person) map[string]string {
	sort.Slice(carriers, func(i, j int) bool { return carriers[i].profileAt.After(carriers[j].profileAt) })
	out, decided := map[string]string{}, map[string]bool{}
	for _, p := range carriers {
		for _, x := range t.wants(p, 0) {
			for _, a := range x.Attributes {
				if !decided[a] {
					decided[a] = true
					if v := p.values[a]; v != "" {
						out[a] = v
					}
				}
			}
		}
	}
	return out
}

// Have is a list as the account holds it.
type Have map[string]map[string]any

// Wrong is one difference between a list and the truth.
type Wrong struct {
	List    int64
	Address string
	Problem string
}

func (w Wrong) String() string { return fmt.Sprintf("list %d, %s: %s", w.List, w.Address, w.Problem) }

// Compare lists every difference: who is missing, who is too many, whose attributes are not as they must be. A number
// may be missing where another contact has it (holder tells), for no two can.
func Compare(list int64, want Want, have Have, holder func(number string) string) []Wrong {
	var all []Wrong
	add := func(address, format string, args ...any) {
		all = append(all, Wrong{list, address, fmt.Sprintf(format, args...)})
	}
	for address, attributes := range want {
		got, ok := have[address]
		if !ok {
			add(address, "is not in the list")
			continue
		}
		for name, v := range attributes {
			g := fmt.Sprint(got[name])
			if got[name] == nil {
				g = ""
			}
			if name == "SMS" {
				v = strings.TrimPrefix(v, "+")
				if g == "" && holder != nil && holder(v) != "" && holder(v) != address {
					continue
				}
			}
			if g != v {
				add(address, "%s is %q, not %q", name, g, v)
			}
		}
		if _, wanted := attributes["SMS"]; !wanted && got["SMS"] != nil {
			continue // an old number of the same person may stand: nulls keep
		}
	}
	for address := range have {
		if _, ok := want[address]; !ok {
			add(address, "is in the list")
		}
	}
	slices.SortFunc(all, func(a, b Wrong) int { return strings.Compare(a.String(), b.String()) })
	return all
}
