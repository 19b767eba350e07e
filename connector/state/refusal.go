package state

import (
	"slices"
	"strconv"
	"time"
)

// refuse notes that a value was refused: it is sent empty until it changes, somebody gives it up, or a day has gone.
// If somebody gave one up while the request was under way, that may have been this one: it is tried again at once.
// It returns true if the refusal is news, false if only another try has failed.
func (t *Table) refuse(ci uint32, row *contactRow, r *Request, name uint32, json []byte, now time.Time) bool {
	f := row.refusal(name)
	if f == nil {
		row.refused = append(row.refused, refusal{name: name})
		f = &row.refused[len(row.refused)-1]
	}
	was := f.value
	f.value, f.at = hashBytes(json), millis(r.At)
	if t.freedAt[name] >= f.at {
		f.at = 0
	}
	t.storeContact(ci, row)
	t.noteRefused(ci, name, f.value, f.at)
	if f.at != 0 && t.anyAt[name] >= f.at {
		t.letGoAny(name, now)
	}
	return f.value != was
}

// noteRefused takes up that a contact was refused a value, by its hash, at a time.
func (t *Table) noteRefused(ci, name uint32, value uint64, at int64) {
	if t.refusedBy[name] == nil {
		t.refusedBy[name] = map[uint64][]uint32{}
	}
	if same := t.refusedBy[name][value]; !slices.Contains(same, ci) {
		t.refusedBy[name][value] = append(same, ci)
	}
	t.remind(ci, at+t.cfg.RetryRefused.Milliseconds())
}

// retryRefused says whether a refused value is due to be tried again.
func (t *Table) retryRefused(f *refusal, now time.Time) bool {
	return f.at+t.cfg.RetryRefused.Milliseconds() <= millis(now)
}

// letGo lets others that were refused a value of an attribute try again: contact ci has let go of it. Only what has
// really changed may come here, or two who want one value would go on trying in turns for ever.
func (t *Table) letGo(ci, name uint32, value uint64, now time.Time) {
	if value == 0 {
		t.letGoAny(name, now)
		return
	}
	t.freedAt[name] = millis(now)
	refused := t.refusedBy[name][value]
	if len(refused) == 0 {
		return
	}
	delete(t.refusedBy[name], value)
	for _, other := range refused {
		if other == ci {
			t.refusedBy[name][value] = []uint32{ci}
		} else {
			t.retryNow(other, name, value)
		}
	}
}

// retryNow lets a contact try a refused value again. It returns false if that is not refused any more.
func (t *Table) retryNow(ci, name uint32, value uint64) bool {
	var r contactRow // not the scratch: callers hold it
	t.loadContact(ci, &r)
	f := r.refusal(name)
	if f == nil || f.value != value {
		return false
	}
	f.at = 0
	t.storeContact(ci, &r)
	t.remind(ci, 0)
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
func (t *Table) letGoAny(name uint32, now time.Time) {
	t.anyAt[name] = millis(now)
	if t.anyDue[name] == 0 && len(t.refusedBy[name]) > 0 {
		rest := time.Duration(len(t.refusedBy[name])) * time.Second
		t.anyDue[name] = millis(now.Add(min(max(rest, restLeast), restMost)))
		t.SetMeta(letGoKey(name), EncodeTime(now))
	}
}

// restoreLetGo takes up what a predecessor had not come to.
func (t *Table) restoreLetGo(now time.Time) {
	for _, k := range t.MetaKeys(letGoPrefix) {
		t.SetMeta(k, nil) // said anew, unless nobody was refused
		if name, err := strconv.ParseUint(k[len(letGoPrefix):], 10, 32); err == nil {
			t.letGoAny(uint32(name), now)
		}
	}
}

// retryAny lets those try again whose rest is over, and says when the next rest is (0: nobody rests).
func (t *Table) retryAny(now time.Time) (next int64) {
	for name, due := range t.anyDue {
		if due > millis(now) {
			if next == 0 || due < next {
				next = due
			}
			continue
		}
		delete(t.anyDue, name)
		t.SetMeta(letGoKey(name), nil)
		for value, refused := range t.refusedBy[name] {
			refused = slices.DeleteFunc(refused, func(ci uint32) bool {
				t.loadContact(ci, &t.row)
				f := t.row.refusal(name)
				if f == nil || f.value != value {
					return true
				}
				return f.at <= t.anyAt[name] && !t.retryNow(ci, name, value)
			})
			if t.refusedBy[name][value] = refused; len(refused) == 0 {
				delete(t.refusedBy[name], value)
			}
		}
	}
	return next
}
