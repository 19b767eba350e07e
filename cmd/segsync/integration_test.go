//go:build integration

package main

import (
	"encoding/base64"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"

	"segsync/connector"
	"segsync/connector/oracle"
)

func TestIntegrationRunKeepsTheListsRight(t *testing.T) {
	p := newPlace(t, fast())
	port := freePort()
	r := p.start("run", "-c", p.config(port))
	p.produce(oracle.History(1, shape(200, 1000)))
	p.converge(90 * time.Second)
	for _, path := range []string{"/livez", "/readyz", "/metrics", "/status"} {
		resp, err := http.Get("http://127.0.0.1:" + port + path) //nolint:forbidigo // a test of a local address
		if err != nil {
			t.Fatal(err)
		}
		_ = resp.Body.Close()
		if resp.StatusCode != http.StatusOK {
			t.Errorf("%s answers %d", path, resp.StatusCode)
		}
	}
	if code := r.end(syscall.SIGTERM); code != 0 {
		t.Errorf("SIGTERM ends with %d", code)
	}
	s := p.Sandbox.Stats()
	if s.Overlapping+s.DuringRun+s.Flags > 0 || s.MostImports > 1 {
		t.Errorf("broken promises: %+v", s)
	}
}

// S39, and two replicas: the owner is killed again and again, and every life makes progress.
func TestIntegrationKillsAndTwoReplicas(t *testing.T) {
	p := newPlace(t, fast())
	events := oracle.History(2, shape(150, 1500))
	a, b := freePort(), freePort()
	configs := []string{p.config(a), p.config(b)}
	lives := []*program{p.start("run", "-c", configs[0]), p.start("run", "-c", configs[1])}
	r := rand.New(rand.NewPCG(7, 7))
	for len(events) > 0 {
		n := min(150, len(events))
		p.produce(events[:n])
		events = events[n:]
		time.Sleep(time.Duration(500+r.IntN(2000)) * time.Millisecond)
		i := r.IntN(2)
		lives[i].end(syscall.SIGKILL)
		lives[i] = p.start("run", "-c", configs[i])
	}
	p.converge(6 * time.Minute) // what a killed owner had sent is sent once more after five minutes
	time.Sleep(3 * time.Second) // a life that has only just begun does not listen to signals yet
	for _, l := range lives {
		if code := l.end(syscall.SIGTERM); code != 0 {
			t.Errorf("SIGTERM ends with %d", code)
		}
	}
	if s := p.Sandbox.Stats(); s.Flags > 0 || s.MostImports > 1 || s.DuringRun > 0 {
		t.Errorf("broken promises: %+v", s)
	}
}

// S19: --once ends with 0 when everything is settled; check and backfill tell what they find.
func TestIntegrationBoundedCommands(t *testing.T) {
	p := newPlace(t, fast())
	config := p.config(freePort())
	p.produce(oracle.History(3, shape(50, 300)))
	out, code := p.command("check", "-c", config)
	if code != 0 || !strings.Contains(out, "expressions fit the newest schema") || !strings.Contains(out, "consent: dpo@example.com") {
		t.Fatalf("check ends with %d:\n%s", code, out)
	}
	if out, code = p.command("run", "--once", "-c", config); code != 0 {
		t.Fatalf("run --once ends with %d:\n%s", code, out)
	}
	p.converge(0)
	before := p.calls()
	if out, code = p.command("backfill", "-c", config, "--export", "vip", "--from", "earliest"); code != 0 || strings.Contains(out, "upserts") || strings.Contains(out, "removals") || strings.Contains(out, "imports,") || !strings.Contains(out, "calls made") {
		t.Errorf("a second reading makes calls, or ends with %d:\n%s", code, out)
	}
	if n := p.calls(); n > before+5 { // the account, its lists and attributes are asked for
		t.Errorf("a second reading made %d calls", n-before)
	}
	if out, code = p.command("backfill", "-c", config, "--export", "vip", "--from", "earliest", "--resend"); code != 0 {
		t.Errorf("backfill --resend ends with %d:\n%s", code, out)
	}
	p.converge(0)
	running := p.start("run", "-c", config)
	time.Sleep(5 * time.Second)
	if out, code = p.command("approve", "-c", config, "--export", "vip"); code != 0 || !strings.Contains(out, "approved: 0 people") {
		t.Errorf("approve beside a running replica ends with %d:\n%s", code, out)
	}
	// S19: beside a live run, once waits for it and ends.
	if out, code = p.command("run", "--once", "-c", p.config(freePort())); code != 0 {
		t.Errorf("run --once beside a live run ends with %d:\n%s", code, out)
	}
	running.end(syscall.SIGTERM)
	if out, code = p.command("approve", "-c", config, "--export", "vip"); code != 0 || !strings.Contains(out, "no segsync runs") {
		t.Errorf("approve ends with %d:\n%s", code, out)
	}
	if _, code = p.command("forget", "-c", config, "--export", "vip", "--yes"); code != exitUsage {
		t.Errorf("forget of an export that shares its table ends with %d", code)
	}
}

func TestIntegrationSASL(t *testing.T) {
	p := newPlace(t, fast())
	if secured == "" {
		t.Skip("KAFKA_BROKERS has no SASL listener that is known here")
	}
	cl, err := kgo.NewClient(kgo.SeedBrokers(brokers...))
	if err != nil {
		t.Fatal(err)
	}
	defer cl.Close()
	adm := kadm.NewClient(cl)
	for _, m := range []kadm.ScramMechanism{kadm.ScramSha256, kadm.ScramSha512} { // one at a time: a user may be named once in a call
		altered, err := adm.AlterUserSCRAMs(t.Context(), nil, []kadm.UpsertSCRAM{{User: "segsync", Mechanism: m, Iterations: 4096, Password: "scram-secret"}})
		if err == nil {
			err = altered.Error()
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	p.produce(oracle.History(4, shape(10, 60)))
	for mechanism, password := range map[string]string{"PLAIN": "plain-secret", "SCRAM-SHA-256": "scram-secret", "SCRAM-SHA-512": "scram-secret"} {
		p.extra = fmt.Sprintf("brokers: [%s]\n  sasl: { mechanism: %s, username: segsync, password: %s }", secured, mechanism, password)
		if out, code := p.command("run", "--once", "-c", p.config(freePort())); code != 0 {
			t.Errorf("%s: run --once ends with %d:\n%s", mechanism, code, out)
		}
		p.converge(0)
	}
	p.extra = fmt.Sprintf("brokers: [%s]\n  sasl: { mechanism: PLAIN, username: segsync, password: wrong }", secured)
	if out, code := p.command("check", "-c", p.config(freePort())); code != exitEnvironment {
		t.Errorf("a wrong password: check ends with %d:\n%s", code, out)
	}
}

// OAUTHBEARER: a token of the client's, and one from a file; the broker checks its subject, times and scope.
func TestIntegrationOAuth(t *testing.T) {
	p := newPlace(t, fast())
	if secured == "" {
		t.Skip("KAFKA_BROKERS has no SASL listener that is known here")
	}
	token := func(scope string) string {
		part := func(s string) string { return base64.RawURLEncoding.EncodeToString([]byte(s)) }
		now := time.Now().Unix()
		return part(`{"alg":"none"}`) + "." + part(fmt.Sprintf(`{"sub":"segsync","iat":%d,"exp":%d,"scope":%q}`, now, now+3600, scope)) + "."
	}
	issuer := oracle.NewIssuer(func() string { return token("kafka") })
	defer issuer.Close()
	file := filepath.Join(p.dir, "token")
	if err := os.WriteFile(file, []byte(token("kafka")), 0o600); err != nil {
		t.Fatal(err)
	}
	p.produce(oracle.History(6, shape(10, 60)))
	for _, sasl := range []string{ // the file last: its token becomes another
		"token_url: " + issuer.URL + ", client_id: segsync, client_secret: client-secret, scope: kafka",
		`token: "${file:` + file + `}"`,
	} {
		p.extra = fmt.Sprintf("brokers: [%s]\n  sasl: { mechanism: OAUTHBEARER, %s }", secured, sasl)
		if out, code := p.command("run", "--once", "-c", p.config(freePort())); code != 0 {
			t.Errorf("%s: run --once ends with %d:\n%s", sasl, code, out)
		}
		p.converge(0)
	}
	if issuer.Asked.Load() == 0 {
		t.Error("no token was asked for")
	}
	if err := os.WriteFile(file, []byte(token("mail")), 0o600); err != nil {
		t.Fatal(err)
	}
	if out, code := p.command("check", "-c", p.config(freePort())); code != exitEnvironment {
		t.Errorf("a token of another scope: check ends with %d:\n%s", code, out)
	}
}

// The image is built, and runs as a sidecar does: not as root, its file system read-only.
func TestIntegrationImage(t *testing.T) {
	p := newPlace(t, fast())
	if out, err := exec.Command("docker", "version").CombinedOutput(); err != nil {
		t.Skipf("no Docker: %s", out)
	}
	root, err := filepath.Abs("../..")
	if err != nil {
		t.Fatal(err)
	}
	build := exec.Command("make", "-C", root, "image")
	build.Env = append(os.Environ(), "DOCKER_BUILDKIT=0")
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("building the image: %s", out)
	}
	port := freePort()
	config := p.config(port)
	if err := os.Chmod(config, 0o644); err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(p.dir, 0o755); err != nil {
		t.Fatal(err)
	}
	name := "segsync-" + strconv.FormatInt(time.Now().UnixNano(), 10)
	out, err := exec.Command("docker", "run", "-d", "--name", name, "--network", "host", "--read-only", "--cap-drop", "ALL", "-v", config+":/etc/segsync/segsync.yaml:ro", "segsync:dev").CombinedOutput()
	if err != nil {
		t.Fatalf("%s", out)
	}
	t.Cleanup(func() {
		if t.Failed() {
			out, _ := exec.Command("docker", "logs", name).CombinedOutput()
			t.Logf("%s", out)
		}
		_ = exec.Command("docker", "rm", "-f", name).Run()
	})
	user, _ := exec.Command("docker", "inspect", "-f", "{{.Config.User}}", "segsync:dev").Output()
	if u := strings.TrimSpace(string(user)); u == "" || u == "0" || u == "root" {
		t.Errorf("the image runs as %q", u)
	}
	p.produce(oracle.History(5, shape(20, 100)))
	p.converge(time.Minute)
	var status struct {
		Connections []connector.Status `json:"connections"`
	}
	resp, err := http.Get("http://127.0.0.1:" + port + "/status") //nolint:forbidigo // a test of a local address
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = resp.Body.Close() }()
	if err := json.NewDecoder(resp.Body).Decode(&status); err != nil || len(status.Connections) != 1 || status.Connections[0].State != "running" {
		t.Errorf("status: %+v, %v", status, err)
	}
	if out, err := exec.Command("docker", "stop", "-t", "30", name).CombinedOutput(); err != nil {
		t.Errorf("%s", out)
	}
	code, _ := exec.Command("docker", "inspect", "-f", "{{.State.ExitCode}}", name).Output()
	if strings.TrimSpace(string(code)) != "0" {
		t.Errorf("the container ends with %s", code)
	}
}
