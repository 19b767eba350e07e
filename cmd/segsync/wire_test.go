//go:build !integration && !bench

package main

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"math/big"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kgo"
	"go.uber.org/zap"

	"segsync/cmd/segsync/config"
	"segsync/connector"
	"segsync/sink"
	"segsync/sink/sendinblue"
)

// authority signs certificates for a test.
type authority struct {
	t    *testing.T
	dir  string
	cert *x509.Certificate
	key  *ecdsa.PrivateKey
}

func newAuthority(t *testing.T) *authority {
	t.Helper()
	a := &authority{t: t, dir: t.TempDir()}
	a.cert, a.key, _ = a.sign("ca", true)
	return a
}

func (a *authority) file(name string) string { return filepath.Join(a.dir, name) }

// sign makes name.pem and name.key.
func (a *authority) sign(name string, ca bool) (*x509.Certificate, *ecdsa.PrivateKey, tls.Certificate) {
	a.t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		a.t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(time.Now().UnixNano()), Subject: pkix.Name{CommonName: name}, NotAfter: time.Now().Add(time.Hour), IsCA: ca, BasicConstraintsValid: ca,
		KeyUsage: x509.KeyUsageDigitalSignature | x509.KeyUsageCertSign, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth},
		IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)}, DNSNames: []string{"localhost"},
	}
	parent, signer := a.cert, a.key
	if parent == nil {
		parent, signer = template, key
	}
	der, err := x509.CreateCertificate(rand.Reader, template, parent, &key.PublicKey, signer)
	if err != nil {
		a.t.Fatal(err)
	}
	keyDER, err := x509.MarshalECPrivateKey(key)
	if err != nil {
		a.t.Fatal(err)
	}
	for file, b := range map[string]*pem.Block{name + ".pem": {Type: "CERTIFICATE", Bytes: der}, name + ".key": {Type: "EC PRIVATE KEY", Bytes: keyDER}} {
		if err := os.WriteFile(a.file(file), pem.EncodeToMemory(b), 0o600); err != nil {
			a.t.Fatal(err)
		}
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		a.t.Fatal(err)
	}
	pair, err := tls.LoadX509KeyPair(a.file(name+".pem"), a.file(name+".key"))
	if err != nil {
		a.t.Fatal(err)
	}
	return cert, key, pair
}

func TestKafkaOverTLSWithAClientCertificate(t *testing.T) {
	a := newAuthority(t)
	_, _, server := a.sign("server", false)
	a.sign("client", false)
	pool := x509.NewCertPool()
	pool.AddCert(a.cert)
	c := kfake.MustCluster(kfake.NumBrokers(1), kfake.TLS(&tls.Config{Certificates: []tls.Certificate{server}, ClientAuth: tls.RequireAndVerifyClientCert, ClientCAs: pool}))
	defer c.Close()
	ask := func(k config.Kafka) error {
		k.Brokers, k.TLS = c.ListenAddrs(), true
		opts, err := kafkaOptions(k, zap.NewNop())
		if err != nil {
			return err
		}
		cl, err := kgo.NewClient(append(opts, kgo.RequestRetries(0))...)
		if err != nil {
			return err
		}
		defer cl.Close()
		ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
		defer cancel()
		_, err = kadm.NewClient(cl).BrokerMetadata(ctx)
		return err
	}
	if err := ask(config.Kafka{CA: a.file("ca.pem"), Cert: a.file("client.pem"), Key: a.file("client.key")}); err != nil {
		t.Error(err)
	}
	if ask(config.Kafka{CA: a.file("ca.pem")}) == nil {
		t.Error("it works without the client's certificate")
	}
	if ask(config.Kafka{Cert: a.file("client.pem"), Key: a.file("client.key")}) == nil {
		t.Error("an authority that is not known is trusted")
	}
}

// An account behind a certificate authority of one's own.
func TestTheAPIBehindACertificateOfOnesOwn(t *testing.T) {
	a := newAuthority(t)
	_, _, pair := a.sign("api", false)
	var seen bytes.Buffer
	api := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		seen.WriteString(r.URL.Path)
		w.WriteHeader(http.StatusNoContent)
	}))
	api.TLS = &tls.Config{Certificates: []tls.Certificate{pair}}
	api.StartTLS()
	defer api.Close()
	w := &wiring{c: &config.Config{}, log: zap.NewNop(), metrics: connector.NewMetrics()}
	con := &config.Connection{Name: "main", BaseURL: api.URL, Rate: sendinblue.Plans["general"], CA: a.file("ca.pem"), Key: config.NewSecret("k")}
	send := func() sink.Outcome {
		client, err := client(w, con)
		if err != nil {
			t.Fatal(err)
		}
		defer client.Close()
		return client.Send(t.Context(), &sink.Request{Kind: sink.Upsert, Contacts: []sink.Contact{{Address: "a@example.com"}}}).Of(0)
	}
	if o := send(); o.Verdict != sink.Applied || seen.String() != "/contacts" {
		t.Errorf("%+v, %q", o, seen.String())
	}
	con.CA = ""
	if o := send(); o.Verdict == sink.Applied {
		t.Error("an authority that is not known is trusted")
	}
	con.CA = a.file("none.pem")
	if _, err := client(w, con); err == nil || !strings.Contains(err.Error(), "none.pem") {
		t.Errorf("a file that is not there: %v", err)
	}
}

// Sendinblue may insist on fixed addresses: HTTPS_PROXY is honoured. The variable is read once in a process, so the call
// is made by another one.
func TestTheProxyIsUsed(t *testing.T) {
	if os.Getenv("SEGSYNC_TEST_PROXY") != "" {
		w := &wiring{c: &config.Config{}, log: zap.NewNop(), metrics: connector.NewMetrics()}
		client, err := client(w, &config.Connection{Name: "main", BaseURL: "https://api.example.com/v3", Rate: sendinblue.Plans["general"], Key: config.NewSecret("k")})
		if err != nil {
			t.Fatal(err)
		}
		client.Send(t.Context(), &sink.Request{Kind: sink.Upsert, Contacts: []sink.Contact{{Address: "a@example.com"}}})
		return
	}
	asked := make(chan string, 4)
	proxy := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		asked <- r.Method + " " + r.Host
		w.WriteHeader(http.StatusBadGateway)
	}))
	defer proxy.Close()
	self := exec.CommandContext(t.Context(), os.Args[0], "-test.run=^TestTheProxyIsUsed$")
	self.Env = append(os.Environ(), "SEGSYNC_TEST_PROXY=1", "HTTPS_PROXY="+proxy.URL)
	if out, err := self.CombinedOutput(); err != nil {
		t.Fatalf("%s", out)
	}
	select {
	case got := <-asked:
		if got != "CONNECT api.example.com:443" {
			t.Error(got)
		}
	default:
		t.Error("the proxy was not asked")
	}
}

func client(w *wiring, c *config.Connection) (*sendinblue.Client, error) {
	o, err := w.api(c)
	return sendinblue.New(o), err
}
