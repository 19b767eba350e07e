package oracle

import (
	"context"
	"fmt"
	"maps"
	"math/rand/v2"
	"net/http"
	"os"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kfake"

	"segsync/connector"
	"segsync/connector/commands"
	"segsync/sink/sandbox"
)

var brokerPorts = []int{9092, 9093, 9094}

// matrix is a run under way.
type matrix struct {
	*World
	t      *testing.T
	lives  map[string]*Process
	events []Event
	lapsed time.Time // when the last membership lapses
	rand   *rand.Rand
	hung   bool // a call of the API was left without an answer
	frozen bool // so was a life, while another could take over
	thaws  time.Time
}

func (m *matrix) each(f func(c *Cutter)) {
	for _, p := range m.lives {
		f(p.Dialer)
	}
}

func (m *matrix) begin(name string) { m.beginWith(name, m.Cutter()) }

func (m *matrix) beginWith(name string, c *Cutter, tune ...func(*connector.Config)) {
	p, err := m.Start(name, c, tune...)
	if err != nil {
		m.t.Fatal(err)
	}
	m.lives[name] = p
	m.t.Cleanup(func() { p.Kill(); p.Wait() })
}

func (m *matrix) kill(name string) {
	m.lives[name].Kill()
	time.Sleep(time.Duration(m.rand.IntN(300)) * time.Millisecond)
	m.begin(name)
}

// end ends a life, if there is one.
func (m *matrix) end(name string, kill bool) {
	p := m.lives[name]
	if p == nil {
		return
	}
	delete(m.lives, name)
	if kill {
		p.Kill()
		return
	}
	p.Stop()
}

func (m *matrix) stopAll() {
	for name := range m.lives {
		m.end(name, m.rand.IntN(2) == 0)
	}
}

func (m *matrix) rewind(resend bool) {
	down := m.rand.IntN(2) == 0
	if down { // it is for whoever runs next
		m.stopAll()
	}
	c := commands.Command{Kind: commands.Backfill, Export: fmt.Sprint("export-", 1+m.rand.IntN(len(m.Exports))), Range: &commands.Range{Resend: resend, Sweep: m.rand.IntN(2) == 0}}
	if _, err := m.Give(m.t.Context(), c); err != nil {
		m.t.Error("the test's own command: ", err)
	}
	if down {
		m.begin("a")
	}
}

func (m *matrix) produce(n int) {
	n = min(n, len(m.events))
	if err := m.Produce(m.t.Context(), m.events[:n]...); err != nil {
		m.t.Error("the test's own producer: ", err)
	}
	m.events = m.events[n:]
}

// unsubscribe lets somebody of a list unsubscribe, at rest: what a look finds is not a matter of moments then. It must
// be an address that nobody has given up, of which it is known for certain that nothing of it was looked at before.
func (m *matrix) unsubscribe() {
	end := time.Now().Add(20 * time.Minute)
	for len(m.Wrong()) > 0 || !m.atRest() {
		if time.Now().After(end) {
			return // faults that do not end by themselves: not now
		}
		time.Sleep(time.Second)
	}
	members := slices.Sorted(maps.Keys(m.Sandbox.List(42)))
	members = slices.DeleteFunc(members, func(a string) bool {
		for _, former := range m.Truth.former {
			if slices.Contains(former, a) {
				return true
			}
		}
		return false
	})
	if len(members) == 0 {
		return
	}
	address := members[m.rand.IntN(len(members))]
	note(m.t, step{kind: "unsubscribed", what: address})
	m.Sandbox.Unsubscribe(address)
	m.Truth.Unsubscribed[address] = true
}

// atRest says whether nothing is pending anywhere, and everything was read.
func (m *matrix) atRest() bool {
	for _, p := range m.lives {
		if s := p.Connection.Status(); s.State == "running" {
			return s.Lag == 0 && s.Pending == 0 && s.Imports == 0
		}
	}
	return false
}

// struck counts the faults of all runs, by kind.
var struck = struct {
	sync.Mutex
	kinds   map[string]int
	imports int // that the account has taken
}{kinds: map[string]int{}}

// run makes the steps of a run and holds what came of it against the truth. It returns what was wrong.
func run(t *testing.T, seed uint64, steps []step, people int) (wrong []string) {
	r := rand.New(rand.NewPCG(seed, 5))
	shape := DefaultShape(time.Now())
	shape.Plain, shape.People = true, people
	// An address that the table has never held, because a newer one was read before it on another partition or topic, is not
	// looked at: whom it matters for has one partition here.
	shape.Scatter = !slices.ContainsFunc(steps, func(s step) bool { return s.kind == "unsubscribe" })
	ways := uint64(0)
	if shape.Scatter && seed%2 == 1 && !slices.Contains(onceFailed, seed) {
		shape, ways = shape.inWays(), seed
	}
	w, err := NewWorld(WorldOptions{
		Ways:    ways,
		Network: &kfake.VirtualNetwork{}, APIAddr: "127.0.0.1:8080", RegAddr: "127.0.0.1:8081", Partitions: 3, Ports: brokerPorts, Log: testLog(t),
		Sandbox: sandbox.Options{
			Latency: 20 * time.Millisecond, ImportTime: 5 * time.Second, Seed: seed, Observe: tracing(t),
			Rates: sandbox.Rates{ContactsPerSecond: 10, ContactsPerHour: 36_000, OtherPerHour: 100},
		},
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(w.Close)
	w.Tune = func(c *connector.Config) { c.Times.Drain = 5 * time.Second }
	m := &matrix{World: w, t: t, lives: map[string]*Process{}, rand: r}
	many := 1 // more people say more, so that imports pay
	if people > 100 {
		many = 8
	}
	for _, s := range steps {
		shape.Events += s.n * many
	}
	m.events = History(seed, shape)
	for i := range m.events {
		if u := m.events[i].Until; u.After(m.lapsed) {
			m.lapsed = u
		}
	}
	m.begin("a")
	for _, s := range steps {
		if m.lives["a"] == nil {
			m.begin("a")
		}
		note(t, s)
		m.produce(s.n * many)
		if s.do != nil {
			s.do(m)
			struck.Lock()
			kind := s.kind
			if kind == "api" {
				kind += ": " + s.what
			}
			struck.kinds[kind]++
			struck.Unlock()
		}
		time.Sleep(s.wait)
	}
	return m.judge()
}

// tracing logs every call of the account with its answer, where one run is repeated (SEED).
func tracing(t *testing.T) func(r *http.Request, body []byte, status int, header http.Header, answer []byte) {
	if os.Getenv("SEED") == "" {
		return nil
	}
	return func(r *http.Request, body []byte, status int, _ http.Header, answer []byte) {
		if r.URL.Path != "/v3/contacts/attributes" {
			t.Logf("%s %s %s %s: %d %s", time.Now().Format("15:04:05.000"), r.Method, r.URL.Path, body, status, answer)
		}
	}
}

// note logs a step where one run is repeated.
func note(t *testing.T, s step) {
	if os.Getenv("SEED") != "" {
		t.Logf("%s -- %s", time.Now().Format("15:04:05.000"), s)
	}
}

// judge mends everything and says what is wrong in the end.
func (m *matrix) judge() (wrong []string) {
	m.Sandbox.Mend()
	m.down.Store(false)
	m.each(func(c *Cutter) { c.Mend() })
	m.kill("a") // a fault may have been ordered for a call that this life does not make again
	m.produce(len(m.events))
	m.exorcise()
	for end := time.Now().Add(2 * time.Hour); len(m.Wrong()) > 0 && time.Now().Before(end); {
		time.Sleep(3 * time.Second)
	}
	time.Sleep(max(15*time.Minute, time.Until(m.lapsed)+time.Minute)) // what is sent once more after late_apply ends where it was; nothing lapses any more
	for _, x := range m.Wrong() {
		wrong = append(wrong, x.String())
	}
	if len(wrong) > 0 {
		for name, p := range m.lives {
			wrong = append(wrong, fmt.Sprintf("life %s: %+v", name, p.Connection.Status()))
		}
		return wrong
	}
	struck.Lock()
	struck.imports += m.Sandbox.Stats().Imports
	struck.Unlock()
	wrong = append(wrong, m.broken(excuses{overlaps: m.hung && m.frozen})...)
	ctx, cancel := context.WithTimeout(m.t.Context(), time.Minute)
	defer cancel()
	untold, err := m.Untold(ctx)
	if len(untold) > 0 || err != nil {
		wrong = append(wrong, fmt.Sprintf("no dead letter tells of %v (%v)", untold, err))
	}
	for address := range m.Truth.Unsubscribed {
		if c, ok := m.Sandbox.Contact(address); ok && !c.EmailBlacklisted {
			wrong = append(wrong, "consent: the block of "+address+" was lifted")
		}
	}
	before := m.writes()
	note(m.t, step{kind: "a second reading"})
	m.rewind(false)
	time.Sleep(5 * time.Minute)
	if !m.atRest() {
		wrong = append(wrong, fmt.Sprintf("a second reading does not come to rest: %+v", m.lives["a"].Connection.Status()))
	}
	if n := m.writes() - before; n > 0 {
		wrong = append(wrong, fmt.Sprintf("a second reading made %d calls", n))
	}
	for name := range m.lives {
		m.end(name, false)
	}
	return wrong
}

// exorcise lets a standby join and leave in order. The embedded broker has been seen to keep a static member that died
// in the middle of joining for ever, with all partitions: one of its name takes its place and frees it. (A real broker
// ends its session: make integration.)
func (m *matrix) exorcise() {
	m.end("b", false)
	m.begin("b")
	time.Sleep(30 * time.Second)
	m.end("b", false)
}

// writes is how many calls have been made that change something.
func (m *matrix) writes() (n int) {
	for endpoint, calls := range m.Sandbox.Stats().Calls {
		if !strings.HasPrefix(endpoint, http.MethodGet) && endpoint != "POST /contacts/export" {
			n += calls
		}
	}
	return n
}

// excuses are what is not held against segsync.
type excuses struct {
	overlaps  bool // a call of an owner that stands still, and is not dead, goes on beside its successor's: nobody can take it back
	duringRun bool // contacts were freed from an import that does not end
}

// broken are the promises that the account has seen broken.
func (w *World) broken(x excuses) (all []string) {
	s := w.Sandbox.Stats()
	if x.overlaps {
		s.Overlapping = 0
	}
	if x.duringRun {
		s.DuringRun = 0
	}
	for _, p := range []struct {
		n    int
		what string
	}{
		{s.Overlapping, "order: %d writes of a contact while another was not answered"},
		{s.DuringRun, "order: %d writes of a contact that an unfinished import holds"},
		{max(0, s.MostImports-1), "order: %d more imports of the account than one at once"},
		{s.Flags, "consent: %d blacklist flags sent as false"},
		{s.Refused, "rate: %d calls over the limit"},
		{max(0, s.MostASecond-w.Rate.ContactsPerSecond), "rate: %d calls more in one second than the limit, wherever it begins"},
	} {
		if p.n > 0 {
			all = append(all, fmt.Sprintf(p.what, p.n))
		}
	}
	return all
}
