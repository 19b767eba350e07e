package engine

import (
	"time"

	"go.uber.org/zap"

	"segsync/connector/state"
	"segsync/sink"
)

// troubles are what goes wrong again and again, and is tried again: somebody is told once it lasts.
type troubles struct {
	*core
	// +checklocks:mu
	api trouble
	// +checklocks:mu
	registry trouble
	// +checklocks:mu
	calling map[*state.Request]time.Time // calls under way, imports apart
}

// tellAfter is how long something must go wrong for somebody to be told: what passes by itself is none of their business.
const tellAfter = 10 * time.Second

// trouble is something that goes wrong again and again, and is tried again.
type trouble struct {
	since time.Time
	why   string
	told  bool
}

// is notes that it goes wrong.
func (t *trouble) is(why string, now time.Time) {
	if t.since.IsZero() {
		t.since = now
	}
	t.why = why
}

// lasts says whether it has gone wrong for long enough to tell somebody.
func (t *trouble) lasts(now time.Time) bool {
	return !t.since.IsZero() && now.Sub(t.since) >= tellAfter
}

func (t *trouble) text() string {
	return "since " + t.since.UTC().Format(time.RFC3339) + ": " + t.why
}

// over notes that it goes well, and says whether somebody was told that it did not, and for how long it did not.
func (t *trouble) over(now time.Time) (told bool, lasted time.Duration) {
	told, lasted = t.told, now.Sub(t.since)
	*t = trouble{}
	return told, lasted
}

// due says whether it is to be told now.
func (t *trouble) due(now time.Time) bool {
	if t.told || !t.lasts(now) {
		return false
	}
	t.told = true
	return true
}

// watch tells of what has been going wrong for a while, once.
func (t *troubles) watch() { t.every(time.Second, t.tell) }

func (t *troubles) tell() {
	t.mu.Lock()
	defer t.mu.Unlock()
	now := t.now()
	for _, began := range t.calling {
		if now.Sub(began) >= tellAfter {
			t.api.is("a call is not answered", began)
		}
	}
	if t.api.due(now) {
		t.log.Warn("retrying: the API does not do what it is asked to", zap.String("why", t.api.why), zap.Time("since", t.api.since))
	}
	if t.registry.due(now) {
		t.log.Warn("waiting for the schema registry", zap.String("why", t.registry.why), zap.Time("since", t.registry.since))
	}
}

// waitForRegistry notes that a record waits for the registry.
func (t *troubles) waitForRegistry(why string) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.registry.is(why, t.now())
}

// registryAnswers ends a wait for the registry.
func (t *troubles) registryAnswers() {
	t.mu.Lock()
	defer t.mu.Unlock()
	if told, lasted := t.registry.over(t.now()); told {
		t.log.Info("the schema registry answers again", zap.Duration("after", lasted.Round(time.Second)))
	}
}

// call notes that a call is made.
func (t *troubles) call(r *state.Request) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.calling[r] = t.now()
}

// answeredLocked notes whether the API does what it is asked to.
//
// +checklocks:t.mu
func (t *troubles) answeredLocked(o sink.Outcome, now time.Time) {
	if o.Verdict != sink.Retry {
		if told, lasted := t.api.over(now); told {
			t.log.Info("the API answers again", zap.Duration("after", lasted.Round(time.Second)))
		}
		return
	}
	if o.Busy || o.Absent || o.Split {
		return
	}
	why := o.Code
	if o.Message != "" {
		why += ": " + o.Message
	}
	t.api.is(why, now)
}
