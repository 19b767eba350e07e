package state

import (
	"slices"
	"time"
)

// Outlook is what would be done for a list, in contacts.
type Outlook struct {
	Add       int `json:"add"`        // enter it
	Remove    int `json:"remove"`     // leave it
	Update    int `json:"update"`     // are in it, and get other attributes
	Unchanged int `json:"unchanged"`  // are in it as they should be
	Withheld  int `json:"withheld"`   // are to leave, and the guard would keep them
	Rejected  int `json:"rejected"`   // were refused, until what is wanted of them changes
	NoContact int `json:"no_contact"` // do not exist, and are not to be created
	Perhaps   int `json:"perhaps"`    // are to leave in case others have put them in: these are not counted as leaving
}

// Outlook says what would be done for a list if everything could be sent now.
func (t *Table) Outlook(list int64, now time.Time) (o Outlook) {
	t.all(now, func(v *view) {
		n := v.evaluate(now)
		l := v.row.list(list)
		wanted, leaving := slices.Contains(n.Wanted, list), slices.ContainsFunc(n.leaving, func(x leave) bool { return x.list == list })
		switch {
		case n.Held == NoContact:
			o.NoContact += int(bit(wanted))
		case n.Rejected:
			o.Rejected += int(bit(wanted || l != nil && l.state == in))
		case leaving && l.state == doubtful:
			o.Perhaps++
		case leaving && t.withholds(l):
			o.Withheld++
		case slices.Contains(n.Remove, list):
			o.Remove++
		case slices.Contains(n.Add, list):
			o.Add++
		case wanted && n.Attributes:
			o.Update++
		case wanted && l != nil && l.state == in:
			o.Unchanged++
		}
	})
	return o
}
