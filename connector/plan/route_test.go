package plan

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
		want Route
	}{
		"who leaves one list goes with others":             {state.Need{Remove: in}, situation{}, Remove},
		"alone in two lists one PUT does it":               {state.Need{Remove: two}, situation{}, Update},
		"of many in two lists each list has its calls":     {state.Need{Remove: two}, situation{many: true}, Remove},
		"who is to be deleted goes alone":                  {state.Need{Remove: in, Delete: true}, situation{many: true}, Delete},
		"not while somebody writes to it":                  {state.Need{Remove: in, Add: []int64{43}, Wanted: []int64{43}, Delete: true}, situation{}, Update},
		"an address given up is emptied by a PUT":          {state.Need{Remove: in, Attributes: true}, situation{imports: true, begin: true, many: true}, Update},
		"one who enters is upserted":                       {state.Need{Add: in, Wanted: in, Attributes: true}, situation{}, Upsert},
		"more looks than fit before a write go alone":      {state.Need{Add: in, Wanted: in, Attributes: true, Look: []string{"x"}, LookOnly: true}, situation{}, Look},
		"thousands are imported":                           {state.Need{Add: in, Wanted: in, Attributes: true}, situation{imports: true, begin: true, many: true}, Import},
		"not what an import cannot carry":                  {state.Need{Add: in, Wanted: in, Attributes: true}, situation{many: true}, Upsert},
		"not who is looked at first":                       {state.Need{Add: in, Wanted: in, Attributes: true, Look: []string{"x"}}, situation{imports: true, begin: true}, Upsert},
		"not who is wanted in a list that is halted":       {state.Need{Add: in, Wanted: two, Attributes: true, Held: "list_gone", Barred: true}, situation{imports: true, begin: true}, Upsert},
		"but who is withheld from leaving another":         {state.Need{Add: in, Wanted: in, Attributes: true, Held: "withheld"}, situation{imports: true, begin: true}, Import},
		"while none may begin they wait for it":            {state.Need{Add: in, Wanted: in, Attributes: true}, situation{imports: true, many: true}, Later},
		"but not whose last one failed":                    {state.Need{Add: in, Wanted: in, Attributes: true, Halves: 1}, situation{imports: true, many: true}, Upsert},
		"what failed in bulk down to one goes alone":       {state.Need{Add: in, Wanted: in, Known: true, Halves: 9}, situation{many: true, alone: true}, Upsert},
		"and so does who leaves":                           {state.Need{Remove: in, Halves: 9}, situation{many: true, alone: true}, Update},
		"who is there as wanted is added with others":      {state.Need{Add: in, Wanted: in, Known: true}, situation{many: true}, Add},
		"alone an upsert also tells whether they exist":    {state.Need{Add: in, Wanted: in, Known: true}, situation{}, Upsert},
		"who enters one list and leaves another has a PUT": {state.Need{Add: in, Remove: []int64{43}, Wanted: in, Attributes: true}, situation{}, Update},
		"in bulk the exit goes first":                      {state.Need{Add: in, Remove: []int64{43}, Wanted: in, Attributes: true}, situation{imports: true, begin: true}, Remove},
		"whose last import failed does both in one PUT":    {state.Need{Add: in, Remove: []int64{43}, Wanted: in, Attributes: true, Halves: 1}, situation{imports: true}, Update},
		"changed attributes alone":                         {state.Need{Wanted: in, Attributes: true}, situation{}, Upsert},
	} {
		t.Run(name, func(t *testing.T) {
			if got := choose(&c.n, c.s); got != c.want {
				t.Errorf("by %s, not %s", got, c.want)
			}
		})
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
