//go:build integration

package main

import (
	"context"
	"fmt"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
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

// startKafka starts the broker that all tests share.
func startKafka() (stop func(), err error) {
	c, addresses, err := runKafka(context.Background(), "")
	if err != nil {
		return func() {}, err
	}
	broker, brokers, secured = c, addresses[:1], addresses[1]
	return func() { _ = testcontainers.TerminateContainer(c) }, nil
}

// runKafka starts a broker in a container, with a plain and a SASL listener, whose addresses it returns. Its logs lie in a
// folder of this machine, if one is given.
func runKafka(ctx context.Context, data string) (c testcontainers.Container, addresses []string, err error) {
	defer func() { // testcontainers panics where there is no Docker
		if p := recover(); p != nil {
			err = fmt.Errorf("%v", p)
		}
	}()
	plain, sasl := freePort(), freePort()
	secured := "127.0.0.1:" + sasl
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
	if data != "" {
		env["KAFKA_LOG_DIRS"] = "/data"
	}
	c, err = testcontainers.Run(ctx, kafkaImage,
		testcontainers.WithEnv(env), testcontainers.WithExposedPorts("9092/tcp", "9094/tcp"),
		testcontainers.WithHostConfigModifier(func(h *container.HostConfig) {
			bind := func(port string) []network.PortBinding {
				return []network.PortBinding{{HostIP: netip.MustParseAddr("127.0.0.1"), HostPort: port}}
			}
			if data != "" {
				h.Binds = append(h.Binds, data+":/data")
			}
			h.PortBindings = network.PortMap{network.MustParsePort("9092/tcp"): bind(plain), network.MustParsePort("9094/tcp"): bind(sasl)}
		}),
	)
	if err != nil {
		return nil, nil, err
	}
	return c, []string{"127.0.0.1:" + plain, secured}, awaitBroker(ctx, "127.0.0.1:"+plain)
}

func awaitBroker(ctx context.Context, address string) error {
	ctx, cancel := context.WithTimeout(ctx, 90*time.Second)
	defer cancel()
	cl, err := kgo.NewClient(kgo.SeedBrokers(address))
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
	return newPlaceAt(t, brokers, o, 3)
}

// newPlaceAt is newPlace at a broker of its own.
func newPlaceAt(t *testing.T, brokers []string, o sandbox.Options, partitions int32) *place {
	t.Helper()
	name := fmt.Sprintf("t%d", time.Now().UnixNano())
	w, err := oracle.NewWorld(oracle.WorldOptions{Network: oracle.Loopback{}, Brokers: brokers, Topic: name + ".events", Partitions: partitions, Sandbox: o})
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
	t   *testing.T
	cmd *exec.Cmd
	log text
}

// says waits until the program's log holds something.
func (r *program) says(what string, within time.Duration) {
	r.t.Helper()
	for end := time.Now().Add(within); !strings.Contains(r.log.String(), what); time.Sleep(50 * time.Millisecond) {
		if time.Now().After(end) {
			r.t.Fatalf("it does not say %q within %s", what, within)
		}
	}
}

func (p *place) start(args ...string) *program {
	p.t.Helper()
	r := &program{t: p.t, cmd: exec.Command(binary, args...)}
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

// promised fails if an account has seen a broken promise.
func (p *place) promised() {
	p.t.Helper()
	if s := p.Sandbox.Stats(); s.Overlapping+s.DuringRun+s.Flags > 0 || s.MostImports > 1 {
		p.t.Errorf("broken promises: %+v", s)
	}
}

// state is what a program's connection of a name is doing; "" while it does not answer.
func (p *place) state(port, connection string) string {
	for _, s := range p.status(port) {
		if s.Name == connection {
			return s.State
		}
	}
	return ""
}

func (p *place) status(port string) []connector.Status {
	f := statusFlags{addr: "127.0.0.1:" + port}
	standings, err := f.askProcess(p.t.Context())
	if err != nil {
		return nil
	}
	var all []connector.Status
	for i := range standings {
		all = append(all, standings[i].Status)
	}
	return all
}

// until waits for a condition.
func (p *place) until(what string, within time.Duration, f func() bool) {
	p.t.Helper()
	for end := time.Now().Add(within); !f(); time.Sleep(100 * time.Millisecond) {
		if time.Now().After(end) {
			p.t.Fatalf("not within %s: %s", within, what)
		}
	}
}

func (p *place) admin() *kadm.Client {
	p.t.Helper()
	cl, err := kgo.NewClient(kgo.SeedBrokers(brokers...))
	if err != nil {
		p.t.Fatal(err)
	}
	p.t.Cleanup(cl.Close)
	return kadm.NewClient(cl)
}
