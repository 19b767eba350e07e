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

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kmsg"

	"segsync/connector"
	"segsync/sink/sandbox"
)

// step is one thing that happens in a run of the fault matrix. A run is a list of them, so that one that fails can be
// shortened.
type step struct {
	kind string
	what string // of the kind
	n    int    // events
	wait time.Duration
	do   func(m *matrix)
}

func (s step) String() string {
	switch {
	case s.kind == "events":
		return fmt.Sprintf("events %d, %s", s.n, s.wait)
	case s.what != "":
		return fmt.Sprintf("%s %s, %s", s.kind, s.what, s.wait)
	}
	return fmt.Sprintf("%s, %s", s.kind, s.wait)
}

var brokerPorts = []int{9092, 9093, 9094}

// matrix is a run under way.
type matrix struct {
	*World
	t      *testing.T
	lives  map[string]*Process
	events []Event
	rand   *rand.Rand
}

// kafkaCalls are the calls of Kafka whose requests and answers are lost, and at which lives end.
var kafkaCalls = []kmsg.Key{
	kmsg.Produce, kmsg.Fetch, kmsg.ListOffsets, kmsg.Metadata, kmsg.OffsetFetch, kmsg.FindCoordinator, kmsg.JoinGroup,
	kmsg.Heartbeat, kmsg.SyncGroup, kmsg.LeaveGroup, kmsg.InitProducerID, kmsg.AddPartitionsToTxn, kmsg.EndTxn, kmsg.TxnOffsetCommit,
}

// brokerErrors are errors that a broker answers with, by call. Some are said of work that was done.
var brokerErrors = map[kmsg.Key][]*kerr.Error{
	kmsg.Produce:         {kerr.NotLeaderForPartition, kerr.RequestTimedOut, kerr.NotEnoughReplicas, kerr.KafkaStorageError, kerr.NotEnoughReplicasAfterAppend},
	kmsg.Fetch:           {kerr.NotLeaderForPartition, kerr.KafkaStorageError, kerr.UnknownServerError},
	kmsg.OffsetFetch:     {kerr.NotCoordinator, kerr.UnstableOffsetCommit, kerr.CoordinatorLoadInProgress},
	kmsg.JoinGroup:       {kerr.CoordinatorNotAvailable, kerr.NotCoordinator},
	kmsg.SyncGroup:       {kerr.RebalanceInProgress, kerr.NotCoordinator},
	kmsg.Heartbeat:       {kerr.RebalanceInProgress, kerr.UnknownMemberID, kerr.NotCoordinator, kerr.IllegalGeneration},
	kmsg.InitProducerID:  {kerr.ConcurrentTransactions, kerr.CoordinatorNotAvailable},
	kmsg.EndTxn:          {kerr.CoordinatorNotAvailable, kerr.NotCoordinator, kerr.ConcurrentTransactions, kerr.UnknownServerError},
	kmsg.TxnOffsetCommit: {kerr.CoordinatorLoadInProgress, kerr.NotCoordinator, kerr.RequestTimedOut, kerr.IllegalGeneration, kerr.UnknownServerError},
}

// apiFaults are what the API does wrong, by name.
var apiFaults = map[string]sandbox.Fault{
	"429":                     {Status: 429, Endpoint: "/contacts", Header: map[string]string{"x-sib-ratelimit-reset": "3"}, Count: 3},
	"500":                     {Status: 500, Endpoint: "/contacts", Count: 4},
	"524":                     {Status: 524, Body: "<html>a timeout occurred</html>", Endpoint: "/contacts", Count: 2},
	"425":                     {Status: 425, Body: `{"code":"account_in_process","message":"wait"}`, Endpoint: "/contacts", Count: 2},
	"hang":                    {Hang: true, Endpoint: "/contacts"},
	"slow":                    {DelayMillis: 3000, Endpoint: "/contacts", Count: 3},
	"applied, answer lost":    {DropAfter: true, Endpoint: "/contacts", Count: 2},
	"applied late":            {LateMillis: 30_000, Endpoint: "/contacts"},
	"applied much later":      {LateMillis: 100_000, Endpoint: "/contacts"},
	"blocked address":         {Status: 401, Body: `{"code":"unauthorized","message":"We have detected you are using an unrecognised IP address"}`, Endpoint: "/contacts"},
	"import: answer lost":     {Endpoint: "/contacts/import", DropAfter: true},
	"import: failed":          {Endpoint: "/contacts/import", Import: "failed", ImportTime: 4000},
	"import: slow":            {Endpoint: "/contacts/import", ImportTime: 60_000},
	"import: loses rows":      {Endpoint: "/contacts/import", LoseRows: 0.3, ImportTime: 3000},
	"import: no report":       {Endpoint: "/contacts/import", NoReports: true, ImportTime: 3000},
	"processes: unanswered":   {Endpoint: "/processes", Status: 500, Count: 3},
	"attributes: unanswered":  {Endpoint: "/contacts/attributes", Status: 500},
	"look: unanswered":        {Method: "GET", Endpoint: "/contacts/", Status: 500, Count: 2},
	"import: sent to nowhere": {Endpoint: "/contacts/import", Hang: true},
}

// configurations are the exports that a run changes between.
func configurations() [][]Export {
	usual := DefaultExports()
	fewer := slices.Clone(usual) // a segment that another export still asks for leaves the first
	fewer[0].Segments = []string{"vip"}
	more := append(slices.Clone(usual), Export{List: SpareList, Segments: []string{"vip", "news"}, Attributes: []string{"COUNTRY"}})
	return [][]Export{usual, fewer, more}
}

// plan makes the steps of a run by its seed.
func plan(seed uint64, length int) []step {
	r := rand.New(rand.NewPCG(seed, 4))
	steps := make([]step, 0, length)
	for range length {
		s := draw(r)
		s.wait = time.Duration(r.IntN(4000)) * time.Millisecond
		steps = append(steps, s)
	}
	return steps
}

// draw draws a step.
func draw(r *rand.Rand) step {
	switch k := r.IntN(100); {
	case k < 40:
		return step{kind: "events", n: 1 + r.IntN(15)}
	case k < 56:
		name := slices.Sorted(maps.Keys(apiFaults))[r.IntN(len(apiFaults))]
		return step{kind: "api", what: name, do: func(m *matrix) { m.Sandbox.Order(apiFaults[name]) }}
	case k < 62:
		return step{kind: "kill", do: func(m *matrix) { m.kill("a") }}
	case k < 72:
		return drawSnap(r)
	case k < 78:
		return drawBrokerError(r)
	case k < 83:
		return drawMember(r)
	case k < 87:
		d := time.Duration(2+r.IntN(40)) * time.Second
		return step{kind: "freeze", what: d.String(), do: func(m *matrix) { m.each(func(c *Cutter) { c.Freeze(d) }) }}
	case k < 91:
		return drawBroker(r)
	case k < 93:
		d := time.Duration(1+r.IntN(20)) * time.Second
		return step{kind: "registry down", what: d.String(), do: func(m *matrix) {
			m.down.Store(true)
			time.AfterFunc(d, func() { m.down.Store(false) })
		}}
	case k < 95:
		n := r.IntN(len(configurations()))
		return step{kind: "configuration", what: fmt.Sprint(n), do: func(m *matrix) { m.stopAll(); m.Reconfigure(configurations()[n]); m.begin("a") }}
	case k < 98:
		resend := r.IntN(3) == 0
		return step{kind: "rewind", what: fmt.Sprint("resend=", resend), do: func(m *matrix) { m.rewind(resend) }}
	}
	return step{kind: "unsubscribe", do: func(m *matrix) { m.unsubscribe() }}
}

// drawSnap loses a request of Kafka or its answer, or ends a life at a call of Kafka or of the API.
func drawSnap(r *rand.Rand) step {
	key := kafkaCalls[r.IntN(len(kafkaCalls))]
	s, name := Snap{Match: KafkaRequest(int16(key)), Answered: r.IntN(2) == 0, Dies: r.IntN(2) == 0}, key.Name()
	if s.Dies && r.IntN(3) == 0 {
		s.Match, name = Write, "a write"
	}
	side := "before"
	if s.Answered {
		side = "after"
	}
	if !s.Dies {
		return step{kind: "lost " + side, what: name, do: func(m *matrix) { m.each(func(c *Cutter) { c.Order(s) }) }}
	}
	restart := r.IntN(2) == 0 // the next life ends at the call, in its restore perhaps
	return step{kind: "killed " + side, what: name, do: func(m *matrix) {
		if restart {
			m.lives["a"].Kill()
			c := m.Cutter()
			c.Order(s)
			m.beginWith("a", c)
		} else {
			m.lives["a"].Dialer.Order(s)
		}
		m.produce(3)
		time.Sleep(5 * time.Second)
		m.kill("a")
	}}
}

func drawBrokerError(r *rand.Rand) step {
	key := slices.Sorted(maps.Keys(brokerErrors))[r.IntN(len(brokerErrors))]
	err := brokerErrors[key][r.IntN(len(brokerErrors[key]))]
	n := 1 + r.IntN(2)
	return step{kind: "broker says", what: key.Name() + " " + err.Message, do: func(m *matrix) {
		f := kfake.Fault{Keys: []kmsg.Key{key}, Err: err, Count: n}
		if key == kmsg.Produce {
			f.Topic = "segsync-demo-table"
		}
		m.Cluster.Fault(f)
	}}
}

// drawMember lets a standby come, go and win.
func drawMember(r *rand.Rand) step {
	switch r.IntN(4) {
	case 0:
		return step{kind: "standby leaves", do: func(m *matrix) { m.end("b", false) }}
	case 1:
		return step{kind: "standby is killed", do: func(m *matrix) { m.end("b", true) }}
	case 2:
		return step{kind: "restart in order", do: func(m *matrix) { m.end("a", false); m.begin("a") }}
	}
	return step{kind: "standby joins", do: func(m *matrix) {
		if m.lives["b"] == nil {
			m.begin("b")
		}
	}}
}

// drawBroker lets brokers come and go, and what they lead move.
func drawBroker(r *rand.Rand) step {
	switch r.IntN(4) {
	case 0:
		return step{kind: "leaders move", do: func(m *matrix) { m.Cluster.ShufflePartitionLeaders() }}
	case 1:
		return step{kind: "coordinators move", do: func(m *matrix) { m.Cluster.RehashCoordinators() }}
	case 2:
		return step{kind: "a broker restarts", do: func(m *matrix) {
			if err := m.Cluster.RemoveNode(1); err != nil {
				m.t.Error(err)
			}
			m.own.Refuse(2 * time.Second) // the embedded broker goes on answering on the connections that it had
			m.each(func(c *Cutter) { c.Refuse(2 * time.Second) })
			time.Sleep(2 * time.Second)
			if _, _, err := m.Cluster.AddNode(1, brokerPorts[1]); err != nil {
				m.t.Error(err)
			}
		}}
	}
	d := time.Duration(1+r.IntN(30)) * time.Second
	return step{kind: "Kafka is away", what: d.String(), do: func(m *matrix) { m.each(func(c *Cutter) { c.Refuse(d) }) }}
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
	m.stopAll()
	var lists []int64
	for _, x := range m.Exports {
		lists = append(lists, x.List)
	}
	m.beginWith("a", m.Cutter(), func(c *connector.Config) { c.Rewind = &connector.Rewind{Resend: resend, Lists: lists} })
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
	w, err := NewWorld(WorldOptions{
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
	w.Rate.Share = 0.8 // the usual: each life that starts asks for the attributes beside the owner
	shape := DefaultShape(time.Now())
	shape.Plain, shape.People = true, people
	m := &matrix{World: w, t: t, lives: map[string]*Process{}, rand: r}
	many := 1 // more people say more, so that imports pay
	if people > 100 {
		many = 8
	}
	for _, s := range steps {
		shape.Events += s.n * many
		// An address that the table has never held, because a newer one was read before it on another partition, is not
		// looked at: whom it matters for has one partition here.
		shape.Scatter = shape.Scatter && s.kind != "unsubscribe"
	}
	m.events = History(seed, shape)
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
	for end := time.Now().Add(2 * time.Hour); len(m.Wrong()) > 0 && time.Now().Before(end); {
		time.Sleep(3 * time.Second)
	}
	time.Sleep(15 * time.Minute) // what is sent once more after late_apply ends where it was
	for _, x := range m.Wrong() {
		wrong = append(wrong, x.String())
	}
	if len(wrong) > 0 {
		return wrong
	}
	struck.Lock()
	struck.imports += m.Sandbox.Stats().Imports
	struck.Unlock()
	wrong = append(wrong, m.broken()...)
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

// writes is how many calls have been made that change something.
func (m *matrix) writes() (n int) {
	for endpoint, calls := range m.Sandbox.Stats().Calls {
		if !strings.HasPrefix(endpoint, http.MethodGet) {
			n += calls
		}
	}
	return n
}

// broken are the promises that the account has seen broken.
func (w *World) broken() (all []string) {
	s := w.Sandbox.Stats()
	for _, p := range []struct {
		n    int
		what string
	}{
		{s.Overlapping, "order: %d writes of a contact while another was not answered"},
		{s.DuringRun, "order: %d writes of a contact that an unfinished import holds"},
		{max(0, s.MostImports-1), "order: %d more imports of the account than one at once"},
		{s.Flags, "consent: %d blacklist flags sent as false"},
		{s.Refused, "rate: %d calls over the limit"},
	} {
		if p.n > 0 {
			all = append(all, fmt.Sprintf(p.what, p.n))
		}
	}
	return all
}
