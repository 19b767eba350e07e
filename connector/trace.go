package connector

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"runtime"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"

	"segsync/connector/changelog"
	"segsync/connector/deadletter"
	"segsync/connector/state"
	"segsync/mapping"
)

// Traced is all that is known of why somebody is in a list or not.
type Traced struct {
	Connection string             `json:"connection"`
	Export     string             `json:"export"`
	List       int64              `json:"list"`
	People     []TracedPerson     `json:"people"`            // the table's rows: several where they share the address
	Contact    *state.ContactTold `json:"contact,omitempty"` // likewise; null: the table knows no such address
	Events     []TracedEvent      `json:"events"`            // that the source holds of them, the oldest first
	Unread     int64              `json:"unread,omitempty"`  // records of the source that did not come: they were compacted away, or a broker is slow
	Calls      []*state.CallTold  `json:"calls"`             // that concerned the contact, as far as the table's topic still has them
	Letters    []TracedLetter     `json:"dead_letters"`
	Account    *TracedAccount     `json:"account,omitempty"` // null: no address is known to look for
}

// TracedPerson is a person of the table.
type TracedPerson struct {
	Hash string `json:"hash"`
	state.PersonTold
}

// TracedEvent is a record that speaks of the person.
type TracedEvent struct {
	Topic     string    `json:"topic"`
	Partition int32     `json:"partition"`
	Offset    int64     `json:"offset"`
	At        time.Time `json:"at"` // of what it says
	Says      []string  `json:"says"`
	Stands    bool      `json:"stands"`          // something of the table's rows is by this record
	Error     string    `json:"error,omitempty"` // why it is a dead letter
}

// TracedLetter is a dead letter of the person's.
type TracedLetter struct {
	At      string `json:"at"`   // of the letter, topic/partition/offset
	From    string `json:"from"` // of its record
	Class   string `json:"class"`
	Code    string `json:"code,omitempty"`
	Message string `json:"message"`
}

// TracedAccount is what the account says now.
type TracedAccount struct {
	Known   bool    `json:"known"` // it has the contact
	Blocked bool    `json:"blocked"`
	Lists   []int64 `json:"lists"`
	Error   string  `json:"error,omitempty"`
}

// trace is one that is made.
type trace struct {
	*Traced
	cfg    *Config
	source int
	show   bool
	keys   map[state.PersonKey]bool
	who    string // an address; "": a person is sought
}

// Trace finds out why somebody is in an export's list or not: from the table, the source's records, the dead letters, and the
// account. who is a person's id, or an address. Addresses and values are masked unless show says otherwise. tell is told how many
// records are left of how many.
func Trace(ctx context.Context, cfg *Config, export, who string, show bool, tell func(left, total int64)) (*Traced, error) {
	if _, err := FindLists(ctx, cfg); err != nil {
		return nil, fmt.Errorf("%w: %w", ErrEnvironment, err)
	}
	c := New(*cfg)
	at := slices.IndexFunc(cfg.Exports, func(x Export) bool { return x.Name == export })
	x := &cfg.Exports[at]
	t := &trace{Traced: &Traced{Connection: cfg.Name, Export: export, List: x.List, People: []TracedPerson{}, Events: []TracedEvent{}, Calls: []*state.CallTold{}, Letters: []TracedLetter{}}, cfg: &c.cfg, source: x.Source, show: show, keys: map[state.PersonKey]bool{}}
	cl, err := kgo.NewClient(c.cfg.Kafka...)
	if err != nil {
		return nil, err
	}
	defer cl.Close()
	adm := kadm.NewClient(cl)
	table, err := c.peek(ctx, adm)
	if err != nil {
		return nil, fmt.Errorf("%w: reading the table: %w", ErrEnvironment, err)
	}
	t.keys[state.KeyOf(cfg.Sources[x.Source].Name, who)] = true // an id may look like an address
	if strings.Contains(who, "@") {
		t.who = strings.ToLower(strings.TrimSpace(who))
		for _, key := range table.CarriersOf(t.who) {
			t.keys[key] = true
		}
	}
	stands := t.rows(table)
	if err := t.calls(ctx, adm); err != nil {
		return nil, fmt.Errorf("%w: reading the table: %w", ErrEnvironment, err)
	}
	if err := t.scan(ctx, adm, stands, tell); err != nil {
		return nil, fmt.Errorf("%w: %w", ErrEnvironment, err)
	}
	if err := t.letters(ctx); err != nil {
		return nil, fmt.Errorf("%w: %w", ErrEnvironment, err)
	}
	t.ask(ctx)
	if t.Contact != nil {
		t.Contact.Address = t.mask(t.Contact.Address)
	}
	return t.Traced, nil
}

// rows tells what the table holds, and the positions that it holds something by.
func (t *trace) rows(table *state.Table) map[string]bool {
	stands := map[string]bool{}
	stand := func(p *state.Position) {
		if p != nil {
			stands[place(p.Topic, p.Partition, p.Offset)] = true
		}
	}
	for key := range t.keys {
		p := table.TellPerson(key)
		if p == nil {
			continue
		}
		if t.who == "" {
			t.who = p.Address
		}
		stand(p.AddressAt)
		stand(p.Erased)
		p.Address = t.mask(p.Address)
		for i := range p.Former {
			p.Former[i] = t.mask(p.Former[i])
		}
		for i := range p.Memberships {
			stand(&p.Memberships[i].At)
		}
		for i := range p.Attributes {
			stand(&p.Attributes[i].At)
			p.Attributes[i].Value = t.value(p.Attributes[i].Value)
		}
		t.People = append(t.People, TracedPerson{Hash: fmt.Sprintf("%x", key[:]), PersonTold: *p})
	}
	if t.who != "" {
		t.Contact = table.TellContact(t.who, time.Now())
	}
	return stands
}

// calls reads from the table's topic which calls concerned the contact.
func (t *trace) calls(ctx context.Context, adm *kadm.Client) error {
	topic := changelog.Name(t.cfg.Prefix, t.cfg.Name)
	end, err := changelog.End(ctx, adm, topic)
	if err != nil || end < 0 || t.who == "" {
		return err
	}
	c := state.Calls{Address: t.who, All: []*state.CallTold{}}
	err = changelog.Each(ctx, t.cfg.Kafka, topic, end, func(r *kgo.Record) error { return c.Row(r.Key, r.Value, r.Timestamp.UTC()) }, nil)
	t.Calls = c.All
	return err
}

func place(topic string, partition int32, offset int64) string {
	return fmt.Sprintf("%s/%d/%d", topic, partition, offset)
}

func (t *trace) mask(address string) string {
	if t.show || address == "" {
		return address
	}
	return state.Mask(address)
}

func (t *trace) value(json string) string {
	if t.show || json == "" || json == "true" || json == "false" || json == `""` {
		return json
	}
	return "…"
}

// scan reads the source's topics from their beginning to their present end, several partitions at a time, for records that speak
// of the person.
func (t *trace) scan(ctx context.Context, adm *kadm.Client, stands map[string]bool, tell func(left, total int64)) error {
	topics, err := adm.ListTopics(ctx)
	if err != nil {
		return err
	}
	var names []string
	for _, d := range topics {
		if s, ok := t.cfg.SourceOf(d.Topic); ok && s == t.source {
			names = append(names, d.Topic)
		}
	}
	starts, err := adm.ListStartOffsets(ctx, names...)
	ends, err2 := adm.ListCommittedOffsets(ctx, names...)
	if err = errors.Join(err, err2, starts.Error(), ends.Error()); err != nil || len(names) == 0 {
		return err
	}
	left, offsets, total := map[string]map[int32]int64{}, map[string]map[int32]kgo.Offset{}, int64(0)
	ends.Each(func(o kadm.ListedOffset) {
		start, _ := starts.Lookup(o.Topic, o.Partition)
		if start.Offset >= o.Offset {
			return
		}
		if left[o.Topic] == nil {
			left[o.Topic], offsets[o.Topic] = map[int32]int64{}, map[int32]kgo.Offset{}
		}
		left[o.Topic][o.Partition], offsets[o.Topic][o.Partition] = o.Offset, kgo.NewOffset().At(start.Offset)
		total += o.Offset - start.Offset
	})
	if total == 0 {
		return nil
	}
	cl, err := kgo.NewClient(append(slices.Clone(t.cfg.Kafka), kgo.ConsumePartitions(offsets), kgo.FetchIsolationLevel(kgo.ReadCommitted()), kgo.KeepControlRecords(), kgo.ConsumeResetOffset(kgo.NoResetOffset()))...)
	if err != nil {
		return err
	}
	defer cl.Close()
	s := &t.cfg.Sources[t.source]
	m, err := mapping.NewMapper(s.Spec, s.Value, s.Key)
	if err != nil {
		return err
	}
	mappers := make(chan *mapping.Worker, runtime.GOMAXPROCS(0))
	for range cap(mappers) {
		mappers <- m.NewWorker()
	}
	var mu sync.Mutex
	var failed error
	read := int64(0)
	for open := true; open && failed == nil; {
		quiet, stop := context.WithTimeout(ctx, traceQuiet)
		fetches := cl.PollFetches(quiet)
		stop()
		if err := fetches.Err(); ctx.Err() != nil || err != nil && quiet.Err() == nil {
			return fmt.Errorf("reading the source: %w", errors.Join(ctx.Err(), err))
		}
		if fetches.Empty() { // compacted away, or a broker is slow
			t.Unread = max(0, total-read)
			break
		}
		var partitions sync.WaitGroup
		fetches.EachPartition(func(p kgo.FetchTopicPartition) {
			end := left[p.Topic][p.Partition]
			for _, r := range p.Records {
				if r.Offset < end {
					read++
				}
			}
			if n := len(p.Records); n > 0 && p.Records[n-1].Offset+1 >= end {
				delete(left[p.Topic], p.Partition)
			}
			w := <-mappers
			partitions.Go(func() {
				defer func() { mappers <- w }()
				found, err := t.find(w, s, p.Records, end, stands)
				mu.Lock()
				defer mu.Unlock()
				t.Events = append(t.Events, found...)
				failed = errors.Join(failed, err)
			})
		})
		partitions.Wait()
		open = false
		for _, parts := range left {
			open = open || len(parts) > 0
		}
		tell(max(0, total-read), total)
	}
	slices.SortFunc(t.Events, func(a, b TracedEvent) int {
		return cmp.Or(a.At.Compare(b.At), cmp.Compare(a.Topic, b.Topic), cmp.Compare(a.Partition, b.Partition), cmp.Compare(a.Offset, b.Offset))
	})
	return failed
}

// traceQuiet is how long nothing may come of a source before what is left of it counts as not there.
const traceQuiet = 10 * time.Second

// find finds the records before an end that speak of the person.
func (t *trace) find(w *mapping.Worker, s *Source, records []*kgo.Record, end int64, stands map[string]bool) (all []TracedEvent, failed error) {
	for _, r := range records {
		if r.Attrs.IsControl() || r.Offset >= end {
			continue
		}
		res, err := w.Map(&mapping.Record{Key: r.Key, Value: r.Value, Headers: headersOf(r), Topic: r.Topic, Partition: r.Partition, Offset: r.Offset, Time: r.Timestamp.UnixNano(), Read: time.Now().UnixNano()})
		if err != nil && !rejects(err) {
			return all, fmt.Errorf("%s: %w", place(r.Topic, r.Partition, r.Offset), err)
		}
		for i := range res.Changes {
			c := &res.Changes[i]
			p := res.Profile(c)
			if !t.keys[state.KeyOf(s.Name, c.Person)] && (p == nil || t.who == "" || p.Address != t.who) {
				continue
			}
			e := TracedEvent{Topic: r.Topic, Partition: r.Partition, Offset: r.Offset, At: time.Unix(0, c.Time).UTC(), Says: t.says(s, c, p, res.Tombstone), Stands: stands[place(r.Topic, r.Partition, r.Offset)]}
			if reject, ok := errors.AsType[*mapping.RejectError](err); ok {
				e.Error = reject.Error()
			}
			all = append(all, e)
		}
	}
	return all, nil
}

func headersOf(r *kgo.Record) map[string][]byte {
	all := make(map[string][]byte, len(r.Headers))
	for _, h := range r.Headers {
		all[h.Key] = h.Value
	}
	return all
}

// says is what a change says, in words.
func (t *trace) says(s *Source, c *mapping.Change, p *mapping.Profile, tombstone bool) []string {
	all := []string{}
	if tombstone {
		return []string{"a record without a value (on_tombstone: " + string(s.Tombstone) + ")"}
	}
	if c.Whole {
		all = append(all, "the whole of what they are in:")
	}
	for _, m := range c.Memberships {
		word := "leaves "
		if m.In {
			word = "enters "
		}
		word += s.Spec.Segments[m.Segment]
		if m.Until != 0 {
			word += " until " + time.Unix(m.Until, 0).UTC().Format(time.RFC3339)
		}
		all = append(all, word)
	}
	if p != nil {
		if p.Address != "" {
			all = append(all, "address "+t.mask(p.Address))
		}
		for _, v := range p.Values {
			if v.JSON != nil {
				all = append(all, s.Spec.Attributes[v.Attribute].Name+"="+t.value(string(v.JSON)))
			}
		}
	}
	return all
}

// letters finds the dead letters of the records that were found.
func (t *trace) letters(ctx context.Context) error {
	if t.cfg.DeadLetters == "" {
		return nil
	}
	of := map[string]bool{}
	for _, e := range t.Events {
		of[place(e.Topic, e.Partition, e.Offset)] = true
	}
	return deadletter.Each(ctx, t.cfg.Kafka, t.cfg.DeadLetters, func(d *kgo.Record, from deadletter.From) {
		if from.Connection == t.cfg.Name && of[place(from.Topic, from.Partition, from.Offset)] {
			t.Letters = append(t.Letters, TracedLetter{At: place(d.Topic, d.Partition, d.Offset), From: place(from.Topic, from.Partition, from.Offset), Class: string(from.Class), Code: from.Code, Message: from.Message})
		}
	})
}

// ask asks the account for the contact, once.
func (t *trace) ask(ctx context.Context) {
	if t.who == "" {
		return
	}
	ctx, cancel := context.WithTimeout(ctx, time.Minute)
	defer cancel()
	t.Account = &TracedAccount{Lists: []int64{}}
	reader := t.cfg.Sender(func() bool { return true }) // it asks
	if a := t.cfg.Account; a != nil {
		_, mark, err := a.Owner(ctx)
		if err != nil || !a.Trust(mark) {
			t.Account.Error = fmt.Sprint("the account behind the key could not be asked for: ", err)
			return
		}
	}
	blocked, lists, err := reader.Lookup(ctx, t.who)
	t.Account.Known, t.Account.Blocked, t.Account.Lists = lists != nil, blocked, append(t.Account.Lists, lists...)
	if err != nil {
		t.Account.Error = err.Error()
	}
}
