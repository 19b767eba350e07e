package engine

import (
	"cmp"
	"maps"
	"slices"
	"strings"
	"sync"
	"time"

	"go.uber.org/zap"
)

// Failure is an attribute of an export that could not be mapped, for one cause, and how many records that concerns.
type Failure struct {
	Export    string `json:"export"`
	Attribute string `json:"attribute"`
	Cause     string `json:"cause"`
	Records   int    `json:"records"`
}

// failures counts what was left out in this process, and tells of each cause once in a while.
type failures struct {
	mu sync.Mutex
	// +checklocks:mu
	n map[Failure]int // by the same without its count
	// +checklocks:mu
	told map[Failure]*repeated
}

// add counts failures of attributes of a source.
func (x *failures) add(cfg *Config, log *zap.Logger, source int, failed map[Failure]int, now time.Time) {
	if len(failed) == 0 {
		return
	}
	x.mu.Lock()
	defer x.mu.Unlock()
	if x.n == nil {
		x.n, x.told = map[Failure]int{}, map[Failure]*repeated{}
	}
	for f, n := range failed {
		exports := cfg.asking(source, f.Attribute)
		for _, name := range exports {
			x.n[Failure{Export: name, Attribute: f.Attribute, Cause: f.Cause}] += n
			cfg.Metrics.AttrFailed.WithLabelValues(cfg.Name, name, f.Attribute, f.Cause).Add(float64(n))
		}
		told := x.told[f]
		if told == nil {
			told = &repeated{}
			x.told[f] = told
		}
		if told.n += n; now.Sub(told.at) >= warnEvery {
			log.Warn("an attribute is left out", zap.String("attribute", f.Attribute), zap.String("exports", strings.Join(exports, ", ")), zap.String("cause", f.Cause), zap.Int("records", told.n))
			told.at, told.n = now, 0
		}
	}
}

// list lists them, the most frequent first.
func (x *failures) list() []Failure {
	x.mu.Lock()
	defer x.mu.Unlock()
	all := slices.Collect(maps.Keys(x.n))
	for i := range all {
		all[i].Records = x.n[all[i]]
	}
	slices.SortFunc(all, func(a, b Failure) int {
		return cmp.Or(cmp.Compare(b.Records, a.Records), cmp.Compare(a.Export, b.Export), cmp.Compare(a.Attribute, b.Attribute), cmp.Compare(a.Cause, b.Cause))
	})
	return all
}

// asking names the exports of a source that ask for an attribute.
func (c *Config) asking(source int, attribute string) (names []string) {
	for i := range c.Exports {
		if x := &c.Exports[i]; x.Source == source && slices.Contains(x.Attributes, attribute) {
			names = append(names, x.Name)
		}
	}
	return names
}
