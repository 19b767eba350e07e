package engine

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/robfig/cron/v3"
	"go.uber.org/zap"

	"segsync/connector/commands"
)

// Manual is the schedule of an export that is sent when somebody says so, and at no other time.
const Manual = "manual"

// ParseSchedule reads a schedule: five fields as of cron, or a name such as @daily, and perhaps a time zone behind them
// ("0 6 * * 1-5 Europe/Paris"; UTC without one). nil: manual.
func ParseSchedule(s string) (*Schedule, error) {
	if s == Manual {
		return nil, nil
	}
	fields, zone := strings.Fields(s), "UTC"
	if n := len(fields); n == 6 || n == 2 && strings.HasPrefix(s, "@") && fields[0] != "@every" {
		zone, fields = fields[n-1], fields[:n-1]
	}
	in, err := time.LoadLocation(zone)
	if err != nil {
		return nil, fmt.Errorf("%q is no time zone: name one such as Europe/Paris", zone)
	}
	spec, err := cron.ParseStandard("CRON_TZ=UTC " + strings.Join(fields, " "))
	if err != nil {
		return nil, err
	}
	if spec.Next(time.Now()).IsZero() {
		return nil, fmt.Errorf("%q is never due", s)
	}
	return &Schedule{spec: spec, in: in}, nil
}

// Schedule is when an export is due, by the clock on the wall of a time zone.
type Schedule struct {
	spec cron.Schedule // of the wall's clock, as if it were UTC's
	in   *time.Location
}

// Next is the first time that is due after another. Where the clock on the wall is put forward over a time, that is due as much
// later; where it is put back, the time is due once.
func (s *Schedule) Next(after time.Time) time.Time {
	l := after.In(s.in)
	wall := time.Date(l.Year(), l.Month(), l.Day(), l.Hour(), l.Minute(), l.Second(), 0, time.UTC)
	for {
		wall = s.spec.Next(wall)
		due := time.Date(wall.Year(), wall.Month(), wall.Day(), wall.Hour(), wall.Minute(), wall.Second(), 0, s.in)
		if due.After(after) {
			return due
		}
	}
}

// schedules hold the lists of exports that are sent at times: such an export is kept up to date in the table all the time,
// and let go when it is due, until all that was in the source by then is read, and worked off. What was missed is caught up once.
//
// Races: an export is due while it is paused, halted, or its removals are withheld: those reasons stand beside this one, and
// what they keep back is not waited for. The owner dies while an export is let go: its successor goes on.
//
// +checklocksalias:holds.mu=mu
// +checklocksalias:reader.mu=mu
// +checklocksalias:runs.mu=mu
// +checklocksalias:control.mu=mu
type schedules struct {
	*core
	holds   *holds
	reader  *reader
	runs    *runs
	control *control

	opened chan struct{} // an export was let go

	// +checklocks:mu
	all map[string]*schedule // by export
}

// schedule is one export's.
type schedule struct {
	scheduleRow
	at     *Schedule // nil: manual
	list   int64
	ends   map[partition]int64 // of the source, when it was let go, or taken over; nil: not noted yet
	asOf   time.Time           // when all before them was read: what was owed then is worked off; zero: not yet
	from   uint32              // as far the contacts are looked through
	source int
}

// scheduleRow is a schedule as it lies in the table.
type scheduleRow struct {
	Text    string            `json:"text"`              // of the schedule
	Last    time.Time         `json:"last"`              // when it was last let go by its schedule, or first seen
	Open    time.Time         `json:"open,omitzero"`     // since when it is let go; zero: it is not
	Command *commands.Command `json:"command,omitempty"` // that has let it go
}

const (
	scheduleKey   = "schedule/"      // and an export
	scheduleEvery = time.Second      // how often it is asked whether an export is worked off
	scheduleMost  = 30 * time.Second // how long nobody looks: clocks are set
	workedOffMost = 64               // chunks of contacts that are looked through at a time
)

// loadLocked begins to hold what is sent at times.
//
// +checklocks:s.mu
func (s *schedules) loadLocked(now time.Time) {
	s.forgetLocked()
	for i := range s.cfg.Exports {
		x := &s.cfg.Exports[i]
		if x.Schedule == "" {
			continue
		}
		at, err := ParseSchedule(x.Schedule)
		if err != nil {
			continue // the configuration was checked
		}
		d := &schedule{at: at, list: x.List, source: x.Source}
		if row := s.table.Meta(scheduleKey + x.Name); row == nil || json.Unmarshal(row, &d.scheduleRow) != nil || d.Text != x.Schedule || d.Last.After(time.Now()) {
			d.Text, d.Last = x.Schedule, time.Now().UTC() // saving does not run
			s.writeLocked(x.Name, d)
		}
		s.all[x.Name] = d
		s.holdLocked(x.Name, d, now)
	}
}

// forgetLocked ends what was let go of exports that have no schedule any more, and forgets them.
//
// +checklocks:s.mu
func (s *schedules) forgetLocked() {
	for _, k := range s.table.MetaKeys(scheduleKey) {
		name := strings.TrimPrefix(k, scheduleKey)
		if slices.ContainsFunc(s.cfg.Exports, func(x Export) bool { return x.Name == name && x.Schedule != "" }) {
			continue
		}
		const text = "the export has no schedule any more"
		var row scheduleRow
		if json.Unmarshal(s.table.Meta(k), &row) == nil && !row.Open.IsZero() {
			s.runs.endLocked(s.runs.findLocked(name, "schedule", string(commands.RunNow)), commands.Failed, text)
			if row.Command != nil {
				s.control.toldLocked(row.Command, commands.Failed, text, nil)
			}
		}
		s.table.SetMeta(k, nil)
	}
}

// run lets exports go when they are due, and holds them when they are worked off.
func (s *schedules) run() {
	again := time.NewTimer(0)
	defer again.Stop()
	for {
		select {
		case <-s.ctx.Done():
			return
		case <-s.opened:
		case <-again.C:
		}
		again.Reset(s.look())
	}
}

// look looks at every export, and says when to look again.
func (s *schedules) look() time.Duration {
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.all) == 0 || s.draining.Load() || s.ended() {
		return time.Hour
	}
	pause := scheduleMost
	for name, d := range s.all {
		s.lookLocked(name, d)
		switch due := d.next(); {
		case !d.Open.IsZero():
			pause = scheduleEvery
		case !due.IsZero():
			pause = min(pause, max(time.Until(due), time.Millisecond))
		}
	}
	return pause
}

// lookLocked looks at one export.
//
// +checklocks:s.mu
func (s *schedules) lookLocked(name string, d *schedule) {
	now := time.Now().UTC()
	if d.Last.After(now) { // the clock was ahead
		d.Last = now
	}
	switch due := d.next(); {
	case !d.Open.IsZero():
		s.workedOffLocked(name, d)
	case !due.IsZero() && !due.After(now):
		d.Last = now
		s.openLocked(name, d, nil)
	}
}

// next is when an export is due; zero: it is let go, or nobody knows.
func (d *schedule) next() time.Time {
	if d.at == nil || !d.Open.IsZero() {
		return time.Time{}
	}
	return d.at.Next(d.Last).UTC()
}

// openLocked lets an export go.
//
// +checklocks:s.mu
func (s *schedules) openLocked(name string, d *schedule, cmd *commands.Command) {
	d.Open, d.Command = time.Now().UTC(), cmd
	d.ends, d.asOf, d.from = nil, time.Time{}, 0
	kind := "schedule"
	if cmd != nil {
		kind = string(commands.RunNow)
	}
	s.runs.beginLocked(kind, name, cmd)
	s.writeLocked(name, d)
	s.holds.releaseLocked(holdKey{place{list: d.list}, codeNotDue}, s.now())
	s.log.Info("an export is let go", zap.String("export", name), zap.String("why", kind))
	s.nudge()
	select {
	case s.opened <- struct{}{}:
	default:
	}
}

// workedOffLocked holds an export again once everything that was owed when it was let go is delivered, or kept back for
// other reasons.
//
// +checklocks:s.mu
func (s *schedules) workedOffLocked(name string, d *schedule) {
	now := s.now()
	if s.holds.atLocked(place{}) || s.holds.atLocked(place{list: d.list}) || s.holds.atLocked(place{source: s.cfg.Sources[d.source].Name}) {
		return // a fault: what is owed goes when it has ended
	}
	if d.asOf.IsZero() {
		s.readLocked(d, now)
		return
	}
	owed, done := false, false
	for n := 0; !owed && !done && n < workedOffMost; n++ {
		d.from, owed, done = s.table.WorkedOff(d.list, d.asOf, d.from, !s.holds.hasLocked(importsStuck), now)
	}
	if !done {
		return
	}
	text := fmt.Sprintf("%d people are in the list", s.table.In(d.list))
	if n := s.table.WithheldOf(d.list, now).Removals; n > 0 {
		text += fmt.Sprintf("; the guard withholds %d removals", n)
	}
	id := s.runs.findLocked(name, "schedule", string(commands.RunNow))
	s.runs.endLocked(id, commands.Done, text)
	if d.Command != nil {
		s.control.toldLocked(d.Command, commands.Done, text, nil)
	}
	d.Open, d.Command = time.Time{}, nil
	s.writeLocked(name, d)
	s.holdLocked(name, d, now)
	s.log.Info("an export is worked off", zap.String("export", name), zap.String("outcome", text))
}

// readLocked waits until everything is read that was in the source when the export was let go.
//
// +checklocks:s.mu
func (s *schedules) readLocked(d *schedule, now time.Time) {
	if d.ends == nil {
		d.ends = map[partition]int64{}
		for at, c := range s.reader.cursors {
			if c.source == d.source {
				d.ends[at] = c.end
			}
		}
	}
	for at, end := range d.ends {
		if c := s.reader.cursors[at]; c != nil && c.next < end && !c.stopped {
			return
		}
	}
	d.asOf = now
}

// holdLocked holds an export that is not let go.
//
// +checklocks:s.mu
func (s *schedules) holdLocked(name string, d *schedule, now time.Time) {
	if !d.Open.IsZero() {
		return
	}
	k, mend := holdKey{place{list: d.list}, codeNotDue}, "export "+name+" is sent when somebody says so: segsync run-now --export "+name
	if next := d.next(); !next.IsZero() {
		mend = "export " + name + " is due at " + next.Format(time.RFC3339) + "; segsync run-now --export " + name + " sends what is owed now"
	}
	s.holds.addLocked(k, hold{mend: mend, chosen: true}, now)
	s.holds.retellLocked(k, mend)
}

// runNowLocked lets an export go because somebody says so.
//
// +checklocks:s.mu
func (s *schedules) runNowLocked(cmd *commands.Command) (outcome, text string) {
	d := s.all[cmd.Export]
	switch {
	case cmd.Export == "":
		return commands.Refused, "name an export"
	case d == nil:
		return commands.Done, "the export has no schedule: it is sent all the time"
	case !d.Open.IsZero(): // by its schedule, or by a command, whose giver may have gone
		if d.Command != nil {
			s.control.toldLocked(d.Command, commands.Done, "a later run-now has taken its place", nil)
		}
		d.Command = cmd
		s.writeLocked(cmd.Export, d)
		return commands.Begun, "it is let go since " + d.Open.Format(time.RFC3339) + ": what is owed is sent"
	}
	s.openLocked(cmd.Export, d, cmd)
	return commands.Begun, "what is owed is sent"
}

// writeLocked keeps a schedule's row.
//
// +checklocks:s.mu
func (s *schedules) writeLocked(name string, d *schedule) {
	row, _ := json.Marshal(d.scheduleRow)
	s.table.SetMeta(scheduleKey+name, row)
	s.changedLocked(s.now())
}

// owedLocked says whether an export is let go, and not worked off.
//
// +checklocks:s.mu
func (s *schedules) owedLocked() bool {
	for _, d := range s.all {
		if !d.Open.IsZero() {
			return true
		}
	}
	return false
}
