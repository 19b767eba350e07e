package oracle

import (
	"context"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
)

// grow gives the topic more partitions.
func (w *World) grow(n int) error {
	_, err := kadm.NewClient(w.producer).UpdatePartitions(context.Background(), n, w.topic)
	w.parts = int32(n)
	w.producer.ForceMetadataRefresh()
	time.Sleep(10 * time.Second)
	return err
}
