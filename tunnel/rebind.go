package tunnel

import (
	"errors"
	"fmt"
	"sync/atomic"
)

// connRef is the Conn that a lane uses now. Both its directions load it once a burst.
type connRef struct{ pointer atomic.Pointer[Conn] }

func newConnRef(conn Conn) *connRef {
	r := &connRef{}
	r.pointer.Store(&conn)
	return r
}

func (r *connRef) load() Conn { return *r.pointer.Load() }

// Rebind moves the tunnel to other sockets while it runs: this host's underlay address is another now. There must be as many as
// before, with as many source ports; an error leaves the tunnel as it was. It returns the former sockets, which no new burst uses,
// for the caller to close. Datagrams that wait in them are lost; a burst on its way out goes through the new ones.
func (t *Tunnel) Rebind(conns []Conn) (former []Conn, err error) {
	if len(conns) != len(t.lanes) {
		return nil, fmt.Errorf("rebind to %d sockets: want %d, one for each queue", len(conns), len(t.lanes))
	}
	for i, conn := range conns {
		if got, want := conn.SourcePorts(), t.lanes[i].conn.load().SourcePorts(); got != want {
			return nil, fmt.Errorf("rebind queue %d to a socket with %d source ports: want %d", i, got, want)
		}
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	var errs []error
	for i := range conns {
		if t.interrupted {
			errs = append(errs, endConn(conns[i], sendGrace))
		}
		old := *t.lanes[i].conn.pointer.Swap(&conns[i])
		former = append(former, old)
		errs = append(errs, endConn(old, 0)) // wakes its receiver
	}
	if err := errors.Join(errs...); err != nil {
		t.log.Warn("could not wake the former sockets' readers", "err", err) // closing them does that too
	}
	return former, nil
}
