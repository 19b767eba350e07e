package ownership

import (
	"fmt"
	"testing"
	"testing/synctest"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"
)

// A lease is shorter than the session, and counts from when its proof was written.
func TestALeaseEndsBeforeTheSession(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := NewLease(15 * time.Second)
		if l.Valid() {
			t.Error("it holds before anything was proven")
		}
		written := time.Now()
		time.Sleep(4 * time.Second) // the answer took its time
		l.Extend(written)
		time.Sleep(5 * time.Second)
		if !l.Valid() {
			t.Error("it has ended after 9 s")
		}
		time.Sleep(2 * time.Second)
		if l.Valid() {
			t.Error("it holds after 11 s, of which a session is 15")
		}
		l.Extend(time.Now())
		l.End()
		if l.Valid() {
			t.Error("it holds though it was ended")
		}
	})
}

// group balances members, and says who has got partitions, and of how many topics.
type group struct {
	t       *testing.T
	topics  map[string]int32
	members []kmsg.JoinGroupResponseMember
}

func (g *group) join(b *Balancer, instance string, generation int32, topics []string, owned map[string][]int32) {
	g.members = append(g.members, kmsg.JoinGroupResponseMember{
		MemberID: "member-of-" + instance, InstanceID: &instance, ProtocolMetadata: b.JoinGroupMetadata(topics, owned, generation),
	})
}

// balance returns the assignments by instance, and lets a balancer of each member take its own.
func (g *group) balance(b *Balancer) map[string]map[string][]int32 {
	g.t.Helper()
	mb, _, err := b.MemberBalancer(g.members)
	if err != nil {
		g.t.Fatal(err)
	}
	cb, ok := mb.(*kgo.ConsumerBalancer)
	if !ok {
		g.t.Fatalf("%T", mb)
	}
	all := map[string]map[string][]int32{}
	for _, a := range b.Balance(cb, g.topics).IntoSyncAssignment() {
		given, err := b.ParseSyncAssignment(a.MemberAssignment)
		if err != nil {
			g.t.Fatal(err)
		}
		for topic, partitions := range given {
			if len(partitions) > 0 {
				name := a.MemberID[len("member-of-"):]
				if all[name] == nil {
					all[name] = map[string][]int32{}
				}
				all[name][topic] = partitions
			}
		}
	}
	return all
}

var read = []string{"a", "b"}

func newGroup(t *testing.T) *group { return &group{t: t, topics: map[string]int32{"a": 3, "b": 1}} }

// One member gets everything, the same one whoever balances, and connections are spread over members.
func TestOneMemberOwnsAll(t *testing.T) {
	owners := map[string]int{}
	for i := range 60 {
		b := NewBalancer(fmt.Sprint("connection-", i), "config")
		g := newGroup(t)
		for _, name := range []string{"x", "y", "z"} {
			g.join(b, name, 0, read, nil)
		}
		all := g.balance(b)
		if len(all) != 1 || len(all[b.Owner()]["a"]) != 3 || len(all[b.Owner()]["b"]) != 1 {
			t.Fatalf("%v", all)
		}
		owners[b.Owner()]++
	}
	for _, name := range []string{"x", "y", "z"} {
		if owners[name] < 8 {
			t.Errorf("of 60 connections %v", owners)
		}
	}
}

// Who owns keeps owning, whoever joins; of two who say that they do it is the one of the newer generation.
func TestTheOwnerKeepsOwning(t *testing.T) {
	for _, owner := range []string{"x", "y", "z"} {
		b := NewBalancer("main", "config")
		g := newGroup(t)
		for _, name := range []string{"x", "y", "z"} {
			generation, owned := int32(7), map[string][]int32(nil)
			switch name {
			case owner:
				owned = map[string][]int32{"a": {0, 1, 2}, "b": {0}}
			case map[string]string{"x": "y", "y": "z", "z": "x"}[owner]: // it was away
				generation, owned = 5, map[string][]int32{"a": {0}}
			}
			g.join(b, name, generation, read, owned)
		}
		g.balance(b)
		if b.Owner() != owner {
			t.Errorf("%s owned, and %s owns", owner, b.Owner())
		}
	}
}

// An owner that restarts in the middle of a rebalance owns nothing, and is remembered by the others.
func TestAnOwnerThatRestartsIsRemembered(t *testing.T) {
	for _, owner := range []string{"x", "y", "z"} {
		before := NewBalancer("main", "config")
		g := newGroup(t)
		g.join(before, owner, 0, read, nil)
		g.balance(before) // it owns now
		g = newGroup(t)
		for _, name := range []string{"x", "y", "z"} {
			b := before
			if name == owner {
				b = NewBalancer("main", "config") // a new process
			}
			g.join(b, name, 0, read, nil)
		}
		b := NewBalancer("main", "config")
		if g.balance(b); b.Owner() != owner {
			t.Errorf("%s owned, and %s owns", owner, b.Owner())
		}
	}
}

// A standby hears that the owner has another configuration.
func TestAnotherConfigurationIsTold(t *testing.T) {
	owner, standby := NewBalancer("main", "one"), NewBalancer("main", "two")
	g := newGroup(t)
	g.join(owner, "x", 3, read, map[string][]int32{"a": {0, 1, 2}, "b": {0}})
	g.join(standby, "y", 3, read, nil)
	g.balance(standby)
	if !standby.Differs() {
		t.Error("it does not")
	}
	g.balance(owner)
	if owner.Differs() {
		t.Error("it differs from itself")
	}
}
