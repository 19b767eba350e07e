package oracle

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"net"
	"sync"
	"time"
)

// Cutter is the network of one life, with faults to order: it can be cut for good (a kill), refuse for a while, stand
// still, and lose single requests or their answers.
type Cutter struct {
	dial func(ctx context.Context, network, address string) (net.Conn, error)

	mu     sync.Mutex
	conns  map[*cutConn]struct{}
	cut    bool
	gone   chan struct{} // closed by the cut; nil until somebody waits
	refuse time.Time     // until then nothing can be dialled
	still  time.Time     // until then nothing comes or goes
	orders []Snap
	struck int
}

// Snap is what happens to the next request that matches.
type Snap struct {
	Match func(request []byte) bool
	// Answered: the connection breaks when the answer comes, so that the request was carried out; else before a byte of
	// the request has gone.
	Answered bool
	// Dies: the whole life ends with it.
	Dies bool
	// Freezes: nothing breaks, but nothing comes or goes for so long, the answer first of all.
	Freezes time.Duration
}

// KafkaRequest matches a request by its API key.
func KafkaRequest(key int16) func([]byte) bool {
	return func(b []byte) bool {
		return len(b) > 8 && int(binary.BigEndian.Uint32(b)) == len(b)-4 && int16(binary.BigEndian.Uint16(b[4:])) == key
	}
}

// Write matches a call of the API that writes.
func Write(b []byte) bool {
	return bytes.HasPrefix(b, []byte("POST ")) || bytes.HasPrefix(b, []byte("PUT "))
}

// Order adds a fault.
func (c *Cutter) Order(s Snap) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.orders = append(c.orders, s)
}

// Mend takes all faults back that have not struck, but for a cut.
func (c *Cutter) Mend() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.orders, c.refuse, c.still = nil, time.Time{}, time.Time{}
}

// Struck is how many ordered faults have struck.
func (c *Cutter) Struck() int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.struck
}

// Refuse breaks every connection and lets none be made for a while.
func (c *Cutter) Refuse(d time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.refuse = time.Now().Add(d)
	c.breakAll()
}

// Freeze lets nothing come or go for a while. What was to be written meanwhile is lost with its connection.
func (c *Cutter) Freeze(d time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.still = time.Now().Add(d)
}

// Cut closes every connection and lets none be made.
func (c *Cutter) Cut() {
	c.mu.Lock()
	defer c.mu.Unlock()
	if !c.cut && c.gone != nil {
		close(c.gone)
	}
	c.cut = true
	c.breakAll()
}

func (c *Cutter) breakAll() {
	for conn := range c.conns {
		_ = conn.Conn.Close()
	}
	c.conns = nil
}

// DialContext dials unless the network is cut.
func (c *Cutter) DialContext(ctx context.Context, network, address string) (net.Conn, error) {
	c.thaw()
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.cut || time.Now().Before(c.refuse) {
		return nil, &net.OpError{Op: "dial", Net: network, Err: errors.New("the network is cut")}
	}
	conn, err := c.dial(ctx, network, address)
	if err != nil {
		return nil, err
	}
	cc := &cutConn{Conn: conn, c: c}
	if c.conns == nil {
		c.conns = map[*cutConn]struct{}{}
	}
	c.conns[cc] = struct{}{}
	return cc, nil
}

// thaw waits until the network does not stand still, or is cut; it says whether it had to. A killed life must not wait
// on: its client may hold a lock meanwhile, and a bubble's time stands still while somebody waits for one.
func (c *Cutter) thaw() bool {
	waited := false
	for {
		c.mu.Lock()
		d := time.Until(c.still)
		if c.cut {
			d = 0
		}
		if c.gone == nil {
			c.gone = make(chan struct{})
		}
		gone := c.gone
		c.mu.Unlock()
		if d <= 0 {
			return waited
		}
		waited = true
		select {
		case <-time.After(d):
		case <-gone:
		}
	}
}

// meets takes the first order that a request meets.
func (c *Cutter) meets(b []byte) (Snap, bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for i, s := range c.orders {
		if s.Match(b) {
			c.orders = append(c.orders[:i:i], c.orders[i+1:]...)
			c.struck++
			return s, true
		}
	}
	return Snap{}, false
}

// cutConn is a connection through a Cutter.
type cutConn struct {
	net.Conn
	c *Cutter

	mu   sync.Mutex
	snap *Snap // strikes at the next answer
}

// writeTime is what a write takes: in a bubble no time would pass while a client asks again as soon as it is answered,
// as it does until it learns that a partition has moved.
const writeTime = 100 * time.Microsecond

var errSnapped = errors.New("the connection was broken")

func (c *cutConn) Write(b []byte) (int, error) {
	if c.c.thaw() {
		_ = c.Conn.Close()
		return 0, errSnapped
	}
	if s, ok := c.c.meets(b); ok {
		if !s.Answered {
			c.strike(s)
			return 0, errSnapped
		}
		c.mu.Lock()
		c.snap = &s
		c.mu.Unlock()
	}
	time.Sleep(writeTime)
	return c.Conn.Write(b)
}

func (c *cutConn) Read(b []byte) (int, error) {
	n, err := c.Conn.Read(b)
	c.c.thaw()
	c.mu.Lock()
	s := c.snap
	c.mu.Unlock()
	switch {
	case s == nil:
		return n, err
	case s.Freezes > 0:
		c.mu.Lock()
		c.snap = nil
		c.mu.Unlock()
		c.c.Freeze(s.Freezes)
		c.c.thaw()
		return n, err
	}
	c.strike(*s)
	return 0, errSnapped
}

func (c *cutConn) strike(s Snap) {
	if s.Dies {
		c.c.Cut()
	}
	_ = c.Conn.Close()
}

func (c *cutConn) Close() error {
	c.c.mu.Lock()
	delete(c.c.conns, c)
	c.c.mu.Unlock()
	return c.Conn.Close()
}
