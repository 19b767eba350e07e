package connector

import (
	"testing"

	"segsync/connector/state"
)

// The planner's reasons, one a row.
func TestTheWayOfEachDifference(t *testing.T) {
	in, two := []int64{42}, []int64{42, 43}
	for name, c := range map[string]struct {
		n    state.Need
		s    situation
		want way
	}{
		"who leaves one list goes with others":             {state.Need{Remove: in}, situation{}, wayRemove},
		"alone in two lists one PUT does it":               {state.Need{Remove: two}, situation{}, wayUpdate},
		"of many in two lists each list has its calls":     {state.Need{Remove: two}, situation{many: true}, wayRemove},
		"who is to be deleted goes alone":                  {state.Need{Remove: in, Delete: true}, situation{many: true}, wayDelete},
		"not while somebody writes to it":                  {state.Need{Remove: in, Add: []int64{43}, Wanted: []int64{43}, Delete: true}, situation{}, wayUpdate},
		"an address given up is emptied by a PUT":          {state.Need{Remove: in, Attributes: true}, situation{bulk: true, row: true, many: true}, wayUpdate},
		"one who enters is upserted":                       {state.Need{Add: in, Wanted: in, Attributes: true}, situation{}, wayUpsert},
		"more looks than fit before a write go alone":      {state.Need{Add: in, Wanted: in, Attributes: true, Look: []string{"x"}, LookOnly: true}, situation{}, wayLook},
		"thousands are imported":                           {state.Need{Add: in, Wanted: in, Attributes: true}, situation{bulk: true, row: true, many: true}, wayImport},
		"not what an import cannot carry":                  {state.Need{Add: in, Wanted: in, Attributes: true}, situation{bulk: true, many: true}, wayUpsert},
		"not who is looked at first":                       {state.Need{Add: in, Wanted: in, Attributes: true, Look: []string{"x"}}, situation{bulk: true, row: true}, wayUpsert},
		"not who is wanted in a list that is halted":       {state.Need{Add: in, Wanted: two, Attributes: true, Held: "list_gone", Barred: true}, situation{bulk: true, row: true}, wayUpsert},
		"but who is withheld from leaving another":         {state.Need{Add: in, Wanted: in, Attributes: true, Held: "withheld"}, situation{bulk: true, row: true}, wayImport},
		"not who was in one that failed down to one":       {state.Need{Add: in, Wanted: in, Attributes: true}, situation{bulk: true, row: true, halved: true}, wayUpsert},
		"who is there as wanted is added with others":      {state.Need{Add: in, Wanted: in, Known: true}, situation{many: true}, wayAdd},
		"alone an upsert also tells whether they exist":    {state.Need{Add: in, Wanted: in, Known: true}, situation{}, wayUpsert},
		"who enters one list and leaves another has a PUT": {state.Need{Add: in, Remove: []int64{43}, Wanted: in, Attributes: true}, situation{}, wayUpdate},
		"in bulk the exit goes first":                      {state.Need{Add: in, Remove: []int64{43}, Wanted: in, Attributes: true}, situation{bulk: true, row: true}, wayRemove},
		"changed attributes alone":                         {state.Need{Wanted: in, Attributes: true}, situation{}, wayUpsert},
	} {
		t.Run(name, func(t *testing.T) {
			if got := choose(&c.n, c.s); got != c.want {
				t.Errorf("by %s, not %s", got, c.want)
			}
		})
	}
}

func TestTheBreakerCountsAmongTheLast(t *testing.T) {
	b := newBreaker(Breaker{Rejects: 3, OfLast: 10})
	for i := range 100 { // one in five for ever
		if b.note(i%5 == 0) {
			t.Fatal("one reject in five trips it")
		}
	}
	if b.note(true) || !b.note(true) {
		t.Error("three among ten do not trip it")
	}
	if b.note(true) {
		t.Error("it trips twice")
	}
	b.reset()
	for i := range 3 {
		if trips := b.note(true); trips != (i == 2) {
			t.Errorf("after a reset it trips at reject %d: %v", i+1, trips)
		}
	}
}

func TestWhoIsAddedTogetherWithOthers(t *testing.T) {
	list := []int64{42}
	for name, c := range map[string]struct {
		need  state.Need
		joins bool
	}{
		"known, and missing there":        {state.Need{Wanted: list, Add: list, Known: true}, true},
		"attributes differ":               {state.Need{Wanted: list, Add: list, Attributes: true}, false},
		"missing from another list":       {state.Need{Wanted: list, Add: []int64{43}, Known: true}, false},
		"there, but to be looked at":      {state.Need{Wanted: list, Known: true, Attributes: true, Look: []string{"x@example.com"}}, false},
		"there, held by another list":     {state.Need{Wanted: list, Known: true, Attributes: true}, false},
		"its bulk call failed as a whole": {state.Need{Wanted: list, Add: list, Known: true, Halves: 1}, false},
	} {
		if joins(&c.need, 42) != c.joins {
			t.Errorf("%s: %v", name, !c.joins)
		}
	}
}
