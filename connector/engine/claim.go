package engine

import (
	"cmp"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"
	"go.uber.org/zap"

	"segsync/connector/changelog"
)

// Two connections to one account would write its contacts past each other, and count its calls twice. So a connection
// claims its account in Kafka: as metadata of an offset of its own table's topic, in a group that is named by the
// account and has no members. Who claimed first, and still has members, works it.

// How often a claim is looked at, and made anew, before the broker forgets it.
const (
	claimEvery = time.Minute
	claimRenew = 12 * time.Hour
)

// claimed is one connection's claim.
type claimed struct {
	connection string
	since      int64 // Unix milliseconds
}

func (c claimed) before(b claimed) bool {
	return cmp.Or(cmp.Compare(c.since, b.since), cmp.Compare(c.connection, b.connection)) < 0
}

func (c claimed) String() string { return strconv.FormatInt(c.since, 10) + " " + c.connection }

func parseClaim(s string) (claimed, bool) {
	since, connection, ok := strings.Cut(s, " ")
	n, err := strconv.ParseInt(since, 10, 64)
	return claimed{connection, n}, ok && err == nil && connection != ""
}

// claim claims the account that the trusted key belongs to, or holds the connection while another one works it.
func (a *account) claim() {
	a.mu.Lock()
	id, now := a.key.id, a.now()
	due := id != "" && !now.Before(a.claimAgain)
	if due {
		a.claimAgain = now.Add(claimEvery)
	}
	a.mu.Unlock()
	if !due {
		return
	}
	ctx, cancel := context.WithTimeout(a.ctx, askCall)
	defer cancel()
	sum := sha256.Sum256([]byte(id))
	other, err := a.claimIn(ctx, a.cfg.Prefix+"-account-"+hex.EncodeToString(sum[:8]))
	if a.ended() {
		return
	}
	if err != nil {
		a.log.Warn("the account could not be claimed: that no other connection works it is not known", zap.Error(err))
		return
	}
	k := holdKey{code: codeAccountShared}
	a.mu.Lock()
	defer a.mu.Unlock()
	if other == "" {
		a.holds.releaseLocked(k, a.now())
		return
	}
	a.holds.addLocked(k, hold{mend: "connection " + other + " works the same account: calls are counted and ordered per account; use one connection, with all exports"}, a.now())
}

// claimIn claims, and names the connection that was first, if another was.
func (a *account) claimIn(ctx context.Context, group string) (other string, err error) {
	adm := kadm.NewClient(a.cl)
	mine := claimed{a.cfg.Name, a.now().UnixMilli()}
	for range 2 { // whoever claims at the same time is seen the second time
		offsets, err := adm.FetchOffsets(kadm.RequireStable(ctx), group)
		if err != nil && !errors.Is(err, kerr.GroupIDNotFound) {
			return "", fmt.Errorf("fetching the claims of group %s: %w", group, err)
		}
		var first claimed
		ours := false
		for topic, parts := range offsets {
			c, ok := parseClaim(parts[0].Metadata)
			switch {
			case !ok:
			case topic == changelog.Name(a.cfg.Prefix, a.cfg.Name):
				mine, ours = c, true
			default:
				lives, err := a.lives(ctx, adm, c.connection)
				if err != nil {
					return "", err
				}
				if !lives { // its claim ends, or it would count as older when it comes back
					if err := a.setClaim(ctx, adm, group, topic, ""); err != nil {
						return "", err
					}
				} else if first.connection == "" || c.before(first) {
					first = c
				}
			}
		}
		if first.connection != "" && (!ours || first.before(mine)) {
			return first.connection, nil
		}
		if ours && a.now().Before(a.claimRenewed.Add(claimRenew)) {
			return "", nil
		}
		if err := a.setClaim(ctx, adm, group, changelog.Name(a.cfg.Prefix, a.cfg.Name), mine.String()); err != nil {
			return "", err
		}
		a.claimRenewed = a.now()
	}
	return "", nil
}

// lives says whether replicas of a connection run.
func (a *account) lives(ctx context.Context, adm *kadm.Client, connection string) (bool, error) {
	group := a.cfg.Prefix + "-" + connection
	groups, err := adm.DescribeGroups(ctx, group)
	if err != nil {
		return false, fmt.Errorf("asking whether connection %s runs: %w", connection, err)
	}
	return len(groups[group].Members) > 0, nil
}

func (a *account) setClaim(ctx context.Context, adm *kadm.Client, group, topic, metadata string) error {
	offsets := kadm.Offsets{}
	offsets.Add(kadm.Offset{Topic: topic, Partition: 0, At: 0, LeaderEpoch: -1, Metadata: metadata})
	if err := adm.CommitAllOffsets(ctx, group, offsets); err != nil {
		return fmt.Errorf("claiming the account in group %s: %w", group, err)
	}
	return nil
}
