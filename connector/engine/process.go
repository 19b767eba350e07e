package engine

import (
	"sync"
	"sync/atomic"

	"segsync/sink"
)

// Process is what outlives the epochs of a connection in one process.
type Process struct {
	Bounded bool                   // it works off what there is, and ends
	Failed  atomic.Pointer[string] // why it ends before that is done

	clock    clock
	unknown  unknownSchemas
	failures failures

	mu sync.Mutex
	// +checklocks:mu
	types map[string]sink.AttributeInfo // of the account's attributes, once it has told them
	// +checklocks:mu
	untold error // why it has not, in the last try
}

// NewProcess makes it.
func NewProcess() *Process { return &Process{clock: newClock()} }

// Failures are the attributes that were left out in this process.
func (p *Process) Failures() []Failure { return p.failures.list() }

// Untold is why the account's attributes are not known; nil if they are.
func (p *Process) Untold() error {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.untold
}

func (p *Process) attributeTypes() map[string]sink.AttributeInfo {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.types
}

func (p *Process) setTypes(types map[string]sink.AttributeInfo, err error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.types, p.untold = types, err
}
