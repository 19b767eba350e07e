package engine

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"regexp"
	"slices"
	"strconv"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"
	"go.uber.org/zap"

	"segsync/connector/state"
	"segsync/mapping"
	"segsync/sink"
)

// Start is where reading of a source begins the first time.
type Start struct {
	Latest bool
	At     time.Time // not zero: at the first record of this time
}

// OutOfRange is what happens when a position is no longer in the log.
type OutOfRange string

// The policies for a position that the log has lost.
const (
	OutOfRangeHalt     OutOfRange = "halt"
	OutOfRangeEarliest OutOfRange = "earliest"
	OutOfRangeLatest   OutOfRange = "latest"
)

// Tombstone is what a record without a value means.
type Tombstone string

// The meanings of a record without a value.
const (
	TombstoneIgnore Tombstone = "ignore"
	TombstoneRemove Tombstone = "remove_from_list"
	TombstoneDelete Tombstone = "delete_contact"
)

// Source is where changes come from.
type Source struct {
	Name       string
	Topics     []string
	Regex      string // topics by pattern, instead
	Start      Start
	OutOfRange OutOfRange
	Tombstone  Tombstone
	Spec       mapping.Spec // its attributes' types are filled in from the account
	Value, Key *mapping.Decoder
	// KeepProfiles keeps those of people of whom no membership is known.
	KeepProfiles bool
}

// profilesApart says whether events carry profiles alone: who has no address yet waits for one.
func (s *Source) profilesApart() bool {
	return slices.ContainsFunc(s.Spec.Events, func(e mapping.Event) bool { return !e.OfMemberships() })
}

// Export joins segments of a source to a list.
type Export struct {
	Name         string
	Owner        string // whose it is; "" the admins'
	Enabled      bool
	Source       int      // place in Config.Sources
	Segments     []string // any of which is enough, but for those that are named again:
	All, None    []string // the person must be in all of these, in none of those
	List         int64    // its number; 0: it is named, and not found yet
	Named        ListName // how it is named, if not by its number
	Attributes   []string
	Delete       bool // on_exit: delete_contact
	Guard        state.Guard
	OnlyOwn      bool   // who leaves is taken out only if we put them in
	OnlyExisting bool   // no contact is created for its list
	Schedule     string // when it is sent (ParseSchedule); "": all the time
}

// ListName names a list of the account by its name there, and its folder; 0: in whatever folder.
type ListName struct {
	Name   string
	Folder int64
}

// Is says whether a list is the one that is named.
func (n ListName) Is(l sink.ListInfo) bool {
	return l.Name == n.Name && (n.Folder == 0 || l.Folder == n.Folder)
}

func (n ListName) String() string {
	if n.Folder == 0 {
		return strconv.Quote(n.Name)
	}
	return fmt.Sprintf("%q in folder %d", n.Name, n.Folder)
}

// Of names the export's list for people.
func (x Export) Of() string {
	if x.List == 0 {
		return x.Named.String()
	}
	return strconv.FormatInt(x.List, 10)
}

// row is the key of the export's row: a name of one owner's is not another's.
func (x *Export) row() string {
	if x.Owner != "" {
		return exportKey(x.Owner + "/" + x.Name)
	}
	return exportKey(x.Name)
}

// Config is one connection with all that is exported through it.
type Config struct {
	Name, Prefix string
	Kafka        []kgo.Opt // brokers, security, dialer
	Instance     string    // static instance id of this process; "" a dynamic member
	Session      time.Duration
	Sources      []Source
	Exports      []Export
	Limits       sink.Limits
	// Sender makes the account's destination; it writes under the lease only.
	Sender  func(lease func() bool) sink.Destination
	Account Account // nil: whose the key is is not checked
	// Lists are all of the account, to find those that are named.
	Lists func(context.Context) ([]sink.ListInfo, error)

	DeadLetters string // topic
	Breaker     Breaker
	Audit       Audit
	Log         *zap.Logger
	Metrics     *Metrics
	Senders     int
	Times       Times
}

// Breaker halts a connection when Rejects among the last OfLast outcomes were rejects.
type Breaker struct{ Rejects, OfLast int }

// Times are the engine's periods; tests shorten them.
type Times struct {
	Rest         time.Duration // an unanswered contact rests
	LateApply    time.Duration // how long after an unanswered request it may still be applied
	Quiet        time.Duration // a checkpoint follows a change after so much quiet
	Most         time.Duration // and at the latest
	Drain        time.Duration // how long a leaving owner waits for what is in flight
	UnknownID    time.Duration // how long a record waits for a schema id that the registry does not know; then, at once, all of that id
	ImportStuck  time.Duration // an import that does not end within this halts imports
	RetryRefused time.Duration // a refused attribute is tried again
	Probe        time.Duration // a halted list or account is probed, at first
	ProbeMost    time.Duration
	Report       time.Duration // how often a process reports how it stands
	BreakerRest  time.Duration // a tripped breaker lets go again
}

// ImportStuck is how long an import may take, usually: Sendinblue's end in minutes.
const ImportStuck = 2 * time.Hour

func (t Times) withDefaults() Times {
	def := func(d *time.Duration, v time.Duration) {
		if *d == 0 {
			*d = v
		}
	}
	def(&t.Rest, 5*time.Second)
	def(&t.LateApply, 5*time.Minute)
	def(&t.Quiet, 200*time.Millisecond)
	def(&t.Most, time.Second)
	def(&t.Drain, 15*time.Second)
	def(&t.UnknownID, 30*time.Second)
	def(&t.ImportStuck, ImportStuck)
	def(&t.RetryRefused, 24*time.Hour)
	def(&t.Probe, 15*time.Second)
	def(&t.ProbeMost, 5*time.Minute)
	def(&t.BreakerRest, 5*time.Minute)
	def(&t.Report, 5*time.Second)
	return t
}

// DefaultSession is the group's session timeout: a dead owner is replaced within it.
const DefaultSession = 15 * time.Second

// Group is the consumer group, and the transactional id, of a connection.
func (c *Config) Group() string { return c.Prefix + "-" + c.Name }

// Fingerprint tells configurations apart: what is read, how it is mapped, and where it goes.
func (c *Config) Fingerprint() string {
	h := sha256.New()
	for i := range c.Sources {
		s := &c.Sources[i]
		_, _ = fmt.Fprintf(h, "%q %q %q %+v %q %q %+v\n", s.Name, s.Topics, s.Regex, s.Start, s.OutOfRange, s.Tombstone, s.Spec)
	}
	_, _ = fmt.Fprintf(h, "%+v", c.Exports)
	return hex.EncodeToString(h.Sum(nil)[:6])
}

// OwnTopics are patterns of the topics that segsync itself writes: they are never a source's, for it would feed itself.
func (c *Config) OwnTopics() []string {
	own := []string{"^" + regexp.QuoteMeta(c.Prefix) + "-.*-table$", "^" + regexp.QuoteMeta(c.Prefix) + "-(commands|status)$"}
	if c.DeadLetters != "" {
		own = append(own, "^"+regexp.QuoteMeta(c.DeadLetters)+"$")
	}
	return own
}

// Owns says whether a topic is one that segsync itself writes.
func (c *Config) Owns(topic string) bool {
	return slices.ContainsFunc(c.OwnTopics(), func(own string) bool { return matches(own, topic) })
}

// WithDefaults fills in what was left open.
func (c *Config) WithDefaults() Config {
	out := *c
	out.Times = c.Times.withDefaults()
	if out.Session == 0 {
		out.Session = DefaultSession
	}
	if out.Senders == 0 {
		out.Senders = 16
	}
	if out.Breaker.OfLast == 0 {
		out.Breaker = Breaker{Rejects: 100, OfLast: 1000}
	}
	if out.Log == nil {
		out.Log = zap.NewNop()
	}
	out.Log = out.Log.With(zap.String("connection", c.Name))
	if out.Metrics == nil {
		out.Metrics = NewMetrics()
	}
	return out
}

// tableConfig is what the table must know.
func (c *Config) tableConfig() state.Config {
	t := state.Config{
		Unique: func(attribute string) bool { return slices.Contains(c.Limits.Unique, attribute) }, Looks: c.Limits.Looks, Rest: c.Times.Rest, LateApply: c.Times.LateApply, RetryRefused: c.Times.RetryRefused,
	}
	for i := range c.Sources {
		s := state.Source{Name: c.Sources[i].Name, Segments: c.Sources[i].Spec.Segments, KeepProfiles: c.Sources[i].KeepProfiles}
		for _, a := range c.Sources[i].Spec.Attributes {
			s.Attributes = append(s.Attributes, a.Name)
		}
		t.Sources = append(t.Sources, s)
	}
	for _, e := range c.Exports {
		t.Exports = append(t.Exports, state.Export{
			Name: e.Name, Source: e.Source, Segments: e.Segments, All: e.All, None: e.None, List: e.List, Attributes: e.Attributes, Delete: e.Delete, OnlyOwn: e.OnlyOwn, OnlyExisting: e.OnlyExisting, Guard: e.Guard,
		})
	}
	return t
}

// SourceOf finds the source that a topic belongs to.
func (c *Config) SourceOf(topic string) (int, bool) {
	if c.Owns(topic) {
		return 0, false
	}
	for i, s := range c.Sources {
		if slices.Contains(s.Topics, topic) || s.Regex != "" && matches(s.Regex, topic) {
			return i, true
		}
	}
	return 0, false
}

func matches(pattern, topic string) bool {
	re, err := regexp.Compile(pattern)
	return err == nil && re.MatchString(topic)
}
