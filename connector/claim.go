package connector

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

func (a claimed) before(b claimed) bool {
	return cmp.Or(cmp.Compare(a.since, b.since), cmp.Compare(a.connection, b.connection)) < 0
}

func (a claimed) String() string { return strconv.FormatInt(a.since, 10) + " " + a.connection }

func parseClaim(s string) (claimed, bool) {
	since, connection, ok := strings.Cut(s, " ")
	n, err := strconv.ParseInt(since, 10, 64)
	return claimed{connection, n}, ok && err == nil && connection != ""
}

// claimAccount claims the account that the trusted key belongs to, or holds the connection while another one works it.
func (e *engine) claimAccount() {
	e.mu.Lock()
	id, now := e.key.id, e.now()
	due := id != "" && !now.Before(e.claimAgain)
	if due {
		e.claimAgain = now.Add(claimEvery)
	}
	e.mu.Unlock()
	if !due {
		return
	}
	ctx, cancel := context.WithTimeout(e.ctx, askCall)
	defer cancel()
	sum := sha256.Sum256([]byte(id))
	other, err := e.claim1(ctx, e.cfg.Prefix+"-account-"+hex.EncodeToString(sum[:8]))
	if e.ctx.Err() != nil {
		return
	}
	if err != nil {
		e.log.Warn("the account could not be claimed: that no other connection works it is not known", zap.Error(err))
		return
	}
	k := holdKey{code: codeAccountShared}
	e.mu.Lock()
	defer e.mu.Unlock()
	if other == "" {
		e.release(k, e.now())
		return
	}
	e.holds.add(k, hold{mend: "connection " + other + " works the same account: calls are counted and ordered per account; use one connection, with all exports"}, e.now())
}

// claim1 claims, and names the connection that was first, if another was.
func (e *engine) claim1(ctx context.Context, group string) (other string, err error) {
	adm := kadm.NewClient(e.cl)
	mine := claimed{e.cfg.Name, e.now().UnixMilli()}
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
			case topic == changelog.Name(e.cfg.Prefix, e.cfg.Name):
				mine, ours = c, true
			default:
				lives, err := e.lives(ctx, adm, c.connection)
				if err != nil {
					return "", err
				}
				if !lives { // its claim ends, or it would count as older when it comes back
					if err := e.setClaim(ctx, adm, group, topic, ""); err != nil {
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
		if ours && e.now().Before(e.claimRenewed.Add(claimRenew)) {
			return "", nil
		}
		if err := e.setClaim(ctx, adm, group, changelog.Name(e.cfg.Prefix, e.cfg.Name), mine.String()); err != nil {
			return "", err
		}
		e.claimRenewed = e.now()
	}
	return "", nil
}

// lives says whether replicas of a connection run.
func (e *engine) lives(ctx context.Context, adm *kadm.Client, connection string) (bool, error) {
	group := e.cfg.Prefix + "-" + connection
	groups, err := adm.DescribeGroups(ctx, group)
	if err != nil {
		return false, fmt.Errorf("asking whether connection %s runs: %w", connection, err)
	}
	return len(groups[group].Members) > 0, nil
}

func (e *engine) setClaim(ctx context.Context, adm *kadm.Client, group, topic, metadata string) error {
	offsets := kadm.Offsets{}
	offsets.Add(kadm.Offset{Topic: topic, Partition: 0, At: 0, LeaderEpoch: -1, Metadata: metadata})
	if err := adm.CommitAllOffsets(ctx, group, offsets); err != nil {
		return fmt.Errorf("claiming the account in group %s: %w", group, err)
	}
	return nil
}
