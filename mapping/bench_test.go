package mapping

import (
	"fmt"
	"os"
	"testing"

	"github.com/linkedin/goavro/v2"
)

// BenchmarkMap decodes and maps the default event.
func BenchmarkMap(b *testing.B) {
	text, err := os.ReadFile("testdata/membership-changed.avsc")
	if err != nil {
		b.Fatal(err)
	}
	c, err := goavro.NewCodec(string(text))
	if err != nil {
		b.Fatal(err)
	}
	value, err := c.BinaryFromNative(nil, map[string]any{
		"event_id": "00000000-0000-4000-8000-000000000000", "segment_id": "vip", "profile_id": "p1", "change": "ENTERED", "occurred_at": noon,
		"profile": union("cdp.segments.Profile", map[string]any{
			"email": union("string", "ann@example.com"), "first_name": union("string", "Ann"), "last_name": union("string", "Lee"),
			"phone": union("string", "+33639980001"), "country": union("string", "FR"), "birthday": union("int.date", noon), "lifetime_value": nil, "newsletter": union("boolean", true), "tags": []any{},
		}),
	})
	if err != nil {
		b.Fatal(err)
	}
	d, err := NewDecoder(Bare, nil, string(text))
	if err != nil {
		b.Fatal(err)
	}
	key, _ := NewDecoder(Raw, nil)
	m, err := NewMapper(Spec{
		Events: []Event{{Person: "profile_id", Segment: "segment_id", Member: `change == "ENTERED"`, Time: "occurred_at"}}, Email: "profile.email", Segments: []string{"vip"},
		Attributes: []Attribute{
			{Name: "FIRSTNAME", Expr: "profile.first_name", Type: TypeText}, {Name: "LASTNAME", Expr: "profile.last_name", Type: TypeText}, {Name: "SMS", Expr: `phone(profile.phone, "FR")`, Type: TypeText},
			{Name: "COUNTRY", Expr: "upper(profile.country)", Type: TypeText}, {Name: "BIRTHDAY", Expr: "profile.birthday", Type: TypeDate}, {Name: "NEWSLETTER", Expr: "profile.newsletter", Type: TypeBoolean},
		},
	}, d, key)
	if err != nil {
		b.Fatal(err)
	}
	b.Run("goavro", func(b *testing.B) {
		codec, err := d.codec(0)
		if err != nil {
			b.Fatal(err)
		}
		b.ReportAllocs()
		for b.Loop() {
			if _, err := codec.goavro(value); err != nil {
				b.Fatal(err)
			}
		}
	})
	b.Run("decode", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			if _, _, err := d.decode(value, everything); err != nil {
				b.Fatal(err)
			}
		}
	})
	b.Run("decode and map", func(b *testing.B) {
		w := m.NewWorker()
		b.ReportAllocs()
		for b.Loop() {
			if _, err := w.Map(&Record{Value: value, Time: noon.UnixNano()}); err != nil {
				b.Fatal(err)
			}
		}
	})
}

// BenchmarkSnapshot decodes and maps a profile of fifty segments, a whole truth.
func BenchmarkSnapshot(b *testing.B) {
	text, err := os.ReadFile("testdata/profile-snapshot.avsc")
	if err != nil {
		b.Fatal(err)
	}
	c, err := goavro.NewCodec(string(text))
	if err != nil {
		b.Fatal(err)
	}
	states := map[string]any{}
	for i := range 50 {
		states[fmt.Sprintf("segment-%d", i)] = map[string]any{"status": []string{"realized", "existing", "exited"}[i%3], "lastQualificationTime": nil}
	}
	value, err := c.BinaryFromNative(nil, map[string]any{
		"identity": "p1", "timestamp": noon, "personalEmail": union("cdp.profiles.Email", map[string]any{"address": "bob@example.com"}),
		"person": nil, "mobilePhone": nil, "segmentMembership": map[string]any{"ups": states},
	})
	if err != nil {
		b.Fatal(err)
	}
	d, err := NewDecoder(Bare, nil, string(text))
	if err != nil {
		b.Fatal(err)
	}
	key, _ := NewDecoder(Raw, nil)
	m, err := NewMapper(Spec{
		Events: []Event{{Person: "identity", Time: "timestamp", Memberships: `keysWhere(segmentMembership.ups, "status", ["realized", "existing"])`}}, Email: "personalEmail.address",
		Segments: []string{"segment-1", "segment-2", "segment-3"},
	}, d, key)
	if err != nil {
		b.Fatal(err)
	}
	w := m.NewWorker()
	b.ReportAllocs()
	for b.Loop() {
		if _, err := w.Map(&Record{Value: value, Time: noon.UnixNano()}); err != nil {
			b.Fatal(err)
		}
	}
}
