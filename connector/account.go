package connector

import (
	"context"
	"encoding/json"
	"time"

	"go.uber.org/zap"

	"segsync/connector/backoff"
	"segsync/sink"
)

// Account is a connection's key and whose it is. Nothing is sent with a key before it is trusted.
type Account interface {
	// Mark tells whether the configured key is another one, without telling it.
	Mark() string
	// Owner asks whose the configured key is, and marks the key that was asked with.
	Owner(ctx context.Context) (owner sink.Owner, mark string, err error)
	// Trust lets the key with a mark be used; false if it is not known any more.
	Trust(mark string) bool
}

// builtAccount is the row of the account that the table was built for. Name is its owner's id.
type builtAccount struct {
	Name  string `json:"name"`
	Mark  string `json:"mark"`
	Owner string `json:"owner,omitempty"` // for people
}

// keyCheck is what is known of the configured key. Under the lock.
type keyCheck struct {
	owner   string    // for people; "" not asked in this epoch
	id      string    // of the account that the trusted key belongs to
	trusted string    // the mark of the key that is trusted; "" none
	failed  string    // the mark of the key that was last found wanting
	again   time.Time // when it is asked for again
	tries   int
}

// watchKey checks the configured key where it is not the trusted one, whatever else the connection is held for. The
// trusted one is used meanwhile: a key is changed before the old one ends.
func (e *engine) watchKey() {
	if e.cfg.Account == nil {
		return
	}
	mark, now := e.cfg.Account.Mark(), e.now()
	e.mu.Lock()
	due := mark != e.key.trusted && (mark != e.key.failed || !now.Before(e.key.again))
	if mark == e.key.trusted {
		e.release(holdKey{code: codeAccountChanged}, now) // the old key was put back
	}
	e.mu.Unlock()
	if due {
		e.checkKey(mark)
	}
}

// checkKey trusts the configured key if it belongs to the account that the table was built for: nothing counts as
// delivered where it was not sent. Another account's key, and one that cannot be checked where no other is trusted,
// hold the connection.
func (e *engine) checkKey(mark string) {
	changed, unchecked := holdKey{code: codeAccountChanged}, holdKey{code: codeAccountUnchecked}
	e.mu.Lock()
	var was builtAccount
	row := e.table.Meta(accountKey)
	if row != nil && json.Unmarshal(row, &was) != nil {
		was = builtAccount{}
	}
	e.mu.Unlock()
	owner := sink.Owner{ID: was.Name, Name: was.Owner}
	var err error
	if was.Mark != mark { // the same key is the same account
		ctx, cancel := context.WithTimeout(e.ctx, askCall)
		owner, mark, err = e.cfg.Account.Owner(ctx)
		cancel()
	}
	now := e.now()
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.ctx.Err() != nil {
		return
	}
	switch {
	case err != nil:
		e.key.doubt(mark, now, e.cfg.Times)
		e.log.Warn("the account behind a key could not be asked for", zap.Error(err))
		if e.key.trusted == "" {
			e.holds.add(unchecked, hold{mend: "the account behind the key could not be asked for: nothing is sent until it answers (" + err.Error() + ")"}, now)
		}
		return
	case was.Name != "" && was.Name != owner.ID:
		e.key.doubt(mark, now, e.cfg.Times)
		e.holds.release(unchecked, now)
		e.holds.add(changed, hold{mend: "the key belongs to another account than the lists were delivered to: put the old key back, or give the connection another name and let it begin anew"}, now)
		return
	}
	if !e.cfg.Account.Trust(mark) {
		return // it has changed meanwhile: the next look checks the other
	}
	e.key = keyCheck{owner: owner.Name, id: owner.ID, trusted: mark}
	e.holds.release(unchecked, now)
	e.holds.release(changed, now)
	if row, _ = json.Marshal(builtAccount{owner.ID, mark, owner.Name}); string(row) != string(e.table.Meta(accountKey)) {
		e.table.SetMeta(accountKey, row)
		e.changed(now)
	}
	e.nudge()
}

// doubt notes a key that is not trusted: it is asked for again, ever more seldom.
func (k *keyCheck) doubt(mark string, now time.Time, t Times) {
	if k.failed != mark {
		k.tries = 0
	}
	k.failed, k.again = mark, now.Add(backoff.Pause(t.Probe, t.ProbeMost, k.tries))
	k.tries++
}
