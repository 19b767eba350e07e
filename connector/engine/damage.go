package engine

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"segsync/connector/changelog"

	"github.com/twmb/franz-go/pkg/kadm"
)

// A table that is not whole is known by what it says of itself: its last checkpoint counted its rows, and noted where
// reading stood. Nothing is sent while it is damaged: who is missing from it would be taken out of the lists. Reading
// every source again fills it.

// damage is what is known of that.
//
// +checklocksalias:holds.mu=mu
type damage struct {
	*core
	holds *holds
	topic string // the table's
}

const damageKey = "damaged/" // and a source's name: what is wrong, until the source has been read again

var tableDamaged = holdKey{code: codeTableDamaged}

// find finds out whether the table that was restored is whole.
func (d *damage) find() error {
	start, err := changelog.Start(d.ctx, kadm.NewClient(d.cl), d.topic)
	if err != nil {
		return err
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	have, want, counted := d.table.Missing()
	what := ""
	switch {
	case counted && have != want:
		what = fmt.Sprintf("%d rows of people and contacts are in its topic, %d were written", have, want)
	case !counted && start > 0: // it was written by a version that did not count
		what = fmt.Sprintf("its topic begins at offset %d: a retention, or somebody, has deleted rows", start)
	default:
		d.tellLocked()
		return nil
	}
	for s := range d.cfg.Sources {
		d.addLocked(s, what)
	}
	return nil
}

// addLocked notes that the table lacks what a source has said.
//
// +checklocks:d.mu
func (d *damage) addLocked(source int, what string) {
	if k := damageKey + d.cfg.Sources[source].Name; d.table.Meta(k) == nil {
		d.table.SetMeta(k, []byte(what))
	}
	d.tellLocked()
}

// mendedLocked notes that a source has been read again.
//
// +checklocks:d.mu
func (d *damage) mendedLocked(source int) {
	if k := damageKey + d.cfg.Sources[source].Name; d.table.Meta(k) != nil {
		d.table.SetMeta(k, nil)
		d.tellLocked()
	}
}

// tellLocked holds the account while a source has to be read again.
//
// +checklocks:d.mu
func (d *damage) tellLocked() {
	var what, exports []string
	for _, k := range d.table.MetaKeys(damageKey) {
		source := slices.IndexFunc(d.cfg.Sources, func(s Source) bool { return damageKey+s.Name == k })
		if source < 0 {
			continue // nothing is exported of it
		}
		if w := string(d.table.Meta(k)); !slices.Contains(what, w) {
			what = append(what, w)
		}
		for _, x := range d.cfg.Exports {
			if x.Source == source {
				exports = append(exports, x.Name)
				break
			}
		}
	}
	if len(what) == 0 {
		d.holds.releaseLocked(tableDamaged, d.now())
		return
	}
	mend := fmt.Sprintf("the table is not whole: %s; nothing is sent until segsync backfill --from earliest has read the sources again, for the exports: %s (and see to the settings of topic %s: cleanup.policy=compact)",
		strings.Join(what, "; "), strings.Join(exports, ", "), d.topic)
	d.holds.addLocked(tableDamaged, hold{mend: mend}, d.now())
	d.holds.retellLocked(tableDamaged, mend)
}

// topicEvery is how often the settings of the table's topic are looked at.
const topicEvery = 5 * time.Minute

// watch tells of settings of the table's topic that will lose its rows. What is in memory is whole still.
func (d *damage) watch() { d.every(topicEvery, d.checkTopic) }

func (d *damage) checkTopic() {
	ctx, cancel := context.WithTimeout(d.ctx, askCall)
	defer cancel()
	err := changelog.Check(ctx, kadm.NewClient(d.cl), d.topic)
	var wrong *changelog.TopicError
	k := holdKey{code: "table_topic"}
	d.mu.Lock()
	defer d.mu.Unlock()
	switch {
	case err == nil:
		d.holds.releaseLocked(k, d.now())
	case errors.As(err, &wrong):
		d.holds.addLocked(k, hold{mend: err.Error(), partial: true}, d.now())
	}
}
