package config

import (
	"encoding/json"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	v4 "github.com/aws/aws-sdk-go-v2/aws/signer/v4"

	"segsync/connector/oracle"
)

// What MSK is sent is what AWS's own signer makes of the same credentials, configured or from the usual chain.
func TestMSKIsSentWhatAWSSigns(t *testing.T) {
	const host = "b-1.demo.abc123.c2.kafka.eu-west-1.amazonaws.com"
	t.Setenv("AWS_ACCESS_KEY_ID", "AKIDCHAIN")
	t.Setenv("AWS_SECRET_ACCESS_KEY", "chain-secret")
	t.Setenv("AWS_SESSION_TOKEN", "chain-session")
	for name, c := range map[string]struct {
		s    SASL
		want aws.Credentials
	}{
		"configured": {
			SASL{Mechanism: saslAWS, AccessKey: Secret{"AKIDEXAMPLE"}, SecretKey: Secret{"secret"}},
			aws.Credentials{AccessKeyID: "AKIDEXAMPLE", SecretAccessKey: "secret"},
		},
		"the usual chain": {
			SASL{Mechanism: saslAWS},
			aws.Credentials{AccessKeyID: "AKIDCHAIN", SecretAccessKey: "chain-secret", SessionToken: "chain-session"},
		},
	} {
		t.Run(name, func(t *testing.T) {
			m, err := c.s.Auth()
			if err != nil {
				t.Fatal(err)
			}
			_, sent, err := m.Authenticate(t.Context(), host+":9098")
			if err != nil {
				t.Fatal(err)
			}
			var got map[string]string
			if err := json.Unmarshal(sent, &got); err != nil {
				t.Fatal(err)
			}
			at, err := time.Parse("20060102T150405Z", got["x-amz-date"])
			if err != nil || time.Since(at) > time.Minute {
				t.Fatalf("signed at %q", got["x-amz-date"])
			}
			signed := sign(t, host, c.want, at)
			if got["x-amz-signature"] != signed.Get("X-Amz-Signature") || got["x-amz-credential"] != signed.Get("X-Amz-Credential") || got["x-amz-security-token"] != c.want.SessionToken {
				t.Errorf("sent %v, AWS signs %v", got, signed)
			}
			other := c.want
			other.SecretAccessKey += "x"
			if sign(t, host, other, at).Get("X-Amz-Signature") == got["x-amz-signature"] {
				t.Error("another secret gives the same signature")
			}
		})
	}
}

// sign is the query that AWS's signer makes of a connection to MSK.
func sign(t *testing.T, host string, c aws.Credentials, at time.Time) url.Values {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, "https://"+host+"/?Action=kafka-cluster%3AConnect&X-Amz-Expires=900", nil)
	if err != nil {
		t.Fatal(err)
	}
	const empty = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855" // SHA-256 of nothing
	signed, _, err := v4.NewSigner().PresignHTTP(t.Context(), c, req, empty, "kafka-cluster", "eu-west-1", at)
	if err != nil {
		t.Fatal(err)
	}
	u, err := url.Parse(signed)
	if err != nil {
		t.Fatal(err)
	}
	return u.Query()
}

// A client's token is asked for once and kept; a secret that was changed is read again; errors do not quote it.
func TestATokenOfTheClients(t *testing.T) {
	issuer := oracle.NewIssuer(func() string { return "the-token" })
	defer issuer.Close()
	file := filepath.Join(t.TempDir(), "secret")
	write := func(s string) {
		if err := os.WriteFile(file, []byte(s), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	write("old")
	auth := SASL{Mechanism: saslOAuth, TokenURL: issuer.URL, ClientID: "segsync", ClientSecret: Secret{"${file:" + file + "}"}, Scope: "kafka"}.bearer()
	if _, err := auth(t.Context()); err == nil || !strings.Contains(err.Error(), "401") || strings.Contains(err.Error(), "client-secret") {
		t.Errorf("a wrong secret: %v", err)
	}
	write("client-secret")
	before := int64(0)
	for i := range 3 {
		a, err := auth(t.Context())
		if err != nil || a.Token != "the-token" {
			t.Fatalf("%+v, %v", a, err)
		}
		if i == 0 {
			before = issuer.Asked.Load()
		}
	}
	if issuer.Asked.Load() != before {
		t.Error("the token is asked for again although it holds")
	}
}

// A token that something else renews is read again for each session.
func TestATokenFromAFile(t *testing.T) {
	file := filepath.Join(t.TempDir(), "token")
	auth := SASL{Mechanism: saslOAuth, Token: Secret{"${file:" + file + "}"}}.bearer()
	for _, token := range []string{"first", "second"} {
		if err := os.WriteFile(file, []byte(token), 0o600); err != nil {
			t.Fatal(err)
		}
		if a, err := auth(t.Context()); err != nil || a.Token != token {
			t.Errorf("%+v, %v", a, err)
		}
	}
}
