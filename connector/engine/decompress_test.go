package engine

import (
	"bytes"
	"errors"
	"testing"

	"github.com/twmb/franz-go/pkg/kgo"
)

// S84: what is decompressed between two polls is bounded, and so is a batch.
func TestDecompressedBytesAreBounded(t *testing.T) {
	d, err := newDecompressor()
	if err != nil {
		t.Fatal(err)
	}
	c, err := kgo.DefaultCompressor(kgo.GzipCompression())
	if err != nil {
		t.Fatal(err)
	}
	compressed := func(size int) []byte {
		out, _ := c.Compress(new(bytes.Buffer), bytes.Repeat([]byte{'x'}, size))
		return bytes.Clone(out)
	}
	large := compressed(fetchMost/2 + 1)
	for range 2 { // polls
		for range 2 {
			if out, err := d.Decompress(large, kgo.CodecGzip); err != nil || len(out) != fetchMost/2+1 {
				t.Fatal(len(out), err)
			}
		}
		if _, err := d.Decompress(large, kgo.CodecGzip); !errors.Is(err, errFetchMost) {
			t.Errorf("a third is decompressed: %v", err)
		}
		if out, err := d.Decompress(large, kgo.CodecNone); err != nil || len(out) != len(large) {
			t.Errorf("what is not compressed is not taken: %v", err)
		}
		d.polled()
	}
	if _, err := d.Decompress(compressed(batchMost+1), kgo.CodecGzip); !errors.Is(err, kgo.ErrMaxDecompress) {
		t.Errorf("a batch of more than its bound: %v", err)
	}
}
