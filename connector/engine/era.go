package engine

import (
	"context"
	"encoding/binary"
	"fmt"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"go.uber.org/zap"
)

// A log can go back: an unclean election, or a disk of yesterday's, takes away records that were read, and others are
// written at their offsets. The leader epoch that is committed with each position tells (KIP-320). It is part of a
// change's stamp, so that what is written afterwards counts as newer; should the epochs themselves have gone back with
// the log, an era is added to them from then on.

// stampEpoch is the epoch of a stamp.
func stampEpoch(epoch, era int32) int32 {
	if epoch < 0 {
		return -1
	}
	return epoch + era
}

// wentBack is what Kafka says of a partition whose log has gone back.
type wentBack struct {
	end    int64 // up to which it is the log that was read; -1: not known
	behind int32 // how far its leader epochs have gone back; 0: they have not
}

// validate asks, for each partition, whether its log still holds what was read of it.
func (p *positions) validate(l *logs) (map[partition]wentBack, error) {
	var ask kadm.OffsetForLeaderEpochRequest
	read := p.reader.snapshot()
	for at, c := range read {
		if c.epoch >= 0 && c.next > 0 {
			ask.Add(at.topic, at.n, c.epoch)
		}
	}
	back := map[partition]wentBack{}
	if len(ask) == 0 {
		return back, nil
	}
	ctx, cancel := context.WithTimeout(p.ctx, time.Minute)
	defer cancel()
	got, err := kadm.NewClient(p.cl).OffsetForLeaderEpoch(ctx, ask)
	if err != nil {
		return nil, fmt.Errorf("asking whether the logs are those that were read: %w", err)
	}
	for at, c := range read {
		o, ok := got[at.topic][at.n]
		leads := l.epochs[at]
		switch {
		case !ok || c.epoch < 0 || c.next <= 0:
		case o.Err != nil:
			return nil, fmt.Errorf("asking whether the log of %s/%d is the one that was read: %w", at.topic, at.n, o.Err)
		case o.EndOffset < 0 && leads < c.epoch: // the leader has never heard of the epoch
			back[at] = wentBack{end: -1, behind: c.epoch - leads}
		case o.EndOffset >= 0 && o.EndOffset < c.next:
			b := wentBack{end: o.EndOffset}
			if leads <= c.epoch {
				b.behind = c.epoch - leads + 1 // it was written on in an epoch that is not newer
			}
			back[at] = b
		}
	}
	return back, nil
}

// wentBackLocked applies a source's policy to a partition whose log has gone back.
//
// +checklocks:p.mu
func (p *positions) wentBackLocked(at partition, c *cursor, b wentBack) {
	src := &p.cfg.Sources[c.source]
	c.behind = max(c.behind, b.behind)
	if src.OutOfRange != OutOfRangeHalt && b.end >= 0 {
		p.log.Warn("a log has gone back: reading goes on where it is the same", zap.String("topic", at.topic), zap.Int32("partition", at.n), zap.Int64("from", c.next), zap.Int64("to", b.end))
		c.next, c.end, c.epoch, c.changed = b.end, b.end, -1, true
		p.newEraLocked(c, at.n)
		return
	}
	c.lost = true
	p.reader.haltLocked(c.source, wentBackCode, fmt.Sprintf("the log of %s/%d has gone back (an unclean election, or an older disk): reading stands at offset %d, which are other records now; segsync backfill --from earliest (or a time before it went back) reads what has been written since", at.topic, at.n, c.next))
}

// Why a position is lost.
const (
	lostPosition = "lost_position"
	wentBackCode = "went_back"
)

func eraKey(topic uint32, n int32) string { return fmt.Sprintf("era/%d/%d", topic, n) }

// eraLocked is the era of a partition.
//
// +checklocks:p.mu
func (p *positions) eraLocked(topic uint32, n int32) int32 {
	v, _ := binary.Varint(p.table.Meta(eraKey(topic, n)))
	return int32(v)
}

// newEraLocked begins an era of a partition whose epochs have gone back: what is read from now on counts as newer.
//
// +checklocks:p.mu
func (p *positions) newEraLocked(c *cursor, n int32) {
	if c.behind > 0 {
		c.era += c.behind + 1
		c.behind = 0
		p.table.SetMeta(eraKey(c.topic, n), binary.AppendVarint(nil, int64(c.era)))
	}
}
