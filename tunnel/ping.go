package tunnel

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"time"
)

// A Reply is a peer's answer to one probe that Ping sent.
type Reply struct {
	// RTT is the time between probe and reply less the time that the peer held it.
	RTT time.Duration
	// Size is the length of the probe as the peer received it, in bytes.
	Size int
}

// The sizes that Ping takes, in bytes: of a control datagram, which stands where a packet would.
const (
	MinPing = controlLen
	MaxPing = maxUDPPayload
)

// ErrNotAsked is wrapped by the errors of a Ping to a peer that answers no probes.
var ErrNotAsked = errors.New("the peer does not run twill and answers no probes")

// An ask is a probe that somebody waits for. The prober sends it, as all control datagrams from that socket.
type ask struct {
	peer  *Peer
	size  int
	id    uint64
	begin time.Time
	sent  chan error // its one value says that the probe is on its way, or why not
	reply chan Reply // gets at most one
}

// Ping sends one probe of size bytes with DF to peer, from the socket that also carries its packets, and waits for the reply until ctx
// ends; then the error is ctx's. Other errors are those of sending, unix.EMSGSIZE where the interface does not take so much. The probe
// is not counted: neither end's statistics know of it. Run must be running.
func (t *Tunnel) Ping(ctx context.Context, peer *Peer, size int) (Reply, error) {
	switch {
	case size < MinPing || size > MaxPing:
		return Reply{}, fmt.Errorf("ping with %d bytes: want %d to %d", size, MinPing, MaxPing)
	case !peer.twill:
		return Reply{}, ErrNotAsked
	}
	a := &ask{peer: peer, size: size, id: rand.Uint64(), sent: make(chan error, 1), reply: make(chan Reply, 1)}
	t.prober.asked.Store(a.id, a)
	defer t.prober.asked.Delete(a.id)
	select {
	case t.prober.asks <- a:
	case <-ctx.Done():
		return Reply{}, ctx.Err()
	}
	select {
	case err := <-a.sent:
		if err != nil {
			return Reply{}, fmt.Errorf("send a probe of %d bytes to %s: %w", size, peer.endpoint, err)
		}
	case <-ctx.Done(): // the socket has no room
		return Reply{}, ctx.Err()
	}
	select {
	case r := <-a.reply:
		return r, nil
	case <-ctx.Done():
		return Reply{}, ctx.Err()
	}
}

// ask sends the probe of a.
func (p *prober) ask(a *ask) {
	a.begin = p.now()
	a.sent <- p.send(a.peer, &controlDatagram{typ: controlProbe, flags: controlUncounted, id: a.id}, a.size)
}

// takeAsked takes a reply that somebody waits for, and returns false for any other. Only the peer that was asked can answer.
func (p *prober) takeAsked(m *controlMessage) bool {
	value, ok := p.asked.Load(m.id)
	if !ok || value.(*ask).peer != m.peer {
		return false
	}
	a := value.(*ask)
	p.asked.Delete(m.id)
	took := m.at.Sub(a.begin)
	a.reply <- Reply{RTT: took - min(took, time.Duration(m.hold)), Size: int(m.size)}
	return true
}
