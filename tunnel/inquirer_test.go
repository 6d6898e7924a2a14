package tunnel

import (
	"context"
	"net"
	"net/netip"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// newLoopbackInquirer returns the inquirer of a tunnel at 127.0.0.1, a peer there where nobody listens, and one that listens and is
// silent.
func newLoopbackInquirer(t *testing.T) (q *inquirer, nobody, silent *Peer, listener *net.UDPConn) {
	t.Helper()
	r := newRig(t, SpoofStrict)
	loopback := netip.MustParseAddr("127.0.0.1")
	r.conn.local = netip.AddrPortFrom(loopback, 8285)
	listener, err := net.ListenUDP("udp4", net.UDPAddrFromAddrPort(netip.AddrPortFrom(loopback, 0)))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { listener.Close() })
	nobody = NewTwillPeer(nearSubnet, netip.AddrPortFrom(loopback, 9))
	silent = NewTwillPeer(farSubnet, listener.LocalAddr().(*net.UDPAddr).AddrPort())
	for _, peer := range []*Peer{nobody, silent} {
		r.tunnel.prober.pathOf(peer)
	}
	t.Cleanup(r.tunnel.asker.close)
	return r.tunnel.asker, nobody, silent, listener
}

// What was said is read, however often peers are handed over: with many that do not answer that is more often than inquiryPause.
func TestInquirerLooksWhileBusy(t *testing.T) {
	q, nobody, _, _ := newLoopbackInquirer(t)
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error)
	go func() { ended <- q.run(ctx) }()
	waitFor(t, "what the network says", func() bool {
		q.ask(nobody)
		return nobody.Stats().Path.Refusal.Err == unix.ECONNREFUSED
	})
	cancel()
	if err := <-ended; err != nil {
		t.Error(err)
	}
}

// What is said about one peer, which the kernel gives the next send as its error, is not taken to be about another; that one's probe is
// sent.
func TestInquirerTellsPeersApart(t *testing.T) {
	q, nobody, silent, listener := newLoopbackInquirer(t)
	now := time.Now()
	q.send(nobody, now)
	q.send(silent, now)
	waitFor(t, "what the network says", func() bool {
		q.look(now)
		return nobody.Stats().Path.Inquired
	})
	if s := nobody.Stats().Path; s.Refusal.Err != unix.ECONNREFUSED || s.Refusal.From != nobody.endpoint.Addr() {
		t.Errorf("of the port where nobody listens is noted %+v", s.Refusal)
	}
	if s := silent.Stats().Path; s.Inquired {
		t.Errorf("of the other is noted %+v", s.Refusal)
	}
	if err := listener.SetReadDeadline(now.Add(10 * time.Second)); err != nil {
		t.Fatal(err)
	}
	if n, err := listener.Read(make([]byte, 100)); n != controlLen || err != nil {
		t.Errorf("it got %d bytes, %v; want a probe", n, err)
	}
}

// Who has errors come without end does not keep the reader at them.
func TestRefusalsAreReadInTurns(t *testing.T) {
	q, nobody, _, _ := newLoopbackInquirer(t)
	if !q.open() {
		t.Fatal("no socket")
	}
	const most = 2 * maxRefusals
	took := 0
	provoke := func() { // one, and waits for it
		if _, err := q.socket.WriteToUDPAddrPort(make([]byte, controlLen), nobody.endpoint); err != nil {
			t.Fatal(err)
		}
		err := control(q.socket.raw, func(fd int) error {
			for {
				_, err := unix.Poll([]unix.PollFd{{Fd: int32(fd)}}, int((10 * time.Second).Milliseconds())) // POLLERR needs no asking
				if err != unix.EINTR {
					return err
				}
			}
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	provoke()
	read := q.socket.refusals(time.Now(), func(netip.AddrPort, Refusal) {
		if took++; took < most {
			provoke()
		}
	})
	if read != maxRefusals || took != maxRefusals {
		t.Errorf("%d messages were read and %d taken, want %d", read, took, maxRefusals)
	}
}
