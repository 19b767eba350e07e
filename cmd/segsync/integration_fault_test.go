//go:build integration

package main

import (
	"fmt"
	"math/rand/v2"
	"os"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"

	"segsync/connector/oracle"
	"segsync/sink/sandbox"
)

// S39: one that is killed every two seconds, and started again at once, gets on.
func TestIntegrationKilledEveryTwoSeconds(t *testing.T) {
	p := newPlace(t, fast())
	config := p.config(freePort())
	events := oracle.History(11, shape(150, 1200))
	moved, last := 0, 0
	for end := time.Now().Add(time.Minute); time.Now().Before(end); {
		n := min(40, len(events))
		p.produce(events[:n])
		events = events[n:]
		r := p.start("run", "-c", config)
		time.Sleep(2 * time.Second)
		r.end(syscall.SIGKILL)
		if calls := p.calls(); calls > last+1 { // each life asks for the attributes
			moved, last = moved+1, calls
		}
	}
	if moved < 15 {
		t.Errorf("only %d of some 30 lives made a call", moved)
	}
	p.produce(events)
	r := p.start("run", "-c", config)
	r.says("took the connection over", time.Minute) // the lists may be right before it hears signals
	p.converge(6 * time.Minute)
	p.promised()
	if code := r.end(syscall.SIGTERM); code != 0 {
		t.Errorf("SIGTERM ends with %d", code)
	}
}

// S3: killed every two seconds for a minute, in a first fill by imports whose answers take their time: right within a
// minute of the last kill.
func TestIntegrationKilledWhileItImports(t *testing.T) {
	p := newPlace(t, sandbox.Options{Latency: 10 * time.Millisecond, ImportTime: 3 * time.Second})
	p.Sandbox.Order(sandbox.Fault{Endpoint: "/contacts/import", AnswerMillis: 800, Count: -1})
	config := p.config(freePort())
	var all []oracle.Event
	for i := range 26_000 {
		e := oracle.Event{Person: fmt.Sprint(i % 24_000), Segment: "vip", In: i < 24_000, At: time.Now().Add(time.Duration(i-40_000) * 100 * time.Millisecond), Partition: -1}
		e.Profile = &oracle.Profile{Email: fmt.Sprintf("person-%d@example.com", i%24_000), First: "First"}
		all = append(all, e)
	}
	p.produce(all)
	for end := time.Now().Add(time.Minute); time.Now().Before(end); {
		r := p.start("run", "-c", config)
		time.Sleep(2 * time.Second)
		r.end(syscall.SIGKILL)
	}
	began := time.Now()
	r := p.start("run", "-c", config)
	p.converge(time.Minute)
	t.Logf("right %s after the last kill; %d imports, %d looks", time.Since(began).Round(time.Second), p.Sandbox.Stats().Imports, p.Sandbox.Stats().Calls["GET /processes"])
	p.promised()
	if code := r.end(syscall.SIGTERM); code != 0 {
		t.Errorf("SIGTERM ends with %d", code)
	}
}

// Three replicas of two connections: each connection has one owner, whoever is killed.
func TestIntegrationThreeReplicasOfTwoConnections(t *testing.T) {
	other := fast()
	other.Key, other.Account = "the-other-key", "second@example.com"
	p, q := newPlace(t, fast()), newPlace(t, other)
	var ports, configs []string
	for range 3 {
		port := freePort()
		file, its := p.config(port), q.config(port)
		a, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		b, err := os.ReadFile(its)
		if err != nil {
			t.Fatal(err)
		}
		// The second's sources, connections and exports, under other names, behind the first's.
		second := strings.NewReplacer(oracle.Key, other.Key, "name: cdp", "name: crm", "source: cdp", "source: crm", "name: main", "name: second", "connection: main", "connection: second", "name: vip", "name: vip2", "name: news", "name: news2").Replace(string(b))
		merged := section(string(a), "", "connections:") + section(second, "sources:\n", "connections:") +
			section(string(a), "connections:", "exports:") + section(second, "connections:\n", "exports:") +
			section(string(a), "exports:", "dead_letters:") + section(second, "exports:\n", "dead_letters:") + section(string(a), "dead_letters:", "")
		file += ".both"
		if err := os.WriteFile(file, []byte(merged), 0o600); err != nil {
			t.Fatal(err)
		}
		if out, code := p.command("check", "--offline", "-c", file); code != 0 {
			t.Fatalf("check --offline ends with %d:\n%s", code, out)
		}
		ports, configs = append(ports, port), append(configs, file)
	}
	lives := make([]*program, 3)
	for i := range lives {
		lives[i] = p.start("run", "-c", configs[i])
	}
	one, two := oracle.History(12, shape(80, 600)), oracle.History(13, shape(80, 600))
	r := rand.New(rand.NewPCG(3, 3))
	for len(one) > 0 {
		p.produce(one[:100])
		q.produce(two[:100])
		one, two = one[100:], two[100:]
		time.Sleep(time.Duration(1000+r.IntN(2000)) * time.Millisecond)
		i := r.IntN(3)
		lives[i].end(syscall.SIGKILL)
		lives[i] = p.start("run", "-c", configs[i])
	}
	p.converge(6 * time.Minute)
	q.converge(6 * time.Minute)
	p.until("all answer", time.Minute, func() bool { // one that has only just begun does not listen to signals yet
		return !slices.ContainsFunc(ports, func(port string) bool { return p.status(port) == nil })
	})
	for _, c := range []string{"main", "second"} {
		p.until("one owner of "+c, time.Minute, func() bool {
			n := 0
			for _, port := range ports {
				if p.state(port, c) == "running" {
					n++
				}
			}
			return n == 1
		})
	}
	for _, x := range []*place{p, q} {
		if s := x.Sandbox.Stats(); s.Flags > 0 || s.MostImports > 1 || s.DuringRun > 0 {
			t.Errorf("broken promises: %+v", s)
		}
	}
	for _, l := range lives {
		if code := l.end(syscall.SIGTERM); code != 0 {
			t.Errorf("SIGTERM ends with %d", code)
		}
	}
}

// section cuts a text between two marks: "" are its beginning and end. A mark that ends in a newline is left out.
func section(text, from, to string) string {
	if i := strings.Index(text, from); from != "" {
		text = text[i:]
		if strings.HasSuffix(from, "\n") {
			text = text[len(from):]
		}
	}
	if to != "" {
		text, _, _ = strings.Cut(text, to)
	}
	return text
}

// S22: an owner that is stopped past its session, and goes on, writes nothing and sends nothing.
func TestIntegrationAFrozenOwner(t *testing.T) {
	o := fast()
	o.Latency = 200 * time.Millisecond // so that it is stopped in the middle of calls
	p := newPlace(t, o)
	ports := []string{freePort(), freePort()}
	lives := []*program{p.start("run", "-c", p.config(ports[0])), p.start("run", "-c", p.config(ports[1]))}
	events := oracle.History(14, shape(60, 900))
	for round := range 3 {
		owner := -1
		p.until("somebody owns it", time.Minute, func() bool {
			for i := range ports {
				if p.state(ports[i], "main") == "running" {
					owner = i
				}
			}
			return owner >= 0
		})
		p.produce(events[:100])
		time.Sleep(time.Duration(300+200*round) * time.Millisecond)
		_ = lives[owner].cmd.Process.Signal(syscall.SIGSTOP)
		p.until("the other takes over", time.Minute, func() bool { return p.state(ports[1-owner], "main") == "running" })
		p.produce(events[100:200])
		events = events[200:]
		time.Sleep(3 * time.Second)
		_ = lives[owner].cmd.Process.Signal(syscall.SIGCONT)
		time.Sleep(2 * time.Second)
		if p.state(ports[owner], "main") == "running" && p.state(ports[1-owner], "main") == "running" {
			t.Fatal("two own the connection")
		}
	}
	p.produce(events)
	p.converge(7 * time.Minute)
	if s := p.Sandbox.Stats(); s.Flags > 0 || s.MostImports > 1 || s.DuringRun > 0 {
		t.Errorf("broken promises: %+v", s)
	}
	for _, l := range lives {
		if code := l.end(syscall.SIGTERM); code != 0 {
			t.Errorf("SIGTERM ends with %d", code)
		}
	}
}

// The broker stops and starts again; writes of the table are refused for a while, as on a full disk.
func TestIntegrationABrokerThatFails(t *testing.T) {
	p := newPlace(t, fast())
	if broker == nil {
		t.Skip("KAFKA_BROKERS is not stopped by a test")
	}
	port := freePort()
	r := p.start("run", "-c", p.config(port))
	events := oracle.History(15, shape(60, 600))
	p.produce(events[:200])
	p.converge(time.Minute)
	second := 20 * time.Second
	if err := broker.Stop(t.Context(), &second); err != nil {
		t.Fatal(err)
	}
	time.Sleep(15 * time.Second)
	if err := broker.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	if err := awaitBroker(t.Context(), brokers[0]); err != nil {
		t.Fatal(err)
	}
	p.produce(events[200:400])
	p.converge(3 * time.Minute)
	adm, table := p.admin(), p.prefix+"-main-table"
	none, usual := "100", "1048588" // the markers of transactions fit, rows do not
	set := func(v *string) {
		resp, err := adm.AlterTopicConfigs(t.Context(), []kadm.AlterConfig{{Op: kadm.SetConfig, Name: "max.message.bytes", Value: v}}, table)
		if err == nil && len(resp) > 0 {
			err = resp[0].Err
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	set(&none) // MESSAGE_TOO_LARGE
	time.Sleep(2 * time.Second)
	calls := p.calls()
	p.produce(events[400:])
	time.Sleep(20 * time.Second)
	if n := p.calls(); n > calls+2 { // a life that begins anew asks for the attributes
		t.Errorf("%d calls were made while no row could be written", n-calls)
	}
	set(&usual)
	p.converge(3 * time.Minute)
	p.promised()
	if code := r.end(syscall.SIGTERM); code != 0 {
		t.Errorf("SIGTERM ends with %d", code)
	}
}

// S2: SIGTERM in the middle of an import ends in order, and the next life takes the import over.
func TestIntegrationATermInTheMiddleOfAnImport(t *testing.T) {
	p := newPlace(t, sandbox.Options{Latency: 10 * time.Millisecond, ImportTime: 40 * time.Second})
	config := p.config(freePort())
	s := shape(5000, 8000) // more than single calls work off sooner
	s.Numbers = false
	r := p.start("run", "-c", config)
	p.produce(oracle.History(16, s))
	p.until("an import is under way", time.Minute, func() bool { return p.Sandbox.Unfinished() > 0 })
	began := time.Now()
	if code := r.end(syscall.SIGTERM); code != 0 || time.Since(began) > 35*time.Second {
		t.Errorf("SIGTERM ends with %d after %s", code, time.Since(began))
	}
	r = p.start("run", "-c", config)
	p.converge(5 * time.Minute)
	p.promised()
	r.end(syscall.SIGTERM)
}

// What the broker does not allow is waited for, and said; nothing is sent meanwhile.
func TestIntegrationMissingACLs(t *testing.T) {
	p := newPlace(t, fast())
	if secured == "" {
		t.Skip("KAFKA_BROKERS has no SASL listener that is known here")
	}
	adm, table := p.admin(), p.prefix+"-main-table"
	deny := kadm.NewACLs().Topics(table).ResourcePatternType(kadm.ACLPatternLiteral).Operations(kadm.OpWrite).Deny("User:segsync").DenyHosts()
	if created, err := adm.CreateACLs(t.Context(), deny); err != nil || created[0].Err != nil {
		t.Fatal(err, created)
	}
	p.extra = fmt.Sprintf("brokers: [%s]\n  sasl: { mechanism: PLAIN, username: segsync, password: plain-secret }", secured)
	config := p.config(freePort())
	if out, code := p.command("check", "-c", config); code == 0 || !strings.Contains(out, table) {
		t.Errorf("check ends with %d:\n%s", code, out)
	}
	r := p.start("run", "-c", config)
	p.produce(oracle.History(17, shape(20, 100)))
	time.Sleep(10 * time.Second)
	if n := p.Sandbox.Len(42); n > 0 {
		t.Errorf("%d contacts were written without a row", n)
	}
	if !strings.Contains(r.log.String(), table) {
		t.Errorf("it does not say what it waits for:\n%s", r.log.String())
	}
	if _, err := adm.DeleteACLs(t.Context(), kadm.NewACLs().Topics(table).ResourcePatternType(kadm.ACLPatternLiteral).Operations(kadm.OpWrite).Deny("User:segsync").DenyHosts()); err != nil {
		t.Fatal(err)
	}
	p.converge(2 * time.Minute)
	p.promised()
	r.end(syscall.SIGTERM)
}

// S27: a topic that is deleted and made again halts its source, which says so; a backfill goes on from it.
func TestIntegrationATopicMadeAgain(t *testing.T) {
	p := newPlace(t, fast())
	port := freePort()
	config := p.config(port)
	r := p.start("run", "-c", config)
	p.produce(oracle.History(18, shape(20, 100)))
	p.converge(time.Minute)
	adm, topic := p.admin(), p.prefix+".events"
	if _, err := adm.DeleteTopic(t.Context(), topic); err != nil {
		t.Fatal(err)
	}
	time.Sleep(2 * time.Second)
	if _, err := adm.CreateTopic(t.Context(), 3, 1, nil, topic); err != nil {
		t.Fatal(err)
	}
	p.until("the source is halted", 2*time.Minute, func() bool {
		for _, s := range p.status(port) {
			for _, h := range s.Halted {
				if h.Source == "cdp" && strings.Contains(h.Mend, "backfill") {
					return true
				}
			}
		}
		return false
	})
	if len(p.Wrong()) > 0 {
		t.Error("the lists have changed")
	}
	r.end(syscall.SIGTERM)
	late := shape(20, 100)
	late.Begin = time.Now()
	p.Renew()
	p.produce(oracle.History(19, late))
	if out, code := p.command("backfill", "-c", config, "--export", "vip", "--from", "earliest"); code != 0 {
		t.Fatalf("backfill ends with %d:\n%s", code, out)
	}
	p.converge(time.Minute)
	p.promised()
}
