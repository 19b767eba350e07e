package mapping

import (
	"os"
	"testing"
)

// FuzzDecode: whatever the bytes, one error or one record; never a panic.
func FuzzDecode(f *testing.F) {
	var codecs []*codec
	for _, file := range []string{"membership-changed.avsc", "profile-snapshot.avsc", "segment-members-cdc.avsc"} {
		b, err := os.ReadFile("testdata/" + file)
		if err != nil {
			f.Fatal(err)
		}
		c, err := newCodec(string(b), nil)
		if err != nil {
			f.Fatal(err)
		}
		codecs = append(codecs, c)
	}
	tree, err := newCodec(`{"type":"record","name":"R","fields":[{"name":"c","type":{"type":"array","items":"R"}},{"name":"n","type":{"type":"array","items":"null"}}]}`, nil)
	if err != nil {
		f.Fatal(err)
	}
	codecs = append(codecs, tree)
	f.Add([]byte{0x80, 0x80, 0x80, 0x80, 0x80, 0x01})
	f.Add([]byte{2, 'e', 6, 'v', 'i', 'p', 2, 'p', 0, 0, 0})
	f.Fuzz(func(t *testing.T, b []byte) {
		for _, c := range codecs {
			v, err := c.decode(b, everything)
			if err == nil && v == nil {
				t.Error("a record that is nothing")
			}
		}
	})
}

// FuzzSchema: whatever a registry answers, a schema or an error; never a panic.
func FuzzSchema(f *testing.F) {
	f.Add(`{"type":"record","name":"R","fields":[{"name":"a","type":{"type":"bytes","logicalType":"decimal","precision":4}}]}`, []byte{2, 1})
	f.Add(`["null",{"type":"map","values":"string"}]`, []byte{0})
	f.Add(`"string"`, []byte{2, 'a'})
	f.Fuzz(func(_ *testing.T, schema string, b []byte) {
		if c, err := newCodec(schema, nil); err == nil {
			_, _ = c.decode(b, everything)
		}
	})
}
