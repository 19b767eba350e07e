package engine

import (
	"strings"
	"testing"
	"time"

	"segsync/connector/commands"
)

// A time is due by the clock on the wall: one that the clock skips is due as much later, one that comes twice is due once.
func TestASchedulesWallClock(t *testing.T) {
	for name, c := range map[string]struct {
		schedule, from string
		due            []string
	}{
		"workdays":                {"0 6 * * 1-5 Europe/Paris", "2026-11-27T12:00:00Z", []string{"2026-11-30T05:00:00Z", "2026-12-01T05:00:00Z"}},
		"in summer":               {"0 6 * * * Europe/Paris", "2026-07-01T12:00:00Z", []string{"2026-07-02T04:00:00Z"}},
		"without a zone":          {"30 2 * * *", "2026-03-28T12:00:00Z", []string{"2026-03-29T02:30:00Z"}},
		"a time that is skipped":  {"30 2 * * * Europe/Paris", "2026-03-27T12:00:00Z", []string{"2026-03-28T01:30:00Z", "2026-03-29T01:30:00Z", "2026-03-30T00:30:00Z"}},
		"a time that comes twice": {"30 2 * * * Europe/Paris", "2026-10-24T12:00:00Z", []string{"2026-10-25T01:30:00Z", "2026-10-26T01:30:00Z"}},
		"a name":                  {"@daily Europe/Paris", "2026-11-27T12:00:00Z", []string{"2026-11-27T23:00:00Z"}},
		"every so often":          {"@every 6h", "2026-11-27T12:00:00Z", []string{"2026-11-27T18:00:00Z", "2026-11-28T00:00:00Z"}},
	} {
		t.Run(name, func(t *testing.T) {
			s, err := ParseSchedule(c.schedule)
			if err != nil {
				t.Fatal(err)
			}
			at, _ := time.Parse(time.RFC3339, c.from)
			for _, want := range c.due {
				if at = s.Next(at); at.UTC().Format(time.RFC3339) != want {
					t.Errorf("due at %s, not %s", at.UTC().Format(time.RFC3339), want)
				}
			}
		})
	}
	for s, why := range map[string]string{"0 6 * * MON Nowhere/Land": "no time zone", "0 0 30 2 *": "never due", "6": "", "": "", "0 25 * * *": ""} {
		if _, err := ParseSchedule(s); err == nil || !strings.Contains(err.Error(), why) {
			t.Errorf("%q: %v", s, err)
		}
	}
}

// Runs are bounded: the oldest go, but none that is under way.
func TestRunsAreBounded(t *testing.T) {
	r := &runs{core: newCore(t, Config{}), process: NewProcess(), open: map[string]*Run{}}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.beginLocked("backfill", "vip", &commands.Command{ID: "long", By: "ann"})
	at := time.Now().UTC()
	for range 2 * runsMost {
		at = at.Add(time.Hour)
		r.counts.Events++
		r.keepLocked(at)
	}
	if n := len(r.table.MetaKeys(runKey)); n > runsMost+1 || n < runsMost/2 {
		t.Errorf("%d rows", n)
	}
	r.endLocked("long", commands.Done, "done")
	all := r.listLocked()
	if len(all) != runsTold+1 || all[0].Kind != liveRun || all[runsTold].ID != "long" {
		t.Errorf("%d are told: %+v", len(all), all[len(all)-1])
	}
}
