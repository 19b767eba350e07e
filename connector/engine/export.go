package engine

import (
	"context"
	"fmt"
	"time"

	"segsync/sink"
)

// exporting is an export under way.
type exporting struct {
	process int64
	began   time.Time
	last    time.Time // the last look that did not find it ended
	ended   bool
	done    chan sink.Process
}

// due is when to look at an export.
func (x *exporting) due() time.Time {
	if x.last.IsZero() {
		return x.began.Add(firstLook)
	}
	return x.last.Add(rarer(x.last.Sub(x.began)))
}

// looked takes up what a look says of the export under way.
func (a *audits) looked(byID map[int64]sink.Process) {
	x := a.underWay()
	if x == nil {
		return
	}
	p, listed := byID[x.process]
	if !listed {
		var err error
		if p, err = a.watcher.lookAt(x.process); err != nil {
			p = sink.Process{}
		}
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	x.last = a.now()
	if p.Done && !x.ended {
		x.ended = true
		x.done <- p // there is room
	}
}

func (a *audits) underWay() *exporting {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.exporting
}

// awaitExport waits until the watcher sees that an export has ended.
func (a *audits) awaitExport(ctx context.Context, process int64) (sink.Process, error) {
	x := &exporting{process: process, began: a.now(), done: make(chan sink.Process, 1)}
	a.mu.Lock()
	a.exporting = x
	a.mu.Unlock()
	a.watcher.wake()
	most := time.NewTimer(exportMost)
	defer most.Stop()
	select {
	case p := <-x.done:
		return p, nil
	case <-most.C:
		return sink.Process{}, errExportLong(process)
	case <-ctx.Done():
		return sink.Process{}, ctx.Err()
	}
}

func errExportLong(process int64) error {
	return fmt.Errorf("the export (process %d) has not ended within %s", process, exportMost)
}
