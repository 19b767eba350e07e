package state

import (
	"slices"
	"strconv"
	"time"
)

// refusals are the values of unique attributes that contacts were refused, and when they are tried again.
type refusals struct {
	journal *journal
	agenda  *agenda
	again   time.Duration                  // how long a refused value rests
	by      map[uint32]map[uint64][]uint32 // attribute and value (its hash) to the contacts that were refused it
	freedAt map[uint32]int64               // attribute to when a value of it was last let go somewhere, Unix milliseconds
	anyAt   map[uint32]int64               // the same of a value that is not known
	anyDue  map[uint32]int64               // when all that were refused a value before that may try again
}

func newRefusals(j *journal, a *agenda, again time.Duration) *refusals {
	return &refusals{journal: j, agenda: a, again: again, by: map[uint32]map[uint64][]uint32{}, freedAt: map[uint32]int64{}, anyAt: map[uint32]int64{}, anyDue: map[uint32]int64{}}
}

// note takes up that a contact was refused a value, by its hash, at a time.
func (x *refusals) note(ci, name uint32, value uint64, at int64) {
	if x.by[name] == nil {
		x.by[name] = map[uint64][]uint32{}
	}
	if same := x.by[name][value]; !slices.Contains(same, ci) {
		x.by[name][value] = append(same, ci)
	}
	x.agenda.remind(ci, at+x.again.Milliseconds())
}

// due says whether a refused value is due to be tried again.
func (x *refusals) due(f *refusal, now time.Time) bool {
	return f.at+x.again.Milliseconds() <= millis(now)
}

// refuse notes that a value was refused: it is sent empty until it changes, somebody gives it up, or a day has gone.
// If somebody gave one up while the request was under way, that may have been this one: it is tried again at once.
// It returns true if the refusal is news, false if only another try has failed.
func (v *view) refuse(r *Request, name uint32, json []byte, now time.Time) bool {
	x, row := v.t.refusals, &v.row
	f := row.refusal(name)
	if f == nil {
		row.refused = append(row.refused, refusal{name: name})
		f = &row.refused[len(row.refused)-1]
	}
	was := f.value
	f.value, f.at = hashBytes(json), millis(r.At)
	if x.freedAt[name] >= f.at {
		f.at = 0
	}
	v.store()
	x.note(v.ci, name, f.value, f.at)
	if f.at != 0 && x.anyAt[name] >= f.at {
		x.letGoAny(name, now)
	}
	return f.value != was
}

// letGo lets others that were refused a value of an attribute try again: contact ci has let go of it. Only what has
// really changed may come here, or two who want one value would go on trying in turns for ever.
func (t *Table) letGo(ci, name uint32, value uint64, now time.Time) {
	x := t.refusals
	if value == 0 {
		x.letGoAny(name, now)
		return
	}
	x.freedAt[name] = millis(now)
	refused := x.by[name][value]
	if len(refused) == 0 {
		return
	}
	delete(x.by[name], value)
	for _, other := range refused {
		if other == ci {
			x.by[name][value] = []uint32{ci}
		} else {
			t.retryNow(other, name, value)
		}
	}
}

// retryNow lets a contact try a refused value again. It returns false if that is not refused any more.
func (t *Table) retryNow(ci, name uint32, value uint64) bool {
	v := t.view(ci)
	defer v.end()
	f := v.row.refusal(name)
	if f == nil || f.value != value {
		return false
	}
	f.at = 0
	v.store()
	t.agenda.remind(ci, 0)
	return true
}

// Bounds of how long refused values rest before they are tried again because somebody has let go of a value that is not
// known. After an outage that is so of every contact: all that were refused try again together, and the more they are,
// the longer they rest, so that it is about one call a second.
const (
	restLeast = time.Minute
	restMost  = 15 * time.Minute
)

const letGoPrefix = "letgo/"

func letGoKey(name uint32) string { return letGoPrefix + strconv.FormatUint(uint64(name), 10) }

// letGoAny lets all that were refused a value of an attribute until now try again, after a rest. A row says so
// meanwhile, for a successor.
func (x *refusals) letGoAny(name uint32, now time.Time) {
	x.anyAt[name] = millis(now)
	if x.anyDue[name] == 0 && len(x.by[name]) > 0 {
		rest := time.Duration(len(x.by[name])) * time.Second
		x.anyDue[name] = millis(now.Add(min(max(rest, restLeast), restMost)))
		x.journal.set(letGoKey(name), EncodeTime(now))
	}
}

// restore takes up what a predecessor had not come to.
func (x *refusals) restore(now time.Time) {
	for _, k := range x.journal.keys(letGoPrefix) {
		x.journal.set(k, nil) // said anew, unless nobody was refused
		if name, err := strconv.ParseUint(k[len(letGoPrefix):], 10, 32); err == nil {
			x.letGoAny(uint32(name), now)
		}
	}
}

// retryAny lets those try again whose rest is over, and says when the next rest is (0: nobody rests).
func (t *Table) retryAny(now time.Time) (next int64) {
	x := t.refusals
	for name, due := range x.anyDue {
		if due > millis(now) {
			if next == 0 || due < next {
				next = due
			}
			continue
		}
		delete(x.anyDue, name)
		x.journal.set(letGoKey(name), nil)
		for value, refused := range x.by[name] {
			refused = slices.DeleteFunc(refused, func(ci uint32) bool { return !t.stillRefused(ci, name, value) })
			if x.by[name][value] = refused; len(refused) == 0 {
				delete(x.by[name], value)
			}
		}
	}
	return next
}

// stillRefused says whether a contact is refused a value, and lets it try again if it was refused before somebody let go of
// one.
func (t *Table) stillRefused(ci, name uint32, value uint64) bool {
	v := t.view(ci)
	f := v.row.refusal(name)
	still := f != nil && f.value == value
	again := still && f.at <= t.refusals.anyAt[name]
	v.end()
	return still && (!again || t.retryNow(ci, name, value))
}
