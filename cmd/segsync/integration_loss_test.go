//go:build integration

package main

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/testcontainers/testcontainers-go"
	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"

	"segsync/connector/oracle"
)

// halted says whether a program tells of a reason.
func (p *place) halted(port, code string) bool {
	for _, s := range p.status(port) {
		for _, h := range s.Halted {
			if h.Code == code {
				return true
			}
		}
	}
	return false
}

func (p *place) backfill(config string) {
	p.t.Helper()
	if out, code := p.command("backfill", "-c", config, "--export", "vip", "--from", "earliest"); code != 0 {
		p.t.Fatalf("backfill ends with %d:\n%s", code, out)
	}
}

// S66: the table's topic has lost its beginning: nobody is taken out, and what the hold names mends it.
func TestIntegrationATableThatHasLostItsBeginning(t *testing.T) {
	p := newPlace(t, fast())
	port := freePort()
	config := p.config(port)
	r := p.start("run", "-c", config)
	p.produce(oracle.History(30, shape(60, 400)))
	p.converge(2 * time.Minute)
	r.end(syscall.SIGTERM)
	adm, table := p.admin(), p.prefix+"-main-table"
	ends, err := adm.ListEndOffsets(t.Context(), table)
	if err != nil {
		t.Fatal(err)
	}
	end, _ := ends.Lookup(table, 0)
	policy := "compact,delete" // records are deleted of topics that retain by age only
	offsets := kadm.Offsets{}
	offsets.Add(kadm.Offset{Topic: table, Partition: 0, At: end.Offset / 2})
	set := func() {
		if _, err := adm.AlterTopicConfigs(t.Context(), []kadm.AlterConfig{{Op: kadm.SetConfig, Name: "cleanup.policy", Value: &policy}}, table); err != nil {
			t.Fatal(err)
		}
		time.Sleep(time.Second)
	}
	set()
	deleted, err := adm.DeleteRecords(t.Context(), offsets)
	if err == nil {
		err = deleted.Error()
	}
	if err != nil {
		t.Fatal(err)
	}
	if out, code := p.command("check", "-c", config); code != 3 || !strings.Contains(out, "FAIL  connection main: topic "+table+" has cleanup.policy") {
		t.Errorf("check ends with %d:\n%s", code, out)
	}
	policy = "compact"
	set()
	r = p.start("run", "-c", config)
	p.until("the damage is told", time.Minute, func() bool { return p.halted(port, "table_damaged") })
	time.Sleep(5 * time.Second)
	if wrong := p.Wrong(); len(wrong) > 0 {
		t.Errorf("the lists have changed: %v", wrong)
	}
	r.end(syscall.SIGTERM)
	p.backfill(config)
	r = p.start("run", "-c", config)
	p.until("it is mended", time.Minute, func() bool { return p.state(port, "main") == "running" && !p.halted(port, "table_damaged") })
	p.converge(2 * time.Minute)
	r.end(syscall.SIGTERM)
}

// S70: a partition's log is yesterday's, and is written on past the position: reading halts, and a backfill mends it.
func TestIntegrationALogThatGoesBack(t *testing.T) {
	if why != "" || broker == nil {
		t.Skip("no Docker")
	}
	data := t.TempDir()
	if err := os.Chmod(data, 0o777); err != nil { // the container's user is another one
		t.Fatal(err)
	}
	b, addresses, err := runKafka(t.Context(), data)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = testcontainers.TerminateContainer(b) })
	p := newPlaceAt(t, addresses[:1], fast(), 1)
	port := freePort()
	config := p.config(port)
	log := filepath.Join(data, p.prefix+".events-0")
	down := func(f func() error) {
		t.Helper()
		second := 20 * time.Second
		if err := b.Stop(t.Context(), &second); err != nil {
			t.Fatal(err)
		}
		if err := f(); err != nil {
			t.Fatal(err)
		}
		if err := b.Start(t.Context()); err != nil {
			t.Fatal(err)
		}
		if err := awaitBroker(t.Context(), addresses[0]); err != nil {
			t.Fatal(err)
		}
	}
	say := func(person string, in bool, email string) {
		t.Helper()
		e := oracle.Event{Person: person, Segment: "vip", In: in, Partition: 0, At: time.Now()}
		if in {
			e.Profile = &oracle.Profile{Email: email}
		}
		p.produce([]oracle.Event{e})
	}
	old := filepath.Join(t.TempDir(), "log")
	say("P", true, "x@example.com")
	r := p.start("run", "-c", config)
	p.converge(time.Minute)
	r.end(syscall.SIGTERM)
	down(func() error { return os.CopyFS(old, os.DirFS(log)) })
	r = p.start("run", "-c", config)
	for i := range 3 { // what will be lost
		say("Q", true, fmt.Sprintf("q%d@example.com", i))
	}
	p.converge(time.Minute)
	r.end(syscall.SIGTERM)
	down(func() error {
		if err := os.RemoveAll(log); err != nil {
			return err
		}
		if err := os.CopyFS(log, os.DirFS(old)); err != nil {
			return err
		}
		return filepath.WalkDir(log, func(path string, _ os.DirEntry, err error) error { // the broker's user is another one
			return errors.Join(err, os.Chmod(path, 0o777))
		})
	})
	say("P", false, "")
	say("Q", false, "")
	for i := range 8 {
		say(fmt.Sprint("R", i), true, fmt.Sprintf("r%d@example.com", i))
	}
	r = p.start("run", "-c", config)
	p.until("it is told", time.Minute, func() bool { return p.halted(port, "source") })
	if !strings.Contains(r.log.String(), "has gone back") {
		t.Errorf("it is told as %s", r.log.String())
	}
	r.end(syscall.SIGTERM)
	p.backfill(config)
	p.converge(time.Minute)
}

// S74: dead letters' topic is compacted, and takes no record without a key; then it is deleted. Everything goes on.
func TestIntegrationDeadLettersThatCannotBeWritten(t *testing.T) {
	p := newPlace(t, fast())
	adm, letters := p.admin(), p.prefix+"-dlq"
	policy := "compact"
	if _, err := adm.CreateTopic(t.Context(), 1, 1, map[string]*string{"cleanup.policy": &policy}, letters); err != nil {
		t.Fatal(err)
	}
	config := p.config(freePort())
	if out, code := p.command("check", "-c", config); code != 3 || !strings.Contains(out, "is compacted") {
		t.Errorf("check ends with %d:\n%s", code, out)
	}
	r := p.start("run", "-c", config)
	cl, err := kgo.NewClient(kgo.SeedBrokers(brokers...))
	if err != nil {
		t.Fatal(err)
	}
	defer cl.Close()
	poison := func(headers int) {
		t.Helper()
		rec := &kgo.Record{Topic: p.prefix + ".events", Value: []byte{1, 2, 3}, Headers: []kgo.RecordHeader{{Key: "h", Value: make([]byte, headers)}}}
		if err := cl.ProduceSync(t.Context(), rec).FirstErr(); err != nil {
			t.Fatal(err)
		}
	}
	count := func() int64 {
		ends, err := adm.ListEndOffsets(t.Context(), letters)
		if err != nil {
			return 0
		}
		end, _ := ends.Lookup(letters, 0)
		return end.Offset
	}
	poison(10)
	poison(990_000)
	p.produce(oracle.History(31, shape(20, 100)))
	p.converge(2 * time.Minute)
	if count() < 2 {
		t.Errorf("%d letters are written", count())
	}
	if _, err := adm.DeleteTopic(t.Context(), letters); err != nil {
		t.Fatal(err)
	}
	time.Sleep(2 * time.Second)
	poison(10)
	late := shape(20, 100)
	late.Begin = time.Now()
	p.produce(oracle.History(32, late))
	p.converge(3 * time.Minute)
	p.until("the topic is there again", 2*time.Minute, func() bool { return count() > 0 })
	p.promised()
	r.end(syscall.SIGTERM)
}

// S75: a table's topic that takes 64 kB: rows and announcements fit.
func TestIntegrationATopicThatTakesLittle(t *testing.T) {
	p := newPlace(t, fast())
	policy, most := "compact", "65536"
	if _, err := p.admin().CreateTopic(t.Context(), 1, 1, map[string]*string{"cleanup.policy": &policy, "max.message.bytes": &most}, p.prefix+"-main-table"); err != nil {
		t.Fatal(err)
	}
	config := p.config(freePort())
	s := shape(6000, 8000)
	s.Numbers = false
	p.produce(oracle.History(33, s))
	r := p.start("run", "-c", config)
	p.converge(3 * time.Minute)
	r.end(syscall.SIGKILL)
	r = p.start("run", "-c", config)
	p.produce([]oracle.Event{{Person: "late", Segment: "vip", In: true, Partition: -1, At: time.Now(), Profile: &oracle.Profile{Email: "late@example.com"}}})
	p.converge(2 * time.Minute)
	r.end(syscall.SIGTERM)
}

// S81: what a bounded run needs and has not: it ends with 3, naming it, and check finds it (K11).
func TestIntegrationABoundedRunWithoutItsACLs(t *testing.T) {
	if why != "" || secured == "" {
		t.Skip("KAFKA_BROKERS has no SASL listener that is known here")
	}
	for name, deny := range map[string]func(p *place) *kadm.ACLBuilder{
		"transactional id": func(p *place) *kadm.ACLBuilder {
			return kadm.NewACLs().TransactionalIDs(p.prefix + "-main").Operations(kadm.OpWrite)
		},
		"group": func(p *place) *kadm.ACLBuilder {
			return kadm.NewACLs().Groups(p.prefix + "-main").Operations(kadm.OpRead)
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			p := newPlace(t, fast())
			p.extra = fmt.Sprintf("brokers: [%s]\n  sasl: { mechanism: PLAIN, username: segsync, password: plain-secret }", secured)
			rule := deny(p).ResourcePatternType(kadm.ACLPatternLiteral).Deny("User:segsync").DenyHosts()
			adm := p.admin()
			if created, err := adm.CreateACLs(t.Context(), rule); err != nil || created[0].Err != nil {
				t.Fatal(err, created)
			}
			config := p.config(freePort())
			if out, code := p.command("check", "-c", config); code != 3 || !strings.Contains(out, "FAIL  connection main: "+name) {
				t.Errorf("check ends with %d:\n%s", code, out)
			}
			p.produce(oracle.History(34, shape(10, 50)))
			began := time.Now()
			out, code := p.command("run", "--once", "-c", config)
			if code != 3 || time.Since(began) > 110*time.Second || !strings.Contains(out, "AUTHORIZATION_FAILED") {
				t.Errorf("it ends with %d after %s:\n%s", code, time.Since(began), out)
			}
		})
	}
}
