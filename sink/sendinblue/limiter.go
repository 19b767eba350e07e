package sendinblue

import (
	"net/http"
	"strconv"
	"sync"
	"time"
)

// Rate is a call budget: the account's limits and the share of them that is ours.
type Rate struct {
	ContactsPerSecond int
	ContactsPerHour   int
	OtherPerHour      int
	Share             float64
}

// Plans are the documented limits by plan, per account, all keys together.
var Plans = map[string]Rate{
	"general":      {ContactsPerSecond: 10, ContactsPerHour: 36_000, OtherPerHour: 100},
	"professional": {ContactsPerSecond: 20, ContactsPerHour: 72_000, OtherPerHour: 200},
	"extended":     {ContactsPerSecond: 60, ContactsPerHour: 216_000, OtherPerHour: 200},
}

// slack is added to the second's window: a call reaches the API a little later than it was written, and two calls
// may come closer there than they were here.
const slack = 50 * time.Millisecond

// window holds a limit over every span of a length, wherever the span begins: it remembers each call. (A token
// bucket that is full lets nearly twice its limit through in one span.)
type window struct {
	limit, ours int // of the account; of us
	span        time.Duration
	calls       []time.Time // of ours, oldest first; a ring
	head        int
	foreign     int // calls of others, as the API's headers told
	until       time.Time
}

func newWindow(limit int, share float64, span time.Duration) *window {
	return &window{limit: limit, ours: max(1, int(float64(limit)*share)), span: span}
}

func (w *window) used(now time.Time) int {
	for w.head < len(w.calls) && now.Sub(w.calls[w.head]) > w.span {
		w.head++
	}
	if w.head > 1024 && w.head*2 > len(w.calls) {
		w.calls = w.calls[:copy(w.calls, w.calls[w.head:])]
		w.head = 0
	}
	return len(w.calls) - w.head
}

// room says whether n more calls fit, with those reserved; if not, when to ask again.
func (w *window) room(n, reserved int, now time.Time) (bool, time.Time) {
	used := w.used(now)
	foreign := w.foreign
	if !now.Before(w.until) {
		foreign = 0
	}
	if used+reserved+n <= w.ours && used+reserved+n+foreign <= w.limit {
		return true, now
	}
	again := now.Add(w.span)
	if used > 0 {
		again = w.calls[w.head].Add(w.span + time.Millisecond)
	}
	if foreign > 0 && w.until.Before(again) {
		again = w.until
	}
	if least := now.Add(5 * time.Millisecond); again.Before(least) {
		again = least
	}
	return false, again
}

// budget is a set of windows that hold at once.
type budget struct {
	windows  []*window
	reserved int
	paused   time.Time // after a 429
	pauses   int
}

func (b *budget) reserve(n int, now time.Time) (bool, time.Time) {
	if now.Before(b.paused) {
		return false, b.paused
	}
	var latest time.Time
	ok := true
	for _, w := range b.windows {
		fits, again := w.room(n, b.reserved, now)
		ok = ok && fits
		if !fits && again.After(latest) {
			latest = again
		}
	}
	if ok {
		b.reserved += n
	}
	return ok, latest
}

// use turns a reserved call into one made now.
func (b *budget) use(now time.Time) {
	b.reserved--
	for _, w := range b.windows {
		w.calls = append(w.calls, now)
	}
}

// follow takes the account's own count from an answer's headers; it covers the calls of others and those made
// before a restart.
func (b *budget) follow(h http.Header, status int, now time.Time) {
	limit, okLimit := header(h, "x-sib-ratelimit-limit")
	remaining, okRemaining := header(h, "x-sib-ratelimit-remaining")
	reset, okReset := header(h, "x-sib-ratelimit-reset")
	wait, most := time.Duration(reset)*time.Second, b.windows[len(b.windows)-1].span
	if okLimit && okRemaining && okReset {
		w := b.windows[0]
		for _, c := range b.windows {
			if abs(c.limit-limit) < abs(w.limit-limit) {
				w = c
			}
		}
		w.foreign = max(0, limit-remaining-w.used(now)-b.reserved)
		most = w.span // no window is full for longer than its own span, whatever the answer says
		wait = min(wait, most)
		w.until = now.Add(max(wait, time.Second))
	}
	if status != http.StatusTooManyRequests {
		if status < 400 {
			b.pauses = 0
		}
		return
	}
	if after, ok := header(h, "Retry-After"); ok {
		wait = time.Duration(after) * time.Second
	}
	wait = min(wait, most)
	if wait <= 0 {
		wait = time.Second << min(b.pauses, 6)
	}
	b.pauses++
	if p := now.Add(wait); p.After(b.paused) {
		b.paused = p
	}
}

func header(h http.Header, name string) (int, bool) {
	f, err := strconv.ParseFloat(h.Get(name), 64)
	return int(f), err == nil && f >= 0 && f < 1e9
}

func abs(n int) int { return max(n, -n) }

// limiter holds the two budgets of an account: everything under /contacts, and all other calls.
type limiter struct {
	mu       sync.Mutex
	now      func() time.Time
	contacts budget
	other    budget
}

func newLimiter(r Rate, now func() time.Time) *limiter {
	if r.Share <= 0 {
		r.Share = 1
	}
	return &limiter{
		now: now,
		// A predecessor that died a moment ago may have used up this second; the hour's count comes with the first answer.
		contacts: budget{paused: now().Add(time.Second + slack), windows: []*window{
			newWindow(r.ContactsPerSecond, r.Share, time.Second+slack), newWindow(r.ContactsPerHour, r.Share, time.Hour),
		}},
		other: budget{windows: []*window{newWindow(r.OtherPerHour, r.Share, time.Hour)}},
	}
}

func (l *limiter) reserve(b *budget, n int) (bool, time.Time) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return b.reserve(n, l.now())
}

func (l *limiter) unreserve(b *budget, n int) {
	l.mu.Lock()
	defer l.mu.Unlock()
	b.reserved -= n
}

func (l *limiter) use(b *budget) {
	l.mu.Lock()
	defer l.mu.Unlock()
	b.use(l.now())
}

func (l *limiter) follow(b *budget, h http.Header, status int) {
	l.mu.Lock()
	defer l.mu.Unlock()
	b.follow(h, status, l.now())
}
