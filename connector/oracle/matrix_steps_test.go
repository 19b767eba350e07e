package oracle

import (
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kmsg"

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
	"export: failed":          {Endpoint: "/contacts/export", Import: "failed", ImportTime: 2000},
	"export: refused":         {Endpoint: "/contacts/export", Status: 403, Body: `{"code":"permission_denied","message":"Access denied for resource"}`, Count: 2},
	"export: slow":            {Endpoint: "/contacts/export", ImportTime: 90_000},
	"export: sent to nowhere": {Endpoint: "/contacts/export", Hang: true},
	"import: no report":       {Endpoint: "/contacts/import", NoReports: true, ImportTime: 3000},
	"processes: unanswered":   {Endpoint: "/processes", Status: 500, Count: 3},
	"attributes: unanswered":  {Endpoint: "/contacts/attributes", Status: 500},
	"look: unanswered":        {Method: "GET", Endpoint: "/contacts/", Status: 500, Count: 2},
	"import: comes late":      {Endpoint: "/contacts/import", LateMillis: 240_000},
	"import: sent to nowhere": {Endpoint: "/contacts/import", Hang: true},
	"a list said to be gone":  {Endpoint: "/contacts/lists/42", Status: 404, Body: `{"code":"document_not_found","message":"List ID does not exist"}`, Count: 3},
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
		return step{kind: "api", what: name, do: func(m *matrix) {
			m.hung = m.hung || apiFaults[name].Hang
			m.Sandbox.Order(apiFaults[name])
		}}
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
		return step{kind: "freeze", what: d.String(), do: func(m *matrix) {
			m.frozen = m.frozen || m.lives["b"] != nil
			m.thaws = time.Now().Add(d)
			m.each(func(c *Cutter) { c.Freeze(d) })
		}}
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
			m.frozen = m.frozen || time.Now().Before(m.thaws)
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
