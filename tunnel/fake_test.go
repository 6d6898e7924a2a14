package tunnel

import (
	"net/netip"
	"os"
	"sync"
	"syscall"
	"time"
)

// The fakes are the two edges of the tunnel over channels. What goes in is sent to a channel as a burst; what comes out is
// given to a function. They keep the promises of Queue and Conn, and do not allocate.

// fakeDevice is a Device of fakeQueues.
type fakeDevice struct{ queues []Queue }

func (d *fakeDevice) Name() string    { return "fake0" }
func (d *fakeDevice) Queues() []Queue { return d.queues }
func (d *fakeDevice) Modes() []Mode   { return nil }
func (d *fakeDevice) Close() error    { return nil }

// deadline is the part of a fake that ends it: by a deadline in the past, or with an error.
type deadline struct {
	once   sync.Once
	passed chan struct{}
	err    error // what Read and Receive return afterwards
}

func newDeadline() *deadline { return &deadline{passed: make(chan struct{})} }

func (d *deadline) SetReadDeadline(t time.Time) error {
	if t.Before(time.Now()) {
		d.end(os.ErrDeadlineExceeded)
	}
	return nil
}

func (d *deadline) end(err error) {
	d.once.Do(func() {
		d.err = err
		close(d.passed)
	})
}

// fakeQueue is a Queue.
type fakeQueue struct {
	syscall.Conn // nil: there is no descriptor
	*deadline
	in     chan [][]byte             // each a burst for Read
	refuse func(packet []byte) error // answers Write and Inject; nil takes everything
	out    func(packet []byte)       // gets what Write and Inject took; nil discards it

	buffers [burstSize][]byte
	packets [burstSize]Packet
}

func newFakeQueue() *fakeQueue {
	return &fakeQueue{deadline: newDeadline(), in: make(chan [][]byte, 1), buffers: newBuffers()}
}

func (q *fakeQueue) Read() ([]Packet, error) {
	select {
	case burst := <-q.in:
		for i, packet := range burst {
			n := copy(q.buffers[i], packet)
			q.packets[i] = Packet{Head: q.buffers[i][:n]}
		}
		return q.packets[:len(burst)], nil
	case <-q.passed:
		return nil, q.err
	}
}

func (q *fakeQueue) Write(packets []Packet) (int, error) {
	for i := range packets {
		if err := q.Inject(packets[i].Head); err != nil {
			if i == 0 {
				return 1, err
			}
			return i, nil
		}
	}
	return len(packets), nil
}

func (q *fakeQueue) Inject(packet []byte) error {
	if q.refuse != nil {
		if err := q.refuse(packet); err != nil {
			return err
		}
	}
	if q.out != nil {
		q.out(packet)
	}
	return nil
}

// fakeConn is a Conn.
type fakeConn struct {
	syscall.Conn // nil: there is no descriptor
	*deadline
	in      chan []Datagram                      // each a burst for Receive
	refuse  func(p *Packet) error                // answers Send; nil takes everything
	out     func(p *Packet)                      // gets what Send took; nil discards it
	ports   int                                  // source ports
	mtu     int                                  // for PathMTU, 0: 1500
	local   netip.AddrPort                       // LocalAddr
	control func(data []byte, to netip.AddrPort) // gets what SendControl took; nil discards it

	refuseControl error // answers SendControl

	buffers   [burstSize][]byte
	datagrams [burstSize]Datagram
}

func newFakeConn() *fakeConn {
	return &fakeConn{deadline: newDeadline(), in: make(chan []Datagram, 1), buffers: newBuffers(), local: netip.MustParseAddrPort("198.18.0.1:8285")}
}

func (c *fakeConn) Receive() ([]Datagram, error) {
	select {
	case burst := <-c.in:
		for i, d := range burst {
			n := copy(c.buffers[i], d.Data)
			c.datagrams[i] = Datagram{Data: c.buffers[i][:n], From: d.From, TOS: d.TOS, Truncated: d.Truncated}
		}
		return c.datagrams[:len(burst)], nil
	case <-c.passed:
		return nil, c.err
	}
}

func (c *fakeConn) Send(packets []Packet) (int, error) {
	for i := range packets {
		if c.refuse != nil {
			if err := c.refuse(&packets[i]); err != nil {
				if i == 0 {
					return 1, err
				}
				return i, nil
			}
		}
		if c.out != nil {
			c.out(&packets[i])
		}
	}
	return len(packets), nil
}

func (c *fakeConn) SendControl(data []byte, to netip.AddrPort) error {
	if c.refuseControl != nil {
		return c.refuseControl
	}
	if c.control != nil {
		c.control(data, to)
	}
	return nil
}

func (c *fakeConn) PathMTU(netip.AddrPort) (int, error) {
	if c.mtu == 0 {
		return 1500, nil
	}
	return c.mtu, nil
}

func (c *fakeConn) LocalAddr() netip.AddrPort { return c.local }
func (c *fakeConn) SourcePorts() int          { return max(1, c.ports) }
func (c *fakeConn) Modes() []Mode             { return nil }
func (c *fakeConn) Close() error              { return nil }

// SetWriteDeadline does nothing: Send never waits.
func (c *fakeConn) SetWriteDeadline(time.Time) error { return nil }
