package oracle

import (
	_ "embed"
	"math/rand/v2"
	"strings"
	"time"

	"github.com/linkedin/goavro/v2"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/sr"

	"segsync/connector"
	"segsync/mapping"
)

// Topics of a world whose events are put into records in several ways.
const (
	profilesTopic = "cdp.profiles" // people's profiles alone
	peopleTopic   = "cdp.people"   // several people in a record, with what each joins and leaves, and when that lapses
)

var (
	//go:embed profiles.avsc
	profilesSchema string
	//go:embed people.avsc
	peopleSchema string
)

// ways put the events of a world into records of three schemas on three topics. What they say is the same.
type ways struct {
	rand     *rand.Rand
	profiles wire
	people   wire
	parts    int32
}

// wire is a schema with its id in the registry.
type wire struct {
	codec *goavro.Codec
	id    int
}

func (w wire) encode(v any) ([]byte, error) {
	return w.codec.BinaryFromNative([]byte{0, byte(w.id >> 24), byte(w.id >> 16), byte(w.id >> 8), byte(w.id)}, v)
}

// register makes a wire of a schema.
func register(registry interface {
	RegisterSchema(subject string, schema sr.Schema) (id, version int, err error)
}, topic, schema string) (w wire, err error) {
	if w.id, _, err = registry.RegisterSchema(topic+"-value", sr.Schema{Schema: schema}); err != nil {
		return w, err
	}
	w.codec, err = goavro.NewCodec(schema)
	return w, err
}

// source lets a source read the three topics.
func (y *ways) source(s *connector.Source) {
	s.Topics = append(s.Topics, profilesTopic, peopleTopic)
	s.KeepProfiles = true
	s.Spec.Events[0].When = "segment_id != nil"
	s.Spec.Events = append(s.Spec.Events,
		mapping.Event{When: `kafka.topic == "` + profilesTopic + `"`, Person: "profile_id", Time: "occurred_at"},
		mapping.Event{Each: "people", Person: "item.id", Joins: "item.joins", Leaves: "item.leaves", Time: "item.at", Until: "item.until"},
	)
	either := func(expr string) string { return strings.ReplaceAll(expr, "profile.", "(item.profile ?? profile).") }
	s.Spec.Email = either(s.Spec.Email)
	for i := range s.Spec.Attributes {
		s.Spec.Attributes[i].Expr = either(s.Spec.Attributes[i].Expr)
	}
}

// records puts events into records, in order, and says what they say: times of events that share a record's item are one.
func (y *ways) records(w *World, events []Event) (records []*kgo.Record, said []Event, err error) {
	for len(events) > 0 {
		n := 1
		var some []*kgo.Record
		switch e := events[0]; {
		case e.Poison == nil && (y.rand.IntN(3) == 0 || !e.Until.IsZero()):
			n = y.gather(events)
			some, err = y.together(events[:n])
		case e.Poison == nil && e.Profile != nil && y.rand.IntN(2) == 0:
			some, err = y.apart(w, e)
		default:
			var r *kgo.Record
			r, err = w.record(e)
			some = []*kgo.Record{r}
		}
		if err != nil {
			return nil, nil, err
		}
		records, said, events = append(records, some...), append(said, events[:n]...), events[n:]
	}
	return records, said, nil
}

// apart puts the membership and the profile of an event into a record each, the one or the other first.
func (y *ways) apart(w *World, e Event) ([]*kgo.Record, error) {
	v, err := y.profiles.encode(map[string]any{"profile_id": e.Person, "occurred_at": e.At, "profile": e.Profile.native()})
	if err != nil {
		return nil, err
	}
	p := &kgo.Record{Topic: profilesTopic, Partition: y.rand.Int32N(y.parts), Key: []byte(e.Person), Value: v, Timestamp: e.when()}
	e.Profile = nil
	m, err := w.record(e)
	if err != nil {
		return nil, err
	}
	both := []*kgo.Record{p, m}
	y.rand.Shuffle(2, func(i, j int) { both[i], both[j] = both[j], both[i] })
	return both, nil
}

// gather says how many of the next events go into one record. Of one person they are about several segments, and the first
// alone may bring a profile.
func (y *ways) gather(events []Event) int {
	last, most := map[string]int{}, 1+y.rand.IntN(6)
	about := map[string]bool{}
	for i := range events {
		e := &events[i]
		before, again := last[e.Person]
		switch {
		case i == most || e.Poison != nil || about[e.Person+"\x00"+e.Segment]:
			return i
		case again && (e.Profile != nil || !e.Until.IsZero() || !events[before].Until.IsZero()):
			return i
		}
		last[e.Person], about[e.Person+"\x00"+e.Segment] = i, true
	}
	return len(events)
}

// together puts events into one record.
func (y *ways) together(events []Event) ([]*kgo.Record, error) {
	var people []any
	places := map[string]map[string]any{}
	at := map[string]time.Time{}
	for i := range events {
		at[events[i].Person] = events[i].when()
	}
	latest := time.Time{}
	for i := range events {
		e := &events[i]
		e.At = at[e.Person]
		if e.At.After(latest) {
			latest = e.At
		}
		item := places[e.Person]
		if item == nil {
			item = map[string]any{"id": e.Person, "at": e.At, "joins": []any{}, "leaves": []any{}, "until": nil, "profile": nil}
			places[e.Person], people = item, append(people, item)
		}
		list := map[bool]string{true: "joins", false: "leaves"}[e.In]
		item[list] = append(item[list].([]any), e.Segment) //nolint:forcetypeassert // made above
		if !e.Until.IsZero() {
			item["until"] = goavro.Union("long.timestamp-millis", e.Until)
		}
		if e.Profile != nil {
			item["profile"] = goavro.Union("cdp.people.Profile", e.Profile.native())
		}
	}
	v, err := y.people.encode(map[string]any{"people": people})
	return []*kgo.Record{{Topic: peopleTopic, Partition: y.rand.Int32N(y.parts), Value: v, Timestamp: latest}}, err
}
