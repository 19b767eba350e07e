package ownership

import (
	"hash/fnv"
	"slices"
	"strings"
	"sync"

	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"
)

// Protocol is the balancer's name in the group.
const Protocol = "segsync-owner"

// Balancer gives every partition of a connection's group to one member. Who owns keeps owning, whoever joins or
// leaves; a new owner is drawn by the connection's name, so that connections spread over replicas. It is cooperative:
// an eager one would take everything from the owner first.
//
// The owner's name travels in the assignment's user data and back in every join: a static owner that restarts in the
// middle of a rebalance is not seen to own anything otherwise.
//
// Beside the owner's name travels a fingerprint of its configuration, so that a standby can tell that its own differs.
type Balancer struct {
	connection string
	config     string
	mu         sync.Mutex
	owner      string // as last assigned
	ownerHas   string // its configuration's fingerprint
}

// NewBalancer makes a balancer for one connection, whose configuration here has a fingerprint.
func NewBalancer(connection, config string) *Balancer {
	return &Balancer{connection: connection, config: config}
}

// told is the user data: a name, and a fingerprint.
func told(name, config string) []byte { return []byte(name + "\x00" + config) }

func parseTold(b []byte) (name, config string) {
	name, config, _ = strings.Cut(string(b), "\x00")
	return name, config
}

// Differs says whether the owner is known to have another configuration.
func (b *Balancer) Differs() bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.ownerHas != "" && b.ownerHas != b.config
}

var _ kgo.GroupBalancer = (*Balancer)(nil)

// ProtocolName implements kgo.GroupBalancer.
func (*Balancer) ProtocolName() string { return Protocol }

// IsCooperative implements kgo.GroupBalancer.
func (*Balancer) IsCooperative() bool { return true }

// JoinGroupMetadata implements kgo.GroupBalancer.
func (b *Balancer) JoinGroupMetadata(topics []string, owned map[string][]int32, generation int32) []byte {
	b.mu.Lock()
	defer b.mu.Unlock()
	meta := kmsg.NewConsumerMemberMetadata()
	meta.Version = 3
	meta.Topics = topics
	meta.Generation = generation
	meta.UserData = told(b.owner, b.config)
	names := make([]string, 0, len(owned))
	for t := range owned {
		names = append(names, t)
	}
	slices.Sort(names)
	for _, t := range names {
		o := kmsg.NewConsumerMemberMetadataOwnedPartition()
		o.Topic, o.Partitions = t, owned[t]
		meta.OwnedPartitions = append(meta.OwnedPartitions, o)
	}
	return meta.AppendTo(nil)
}

// ParseSyncAssignment implements kgo.GroupBalancer.
func (b *Balancer) ParseSyncAssignment(assignment []byte) (map[string][]int32, error) {
	var a kmsg.ConsumerMemberAssignment
	if err := a.ReadFrom(assignment); err != nil {
		return nil, err
	}
	b.mu.Lock()
	b.owner, b.ownerHas = parseTold(a.UserData)
	b.mu.Unlock()
	m := map[string][]int32{}
	for _, t := range a.Topics {
		m[t.Topic] = t.Partitions
	}
	return m, nil
}

// Owner is the member that owned the connection when the group was last balanced: its instance or member id.
func (b *Balancer) Owner() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.owner
}

// MemberBalancer implements kgo.GroupBalancer.
func (b *Balancer) MemberBalancer(members []kmsg.JoinGroupResponseMember) (kgo.GroupMemberBalancer, map[string]struct{}, error) {
	cb, err := kgo.NewConsumerBalancer(b, members)
	if err != nil {
		return nil, nil, err
	}
	return cb, cb.MemberTopics(), nil
}

// name is what a member is called over its restarts.
func name(m *kmsg.JoinGroupResponseMember) string {
	if m.InstanceID != nil {
		return *m.InstanceID
	}
	return m.MemberID
}

// Balance implements kgo.ConsumerBalancerBalance.
func (b *Balancer) Balance(cb *kgo.ConsumerBalancer, topics map[string]int32) kgo.IntoSyncAssignment {
	owner, meta := b.choose(cb)
	plan := cb.NewPlan()
	if owner == nil {
		return plan
	}
	for _, t := range meta.Topics { // not those that it does not read: assigned and revoked they would chase each other
		for p := range topics[t] {
			plan.AddPartition(owner, t, p)
		}
	}
	plan.AdjustCooperative(cb)
	_, config := parseTold(meta.UserData)
	return named{plan, told(name(owner), config)}
}

// choose picks the owner: who owns, by the newest generation; else whom the members remember; else by lot.
func (b *Balancer) choose(cb *kgo.ConsumerBalancer) (*kmsg.JoinGroupResponseMember, *kmsg.ConsumerMemberMetadata) {
	var (
		owner      *kmsg.JoinGroupResponseMember
		owned      *kmsg.ConsumerMemberMetadata
		generation int32 = -2
		remembered       = map[string]bool{}
	)
	cb.EachMember(func(m *kmsg.JoinGroupResponseMember, meta *kmsg.ConsumerMemberMetadata) {
		who, _ := parseTold(meta.UserData)
		remembered[who] = true
		if len(meta.OwnedPartitions) > 0 && meta.Generation > generation {
			owner, owned, generation = m, meta, meta.Generation
		}
	})
	if owner != nil {
		return owner, owned
	}
	var best uint64
	cb.EachMember(func(m *kmsg.JoinGroupResponseMember, meta *kmsg.ConsumerMemberMetadata) {
		score := draw(b.connection, name(m))
		if remembered[name(m)] {
			score = 1<<63 | score
		}
		if owner == nil || score > best {
			owner, owned, best = m, meta, score
		}
	})
	return owner, owned
}

func draw(connection, member string) uint64 {
	h := fnv.New64a()
	_, _ = h.Write([]byte(connection + "\x00" + member))
	s := h.Sum64()
	s ^= s >> 32
	s *= 0x9e3779b97f4a7c15
	return s >> 1
}

// named is a plan that carries the owner's name to every member.
type named struct {
	*kgo.BalancePlan
	owner []byte
}

// IntoSyncAssignment implements kgo.IntoSyncAssignment.
func (n named) IntoSyncAssignment() []kmsg.SyncGroupRequestGroupAssignment {
	all := n.BalancePlan.IntoSyncAssignment()
	for i := range all {
		var a kmsg.ConsumerMemberAssignment
		if a.ReadFrom(all[i].MemberAssignment) == nil {
			a.UserData = n.owner
			all[i].MemberAssignment = a.AppendTo(nil)
		}
	}
	slices.SortFunc(all, func(a, b kmsg.SyncGroupRequestGroupAssignment) int { return strings.Compare(a.MemberID, b.MemberID) })
	return all
}
