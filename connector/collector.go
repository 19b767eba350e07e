package connector

import (
	"strconv"

	"github.com/prometheus/client_golang/prometheus"

	"segsync/connector/engine"
)

// Told is whoever tells what a connection is doing.
type Told interface{ Status() Status }

// collector gives what connections are doing as metrics, as of the moment of the scrape: a figure that only changes
// when something happens would stand still in an outage. Series of a table end with its ownership.
type collector struct {
	told []Told
	all  map[string]*prometheus.Desc
}

// NewCollector makes a collector of connections.
func NewCollector(told []Told) prometheus.Collector {
	c := &collector{told: told, all: map[string]*prometheus.Desc{}}
	for name, what := range map[string]struct {
		help   string
		labels []string
	}{
		"owner":                          {"1 while this process works the connection.", nil},
		"state":                          {"1 for what the connection is doing.", []string{"state"}},
		"halted":                         {"1 while something is not sent or read, by list (0: the account, a source, or imports) and reason.", []string{"list", "reason"}},
		"lag_records":                    {"Records in the sources that are not folded yet.", nil},
		"pending_contacts":               {"Contacts whose lists or attributes are not as wanted.", nil},
		"pending_oldest_seconds":         {"How long the oldest pending contact has waited.", nil},
		"last_success_timestamp_seconds": {"When the API last took something.", nil},
		"table_people":                   {"People in the table.", nil},
		"people_without_address":         {"People who were put into a segment and of whom no address is known.", nil},
		"table_contacts":                 {"Contacts in the table.", nil},
		"table_bytes":                    {"Memory that the table takes, roughly.", nil},
		"withheld_removals":              {"Removals that the guard withholds until they are approved or refused.", []string{"list"}},
		"unknown_deliveries":             {"Lists of contacts for which the last request's outcome is not known.", nil},
		"rejected_contacts":              {"Contacts set aside until what is wanted of them changes.", nil},
		"imports_in_flight":              {"Imports accepted and not ended.", nil},
		"audit_found":                    {"Contacts that the last audit of a list found, by what: lost (by imports, sent again), missing, changed, extra, unsubscribed, settled, skipped.", []string{"list", "what"}},
		"audit_timestamp_seconds":        {"When the last finished audit of a list began.", []string{"list"}},
		"doubtful_removals":              {"Contacts that are to leave a list into which others may have put them.", []string{"list"}},
		"configuration_differs":          {"1 while the owner has another configuration than this process.", nil},
	} {
		c.all[name] = prometheus.NewDesc("segsync_"+name, what.help, append([]string{"connection"}, what.labels...), nil)
	}
	return c
}

// Describe implements prometheus.Collector.
func (c *collector) Describe(to chan<- *prometheus.Desc) {
	for _, d := range c.all {
		to <- d
	}
}

// states are those of segsync_state.
var states = []string{engine.StateWorking, engine.StateStandby, engine.StateWaiting, engine.StateRestoring, engine.StateRetrying, engine.StateHeld, engine.StateDraining}

// Collect implements prometheus.Collector.
func (c *collector) Collect(to chan<- prometheus.Metric) {
	for _, t := range c.told {
		s := t.Status()
		set := func(name string, v float64, labels ...string) {
			to <- prometheus.MustNewConstMetric(c.all[name], prometheus.GaugeValue, v, append([]string{s.Name}, labels...)...)
		}
		for _, state := range states {
			set("state", one(s.Doing == state), state)
		}
		set("owner", one(s.Owns))
		set("configuration_differs", one(s.Differs))
		if !s.Owns {
			continue
		}
		type reason struct{ list, code string }
		told := map[reason]bool{}
		for _, h := range s.Halted {
			r := reason{strconv.FormatInt(h.List, 10), h.Code}
			if !h.Chosen && !told[r] {
				told[r] = true
				set("halted", 1, r.list, r.code)
			}
		}
		set("lag_records", float64(s.Lag))
		set("pending_contacts", float64(s.Pending))
		set("pending_oldest_seconds", s.Oldest.Seconds())
		if !s.LastSuccess.IsZero() {
			set("last_success_timestamp_seconds", float64(s.LastSuccess.UnixMilli())/1000)
		}
		set("table_people", float64(s.People))
		set("people_without_address", float64(s.NoAddress))
		set("table_contacts", float64(s.Contacts))
		set("table_bytes", float64(s.Table))
		for list, n := range s.WithheldOf {
			set("withheld_removals", float64(n), strconv.FormatInt(list, 10))
		}
		for _, x := range s.Exports {
			list := strconv.FormatInt(x.List, 10)
			set("doubtful_removals", float64(x.Doubtful), list)
			if f := x.Findings; f != nil {
				set("audit_timestamp_seconds", float64(x.Audited.UnixMilli())/1000, list)
				for what, n := range map[string]int{"lost": f.Lost, "missing": f.Missing, "changed": f.Changed, "extra": f.Extra, "unsubscribed": f.Unsubscribed, "settled": f.Settled, "skipped": f.Skipped} {
					set("audit_found", float64(n), list, what)
				}
			}
		}
		set("unknown_deliveries", float64(s.Unknown))
		set("rejected_contacts", float64(s.Rejected))
		set("imports_in_flight", float64(s.Imports))
	}
}

func one(b bool) float64 {
	if b {
		return 1
	}
	return 0
}
