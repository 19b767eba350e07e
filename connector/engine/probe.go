package engine

import (
	"context"
	"errors"
	"slices"
	"time"

	"segsync/connector/backoff"
	"segsync/sink"
)

// ErrListAnew ends an epoch: a list that an export names is gone, and there is another one of that name.
var ErrListAnew = errors.New("a list that is named was made anew: its number is looked for")

// madeAnew says whether a list that is gone is named by an export, and is there under another number.
func (h *holds) madeAnew(ctx context.Context, gone int64) bool {
	at := slices.IndexFunc(h.cfg.Exports, func(x Export) bool { return x.List == gone && x.Named.Name != "" })
	if at < 0 {
		return false
	}
	all, err := h.cfg.Lists(ctx)
	return err == nil && slices.ContainsFunc(all, func(l sink.ListInfo) bool { return l.ID != gone && h.cfg.Exports[at].Named.Is(l) })
}

// probe tries again, slowly, what is held until the account says otherwise, and ends what is held for a time.
func (h *holds) probe() {
	h.every(time.Second, func() {
		if list, ok := h.dueProbe(h.now()); ok {
			h.probeList(list)
		}
	})
}

// dueProbe picks a list to ask for (0: the account), and ends what was held for a time.
func (h *holds) dueProbe(now time.Time) (int64, bool) {
	h.mu.Lock()
	defer h.mu.Unlock()
	for k, why := range h.all {
		if why.next.IsZero() || now.Before(why.next) {
			continue
		}
		if !why.probes {
			h.releaseLocked(k, now)
			continue
		}
		why.tries++
		why.next = now.Add(backoff.Pause(h.cfg.Times.Probe, h.cfg.Times.ProbeMost, why.tries))
		return k.list, true
	}
	return 0, false
}

// probeList asks for a list, which also proves the key and the address; what the answer disproves is released.
func (h *holds) probeList(list int64) {
	ask := list
	if ask == 0 && len(h.cfg.Exports) > 0 {
		ask = h.cfg.Exports[0].List
	}
	ctx, cancel := context.WithTimeout(h.ctx, time.Minute)
	defer cancel()
	_, err := h.sender.List(ctx, ask)
	var o *sink.OutcomeError
	gone := errors.As(err, &o) && o.Outcome.Absent
	if gone && list != 0 && h.madeAnew(ctx, list) {
		h.kill(ErrListAnew)
	}
	if err != nil && (list != 0 || !gone) { // the account is well if it says that a list is gone
		return
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	for k, why := range h.all {
		if why.probes && k.list == list {
			h.releaseLocked(k, h.now())
		}
	}
}
