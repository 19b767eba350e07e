package config

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"sync"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	awsconfig "github.com/aws/aws-sdk-go-v2/config"
	"github.com/goccy/go-yaml/ast"
	"github.com/twmb/franz-go/pkg/sasl"
	mskiam "github.com/twmb/franz-go/pkg/sasl/aws"
	"github.com/twmb/franz-go/pkg/sasl/oauth"
	"github.com/twmb/franz-go/pkg/sasl/plain"
	"github.com/twmb/franz-go/pkg/sasl/scram"
	"golang.org/x/oauth2"
	"golang.org/x/oauth2/clientcredentials"

	"segsync/sink/sendinblue"
)

// The ways to authenticate to Kafka.
const (
	saslPlain  = "PLAIN"
	saslSHA256 = "SCRAM-SHA-256"
	saslSHA512 = "SCRAM-SHA-512"
	saslOAuth  = "OAUTHBEARER"
	saslAWS    = "AWS_MSK_IAM"
)

// SASL is kafka.sasl. Its secrets are read again for each session, so that what renews them need not tell us.
type SASL struct {
	Mechanism          string // "" none
	Username, Password Secret

	// OAUTHBEARER: a token that something else renews, or the client credentials grant.
	Token                              Secret
	TokenURL, ClientID, Scope          string
	ClientSecret                       Secret
	AccessKey, SecretKey, SessionToken Secret // AWS_MSK_IAM: "" the usual chain of AWS
}

// readSASL reads and checks kafka.sasl.
func readSASL(d *document, n ast.Node, encrypted bool) SASL {
	f := d.mapping(n, "mechanism", "username", "password", "token", "token_url", "client_id", "client_secret", "scope", "access_key", "secret_key", "session_token")
	f.need("mechanism")
	s := SASL{
		Mechanism: f.oneOf("mechanism", saslPlain, saslSHA256, saslSHA512, saslOAuth, saslAWS),
		Username:  f.raw("username"), Password: f.raw("password"), Token: f.raw("token"), TokenURL: f.text("token_url"),
		ClientID: f.text("client_id"), ClientSecret: f.raw("client_secret"), Scope: f.text("scope"),
		AccessKey: f.raw("access_key"), SecretKey: f.raw("secret_key"), SessionToken: f.raw("session_token"),
	}
	for _, k := range []string{"username", "password", "token", "client_secret", "access_key", "secret_key", "session_token"} {
		f.secretText(k)
	}
	switch s.Mechanism {
	case saslOAuth:
		if f.has("token") == f.has("token_url") {
			d.fail(n, "OAUTHBEARER needs either token (such as ${file:/var/run/token}) or token_url with client_id and client_secret")
		}
		if f.has("token_url") {
			f.need("client_id", "client_secret")
			if u, err := url.Parse(s.TokenURL); err != nil || u.Host == "" {
				d.fail(f.keys["token_url"], "token_url must be an address such as https://login.example.com/oauth2/token")
			} else if u.Scheme != "https" && !sendinblue.Loopback(u.Hostname()) {
				d.fail(f.keys["token_url"], "the client's secret would travel in clear text: use https")
			}
		}
	case saslAWS:
		if f.has("access_key") != f.has("secret_key") {
			d.fail(n, "access_key and secret_key go together; without them the usual chain of AWS is asked (environment, shared files, web identity, instance)")
		}
		if !encrypted {
			d.fail(n, "AWS_MSK_IAM is spoken over TLS only: add kafka.tls ({} is enough)")
		}
	default:
		f.need("username", "password")
	}
	return s
}

// Auth makes the client's mechanism.
func (s SASL) Auth() (sasl.Mechanism, error) {
	credentials := func() (string, string, error) {
		u, err := s.Username.Value()
		p, err2 := s.Password.Value()
		return u, p, errors.Join(err, err2)
	}
	scramAuth := func(context.Context) (scram.Auth, error) {
		u, p, err := credentials()
		return scram.Auth{User: u, Pass: p}, err
	}
	switch s.Mechanism {
	case saslPlain:
		return plain.Plain(func(context.Context) (plain.Auth, error) {
			u, p, err := credentials()
			return plain.Auth{User: u, Pass: p}, err
		}), nil
	case saslSHA256:
		return scram.Sha256(scramAuth), nil
	case saslSHA512:
		return scram.Sha512(scramAuth), nil
	case saslOAuth:
		return oauth.Oauth(s.bearer()), nil
	case saslAWS:
		return mskiam.ManagedStreamingIAM(s.aws()), nil
	}
	return nil, fmt.Errorf("no SASL mechanism is named %q", s.Mechanism)
}

// tokenTimeout bounds how long a token is waited for.
const tokenTimeout = 15 * time.Second

// bearer gives the token of each session: the configured one as it is now, or one of the client's, kept until it
// expires.
func (s SASL) bearer() func(context.Context) (oauth.Auth, error) {
	if s.TokenURL == "" {
		return func(context.Context) (oauth.Auth, error) {
			t, err := s.Token.Value()
			return oauth.Auth{Token: t}, err
		}
	}
	var mu sync.Mutex
	var source oauth2.TokenSource
	return func(context.Context) (oauth.Auth, error) {
		mu.Lock()
		defer mu.Unlock()
		if source == nil {
			password, err := s.ClientSecret.Value()
			if err != nil {
				return oauth.Auth{}, err
			}
			c := clientcredentials.Config{ClientID: s.ClientID, ClientSecret: password, TokenURL: s.TokenURL}
			if s.Scope != "" {
				c.Scopes = []string{s.Scope}
			}
			client := &http.Client{Timeout: tokenTimeout}
			source = c.TokenSource(context.WithValue(context.Background(), oauth2.HTTPClient, client)) //nolint:contextcheck // it outlives the session
		}
		t, err := source.Token()
		if err != nil {
			source = nil // with the secret as it is then
			var refused *oauth2.RetrieveError
			if errors.As(err, &refused) && refused.Response != nil { // its text may quote the answer
				return oauth.Auth{}, fmt.Errorf("kafka.sasl.token_url answers %d %s", refused.Response.StatusCode, refused.ErrorCode)
			}
			return oauth.Auth{}, fmt.Errorf("asking kafka.sasl.token_url for a token: %w", err)
		}
		return oauth.Auth{Token: t.AccessToken}, nil
	}
}

// aws gives the credentials of each session: the configured ones as they are now, or those of the usual chain.
func (s SASL) aws() func(context.Context) (mskiam.Auth, error) {
	if s.AccessKey.source != "" {
		return func(context.Context) (mskiam.Auth, error) {
			access, err := s.AccessKey.Value()
			key, err2 := s.SecretKey.Value()
			token, err3 := s.SessionToken.Value()
			return mskiam.Auth{AccessKey: access, SecretKey: key, SessionToken: token}, errors.Join(err, err2, err3)
		}
	}
	var mu sync.Mutex
	var chain aws.CredentialsProvider
	return func(ctx context.Context) (mskiam.Auth, error) {
		mu.Lock()
		defer mu.Unlock()
		if chain == nil {
			c, err := awsconfig.LoadDefaultConfig(ctx)
			if err != nil {
				return mskiam.Auth{}, fmt.Errorf("kafka.sasl: AWS's configuration: %w", err)
			}
			chain = c.Credentials
		}
		got, err := chain.Retrieve(ctx)
		if err != nil {
			return mskiam.Auth{}, fmt.Errorf("kafka.sasl: no credentials of AWS are found: %w", err)
		}
		return mskiam.Auth{AccessKey: got.AccessKeyID, SecretKey: got.SecretAccessKey, SessionToken: got.SessionToken}, nil
	}
}
