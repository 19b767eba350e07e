package engine

import (
	"context"
	"encoding/json"
	"time"

	"go.uber.org/zap"

	"segsync/connector/backoff"
	"segsync/connector/state"
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

// account sees to it that nothing is sent with a key whose account is not known (account.go), or beside another
// connection to the account (claim.go), and knows the types of its attributes (attributes.go).
//
// Races: a key is asked whose it is, it changes, the answer comes: the one that was asked with is trusted only if it is the
// configured one still (Account.Trust); the next look checks the other.
//
// +checklocksalias:holds.mu=mu
type account struct {
	*core
	holds   *holds
	process *Process

	// +checklocks:mu
	key keyCheck
	// +checklocks:mu
	claimAgain time.Time
	// +checklocks:mu
	types map[string]sink.AttributeInfo // of attributes, as this life maps them
	old   bool                          // the account has not told these in this life; set by the take-over

	claimRenewed time.Time // only claim's
}

// watch checks a key that has changed, and claims the account, as long as the epoch lasts.
func (a *account) watch() {
	a.every(time.Second, func() {
		a.watchKey()
		a.claim()
	})
}

func (a *account) setTypes(types map[string]sink.AttributeInfo) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.types = types
}

// builtFor is the account that a table was built for.
func builtFor(t *state.Table) (was builtAccount) {
	if row := t.Meta(accountKey); row != nil && json.Unmarshal(row, &was) != nil {
		return builtAccount{}
	}
	return was
}

// keyCheck is what is known of the configured key.
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
func (a *account) watchKey() {
	if a.cfg.Account == nil {
		return
	}
	mark, now := a.cfg.Account.Mark(), a.now()
	a.mu.Lock()
	due := mark != a.key.trusted && (mark != a.key.failed || !now.Before(a.key.again))
	if mark == a.key.trusted {
		a.holds.releaseLocked(holdKey{code: codeAccountChanged}, now) // the old key was put back
	}
	a.mu.Unlock()
	if due {
		a.checkKey(mark)
	}
}

// checkKey trusts the configured key if it belongs to the account that the table was built for: nothing counts as
// delivered where it was not sent. Another account's key, and one that cannot be checked where no other is trusted,
// hold the connection.
func (a *account) checkKey(mark string) {
	changed, unchecked := holdKey{code: codeAccountChanged}, holdKey{code: codeAccountUnchecked}
	a.mu.Lock()
	was := builtFor(a.table)
	a.mu.Unlock()
	owner := sink.Owner{ID: was.Name, Name: was.Owner}
	var err error
	if was.Mark != mark { // the same key is the same account
		ctx, cancel := context.WithTimeout(a.ctx, askCall)
		owner, mark, err = a.cfg.Account.Owner(ctx)
		cancel()
	}
	now := a.now()
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.ended() {
		return
	}
	switch {
	case err != nil:
		a.key.doubt(mark, now, a.cfg.Times)
		a.log.Warn("the account behind a key could not be asked for", zap.Error(err))
		if a.key.trusted == "" {
			a.holds.addLocked(unchecked, hold{mend: "the account behind the key could not be asked for: nothing is sent until it answers (" + err.Error() + ")"}, now)
		}
		return
	case was.Name != "" && was.Name != owner.ID:
		a.key.doubt(mark, now, a.cfg.Times)
		a.holds.releaseLocked(unchecked, now)
		a.holds.addLocked(changed, hold{mend: "the key belongs to another account than the lists were delivered to: put the old key back, or give the connection another name and let it begin anew"}, now)
		return
	}
	if !a.cfg.Account.Trust(mark) {
		return // it has changed meanwhile: the next look checks the other
	}
	a.key = keyCheck{owner: owner.Name, id: owner.ID, trusted: mark}
	a.holds.releaseLocked(unchecked, now)
	a.holds.releaseLocked(changed, now)
	if row, _ := json.Marshal(builtAccount{owner.ID, mark, owner.Name}); string(row) != string(a.table.Meta(accountKey)) {
		a.table.SetMeta(accountKey, row)
		a.changedLocked(now)
	}
	a.nudge()
}

// doubt notes a key that is not trusted: it is asked for again, ever more seldom.
func (k *keyCheck) doubt(mark string, now time.Time, t Times) {
	if k.failed != mark {
		k.tries = 0
	}
	k.failed, k.again = mark, now.Add(backoff.Pause(t.Probe, t.ProbeMost, k.tries))
	k.tries++
}
