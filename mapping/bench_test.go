package mapping

import (
	"fmt"
	"testing"
)

// BenchmarkMap decodes and maps the default event with six attributes.
func BenchmarkMap(b *testing.B) {
	s := newShape(b, "membership-changed.avsc")
	value := s.encode(map[string]any{
		"event_id": "00000000-0000-4000-8000-000000000000", "segment_id": "vip", "profile_id": "p1", "change": "ENTERED", "occurred_at": noon,
		"profile": union("cdp.segments.Profile", map[string]any{
			"email": union("string", "ann@example.com"), "first_name": union("string", "Ann"), "last_name": union("string", "Lee"),
			"phone": union("string", "+33639980001"), "country": union("string", "FR"), "birthday": union("int.date", noon), "lifetime_value": nil, "newsletter": union("boolean", true), "tags": []any{},
		}),
	})
	w := s.worker(Spec{
		Events: []Event{{Person: "profile_id", Segment: "segment_id", Member: `change == "ENTERED"`, Time: "occurred_at"}}, Email: "profile.email", Segments: []string{"vip"},
		Attributes: []Attribute{
			{Name: "FIRSTNAME", Expr: "profile.first_name", Type: TypeText}, {Name: "LASTNAME", Expr: "profile.last_name", Type: TypeText}, {Name: "SMS", Expr: `phone(profile.phone, "FR")`, Type: TypeText},
			{Name: "COUNTRY", Expr: "upper(profile.country)", Type: TypeText}, {Name: "BIRTHDAY", Expr: "profile.birthday", Type: TypeDate}, {Name: "NEWSLETTER", Expr: "profile.newsletter", Type: TypeBoolean},
		},
	})
	b.Run("goavro", func(b *testing.B) {
		codec, err := s.decoder.codec(0)
		if err != nil {
			b.Fatal(err)
		}
		loop(b, func() error { _, err := codec.goavro(value); return err })
	})
	b.Run("decode", func(b *testing.B) {
		loop(b, func() error { _, _, err := s.decoder.decode(value, everything); return err })
	})
	b.Run("decode and map", func(b *testing.B) { mapLoop(b, w, value) })
}

// BenchmarkSnapshot decodes and maps a profile of fifty segments, a whole truth.
func BenchmarkSnapshot(b *testing.B) {
	s := newShape(b, "profile-snapshot.avsc")
	states := map[string]any{}
	for i := range 50 {
		states[fmt.Sprintf("segment-%d", i)] = map[string]any{"status": []string{"realized", "existing", "exited"}[i%3], "lastQualificationTime": nil}
	}
	value := s.encode(map[string]any{
		"identity": "p1", "timestamp": noon, "personalEmail": union("cdp.profiles.Email", map[string]any{"address": "bob@example.com"}),
		"person": nil, "mobilePhone": nil, "segmentMembership": map[string]any{"ups": states},
	})
	mapLoop(b, s.worker(Spec{
		Events: []Event{{Person: "identity", Time: "timestamp", Memberships: `keysWhere(segmentMembership.ups, "status", ["realized", "existing"])`}}, Email: "personalEmail.address",
		Segments: []string{"segment-1", "segment-2", "segment-3"},
	}), value)
}

func mapLoop(b *testing.B, w *Worker, value []byte) {
	b.Helper()
	loop(b, func() error {
		_, err := w.Map(&Record{Value: value, Time: noon.UnixNano()})
		return err
	})
}

func loop(b *testing.B, f func() error) {
	b.Helper()
	b.ReportAllocs()
	for b.Loop() {
		if err := f(); err != nil {
			b.Fatal(err)
		}
	}
}
