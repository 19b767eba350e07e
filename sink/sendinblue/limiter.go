package sendinblue

import (
	"container/heap"
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

// window holds a limit over every span of a length, wherever the span begins: it remembers each call. (A token
// bucket that is full lets nearly twice its limit through in one span.)
//
// What counts is when a call arrives, which is some time between its sending and its answer. A call counts until a span
// after the latest moment at which it can have arrived: while it is under way, and then as long after its sending as its
// answer took longer than the quickest one.
type window struct {
	limit, ours int // of the account; of us
	span        time.Duration
	under       map[ticket]time.Time // calls under way, by when they were sent
	until       instants             // when calls that were answered count no more
	foreign     int                  // calls of others, as the API's headers told
	reset       time.Time            // until when foreign holds
}

// ticket names a call under way.
type ticket uint64

// instants is a heap of times.
type instants []time.Time

func (h instants) Len() int           { return len(h) }
func (h instants) Less(i, j int) bool { return h[i].Before(h[j]) }
func (h instants) Swap(i, j int)      { h[i], h[j] = h[j], h[i] }
func (h *instants) Push(x any)        { *h = append(*h, x.(time.Time)) } //nolint:forcetypeassert // container/heap's signature
func (h *instants) Pop() any {
	old := *h
	x := old[len(old)-1]
	*h = old[:len(old)-1]
	return x
}

const (
	// slack is what the way to the API may vary by, unseen.
	slack = 10 * time.Millisecond
	// answersFew tell little of how quick an answer can be; it is thought to be answerUsual until then, at most.
	answersFew  = 20
	answerUsual = 20 * time.Millisecond
	// arrives is how long a call is under way at most before it has arrived, answered or not.
	arrives = 5 * time.Second
)

func newWindow(limit int, share float64, span time.Duration) *window {
	return &window{limit: limit, ours: max(1, int(float64(limit)*share)), span: span, under: map[ticket]time.Time{}}
}

func (w *window) used(now time.Time) int {
	for t, sent := range w.under {
		if now.Sub(sent) > arrives {
			w.answered(t, arrives, 0)
		}
	}
	for len(w.until) > 0 && !w.until[0].After(now) {
		heap.Pop(&w.until)
	}
	return len(w.until) + len(w.under)
}

// answered ends a call under way. late is how much later than the quickest its answer came.
func (w *window) answered(t ticket, late, quickest time.Duration) {
	if sent, ok := w.under[t]; ok {
		delete(w.under, t)
		heap.Push(&w.until, sent.Add(w.span+max(0, late-quickest)+slack))
	}
}

// room says whether n more calls fit, with those reserved; if not, when to ask again.
func (w *window) room(n, reserved int, now time.Time) (bool, time.Time) {
	used := w.used(now)
	foreign := w.foreign
	if !now.Before(w.reset) {
		foreign = 0
	}
	if used+reserved+n <= w.ours && used+reserved+n+foreign <= w.limit {
		return true, now
	}
	again := now.Add(w.span)
	switch {
	case len(w.until) > 0:
		again = w.until[0]
	case len(w.under) > 0 && used+reserved+n > w.ours: // an answer will tell
		again = now.Add(2 * slack)
	}
	if foreign > 0 && w.reset.Before(again) {
		again = w.reset
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
	calls    ticket
	sent     map[ticket]time.Time // of calls without an answer
	quickest time.Duration        // answer, in the long run
	answers  int                  // there were
	paused   time.Time            // after a 429
	pauses   int
	resting  time.Time // until then a predecessor's calls may count, as many as were ours
}

// reserve takes n calls, or says when to ask again. asks: they are questions, for which what is left to the account's
// other users serves while a predecessor's calls may count.
func (b *budget) reserve(n int, asks bool, now time.Time) (bool, time.Time) {
	if now.Before(b.paused) {
		return false, b.paused
	}
	if w := b.windows[0]; now.Before(b.resting) && (!asks || w.used(now)+b.reserved+n > w.limit-w.ours) {
		return false, b.resting
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
func (b *budget) use(now time.Time) ticket {
	b.reserved--
	b.calls++
	if b.sent == nil {
		b.sent = map[ticket]time.Time{}
	}
	b.sent[b.calls] = now
	for _, w := range b.windows {
		w.under[b.calls] = now
	}
	return b.calls
}

// answered ends a call, with an answer or without.
func (b *budget) answered(t ticket, now time.Time, answer bool) {
	took := now.Sub(b.sent[t])
	delete(b.sent, t)
	switch {
	case !answer:
	case b.answers == 0 || took < b.quickest:
		b.quickest = took
		b.answers++
	default:
		b.quickest += (took - b.quickest) / 256 // the way may have become longer for good
		b.answers++
	}
	quickest := b.quickest
	if b.answers < answersFew { // they may all have been slow
		quickest = min(quickest, answerUsual)
	}
	for _, w := range b.windows {
		w.answered(t, took, quickest)
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
		w.reset = now.Add(max(wait, time.Second))
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
		now:      now,
		contacts: budget{windows: []*window{newWindow(r.ContactsPerSecond, r.Share, time.Second), newWindow(r.ContactsPerHour, r.Share, time.Hour)}},
		other:    budget{windows: []*window{newWindow(r.OtherPerHour, r.Share, time.Hour)}},
	}
}

func (l *limiter) reserve(b *budget, n int) (bool, time.Time) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return b.reserve(n, false, l.now())
}

// ask is reserve for a question.
func (l *limiter) ask(b *budget) (bool, time.Time) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return b.reserve(1, true, l.now())
}

func (l *limiter) unreserve(b *budget, n int) {
	l.mu.Lock()
	defer l.mu.Unlock()
	b.reserved -= n
}

func (l *limiter) use(b *budget) ticket {
	l.mu.Lock()
	defer l.mu.Unlock()
	return b.use(l.now())
}

func (l *limiter) answered(b *budget, t ticket, answer bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	b.answered(t, l.now(), answer)
}

// rest lets a second go by: a predecessor that died a moment ago may have used it up. (The hour's count comes with the
// first answer.)
func (l *limiter) rest() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.contacts.resting = l.now().Add(time.Second + slack)
}

func (l *limiter) follow(b *budget, h http.Header, status int) {
	l.mu.Lock()
	defer l.mu.Unlock()
	b.follow(h, status, l.now())
}
