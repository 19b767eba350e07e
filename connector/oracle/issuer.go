package oracle

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"sync/atomic"
)

// Issuer is a stand-in for an address of OAuth tokens. It knows one client, segsync, with the secret client-secret.
type Issuer struct {
	URL   string
	Asked atomic.Int64 // how often a token was asked for
	s     *httptest.Server
}

// NewIssuer starts one that gives what token gives.
func NewIssuer(token func() string) *Issuer {
	i := &Issuer{}
	i.s = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		i.Asked.Add(1)
		id, password, _ := r.BasicAuth()
		if id == "" {
			id, password = r.PostFormValue("client_id"), r.PostFormValue("client_secret")
		}
		w.Header().Set("Content-Type", "application/json")
		if id != "segsync" || password != "client-secret" || r.PostFormValue("grant_type") != "client_credentials" || r.PostFormValue("scope") != "kafka" {
			w.WriteHeader(http.StatusUnauthorized)
			_, _ = w.Write([]byte(`{"error":"invalid_client","error_description":"client-secret is not known"}`))
			return
		}
		_, _ = fmt.Fprintf(w, `{"access_token":%q,"token_type":"Bearer","expires_in":3600}`, token())
	}))
	i.URL = i.s.URL
	return i
}

// Close ends it.
func (i *Issuer) Close() { i.s.Close() }
