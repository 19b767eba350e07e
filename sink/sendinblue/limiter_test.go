package sendinblue

import (
	"net/http"
	"slices"
	"testing"
	"time"

	"pgregory.net/rapid"
)

// No window of either length, wherever it begins, ever holds more calls than the share of the limit, counted where they
// arrive: some time between their sending and their answer. The quickest answer is known from the first calls.
func TestNoWindowHoldsMoreThanTheLimit(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		rate := Rate{
			ContactsPerSecond: rapid.IntRange(1, 20).Draw(t, "per second"), ContactsPerHour: rapid.IntRange(20, 400).Draw(t, "per hour"),
			OtherPerHour: 100, Share: rapid.SampledFrom([]float64{0.5, 0.8, 1}).Draw(t, "share"),
		}
		const way = 10 * time.Millisecond // each, at least
		now := time.Unix(1e9, 0)
		l := newLimiter(rate, func() time.Time { return now })
		l.contacts.quickest, l.contacts.answers = 2*way, answersFew
		type call struct {
			t       ticket
			answers time.Time
		}
		var arrived []time.Time
		var under []call
		reserved := 0
		pass := func(d time.Duration) {
			end := now.Add(d)
			for {
				slices.SortFunc(under, func(a, b call) int { return a.answers.Compare(b.answers) })
				if len(under) == 0 || under[0].answers.After(end) {
					break
				}
				now = under[0].answers
				l.answered(&l.contacts, under[0].t, true)
				under = under[1:]
			}
			now = end
		}
		for range rapid.IntRange(50, 400).Draw(t, "steps") {
			switch rapid.IntRange(0, 5).Draw(t, "step") {
			case 0, 1:
				n := rapid.IntRange(1, 3).Draw(t, "calls")
				if ok, again := l.reserve(&l.contacts, n); ok {
					reserved += n
				} else if !again.After(now) {
					t.Fatal("refused, and to be asked again at once")
				}
			case 2, 3:
				for ; reserved > 0; reserved-- {
					there, back := rapid.IntRange(0, 900).Draw(t, "there"), rapid.IntRange(0, 200).Draw(t, "back")
					arrives := now.Add(way + time.Duration(there)*time.Millisecond)
					arrived = append(arrived, arrives)
					under = append(under, call{l.use(&l.contacts), arrives.Add(way + time.Duration(back)*time.Millisecond)})
				}
			case 4:
				if reserved > 0 {
					l.unreserve(&l.contacts, 1)
					reserved--
				}
			case 5:
				pass(time.Duration(rapid.IntRange(1, 3_000_000).Draw(t, "passes")) * time.Microsecond * rapid.SampledFrom([]time.Duration{1, 100}).Draw(t, "scale"))
			}
			l.contacts.quickest = 2 * way
		}
		slices.SortFunc(arrived, time.Time.Compare)
		within := func(span time.Duration, limit int) {
			for i := range arrived {
				j, _ := slices.BinarySearchFunc(arrived, arrived[i].Add(span), func(a, b time.Time) int { return a.Compare(b) })
				if j-i > limit {
					t.Fatalf("%d calls arrive within %s, %d are allowed", j-i, span, limit)
				}
			}
		}
		within(time.Second, max(1, int(float64(rate.ContactsPerSecond)*rate.Share)))
		within(time.Hour, max(1, int(float64(rate.ContactsPerHour)*rate.Share)))
	})
}

func headers(limit, remaining, reset string) http.Header {
	h := http.Header{}
	h.Set("x-sib-ratelimit-limit", limit)
	h.Set("x-sib-ratelimit-remaining", remaining)
	h.Set("x-sib-ratelimit-reset", reset)
	return h
}

func TestTheAccountsOwnCountIsFollowed(t *testing.T) {
	now := time.Unix(1e9, 0)
	l := newLimiter(Plans["general"], func() time.Time { return now })
	now = now.Add(2 * time.Second)
	// Others have used the hour up but for one call: the first answer after a restart says so.
	l.reserve(&l.contacts, 1)
	l.use(&l.contacts)
	l.follow(&l.contacts, headers("36000", "1", "1800"), http.StatusOK)
	if ok, _ := l.reserve(&l.contacts, 1); !ok {
		t.Error("the last call is refused")
	}
	if ok, again := l.reserve(&l.contacts, 1); ok || again.Sub(now) < time.Minute {
		t.Errorf("a call over the account's count is allowed, or asked for again after %s", again.Sub(now))
	}
	now = now.Add(31 * time.Minute)
	if ok, _ := l.reserve(&l.contacts, 1); !ok {
		t.Error("nothing is allowed after the reset")
	}
}

func TestA429StopsCallsForAsLongAsItSays(t *testing.T) {
	now := time.Unix(1e9, 0)
	l := newLimiter(Plans["general"], func() time.Time { return now })
	now = now.Add(2 * time.Second)
	l.follow(&l.contacts, headers("36000", "0", "7"), http.StatusTooManyRequests)
	if ok, again := l.reserve(&l.contacts, 1); ok || again.Sub(now) != 7*time.Second {
		t.Errorf("allowed %v, again after %s", ok, again.Sub(now))
	}
	l.follow(&l.contacts, headers("36000", "0", "999999"), http.StatusTooManyRequests)
	if _, again := l.reserve(&l.contacts, 1); again.Sub(now) > time.Hour {
		t.Errorf("a wait of %s is not clamped", again.Sub(now))
	}
}

// S76: a second's window that says it is full for an hour (K4).
func TestS76NoWindowIsFullForLongerThanItself(t *testing.T) {
	for _, status := range []int{http.StatusOK, http.StatusTooManyRequests} {
		now := time.Unix(1e9, 0)
		l := newLimiter(Plans["general"], func() time.Time { return now })
		now = now.Add(2 * time.Second)
		l.follow(&l.contacts, headers("10", "0", "3599"), status)
		now = now.Add(1100 * time.Millisecond)
		if ok, again := l.reserve(&l.contacts, 1); !ok {
			t.Errorf("after a %d nothing goes for %s", status, again.Sub(now))
		}
	}
}

// After a take-over nothing is sent for a second; a question may be asked where others' share has room for it.
func TestAfterATakeOverOnlyQuestionsAreAsked(t *testing.T) {
	for share, asks := range map[float64]int{0.8: 2, 1: 0} {
		now := time.Unix(1e9, 0)
		r := Plans["general"]
		r.Share = share
		l := newLimiter(r, func() time.Time { return now })
		l.rest()
		if ok, _ := l.reserve(&l.contacts, 1); ok {
			t.Error("something is sent")
		}
		n := 0
		for range 5 {
			if ok, _ := l.ask(&l.contacts); ok {
				l.use(&l.contacts)
				n++
			}
		}
		if n != asks {
			t.Errorf("with a share of %v %d questions are asked, not %d", share, n, asks)
		}
		now = now.Add(1100 * time.Millisecond)
		if ok, _ := l.reserve(&l.contacts, 1); !ok {
			t.Error("nothing is sent a second later")
		}
	}
}

// The first answers say little of how quick one can be: a call that hung may have arrived a moment ago.
func TestTheFirstAnswersAreSlow(t *testing.T) {
	now := time.Unix(1e9, 0)
	l := newLimiter(Rate{ContactsPerSecond: 10, ContactsPerHour: 36_000, OtherPerHour: 100}, func() time.Time { return now })
	l.reserve(&l.contacts, 1)
	call := l.use(&l.contacts)
	now = now.Add(3 * time.Second)
	l.answered(&l.contacts, call, true)
	if ok, _ := l.reserve(&l.contacts, 10); ok {
		t.Error("eleven calls fit into one second")
	}
}
