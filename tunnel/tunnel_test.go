package tunnel

import (
	"bytes"
	"context"
	"errors"
	"net/netip"
	"os"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

func TestOutbound(t *testing.T) {
	r := newRig(t, SpoofStrict).record()
	toNear, toFar := udpPacket(ownPod, nearPod, 1000), udpPacket(ownPod, farPod, 7)
	padded := append(bytes.Clone(toFar), 1, 2, 3)
	if err := r.out(toNear, toNear, toFar, toNear, padded); err != nil {
		t.Fatal(err)
	}
	// Gathered by peer, in order for each.
	wantPeers := []*Peer{r.near, r.near, r.near, r.far, r.far}
	wantPackets := [][]byte{toNear, toNear, toNear, toFar, toFar}
	if len(r.sent) != len(wantPeers) {
		t.Fatalf("%d packets sent, want %d", len(r.sent), len(wantPeers))
	}
	for i, p := range r.sent {
		if want := edit(wantPackets[i], offTTL, 63); p.Peer != wantPeers[i] || !bytes.Equal(p.Head, want) {
			t.Errorf("packet %d: sent %x to %s, want %x to %s", i, p.Head, p.Peer.Endpoint(), want, wantPeers[i].Endpoint())
		}
	}
	checkStats(t, r.near.Stats(), PeerStats{TxPackets: 3, TxBytes: 3 * 1028})
	checkStats(t, r.far.Stats(), PeerStats{TxPackets: 2, TxBytes: 2 * 35})
	if tx := r.tx(); tx.Packets != 5 || tx.Bytes != 3*1028+2*35 || tx.Dropped() != 0 {
		t.Errorf("totals %+v, want 5 packets, %d bytes, no drops", tx, 3*1028+2*35)
	}
}

func TestInbound(t *testing.T) {
	r := newRig(t, SpoofStrict).record()
	now := time.Unix(1_700_000_000, 0)
	r.tunnel.lanes[0].inbound.now = func() time.Time { return now }
	packet := udpPacket(nearPod, ownPod, 1000)
	otherPort := netip.AddrPortFrom(nearEndpoint.Addr(), 50000)
	err := r.in(
		Datagram{Data: packet, From: nearEndpoint},
		Datagram{Data: append(bytes.Clone(packet), 1, 2, 3), From: otherPort},
		Datagram{Data: edit(packet, offTTL, 0), From: nearEndpoint}, // the sender has decremented it
	)
	if err != nil {
		t.Fatal(err)
	}
	want := [][]byte{packet, packet, edit(packet, offTTL, 0)}
	if len(r.written) != len(want) {
		t.Fatalf("%d packets written, want %d", len(r.written), len(want))
	}
	for i, p := range r.written {
		if !bytes.Equal(p, want[i]) {
			t.Errorf("packet %d: written %x, want %x", i, p, want[i])
		}
	}
	checkStats(t, r.near.Stats(), PeerStats{RxPackets: 3, RxBytes: 3 * 1028, LastSeen: now})
	checkStats(t, r.far.Stats(), PeerStats{})
	if rx := r.rx(); rx.Packets != 3 || rx.Bytes != 3*1028 || rx.Dropped() != 0 {
		t.Errorf("totals %+v, want 3 packets, %d bytes, no drops", rx, 3*1028)
	}
}

func checkStats(t *testing.T, got, want PeerStats) {
	t.Helper()
	if got != want {
		t.Errorf("peer has %+v, want %+v", got, want)
	}
}

// What each looser check lets in, and whose counters it goes to.
func TestSpoofChecksLetIn(t *testing.T) {
	stranger := netip.MustParseAddrPort("198.18.0.66:1")
	ofFar := udpPacket(farPod, ownPod, 0)
	for _, tt := range []struct {
		name  string
		spoof SpoofCheck
		from  netip.AddrPort
		near  uint64 // packets counted with near
	}{
		{"source: a packet of far from near", SpoofSource, nearEndpoint, 1},
		{"off: a packet of far from near", SpoofOff, nearEndpoint, 1},
		{"off: a packet of far from a stranger", SpoofOff, stranger, 0},
	} {
		r := newRig(t, tt.spoof).record()
		if err := r.in(Datagram{Data: ofFar, From: tt.from}); err != nil {
			t.Fatal(err)
		}
		if len(r.written) != 1 {
			t.Errorf("%s: %d packets written, want 1", tt.name, len(r.written))
		}
		if got := r.near.Stats().RxPackets; got != tt.near || r.far.Stats().RxPackets != 0 {
			t.Errorf("%s: %d packets counted with near and %d with far, want %d and 0", tt.name, got, r.far.Stats().RxPackets, tt.near)
		}
	}
}

// A burst carries nothing of the one before it.
func TestBurstsAreSeparate(t *testing.T) {
	r := newRig(t, SpoofStrict).record()
	inbound := Datagram{Data: udpPacket(nearPod, ownPod, 10), From: nearEndpoint}
	outbound := udpPacket(ownPod, nearPod, 10)
	for _, n := range []int{burstSize, 1, 3} {
		r.sent, r.written = nil, nil
		before := r.tunnel.Stats()
		if err := errors.Join(r.in(fill([]Datagram{inbound})[:n]...), r.out(fill([][]byte{outbound})[:n]...)); err != nil {
			t.Fatal(err)
		}
		after := r.tunnel.Stats()
		tx, rx := after.Tx.Packets-before.Tx.Packets, after.Rx.Packets-before.Rx.Packets
		if len(r.sent) != n || len(r.written) != n || tx != uint64(n) || rx != uint64(n) {
			t.Errorf("burst of %d: %d sent, %d written, %d and %d counted", n, len(r.sent), len(r.written), tx, rx)
		}
	}
}

// Two hosts behind one address, or two leases of one host: each packet is counted with the peer of its source.
func TestPeersSharingAnEndpoint(t *testing.T) {
	r := newRig(t, SpoofStrict).record()
	a, b := NewPeer(nearSubnet, nearEndpoint), NewPeer(farSubnet, nearEndpoint)
	r.tunnel.SetTable(NewTable(ownSubnet, []*Peer{a, b}))
	err := r.in(Datagram{Data: udpPacket(nearPod, ownPod, 0), From: nearEndpoint}, Datagram{Data: udpPacket(farPod, ownPod, 0), From: nearEndpoint})
	if err != nil {
		t.Fatal(err)
	}
	if a.Stats().RxPackets != 1 || b.Stats().RxPackets != 1 {
		t.Errorf("%d and %d packets counted, want 1 and 1", a.Stats().RxPackets, b.Stats().RxPackets)
	}
}

// A table is in force at the next burst; a peer that stays keeps its counters.
func TestSetTable(t *testing.T) {
	r := newRig(t, SpoofStrict).record()
	packet := udpPacket(ownPod, farPod, 0)
	moved := NewPeer(farSubnet, netip.MustParseAddrPort("198.18.0.9:8285"))
	tables := []*Table{
		NewTable(ownSubnet, []*Peer{r.near, r.far}),
		NewTable(ownSubnet, []*Peer{r.near, moved}),
		NewTable(ownSubnet, []*Peer{r.near}),
		NewTable(netip.Prefix{}, nil),
		NewTable(ownSubnet, []*Peer{r.near, r.far}),
	}
	for _, table := range tables {
		r.tunnel.SetTable(table)
		if err := r.out(packet); err != nil {
			t.Fatal(err)
		}
	}
	var got []*Peer
	for _, p := range r.sent {
		got = append(got, p.Peer)
	}
	if want := []*Peer{r.far, moved, r.far}; len(got) != 3 || got[0] != want[0] || got[1] != want[1] || got[2] != want[2] {
		t.Errorf("sent to %v, want %v", got, want)
	}
	if got := r.far.Stats().TxPackets; got != 2 {
		t.Errorf("%d packets counted with the peer that came back, want 2", got)
	}
	if tx := r.tx(); tx.Drops[DropNoPeer] != 1 || tx.Drops[DropNoTable] != 1 {
		t.Errorf("drops %v, want one no-peer and one no-table", tx.Drops)
	}
	// Only the packet to nobody is answered, what the fence stops is not.
	if len(r.written) != 1 {
		t.Errorf("%d ICMP errors, want 1", len(r.written))
	}
}

func TestNewDropsEverything(t *testing.T) {
	queue, conn := newFakeQueue(), newFakeConn()
	tunnel, err := New(Config{Device: &fakeDevice{queues: []Queue{queue}}, Conns: []Conn{conn}, Address: ownAddr})
	if err != nil {
		t.Fatal(err)
	}
	queue.in <- [][]byte{udpPacket(ownPod, nearPod, 0)}
	if err := tunnel.lanes[0].outbound.burst(); err != nil {
		t.Fatal(err)
	}
	if got := onlyDrop(t, tunnel.Stats().Tx); got != DropNoTable {
		t.Errorf("dropped as %v, want %v", got, DropNoTable)
	}
}

func TestNewErrors(t *testing.T) {
	device := &fakeDevice{queues: []Queue{newFakeQueue()}}
	conns := []Conn{newFakeConn()}
	for _, tt := range []struct {
		name   string
		config Config
		want   string
	}{
		{"no device", Config{Conns: conns, Address: ownAddr}, "no device"},
		{"no queue", Config{Device: &fakeDevice{}, Address: ownAddr}, "0 sockets for the 0 queues of fake0"},
		{"too many sockets", Config{Device: device, Conns: append(conns, newFakeConn()), Address: ownAddr}, "2 sockets for the 1 queues of fake0"},
		{"no address", Config{Device: device, Conns: conns}, "want an IPv4 address"},
		{"IPv6 address", Config{Device: device, Conns: conns, Address: netip.IPv6LinkLocalAllNodes()}, "want an IPv4 address"},
		{"spoof check", Config{Device: device, Conns: conns, Address: ownAddr, SpoofCheck: 3}, "want strict, source or off"},
	} {
		if _, err := New(tt.config); err == nil || !strings.Contains(err.Error(), tt.want) {
			t.Errorf("%s: got %v, want an error with %q", tt.name, err, tt.want)
		}
	}
}

// running is a tunnel of two queues between fakes, whose Run runs.
type running struct {
	queues []*fakeQueue
	conns  []*fakeConn
	tunnel *Tunnel
	cancel context.CancelFunc
	ended  chan error
}

func run(t *testing.T) *running {
	r := &running{queues: []*fakeQueue{newFakeQueue(), newFakeQueue()}, conns: []*fakeConn{newFakeConn(), newFakeConn()}, ended: make(chan error, 1)}
	tunnel, err := New(Config{
		Device:  &fakeDevice{queues: []Queue{r.queues[0], r.queues[1]}},
		Conns:   []Conn{r.conns[0], r.conns[1]},
		Address: ownAddr,
	})
	if err != nil {
		t.Fatal(err)
	}
	tunnel.SetTable(NewTable(ownSubnet, []*Peer{NewPeer(nearSubnet, nearEndpoint)}))
	r.tunnel = tunnel
	ctx, cancel := context.WithCancel(context.Background())
	r.cancel = cancel
	t.Cleanup(cancel)
	go func() { r.ended <- tunnel.Run(ctx) }()
	return r
}

// end waits for the end of Run.
func (r *running) end(t *testing.T) error {
	t.Helper()
	select {
	case err := <-r.ended:
		return err
	case <-time.After(5 * time.Second):
		t.Fatal("Run has not returned after 5 s")
		return nil
	}
}

func TestRunMovesPacketsOfAllQueues(t *testing.T) {
	r := run(t)
	for i := range r.queues {
		r.queues[i].in <- [][]byte{udpPacket(ownPod, nearPod, 0)}
		r.conns[i].in <- []Datagram{{Data: udpPacket(nearPod, ownPod, 0), From: nearEndpoint}}
	}
	waitFor(t, "a packet on each queue, both ways", func() bool {
		s := r.tunnel.Stats()
		return s.Queues[0].Tx.Packets == 1 && s.Queues[1].Tx.Packets == 1 &&
			s.Queues[0].Rx.Packets == 1 && s.Queues[1].Rx.Packets == 1 && s.Tx.Packets == 2 && s.Rx.Packets == 2
	})
	r.cancel()
	if err := r.end(t); err != nil {
		t.Errorf("Run returned %v after cancel, want nil", err)
	}
}

// waitFor waits until the condition is true.
func waitFor(t *testing.T, what string, condition func() bool) {
	t.Helper()
	deadline := time.Now().Add(30 * time.Second)
	for !condition() {
		if time.Now().After(deadline) {
			t.Fatalf("still waiting for %s after 30 s", what)
		}
		time.Sleep(time.Millisecond)
	}
}

func TestDeadReaderEndsRun(t *testing.T) {
	for _, tt := range []struct {
		name string
		kill func(*running)
		want string
	}{
		{"queue", func(r *running) { r.queues[1].end(os.ErrClosed) }, "outbound queue 1: read: "},
		{"socket", func(r *running) { r.conns[0].end(unix.ECONNABORTED) }, "inbound queue 0: receive: "},
		{"device deleted", func(r *running) { r.queues[0].end(unix.EBADFD) }, "outbound queue 0: the TUN device was deleted: "},
	} {
		t.Run(tt.name, func(t *testing.T) {
			r := run(t)
			tt.kill(r)
			if err := r.end(t); err == nil || !strings.HasPrefix(err.Error(), tt.want) {
				t.Errorf("Run returned %v, want %q …", err, tt.want)
			}
		})
	}
}

// A burst that was read when the tunnel ends still goes out: nobody else has it.
func TestInterruptEndsReadsOnly(t *testing.T) {
	conn := listen(t, anyPort, 1)[0]
	tunnel, err := New(Config{Device: &fakeDevice{queues: []Queue{newFakeQueue()}}, Conns: []Conn{conn}, Address: ownAddr})
	if err != nil {
		t.Fatal(err)
	}
	if err := tunnel.interrupt(); err != nil {
		t.Fatal(err)
	}
	if n, err := conn.Send([]Packet{{Head: []byte("x"), Peer: peerAt(conn.LocalAddr())}}); n != 1 || err != nil {
		t.Errorf("Send returned %d, %v, want 1, nil", n, err)
	}
	if _, err := conn.Receive(); !errors.Is(err, os.ErrDeadlineExceeded) {
		t.Errorf("Receive returned %v, want %v", err, os.ErrDeadlineExceeded)
	}
	conn.SetReadDeadline(time.Now().Add(10 * time.Second))
	if datagrams, err := conn.Receive(); len(datagrams) != 1 || err != nil {
		t.Errorf("after the interrupt %d datagrams were left, %v; want the one that was sent", len(datagrams), err)
	}
}

func TestDeletedDeviceEndsInbound(t *testing.T) {
	r := newRig(t, SpoofStrict)
	r.queue.refuse = func([]byte) error { return unix.EBADFD }
	err := r.in(Datagram{Data: udpPacket(nearPod, ownPod, 0), From: nearEndpoint})
	if !errors.Is(err, unix.EBADFD) || !strings.Contains(err.Error(), "deleted") {
		t.Errorf("got %v, want one that says that the device was deleted", err)
	}
}
