package engine

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"

	"segsync/connector/backoff"
	"segsync/connector/commands"
	"segsync/connector/ownership"
	"segsync/connector/state"
)

// Planned is what a backfill would do.
type Planned struct {
	Connection string           `json:"connection"`
	Source     string           `json:"source"`
	Read       rewound          `json:"read"`
	Lists      []PlannedList    `json:"lists"`             // of the exports of the source
	Letters    []PlannedLetters `json:"dead_letters"`      // that would be written
	Failures   []Failure        `json:"attributes_failed"` // that would be left out
	Lacks      []string         `json:"attributes_lacking,omitempty"`
	Held       []string         `json:"held,omitempty"` // why something would not be sent now; the figures are as if it were
	Calls      map[string]int   `json:"calls"`          // by kind
	Sending    time.Duration    `json:"sending_ns"`     // at the account's rate
}

// PlannedList is what would be done for an export.
type PlannedList struct {
	Export string `json:"export"`
	List   int64  `json:"list"`
	state.Outlook
}

// dryRun is a table that is worked without being owned: nothing that it changes is written anywhere.
type dryRun struct {
	*Engine
	r         *rewind
	source    int
	before    state.Counts // the table's, before anything is read
	lettersBy map[letterKind]*PlannedLetters
	under     bool     // a backfill of the source is under way
	unreads   []string // segments that are new in the configuration: they are read from the source's start first
	tell      func(left, total int64)
}

// DryRun says what a backfill of an export's source would do, and what is read behind it: as the owner does it, upon the table
// as restore brings it, with the account's attributes and the lists' sizes. It writes nothing.
func DryRun(ctx context.Context, cfg *Config, export string, of commands.Range, restore func(apply func(key, v []byte) error) error, tell func(left, total int64)) (*Planned, error) {
	cl, err := kgo.NewClient(cfg.Kafka...)
	if err != nil {
		return nil, err
	}
	defer cl.Close()
	d := &dryRun{Engine: New(cfg, NewProcess(), cl, ownership.NewLease(cfg.Session), Counters{}), tell: tell, lettersBy: map[letterKind]*PlannedLetters{}}
	defer d.Kill(errors.New("the dry run is over"))
	d.sender = cfg.Sender(func() bool { return true }) // it asks; nobody sends
	stop := context.AfterFunc(ctx, func() { d.Kill(ctx.Err()) })
	defer stop()
	at := slices.IndexFunc(cfg.Exports, func(x Export) bool { return x.Name == export })
	d.source = cfg.Exports[at].Source
	if err := d.begin(restore); err != nil { //nolint:contextcheck // an engine has a context of its own, which ends with ctx
		return nil, err
	}
	if len(d.unreads) > 0 && (cfg.Sources[d.source].Start.At.Before(of.From) && !cfg.Sources[d.source].Start.Latest) {
		of.From = cfg.Sources[d.source].Start.At
	}
	row := rewindRow{Command: &commands.Command{Export: export, Range: &of}, List: cfg.Exports[at].List}
	if err := d.history.start(d.source, Start{At: of.From}, row); err != nil { //nolint:contextcheck // likewise
		return nil, err
	}
	d.r = d.history.all()[0]
	d.mu.Lock()
	d.before = d.table.Counts()
	d.mu.Unlock()
	if of.Resend {
		d.resend(cfg.Exports[at].List)
	}
	if err := d.read(ctx); err != nil {
		return nil, err
	}
	if len(d.history.all()) == 0 {
		return nil, errors.New("halt_when holds for a record in the range: begin behind it")
	}
	if of.Sweep {
		d.sweep()
	}
	d.sizes(ctx)
	return d.report(), nil
}

// begin takes the table over as an owner does, but for what it would write.
func (d *dryRun) begin(restore func(apply func(key, v []byte) error) error) error {
	d.setTable(state.New(d.cfg.tableConfig()))
	rows := 0
	if err := restore(func(key, v []byte) error {
		rows++
		d.mu.Lock()
		defer d.mu.Unlock()
		return d.table.Apply(key, v)
	}); err != nil {
		return err
	}
	if _, err := d.join(); err != nil {
		return err
	}
	d.mu.Lock()
	if slices.Contains(d.history.rereads, d.source) {
		was, _ := builtSourceOf(d.table, d.cfg.Sources[d.source].Name)
		for _, g := range d.cfg.Sources[d.source].Spec.Segments {
			if !slices.Contains(was.Segments, g) {
				d.unreads = append(d.unreads, g)
			}
		}
	}
	d.history.rereads = nil
	d.under = d.table.Meta(rewindKey+d.cfg.Sources[d.source].Name) != nil
	d.mu.Unlock()
	types, err := d.account.knowTypes()
	if err != nil {
		return err
	}
	d.account.setTypes(types)
	if err := d.workers.compile(types); err != nil {
		return err
	}
	if rows > 0 {
		if err := d.damage.find(); err != nil {
			return err
		}
	}
	assigned, err := d.partitions()
	if err != nil {
		return err
	}
	for try := 0; ; try++ { // a group of which nobody has asked yet has no coordinator for a moment
		if err = d.positions.locate(assigned); err == nil || try == locateTries || !kerr.IsRetriable(err) || d.ended() {
			return err
		}
		backoff.Sleep(d.ctx, time.Second)
	}
}

// locateTries is how often it is asked where a group stands.
const locateTries = 20

// partitions are those of the source's topics.
func (d *dryRun) partitions() (map[string][]int32, error) {
	ctx, cancel := context.WithTimeout(d.ctx, time.Minute)
	defer cancel()
	topics, err := kadm.NewClient(d.cl).ListTopics(ctx)
	if err != nil {
		return nil, fmt.Errorf("describing the source's topics: %w", err)
	}
	all := map[string][]int32{}
	for _, t := range topics {
		if s, ok := d.cfg.SourceOf(t.Topic); ok && s == d.source {
			all[t.Topic] = t.Partitions.Numbers()
		}
	}
	if len(all) == 0 {
		return nil, errors.New("the source has no topic")
	}
	return all, nil
}

func (d *dryRun) resend(list int64) {
	d.mu.Lock()
	defer d.mu.Unlock()
	for from, more := uint32(0), true; more; more = from != 0 {
		from = d.table.MakeUnknown(list, from, d.now())
	}
}

func (d *dryRun) sweep() {
	d.mu.Lock()
	d.r.Sweep = true
	clear(d.r.parts)
	d.mu.Unlock()
	d.history.sweep(d.source)
}

// read folds what a backfill reads, and what live reading has not read yet, up to the present end.
func (d *dryRun) read(ctx context.Context) error {
	next, ends, live := map[partition]int64{}, map[partition]int64{}, map[partition]int64{}
	total := int64(0)
	d.mu.Lock()
	again := d.history.cursorsLocked(d.r)
	for at, c := range d.reader.cursors {
		live[at], ends[at] = c.next, c.end
		next[at] = c.next
		if h := again[at]; h != nil {
			next[at] = h.next
		}
		total += max(0, ends[at]-next[at])
	}
	d.mu.Unlock()
	offsets := map[string]map[int32]int64{}
	for at, from := range next {
		if from < ends[at] {
			if offsets[at.topic] == nil {
				offsets[at.topic] = map[int32]int64{}
			}
			offsets[at.topic][at.n] = from
		}
	}
	if len(offsets) == 0 {
		return nil
	}
	client, err := kgo.NewClient(append(slices.Clone(d.cfg.Kafka), kgo.ConsumePartitions(offsetsOf(offsets)), kgo.FetchIsolationLevel(kgo.ReadCommitted()), kgo.KeepControlRecords(), kgo.ConsumeResetOffset(kgo.NoResetOffset()))...)
	if err != nil {
		return err
	}
	defer client.Close()
	f := &folder{workers: d.workers, parked: map[reading][]*batch{}}
	for _, m := range d.workers.mappers {
		f.mappers = append(f.mappers, m.NewWorker())
	}
	left := func() (n int64) {
		for at, end := range ends {
			n += max(0, end-next[at])
		}
		return n
	}
	for n := left(); n > 0; n = left() {
		d.tell(n, total)
		quiet, stop := context.WithTimeout(ctx, tailEvery)
		fetches := client.PollFetches(quiet)
		stop()
		if err := fetches.Err(); ctx.Err() != nil || err != nil && quiet.Err() == nil {
			return fmt.Errorf("reading the source: %w", errors.Join(ctx.Err(), err))
		}
		if fetches.Empty() { // perhaps nothing is left before the ends
			d.tails(next, ends) //nolint:contextcheck // likewise
		}
		fetches.EachPartition(func(p kgo.FetchTopicPartition) {
			at := partition{p.Topic, p.Partition}
			cut := slices.IndexFunc(p.Records, func(r *kgo.Record) bool { return r.Offset >= live[at] })
			if cut < 0 {
				cut = len(p.Records)
			}
			behind := len(p.Records)
			if i := slices.IndexFunc(p.Records, func(r *kgo.Record) bool { return r.Offset >= ends[at] }); i >= 0 {
				behind = i
			}
			d.fold(ctx, f, &batch{reader: d.r.reader, p: at, records: p.Records[:min(cut, behind)]})
			d.fold(ctx, f, &batch{reader: d.reader, p: at, records: p.Records[min(cut, behind):behind]})
			if len(p.Records) > 0 {
				next[at] = p.Records[len(p.Records)-1].Offset + 1
			}
		})
		d.countLetters()
	}
	return nil
}

// tails moves on where nothing is left before a partition's end.
func (d *dryRun) tails(next, ends map[partition]int64) {
	for at, end := range ends {
		if next[at] < end {
			if empty, err := d.reader.tailEmpty(at, next[at], end); err == nil && empty {
				next[at] = end
			}
		}
	}
}

// letGoLocked ends all reasons for which something is not sent, and tells of them: a plan is of what is owed.
//
// +checklocks:d.mu
func (d *dryRun) letGoLocked(now time.Time) (held []string) {
	for k, why := range d.holds.all {
		if k.sends() && !why.partial {
			held = append(held, k.code+": "+why.mend)
			d.holds.releaseLocked(k, now)
		}
	}
	slices.Sort(held)
	if name := d.cfg.Sources[d.source].Name; d.table.Meta(backfillKey+name) != nil || d.under {
		held = append(held, "a backfill of the source is under way, or waits: what it has still to read is none of this plan")
	}
	if len(d.unreads) > 0 {
		held = append(held, fmt.Sprintf("segments are new in the configuration, %v: the source is read from its start first", d.unreads))
	}
	return held
}

// fold folds a batch; while the registry does not answer it waits.
func (d *dryRun) fold(ctx context.Context, f *folder, b *batch) {
	for len(b.records) > 0 && !f.batch(b) && ctx.Err() == nil {
		time.Sleep(schemaAgain)
	}
}

// sizes asks how large the guarded lists are, for the guard weighs by it.
func (d *dryRun) sizes(ctx context.Context) {
	d.mu.Lock()
	lists := d.table.Guarded()
	d.mu.Unlock()
	for _, list := range lists {
		info, err := d.sender.List(ctx, list)
		if err == nil {
			d.mu.Lock()
			d.table.Size(list, info.Contacts, d.now())
			d.mu.Unlock()
		}
	}
}

func (d *dryRun) report() *Planned {
	d.mu.Lock()
	defer d.mu.Unlock()
	now := d.now()
	held := d.letGoLocked(now)
	d.table.Refresh(now)
	d.checkpointer.planning.guard.weighLocked(now)
	p := &Planned{Connection: d.cfg.Name, Source: d.cfg.Sources[d.source].Name, Read: d.didLocked(), Failures: d.proc.Failures(), Held: held, Calls: map[string]int{}}
	for i := range d.cfg.Exports {
		x := &d.cfg.Exports[i]
		if x.Source != d.source {
			continue
		}
		p.Lists = append(p.Lists, PlannedList{Export: x.Name, List: x.List, Outlook: d.table.Outlook(x.List, now)})
		for _, a := range x.Attributes {
			if d.account.types[a].Type == "" && !slices.Contains(p.Lacks, a) {
				p.Lacks = append(p.Lacks, a)
			}
		}
	}
	p.Letters = d.planned()
	d.sendLocked(p, now)
	return p
}

// didLocked is what was read, by both readers.
//
// +checklocks:d.mu
func (d *dryRun) didLocked() rewound {
	is, was := d.table.Counts(), d.before
	stale, ignored := is.Stale-was.Stale, is.Ignored-was.Ignored
	return rewound{
		Records: d.counts.Events, Moved: is.Folded - was.Folded - stale - ignored, Stale: stale, Ignored: ignored, Letters: d.counts.DeadLetters, Swept: d.r.Done.Swept,
	}
}
