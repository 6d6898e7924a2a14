package tunnel

import (
	"context"
	"errors"
	"net/netip"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// ping has a ask b, and lets d pass.
func (p *proberPair) ping(ctx context.Context, size int, d time.Duration) (reply Reply, err error) {
	done := make(chan struct{})
	go func() {
		defer close(done)
		reply, err = p.a.tunnel.Ping(ctx, p.a.near, size)
	}()
	select {
	case a := <-p.a.tunnel.prober.asks:
		p.a.tunnel.prober.ask(a)
		p.passUntil(p.now.Add(d))
	case <-done:
	}
	<-done
	return reply, err
}

// A ping measures the way to a peer, and neither end's statistics know of it.
func TestPing(t *testing.T) {
	p := newProberPair(t)
	p.run(10*time.Second, true)
	before, peersBefore := p.stats(), p.b.near.path.Load().stats(p.now)
	for _, size := range []int{MinPing, 1400} {
		reply, err := p.ping(t.Context(), size, time.Second)
		if err != nil || reply.RTT != 2*p.delay || reply.Size != size {
			t.Errorf("%d bytes: %+v, %v; want %v and the size", size, reply, err, 2*p.delay)
		}
	}
	if after, peersAfter := p.stats(), p.b.near.path.Load().stats(p.now); after != before || peersAfter != peersBefore {
		t.Errorf("statistics were\n%+v, %+v, and are\n%+v, %+v", before, peersBefore, after, peersAfter)
	}
}

func TestPingWithoutReply(t *testing.T) {
	p := newProberPair(t)
	p.run(10*time.Second, true)
	p.lost = func(fromA bool, _ int) bool { return !fromA }
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Millisecond)
	defer cancel()
	if _, err := p.ping(ctx, MinPing, time.Second); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("got %v, want the end of the context", err)
	}
	p.checkNothingAsked()
}

// A ping does not outlast its context while the prober waits for room in the socket.
func TestPingWithoutRoom(t *testing.T) {
	p := newProberPair(t)
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error)
	go func() {
		_, err := p.a.tunnel.Ping(ctx, p.a.near, MinPing)
		ended <- err
	}()
	a := <-p.a.tunnel.prober.asks
	cancel()
	select {
	case err := <-ended:
		if !errors.Is(err, context.Canceled) {
			t.Errorf("got %v, want the end of the context", err)
		}
	case <-time.After(10 * time.Second):
		t.Fatal("it waits for the prober")
	}
	p.a.tunnel.prober.ask(a)
	p.checkNothingAsked()
}

// checkNothingAsked checks that nothing is kept of a ping that is over.
func (p *proberPair) checkNothingAsked() {
	p.tb.Helper()
	p.a.tunnel.prober.asked.Range(func(id, _ any) bool {
		p.tb.Errorf("probe %v is still waited for", id)
		return true
	})
}

// The reply to a ping of one peer is not taken from another that has learned its ID.
func TestPingIsAnsweredByThePeer(t *testing.T) {
	p := newProberPair(t)
	other := &controlMessage{peer: NewTwillPeer(farSubnet, farEndpoint)}
	p.lost = func(fromA bool, _ int) bool {
		p.a.tunnel.prober.asked.Range(func(id, _ any) bool {
			other.id = id.(uint64)
			return true
		})
		return true
	}
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Millisecond)
	defer cancel()
	p.ping(ctx, MinPing, 0)
	if other.id == 0 || p.a.tunnel.prober.takeAsked(other) {
		t.Errorf("the reply with ID %d of another peer was taken", other.id)
	}
}

func TestPingRefused(t *testing.T) {
	p := newProberPair(t)
	for _, size := range []int{MinPing - 1, MaxPing + 1} {
		if _, err := p.ping(t.Context(), size, 0); err == nil {
			t.Errorf("a ping of %d bytes was sent", size)
		}
	}
	if _, err := p.a.tunnel.Ping(t.Context(), NewPeer(farSubnet, farEndpoint), MinPing); !errors.Is(err, ErrNotAsked) {
		t.Errorf("a peer of Flannel: %v, want ErrNotAsked", err)
	}
	p.a.conn.refuseControl = unix.EMSGSIZE
	if _, err := p.ping(t.Context(), MaxPing, 0); !errors.Is(err, unix.EMSGSIZE) {
		t.Errorf("got %v, want the socket's EMSGSIZE", err)
	}
	p.a.tunnel.SetTable(NewTable(netip.Prefix{}, nil))
	if _, err := p.ping(t.Context(), MinPing, 0); !errors.Is(err, errFenced) {
		t.Errorf("without a lease: %v, want errFenced", err)
	}
}
