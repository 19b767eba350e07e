package connector

import (
	"fmt"
	"slices"
	"strings"

	"segsync/connector/changelog"

	"github.com/twmb/franz-go/pkg/kadm"
)

// A table that is not whole is known by what it says of itself: its last checkpoint counted its rows, and noted where
// reading stood. Nothing is sent while it is damaged: who is missing from it would be taken out of the lists. Reading
// every source again fills it.

const damageKey = "damaged/" // and a source's name: what is wrong, until the source has been read again

var tableDamaged = holdKey{code: codeTableDamaged}

// checkWhole finds out whether the table that was restored is whole.
func (e *engine) checkWhole() error {
	start, err := changelog.Start(e.ctx, kadm.NewClient(e.cl), e.changes.Topic())
	if err != nil {
		return err
	}
	have, want, counted := e.table.Missing()
	what := ""
	switch {
	case counted && have != want:
		what = fmt.Sprintf("%d rows of people and contacts are in its topic, %d were written", have, want)
	case !counted && start > 0: // it was written by a version that did not count
		what = fmt.Sprintf("its topic begins at offset %d: a retention, or somebody, has deleted rows", start)
	default:
		e.tellDamage()
		return nil
	}
	for s := range e.cfg.Sources {
		e.damaged(s, what)
	}
	return nil
}

// damaged notes that the table lacks what a source has said. Under the lock.
func (e *engine) damaged(source int, what string) {
	if k := damageKey + e.cfg.Sources[source].Name; e.table.Meta(k) == nil {
		e.table.SetMeta(k, []byte(what))
	}
	e.tellDamage()
}

// mended notes that a source has been read again. Under the lock.
func (e *engine) mended(source int) {
	if k := damageKey + e.cfg.Sources[source].Name; e.table.Meta(k) != nil {
		e.table.SetMeta(k, nil)
		e.tellDamage()
	}
}

// tellDamage holds the account while a source has to be read again. Under the lock.
func (e *engine) tellDamage() {
	var what, exports []string
	for _, k := range e.table.MetaKeys(damageKey) {
		source := slices.IndexFunc(e.cfg.Sources, func(s Source) bool { return damageKey+s.Name == k })
		if source < 0 {
			continue // nothing is exported of it
		}
		if w := string(e.table.Meta(k)); !slices.Contains(what, w) {
			what = append(what, w)
		}
		for _, x := range e.cfg.Exports {
			if x.Source == source {
				exports = append(exports, x.Name)
				break
			}
		}
	}
	if len(what) == 0 {
		e.release(tableDamaged, e.now())
		return
	}
	mend := fmt.Sprintf("the table is not whole: %s; nothing is sent until segsync backfill --from earliest has read the sources again, for the exports: %s (and see to the settings of topic %s: cleanup.policy=compact)",
		strings.Join(what, "; "), strings.Join(exports, ", "), changelog.Name(e.cfg.Prefix, e.cfg.Name))
	e.holds.add(tableDamaged, hold{mend: mend}, e.now())
	e.holds.retell(tableDamaged, mend)
}
