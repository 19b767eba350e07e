//go:build integration

package main

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"net"
	"net/http"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/moby/moby/api/types/container"
	"github.com/moby/moby/api/types/network"
	"github.com/testcontainers/testcontainers-go"
	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"

	"segsync/connector"
	"segsync/connector/oracle"
	"segsync/sink/sandbox"
)

// kafkaImage is the real broker that the program is tried against.
const kafkaImage = "apache/kafka:4.3.1"

// What the whole run shares: the program's binary and a broker.
var (
	binary  string
	brokers []string
	secured string                   // the broker's SASL listener, "" if it was not started here
	why     string                   // there is no broker
	broker  testcontainers.Container // nil if it was not started here
)

func TestMain(m *testing.M) { os.Exit(integration(m)) }

func integration(m *testing.M) int {
	dir, err := os.MkdirTemp("", "segsync")
	if err != nil {
		panic(err)
	}
	defer func() { _ = os.RemoveAll(dir) }()
	binary = filepath.Join(dir, "segsync")
	build := exec.Command("go", "build", "-o", binary, ".")
	build.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := build.CombinedOutput(); err != nil {
		panic(string(out))
	}
	if b := os.Getenv("KAFKA_BROKERS"); b != "" {
		brokers = strings.Split(b, ",")
		return m.Run()
	}
	stop, err := startKafka()
	if err != nil {
		why = "no Docker, and no KAFKA_BROKERS: " + err.Error()
	}
	defer stop()
	return m.Run()
}

// startKafka starts a broker in a container, with a plain and a SASL listener.
func startKafka() (stop func(), err error) {
	stop = func() {}
	defer func() { // testcontainers panics where there is no Docker
		if p := recover(); p != nil {
			err = fmt.Errorf("%v", p)
		}
	}()
	plain, sasl := freePort(), freePort()
	secured = "127.0.0.1:" + sasl
	jaas := `org.apache.kafka.common.security.plain.PlainLoginModule required username="admin" password="admin" user_admin="admin" user_segsync="plain-secret";`
	env := map[string]string{
		"KAFKA_NODE_ID": "1", "KAFKA_PROCESS_ROLES": "broker,controller",
		"KAFKA_LISTENERS":                      "PLAINTEXT://:9092,CONTROLLER://:9093,SECURED://:9094,INTERNAL://:9095",
		"KAFKA_ADVERTISED_LISTENERS":           "PLAINTEXT://127.0.0.1:" + plain + ",SECURED://" + secured + ",INTERNAL://localhost:9095",
		"KAFKA_CONTROLLER_LISTENER_NAMES":      "CONTROLLER",
		"KAFKA_LISTENER_SECURITY_PROTOCOL_MAP": "CONTROLLER:PLAINTEXT,PLAINTEXT:PLAINTEXT,SECURED:SASL_PLAINTEXT,INTERNAL:PLAINTEXT",
		// The broker verifies transactions by a connection to itself, which the mapped ports would not reach from inside.
		"KAFKA_INTER_BROKER_LISTENER_NAME":               "INTERNAL",
		"KAFKA_CONTROLLER_QUORUM_VOTERS":                 "1@localhost:9093",
		"KAFKA_OFFSETS_TOPIC_REPLICATION_FACTOR":         "1",
		"KAFKA_TRANSACTION_STATE_LOG_REPLICATION_FACTOR": "1",
		"KAFKA_TRANSACTION_STATE_LOG_MIN_ISR":            "1",
		"KAFKA_GROUP_INITIAL_REBALANCE_DELAY_MS":         "0",
		"KAFKA_SASL_ENABLED_MECHANISMS":                  "PLAIN,SCRAM-SHA-256,SCRAM-SHA-512,OAUTHBEARER",
		// Its own validator takes tokens without a signature, and checks their claims: subject, times, scope.
		"KAFKA_LISTENER_NAME_SECURED_OAUTHBEARER_SASL_JAAS_CONFIG": `org.apache.kafka.common.security.oauthbearer.OAuthBearerLoginModule required unsecuredLoginStringClaim_sub="broker" unsecuredValidatorRequiredScope="kafka";`,
		// Whoever is not named by a rule may do all: tests make rules for topics of their own.
		"KAFKA_AUTHORIZER_CLASS_NAME":                                    "org.apache.kafka.metadata.authorizer.StandardAuthorizer",
		"KAFKA_ALLOW_EVERYONE_IF_NO_ACL_FOUND":                           "true",
		"KAFKA_SUPER_USERS":                                              "User:ANONYMOUS",
		"KAFKA_LISTENER_NAME_SECURED_PLAIN_SASL_JAAS_CONFIG":             jaas,
		"KAFKA_LISTENER_NAME_SECURED_SCRAM___SHA___256_SASL_JAAS_CONFIG": "org.apache.kafka.common.security.scram.ScramLoginModule required;",
		"KAFKA_LISTENER_NAME_SECURED_SCRAM___SHA___512_SASL_JAAS_CONFIG": "org.apache.kafka.common.security.scram.ScramLoginModule required;",
	}
	ctx := context.Background()
	c, err := testcontainers.Run(ctx, kafkaImage,
		testcontainers.WithEnv(env), testcontainers.WithExposedPorts("9092/tcp", "9094/tcp"),
		testcontainers.WithHostConfigModifier(func(h *container.HostConfig) {
			bind := func(port string) []network.PortBinding {
				return []network.PortBinding{{HostIP: netip.MustParseAddr("127.0.0.1"), HostPort: port}}
			}
			h.PortBindings = network.PortMap{network.MustParsePort("9092/tcp"): bind(plain), network.MustParsePort("9094/tcp"): bind(sasl)}
		}),
	)
	if err != nil {
		return stop, err
	}
	stop = func() { _ = testcontainers.TerminateContainer(c) }
	broker = c
	brokers = []string{"127.0.0.1:" + plain}
	return stop, awaitBroker(ctx)
}

func awaitBroker(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, 90*time.Second)
	defer cancel()
	cl, err := kgo.NewClient(kgo.SeedBrokers(brokers...))
	if err != nil {
		return err
	}
	defer cl.Close()
	for {
		if _, err = kadm.NewClient(cl).BrokerMetadata(ctx); err == nil || ctx.Err() != nil {
			return err
		}
		time.Sleep(200 * time.Millisecond)
	}
}

func freePort() string {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		panic(err)
	}
	defer func() { _ = l.Close() }()
	_, port, _ := net.SplitHostPort(l.Addr().String())
	return port
}

// place is a world on the real broker with the configuration of a program that lives in it.
type place struct {
	*oracle.World
	t      *testing.T
	dir    string
	prefix string
	extra  string // of the kafka section
}

func newPlace(t *testing.T, o sandbox.Options) *place {
	t.Helper()
	if why != "" {
		t.Skip(why)
	}
	name := fmt.Sprintf("t%d", time.Now().UnixNano())
	w, err := oracle.NewWorld(oracle.WorldOptions{Network: oracle.Loopback{}, Brokers: brokers, Topic: name + ".events", Partitions: 3, Sandbox: o})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(w.Close)
	return &place{World: w, t: t, dir: t.TempDir(), prefix: name}
}

// config writes the configuration of one process and returns its path. admin is the port of its admin address.
func (p *place) config(admin string) string {
	p.t.Helper()
	kafka := p.extra
	if kafka == "" {
		kafka = "brokers: [" + p.Brokers()[0] + "]"
	}
	text := fmt.Sprintf(`
kafka:
  %s
  prefix: %s
  session_timeout: 6s
schema_registry: { url: %s }
sources:
  - name: cdp
    topics: [%s.events]
    event:
      person: profile_id
      segment: segment_id
      member: change == "ENTERED"
      time: occurred_at
    email: profile.email
connections:
  - name: main
    api_key: %s
    base_url: %s
    consent: { by: dpo@example.com, on: 2026-11-01 }
    rate: { plan: custom, contacts_per_second: 200, contacts_per_hour: 720000, other_per_hour: 36000, share: 1.0 }
exports:
  - name: vip
    connection: main
    source: cdp
    segments: [vip, gold]
    list: 42
    attributes: { FIRSTNAME: profile.first_name, LASTNAME: profile.last_name, SMS: 'phone(profile.phone, "FR")' }
    guard: { share: 0 }
  - name: news
    connection: main
    source: cdp
    segments: [gold, news]
    list: 43
    attributes: { FIRSTNAME: profile.first_name, COUNTRY: profile.country }
    guard: { share: 0 }
dead_letters: { topic: %s-dlq }
admin: { addr: 127.0.0.1:%s }
`, kafka, p.prefix, p.Registry, p.prefix, oracle.Key, p.API, p.prefix, admin)
	file := filepath.Join(p.dir, "segsync-"+admin+".yaml")
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		p.t.Fatal(err)
	}
	return file
}

// program is a running binary.
type program struct {
	cmd *exec.Cmd
	log text
}

func (p *place) start(args ...string) *program {
	p.t.Helper()
	r := &program{cmd: exec.Command(binary, args...)}
	r.cmd.Stderr, r.cmd.Stdout = &r.log, &r.log
	if err := r.cmd.Start(); err != nil {
		p.t.Fatal(err)
	}
	p.t.Cleanup(func() {
		_ = r.cmd.Process.Kill()
		_ = r.cmd.Wait()
		if p.t.Failed() {
			p.t.Log(r.log.String())
		}
	})
	return r
}

// end ends a program with a signal and returns its exit code.
func (r *program) end(s os.Signal) int {
	_ = r.cmd.Process.Signal(s)
	_ = r.cmd.Wait()
	return r.cmd.ProcessState.ExitCode()
}

func (p *place) converge(within time.Duration) {
	p.t.Helper()
	end := time.Now().Add(within)
	for len(p.Wrong()) > 0 {
		if time.Now().After(end) {
			for _, w := range p.Wrong() {
				p.t.Error(w)
			}
			p.t.FailNow()
		}
		time.Sleep(100 * time.Millisecond)
	}
}

func (p *place) produce(events []oracle.Event) {
	p.t.Helper()
	if err := p.Produce(p.t.Context(), events...); err != nil {
		p.t.Fatal(err)
	}
}

func shape(people, events int) oracle.Shape {
	s := oracle.DefaultShape(time.Now().Add(-time.Hour))
	s.People, s.Events, s.Poison = people, events, 0.005
	return s
}

func fast() sandbox.Options {
	return sandbox.Options{Latency: 10 * time.Millisecond, ImportTime: time.Second}
}

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
	if out, code = p.command("backfill", "-c", config, "--export", "vip", "--from", "earliest"); code != 0 || !strings.Contains(out, "calls made 0") {
		t.Errorf("a second reading makes calls, or ends with %d:\n%s", code, out)
	}
	if n := p.calls(); n > before+5 { // the account and its attributes are asked for
		t.Errorf("a second reading made %d calls", n-before)
	}
	if out, code = p.command("backfill", "-c", config, "--export", "vip", "--from", "earliest", "--resend"); code != 0 {
		t.Errorf("backfill --resend ends with %d:\n%s", code, out)
	}
	p.converge(0)
	running := p.start("run", "-c", config)
	time.Sleep(5 * time.Second)
	if out, code = p.command("approve", "-c", config, "--export", "vip"); code != exitEnvironment || !strings.Contains(out, "replicas") {
		t.Errorf("approve beside a running replica ends with %d:\n%s", code, out)
	}
	// S19: beside a live run, once waits for it and ends.
	if out, code = p.command("run", "--once", "-c", p.config(freePort())); code != 0 {
		t.Errorf("run --once beside a live run ends with %d:\n%s", code, out)
	}
	running.end(syscall.SIGTERM)
	if out, code = p.command("approve", "-c", config, "--export", "vip"); code != 0 {
		t.Errorf("approve ends with %d:\n%s", code, out)
	}
	if _, code = p.command("forget", "-c", config, "--export", "vip", "--yes"); code != exitUsage {
		t.Errorf("forget of an export that shares its table ends with %d", code)
	}
}

// command runs the program to its end.
func (p *place) command(args ...string) (string, int) {
	p.t.Helper()
	ctx, cancel := context.WithTimeout(p.t.Context(), 2*time.Minute)
	defer cancel()
	cmd := exec.CommandContext(ctx, binary, args...)
	out, _ := cmd.CombinedOutput()
	return string(out), cmd.ProcessState.ExitCode()
}

func (p *place) calls() (n int) {
	for _, c := range p.Sandbox.Stats().Calls {
		n += c
	}
	return n
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
	address, asked := issuer(t, func() string { return token("kafka") })
	file := filepath.Join(p.dir, "token")
	if err := os.WriteFile(file, []byte(token("kafka")), 0o600); err != nil {
		t.Fatal(err)
	}
	p.produce(oracle.History(6, shape(10, 60)))
	for name, sasl := range map[string]string{
		"client credentials": "token_url: " + address + ", client_id: segsync, client_secret: client-secret, scope: kafka",
		"token file":         `token: "${file:` + file + `}"`,
	} {
		p.extra = fmt.Sprintf("brokers: [%s]\n  sasl: { mechanism: OAUTHBEARER, %s }", secured, sasl)
		if out, code := p.command("run", "--once", "-c", p.config(freePort())); code != 0 {
			t.Errorf("%s: run --once ends with %d:\n%s", name, code, out)
		}
		p.converge(0)
	}
	if *asked == 0 {
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
