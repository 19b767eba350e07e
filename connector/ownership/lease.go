package ownership

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"
)

// Lease is the time for which this process may act as owner: shorter than the group's session and counted from when
// the heartbeat that proved the membership was written, so that it has ended before a successor can begin. A process
// that was frozen finds it ended when it wakes.
type Lease struct {
	term  time.Duration
	mu    sync.Mutex
	until time.Time // monotonic
	wall  time.Time // the wall clock's: the monotonic one stands still while a machine sleeps
}

// NewLease makes an ended lease for a session timeout.
func NewLease(session time.Duration) *Lease { return &Lease{term: session * 2 / 3} }

// Valid says whether the lease holds now.
func (l *Lease) Valid() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	now := time.Now()
	return now.Before(l.until) && now.Round(0).Before(l.wall)
}

// Extend counts the lease from when a proof was written.
func (l *Lease) Extend(written time.Time) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.until, l.wall = written.Add(l.term), written.Round(0).Add(l.term)
}

// End ends the lease.
func (l *Lease) End() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.until, l.wall = time.Time{}, time.Time{}
}

// ErrLost says that the group does not count this process as the member it was.
var ErrLost = errors.New("the group has lost this member")

// Prove sends one heartbeat of its own, whose answer is visible (the client's own heartbeats are seen to be answered,
// not what with), and extends the lease if the group knows the member. A rebalance under way is no loss.
func (l *Lease) Prove(ctx context.Context, cl *kgo.Client, group, instance string) error {
	req := kmsg.NewPtrHeartbeatRequest()
	req.Group = group
	req.MemberID, req.Generation = cl.GroupMetadata()
	if instance != "" {
		req.InstanceID = new(instance)
	}
	written := time.Now()
	resp, err := req.RequestWith(ctx, cl)
	if err != nil {
		return fmt.Errorf("proving the group membership: %w", err)
	}
	switch err := kerr.ErrorForCode(resp.ErrorCode); {
	case err == nil, errors.Is(err, kerr.RebalanceInProgress):
		l.Extend(written)
		return nil
	case errors.Is(err, kerr.UnknownMemberID), errors.Is(err, kerr.FencedInstanceID):
		return fmt.Errorf("%w: %w", ErrLost, err)
	default:
		return fmt.Errorf("proving the group membership: %w", err)
	}
}

// Leave takes a member out of its group at once. A static member's client does not do so when it closes. The member
// id goes with it: without, the broker would evict whoever holds the instance id now.
func Leave(ctx context.Context, cl *kgo.Client, group, instance string) error {
	member, _ := cl.GroupMetadata()
	if member == "" {
		return nil
	}
	req := kmsg.NewPtrLeaveGroupRequest()
	req.Group, req.MemberID = group, member
	m := kmsg.NewLeaveGroupRequestMember()
	m.MemberID = member
	if instance != "" {
		m.InstanceID = new(instance)
	}
	req.Members = append(req.Members, m)
	resp, err := req.RequestWith(ctx, cl)
	if err != nil {
		return fmt.Errorf("leaving the group: %w", err)
	}
	return kerr.ErrorForCode(resp.ErrorCode)
}
