package mapping

import (
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
			"phone": nil, "country": nil, "birthday": nil, "lifetime_value": nil, "newsletter": nil, "tags": []any{},
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
		Attributes: []Attribute{{Name: "FIRSTNAME", Expr: "profile.first_name", Type: TypeText}, {Name: "LASTNAME", Expr: "profile.last_name", Type: TypeText}},
	}, d, key)
	if err != nil {
		b.Fatal(err)
	}
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
