package sendinblue

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"net/http"
	"sync"

	"segsync/sink"
)

// Account is a connection's key, as it is now, and the account behind it. A key file may change under a running process,
// so there are two keys: the one that is configured now, with which nothing but the question for its account is asked,
// and the one that is trusted, with which everything else is.
type Account struct {
	read func() string
	api  *Client

	mu      sync.Mutex
	asked   string // the key with which the account is being asked for
	trusted string
}

// NewAccount makes an account whose key is read by read; nothing is trusted yet. o.Key is not used.
func NewAccount(o Options, read func() string) *Account {
	a := &Account{read: read}
	o.Key = func() string {
		a.mu.Lock()
		defer a.mu.Unlock()
		return a.asked
	}
	a.api = New(o)
	return a
}

// Key is the trusted key, for the options of a Client; "" while there is none: nothing can be sent then.
func (a *Account) Key() string {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.trusted
}

// Mark tells whether the key is another one, without telling the key.
func (a *Account) Mark() string { return mark(a.read()) }

func mark(key string) string {
	sum := sha256.Sum256([]byte("segsync\x00" + key))
	return hex.EncodeToString(sum[:6])
}

// Owner asks whose the configured key is, and marks the key that was asked with. It costs a call of the scarce budget.
func (a *Account) Owner(ctx context.Context) (sink.Owner, string, error) {
	key := a.read()
	a.mu.Lock()
	a.asked = key
	a.mu.Unlock()
	owner, err := a.api.Account(ctx)
	return owner, mark(key), err
}

// Trust lets the key with a mark be used from now on. It returns false if that key is not known any more.
func (a *Account) Trust(m string) bool {
	key := a.read()
	a.mu.Lock()
	defer a.mu.Unlock()
	for _, k := range []string{key, a.asked} {
		if mark(k) == m {
			a.trusted = k
			return true
		}
	}
	return false
}

// Account asks whose the key is.
func (c *Client) Account(ctx context.Context) (sink.Owner, error) {
	var a struct {
		Email        string `json:"email"`
		Company      string `json:"companyName"`
		Organization string `json:"organization_id"`
	}
	err := c.get(ctx, call{http.MethodGet, "/account", "/account", nil, sink.ToAsk, 0}, &a)
	owner := sink.Owner{ID: a.Organization, Name: a.Company}
	if owner.ID == "" {
		owner.ID = a.Email
	}
	if owner.Name == "" {
		owner.Name = a.Email
	}
	return owner, err
}
