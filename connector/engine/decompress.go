package engine

import (
	"errors"
	"sync/atomic"

	"github.com/twmb/franz-go/pkg/kgo"
)

// Bounds of what is decompressed, in bytes. A fetch is bounded by what travels: a few hundred kB of it can hold dozens
// of batches that each become a thousand times larger.
const (
	batchMost = 64 << 20 // what a batch may become: a larger one is a dead letter
	fetchMost = 64 << 20 // what the batches between two polls may become, before the one that exceeds it
)

// errFetchMost makes the client hand over what it has decompressed, and fetch the rest again.
var errFetchMost = errors.New("more was fetched than is decompressed at once")

// decompressor decompresses no more between two polls than fetchMost, and the batch that exceeds it.
type decompressor struct {
	kgo.Decompressor
	since atomic.Int64 // bytes since the last poll
}

// newDecompressor takes the client's own decompressor, for only a client makes one that bounds a batch.
func newDecompressor() (*decompressor, error) {
	cl, err := kgo.NewClient(kgo.MaxDecompressBatchBytes(batchMost), kgo.DisableClientMetrics())
	if err != nil {
		return nil, err
	}
	defer cl.Close()
	d, ok := cl.OptValue(kgo.WithDecompressor).(kgo.Decompressor)
	if !ok {
		return nil, errors.New("the Kafka client names no decompressor")
	}
	return &decompressor{Decompressor: d}, nil
}

// Decompress implements kgo.Decompressor.
func (d *decompressor) Decompress(src []byte, codec kgo.CompressionCodecType) ([]byte, error) {
	if codec == kgo.CodecNone {
		return src, nil
	}
	if d.since.Load() >= fetchMost {
		return nil, errFetchMost
	}
	out, err := d.Decompressor.Decompress(src, codec)
	d.since.Add(int64(len(out)))
	return out, err
}

// polled says that what was decompressed has been taken.
func (d *decompressor) polled() { d.since.Store(0) }
