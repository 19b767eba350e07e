package engine

import (
	"slices"
	"sync/atomic"
	"time"

	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"
)

// lines makes a logger that never waits: a log that is not taken (a full pipe) must not stop what is said of it, least of
// all under the table's lock. Lines that find no room are dropped, and counted.
type lines struct {
	queue   chan line
	dropped atomic.Int64
	stop    chan struct{}
	written chan struct{}
}

type line struct {
	to     zapcore.Core
	entry  zapcore.Entry
	fields []zapcore.Field
}

// linesMost is how many lines may wait.
const linesMost = 1024

func newLines() *lines {
	return &lines{queue: make(chan line, linesMost), stop: make(chan struct{}), written: make(chan struct{})}
}

// logger hands the lines of a logger over.
func (l *lines) logger(log *zap.Logger) *zap.Logger {
	return log.WithOptions(zap.WrapCore(func(to zapcore.Core) zapcore.Core { return &handing{Core: to, lines: l} }))
}

// write writes what is handed over, until end is called and all is written.
func (l *lines) write(log *zap.Logger) {
	defer close(l.written)
	for {
		select {
		case x := <-l.queue:
			l.put(x, log)
		case <-l.stop:
			for n := len(l.queue); n > 0; n-- {
				l.put(<-l.queue, log)
			}
			return
		}
	}
}

func (l *lines) put(x line, log *zap.Logger) {
	if ce := x.to.Check(x.entry, nil); ce != nil {
		ce.Write(x.fields...)
	}
	if n := l.dropped.Swap(0); n > 0 {
		log.Warn("log lines were dropped: the log is not taken as fast as it is written", zap.Int64("lines", n))
	}
}

// end waits for the last lines to be written, unless the log is not taken.
func (l *lines) end() {
	close(l.stop)
	select {
	case <-l.written:
	case <-time.After(2 * time.Second):
	}
}

// handing is a zapcore.Core that hands its lines over.
type handing struct {
	zapcore.Core
	lines *lines
}

// With implements zapcore.Core.
func (h *handing) With(f []zapcore.Field) zapcore.Core {
	return &handing{Core: h.Core.With(f), lines: h.lines}
}

// Check implements zapcore.Core.
func (h *handing) Check(e zapcore.Entry, ce *zapcore.CheckedEntry) *zapcore.CheckedEntry {
	if h.Enabled(e.Level) {
		return ce.AddCore(e, h)
	}
	return ce
}

// Write implements zapcore.Core.
func (h *handing) Write(e zapcore.Entry, f []zapcore.Field) error {
	select {
	case h.lines.queue <- line{h.Core, e, slices.Clone(f)}:
	default:
		h.lines.dropped.Add(1)
	}
	return nil
}
