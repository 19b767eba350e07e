package notify

import (
	"context"
	"fmt"
	"sync"
	"time"

	"go.uber.org/zap"

	"segsync/connector"
)

// watchEvery is how often connections are asked how they stand.
const watchEvery = 5 * time.Second

// Expectation is how long nothing may be heard of an export.
type Expectation struct {
	Connection, Export string
}

// Run watches connections, and tells the targets what has changed, until ctx ends. silence is how long nothing may be heard of
// exports. What waits by then is not told any more.
func (n *Notifier) Run(ctx context.Context, all []connector.Told, silence map[Expectation]time.Duration) {
	queues := make([]chan Message, len(n.targets))
	var serving sync.WaitGroup
	for i := range n.targets {
		queues[i] = make(chan Message, queueMost)
		serving.Go(func() { n.serve(ctx, &n.targets[i], queues[i]) })
	}
	defer func() {
		for _, q := range queues {
			close(q)
		}
		serving.Wait()
	}()
	tell := func(m Message) {
		for i, q := range queues {
			select {
			case q <- m:
			default:
				n.log.Warn("a target takes nothing: a message is dropped", zap.String("target", n.targets[i].name()), zap.String("kind", m.Kind))
			}
		}
	}
	seen := make([]watched, len(all))
	tick := time.NewTicker(watchEvery)
	defer tick.Stop()
	for {
		for i, c := range all {
			s := c.Status()
			for _, m := range seen[i].changes(&s, silence, time.Now()) {
				if !n.throttled(&m) {
					tell(m)
				}
			}
		}
		for _, m := range n.due(time.Now()) {
			tell(m)
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return
		}
	}
}

// watched is how a connection stood when it was last looked at.
type watched struct {
	owned  bool
	held   map[heldAt]connector.Halted
	runs   map[string]bool      // that have ended
	audits map[string]time.Time // by export
	silent map[string]bool      // exports that were told of
}

type heldAt struct {
	list         int64
	source, code string
}

// changes is what has changed since it was last looked at. Of a connection that another process owns that one tells.
func (w *watched) changes(s *connector.Status, silence map[Expectation]time.Duration, now time.Time) (all []Message) {
	if !s.Owns || s.State != "running" {
		*w = watched{}
		return nil
	}
	first := !w.owned
	if first {
		*w = watched{owned: true, held: map[heldAt]connector.Halted{}, runs: map[string]bool{}, audits: map[string]time.Time{}, silent: map[string]bool{}}
	}
	say := func(kind, export string, list int64, code, text string) {
		all = append(all, Message{Kind: kind, Connection: s.Name, Export: export, List: list, Code: code, Text: text, At: now.UTC()})
	}
	w.holds(s, say)
	for i := range s.Runs {
		r := &s.Runs[i]
		if r.Ended.IsZero() || w.runs[r.ID+r.Kind+r.Began.String()] {
			continue
		}
		w.runs[r.ID+r.Kind+r.Began.String()] = true
		if !first && r.Kind != "live" {
			say("run", r.Export, 0, r.Kind+" "+r.ID, fmt.Sprintf("%s %s: %s", r.Kind, r.State, r.Text))
		}
	}
	for i := range s.Exports {
		x := &s.Exports[i]
		if f := x.Findings; f != nil && !x.Audited.Equal(w.audits[x.Name]) {
			w.audits[x.Name] = x.Audited
			if wrong := f.Lost + f.Missing + f.Changed; wrong > 0 && !first {
				say("losses", x.Name, x.List, "", fmt.Sprintf("an audit has found %d contacts that are not as they were delivered: %d lost by imports and sent again, %d missing, %d changed", wrong, f.Lost, f.Missing, f.Changed))
			}
		}
		most := silence[Expectation{s.Name, x.Name}]
		quiet := now.Sub(x.LastEvent)
		switch {
		case most <= 0 || x.LastEvent.IsZero():
		case quiet <= most:
			w.silent[x.Name] = false
		case !w.silent[x.Name]:
			w.silent[x.Name] = true
			say("silent", x.Name, x.List, "", fmt.Sprintf("no event has concerned it for %s: an event is expected every %s", quiet.Round(time.Second), most))
		}
	}
	return all
}

// holds tells what is held anew, and what is not any more. What the configuration or somebody wants so is not told.
func (w *watched) holds(s *connector.Status, say func(kind, export string, list int64, code, text string)) {
	export := func(list int64) string {
		for i := range s.Exports {
			if s.Exports[i].List == list {
				return s.Exports[i].Name
			}
		}
		return ""
	}
	now := map[heldAt]connector.Halted{}
	for _, h := range s.Halted {
		at := heldAt{h.List, h.Source, h.Code}
		if _, twice := now[at]; h.Chosen || twice {
			continue
		}
		now[at] = h
		if _, was := w.held[at]; was {
			continue
		}
		kind := "held"
		if h.Code == "guard" {
			kind = "withheld"
		}
		say(kind, export(h.List), h.List, h.Code, h.Code+": "+h.Mend)
	}
	for at, h := range w.held {
		if _, still := now[at]; !still {
			say("resumed", export(h.List), h.List, h.Code, h.Code+" has ended: it goes on")
		}
	}
	w.held = now
}
