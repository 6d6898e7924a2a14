package tunnel

import (
	"bytes"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"regexp"
	"testing"

	"golang.org/x/sys/unix"
)

// Each case breaks one rule, or several of which the first in order must be the reason.
func TestOutboundDrops(t *testing.T) {
	good := udpPacket(ownPod, nearPod, 100)
	tests := []struct {
		name   string
		packet []byte
		fenced bool
		refuse error // of the socket
		limit  int   // of the path to the peer
		reason DropReason
		toPeer bool // counted with the peer, too
	}{
		{name: "fenced", packet: good, fenced: true, reason: DropNoTable},
		{name: "fenced and bad", packet: good[:10], fenced: true, reason: DropNoTable},
		{name: "cut", packet: good[:50], reason: DropBadHeader},
		{name: "IPv6", packet: edit(good, 0, 0x60), reason: DropIPv6},
		{name: "source of a peer", packet: udpPacket(nearPod, farPod, 0), reason: DropForeignSource},
		{name: "source of nobody", packet: udpPacket(nobodysPod, nearPod, 0), reason: DropForeignSource},
		{name: "no source", packet: udpPacket(netip.IPv4Unspecified(), broadcast, 0), reason: DropForeignSource},
		{name: "source our broadcast", packet: udpPacket(netip.MustParseAddr("10.5.1.255"), nearPod, 0), reason: DropMartian},
		{name: "multicast", packet: udpPacket(ownPod, netip.MustParseAddr("224.0.0.251"), 0), reason: DropMulticast},
		{name: "broadcast", packet: udpPacket(ownPod, broadcast, 0), reason: DropMulticast},
		{name: "own subnet", packet: udpPacket(ownPod, ownSubnet.Addr(), 0), reason: DropOwnSubnet},
		{name: "a peer's broadcast", packet: udpPacket(ownPod, netip.MustParseAddr("10.5.2.255"), 0), reason: DropMulticast, toPeer: true},
		{name: "a peer's endpoint", packet: udpPacket(ownPod, farEndpoint.Addr(), 0), reason: DropLoop},
		{name: "nobody's subnet", packet: udpPacket(ownPod, nobodysPod, 0), reason: DropNoPeer},
		{name: "nobody's subnet and TTL 1", packet: edit(udpPacket(ownPod, nobodysPod, 0), offTTL, 1), reason: DropNoPeer},
		{name: "TTL 1", packet: edit(good, offTTL, 1), reason: DropTTLExpired, toPeer: true},
		{name: "TTL 0", packet: edit(good, offTTL, 0), reason: DropTTLExpired, toPeer: true},
		{name: "DF and too big", packet: edit(good, offFragment, 0x40), limit: 127, reason: DropTooBig, toPeer: true},
		{name: "EMSGSIZE", packet: good, refuse: unix.EMSGSIZE, reason: DropSendTooBig, toPeer: true},
		{name: "ENETUNREACH", packet: good, refuse: unix.ENETUNREACH, reason: DropSendUnreachable, toPeer: true},
		{name: "EHOSTUNREACH", packet: good, refuse: unix.EHOSTUNREACH, reason: DropSendUnreachable, toPeer: true},
		{name: "EPERM", packet: good, refuse: unix.EPERM, reason: DropSendForbidden, toPeer: true},
		{name: "ENOBUFS", packet: good, refuse: unix.ENOBUFS, reason: DropSendNoBuffers, toPeer: true},
		{name: "wrapped", packet: good, refuse: os.NewSyscallError("sendmmsg", unix.EPERM), reason: DropSendForbidden, toPeer: true},
		{name: "EINVAL", packet: good, refuse: unix.EINVAL, reason: DropSendFailed, toPeer: true},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			r := newRig(t, SpoofStrict).record()
			if tt.fenced {
				r.tunnel.SetTable(NewTable(netip.Prefix{}, nil))
			}
			r.conn.refuse = func(*Packet) error { return tt.refuse }
			if tt.limit != 0 {
				r.near.limit.Store(int32(tt.limit))
			}
			if err := r.out(tt.packet); err != nil {
				t.Fatal(err)
			}
			if got := onlyDrop(t, r.tx()); got != tt.reason {
				t.Errorf("dropped as %v, want %v", got, tt.reason)
			}
			checkCounted(t, r.near, tt.reason, tt.toPeer)
			if len(r.sent) != 0 || r.tx().Packets != 0 {
				t.Errorf("the packet was sent as well")
			}
			outboundReasons[tt.reason] = true
		})
	}
}

// A packet may start at an address of the host, and in the modes that check less anywhere.
func TestOutboundSource(t *testing.T) {
	host := netip.MustParseAddr("192.0.2.1")
	for _, tt := range []struct {
		spoof SpoofCheck
		src   netip.Addr
		sent  bool
	}{
		{SpoofStrict, ownPod, true},
		{SpoofStrict, ownAddr, true},
		{SpoofStrict, host, true},
		{SpoofStrict, host.Next(), false},
		{SpoofSource, host.Next(), true},
		{SpoofOff, farPod, true},
	} {
		r := newRig(t, tt.spoof).record()
		r.tunnel.SetHostAddresses([]netip.Addr{host})
		if err := r.out(udpPacket(tt.src, nearPod, 10)); err != nil {
			t.Fatal(err)
		}
		if sent := len(r.sent) == 1; sent != tt.sent {
			t.Errorf("spoof check %v: packet from %s sent: %v, want %v", tt.spoof, tt.src, sent, tt.sent)
		}
	}
}

// With DirectedBroadcast a packet to the broadcast address of a subnet goes to its holder, and those to ours come in. Nothing else to
// many does, and no ICMP error is sent about one.
func TestDirectedBroadcast(t *testing.T) {
	r := newRig(t, SpoofStrict).record()
	r.tunnel.lanes[0].outbound.toAll, r.tunnel.lanes[0].inbound.toAll = true, true
	nearBroadcast, ownBroadcast := netip.MustParseAddr("10.5.2.255"), netip.MustParseAddr("10.5.1.255")
	err := errors.Join(
		r.out(udpPacket(ownPod, nearBroadcast, 10)),
		r.out(edit(udpPacket(ownPod, nearBroadcast, 10), offTTL, 1)),
		r.out(udpPacket(ownPod, broadcast, 10)),
		r.out(udpPacket(ownPod, netip.MustParseAddr("224.0.0.251"), 10)),
		r.in(Datagram{Data: udpPacket(nearPod, ownBroadcast, 10), From: nearEndpoint}),
		r.in(Datagram{Data: udpPacket(nearPod, broadcast, 10), From: nearEndpoint}),
	)
	if err != nil {
		t.Fatal(err)
	}
	if len(r.sent) != 1 || destination(r.sent[0].Head) != nearBroadcast || r.sent[0].Peer != r.near {
		t.Errorf("sent %+v, want one packet to %s", r.sent, nearBroadcast)
	}
	if len(r.written) != 1 || destination(r.written[0]) != ownBroadcast {
		t.Errorf("written %x, want one packet to %s", r.written, ownBroadcast)
	}
	if tx, rx := r.tx(), r.rx(); tx.Drops[DropMulticast] != 2 || tx.Drops[DropTTLExpired] != 1 || rx.Drops[DropNotForUs] != 1 {
		t.Errorf("drops %v and %v", tx.Drops, rx.Drops)
	}
}

func TestInboundDrops(t *testing.T) {
	good := udpPacket(nearPod, ownPod, 100)
	fromNear := func(packet []byte) Datagram { return Datagram{Data: packet, From: nearEndpoint} }
	stranger := netip.MustParseAddrPort("198.18.0.66:8285")
	tests := []struct {
		name     string
		datagram Datagram
		spoof    SpoofCheck
		fenced   bool
		refuse   error // of the TUN device
		reason   DropReason
		fromPeer bool // counted with the peer, too
	}{
		{name: "fenced", datagram: fromNear(good), fenced: true, reason: DropNoTable},
		{name: "fenced, unchecked", datagram: fromNear(good), spoof: SpoofOff, fenced: true, reason: DropNoTable},
		{name: "truncated", datagram: Datagram{Data: good, From: nearEndpoint, Truncated: true}, reason: DropTruncated},
		{name: "empty", datagram: fromNear(nil), reason: DropBadHeader},
		{name: "cut", datagram: fromNear(good[:127]), reason: DropBadHeader},
		{name: "control", datagram: fromNear([]byte{0x0f}), reason: DropControl},
		{name: "control, long", datagram: fromNear(edit(good, 0, 0x05)), reason: DropControl},
		{name: "IPv6", datagram: fromNear(edit(good, 0, 0x60)), reason: DropIPv6},
		{name: "bad and from a stranger", datagram: Datagram{Data: good[:20], From: stranger}, reason: DropBadHeader},
		{name: "from a stranger", datagram: Datagram{Data: good, From: stranger}, reason: DropUnknownEndpoint},
		{name: "from a stranger, source check", datagram: Datagram{Data: good, From: stranger}, spoof: SpoofSource, reason: DropUnknownEndpoint},
		{name: "of another peer", datagram: fromNear(udpPacket(farPod, ownPod, 0)), reason: DropSpoofedSource, fromPeer: true},
		{name: "of nobody", datagram: fromNear(udpPacket(nobodysPod, ownPod, 0)), reason: DropSpoofedSource, fromPeer: true},
		{name: "of ourselves", datagram: fromNear(udpPacket(ownPod, ownPod, 0)), reason: DropSpoofedSource, fromPeer: true},
		{name: "spoofed and not for us", datagram: fromNear(udpPacket(farPod, farPod, 0)), reason: DropSpoofedSource, fromPeer: true},
		{name: "of a peer's broadcast", datagram: fromNear(udpPacket(netip.MustParseAddr("10.5.2.255"), ownPod, 0)), reason: DropMartian, fromPeer: true},
		{name: "of a peer's broadcast, unchecked", datagram: Datagram{Data: udpPacket(netip.MustParseAddr("10.5.2.255"), ownPod, 0), From: stranger}, spoof: SpoofOff, reason: DropMartian},
		{name: "of ourselves, source check", datagram: fromNear(udpPacket(ownPod, ownPod, 0)), spoof: SpoofSource, reason: DropMartian, fromPeer: true},
		{name: "of ourselves, unchecked", datagram: fromNear(udpPacket(ownPod, ownPod, 0)), spoof: SpoofOff, reason: DropMartian, fromPeer: true},
		{name: "of our tunnel, unchecked", datagram: fromNear(udpPacket(ownAddr, ownPod, 0)), spoof: SpoofOff, reason: DropMartian, fromPeer: true},
		{name: "of our host, unchecked", datagram: fromNear(udpPacket(hostAddr, ownPod, 0)), spoof: SpoofOff, reason: DropMartian, fromPeer: true},
		{name: "of loopback, unchecked", datagram: fromNear(udpPacket(netip.MustParseAddr("127.0.0.1"), ownPod, 0)), spoof: SpoofOff, reason: DropMartian, fromPeer: true},
		{name: "of multicast, unchecked", datagram: fromNear(udpPacket(netip.MustParseAddr("224.0.0.1"), ownPod, 0)), spoof: SpoofOff, reason: DropMartian, fromPeer: true},
		{name: "of zero, unchecked", datagram: fromNear(udpPacket(netip.IPv4Unspecified(), ownPod, 0)), spoof: SpoofOff, reason: DropMartian, fromPeer: true},
		{name: "of broadcast, unchecked", datagram: fromNear(udpPacket(broadcast, ownPod, 0)), spoof: SpoofOff, reason: DropMartian, fromPeer: true},
		{name: "to our broadcast", datagram: fromNear(udpPacket(nearPod, netip.MustParseAddr("10.5.1.255"), 0)), reason: DropMulticast, fromPeer: true},
		{name: "to another peer", datagram: fromNear(udpPacket(nearPod, farPod, 0)), reason: DropNotForUs, fromPeer: true},
		{name: "to the sender", datagram: fromNear(udpPacket(nearPod, nearPod, 0)), reason: DropNotForUs, fromPeer: true},
		{name: "to multicast", datagram: fromNear(udpPacket(nearPod, netip.MustParseAddr("224.0.0.1"), 0)), reason: DropNotForUs, fromPeer: true},
		{name: "not for us, unchecked", datagram: fromNear(udpPacket(nearPod, farPod, 0)), spoof: SpoofOff, reason: DropNotForUs, fromPeer: true},
		{name: "marked, not ECN-capable", datagram: Datagram{Data: good, From: nearEndpoint, TOS: ecnCE}, reason: DropECN, fromPeer: true},
		{name: "device down", datagram: fromNear(good), refuse: unix.EIO, reason: DropDeviceDown, fromPeer: true},
		{name: "write fails", datagram: fromNear(good), refuse: unix.ENOMEM, reason: DropWriteFailed, fromPeer: true},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			r := newRig(t, tt.spoof).record()
			if tt.fenced {
				r.tunnel.SetTable(NewTable(netip.Prefix{}, nil))
			}
			r.tunnel.SetHostAddresses([]netip.Addr{hostAddr})
			r.queue.refuse = func([]byte) error { return tt.refuse }
			if err := r.in(tt.datagram); err != nil {
				t.Fatal(err)
			}
			if got := onlyDrop(t, r.rx()); got != tt.reason {
				t.Errorf("dropped as %v, want %v", got, tt.reason)
			}
			checkCounted(t, r.near, tt.reason, tt.fromPeer)
			if len(r.written) != 0 || r.rx().Packets != 0 {
				t.Errorf("the packet was written as well")
			}
			inboundReasons[tt.reason] = true
		})
	}
}

func checkCounted(t *testing.T, peer *Peer, reason DropReason, want bool) {
	t.Helper()
	stats := peer.Stats()
	if got := stats.Dropped() == 1 && stats.Drops[reason] == 1; got != want {
		t.Errorf("the peer has drops %v; one counted there as %v: want %v", stats.Drops, reason, want)
	}
}

var outboundReasons, inboundReasons = map[DropReason]bool{}, map[DropReason]bool{}

// Runs after the two tests above, as it stands below them; TestBadOffload is elsewhere.
func TestEveryDropReasonIsTested(t *testing.T) {
	if len(outboundReasons) == 0 || len(inboundReasons) == 0 {
		TestOutboundDrops(t)
		TestInboundDrops(t)
	}
	TestBadOffload(t)
	inboundReasons[DropControlLimit] = true // TestRepliesAreLimited
	for reason := range DropReasons() {
		if !outboundReasons[reason] && !inboundReasons[reason] {
			t.Errorf("no test drops a packet as %v", reason)
		}
	}
}

func TestDropReasonNames(t *testing.T) {
	kebab := regexp.MustCompile(`^[a-z0-9]+(-[a-z0-9]+)*$`)
	seen := map[string]bool{}
	for reason := range DropReasons() {
		name := reason.String()
		if !kebab.MatchString(name) || seen[name] {
			t.Errorf("reason %d is called %q: want a kebab-case name of its own", uint8(reason), name)
		}
		seen[name] = true
	}
	if len(seen) != int(numDropReasons)-1 {
		t.Errorf("%d reasons, want %d", len(seen), numDropReasons-1)
	}
}

// Only a packet that the socket refuses as too large is a reason to look at its peer's path.
func TestRefusedAsTooLargeIsLookedInto(t *testing.T) {
	for err, want := range map[error]int{unix.EMSGSIZE: 1, unix.EPERM: 0, unix.ENOBUFS: 0} {
		r := newRig(t, SpoofStrict)
		r.conn.refuse = func(*Packet) error { return err }
		if err := r.out(udpPacket(ownPod, nearPod, 100)); err != nil {
			t.Fatal(err)
		}
		refused := r.tunnel.prober.refused
		if len(refused) != want || want == 1 && <-refused != r.near {
			t.Errorf("%v: %d peers to look at, want %d", err, len(refused), want)
		}
	}
}

// A refused packet costs itself only, wherever in the burst it stands, and those after it are still sent in their order.
func TestRefusedPacketsCostThemselvesOnly(t *testing.T) {
	const n = 10
	for refused := range 1 << n {
		if refused%7 != 0 && refused != 1<<n-1 {
			continue // every seventh set of refused packets, and all
		}
		r := newRig(t, SpoofStrict).record()
		isRefused := func(packet []byte) error {
			if refused>>packet[len(packet)-1]&1 == 1 {
				return unix.ENOBUFS
			}
			return nil
		}
		r.conn.refuse = func(p *Packet) error { return isRefused(p.Head) }
		r.queue.refuse = isRefused

		var packets [][]byte
		var datagrams []Datagram
		var want []byte
		for i := range n {
			packets = append(packets, append(udpPacket(ownPod, nearPod, 0), byte(i)))
			setTotalLength(packets[i])
			inbound := append(udpPacket(nearPod, ownPod, 0), byte(i))
			setTotalLength(inbound)
			datagrams = append(datagrams, Datagram{Data: inbound, From: nearEndpoint})
			if refused>>i&1 == 0 {
				want = append(want, byte(i))
			}
		}
		if err := errors.Join(r.out(packets...), r.in(datagrams...)); err != nil {
			t.Fatal(err)
		}
		var sent, written []byte
		for _, p := range r.sent {
			sent = append(sent, p.Head[28])
		}
		for _, p := range r.written {
			written = append(written, p[28])
		}
		if !bytes.Equal(sent, want) || !bytes.Equal(written, want) {
			t.Fatalf("refused %010b: sent %v, written %v, want %v", refused, sent, written, want)
		}
		tx, rx, peer := r.tx(), r.rx(), r.near.Stats()
		got := fmt.Sprint(tx.Packets, tx.Bytes, tx.Drops[DropSendNoBuffers], rx.Packets, rx.Bytes, rx.Drops[DropWriteFailed],
			peer.TxPackets, peer.TxBytes, peer.RxPackets, peer.RxBytes, peer.Dropped())
		k := len(want)
		if want := fmt.Sprint(k, 29*k, n-k, k, 29*k, n-k, k, 29*k, k, 29*k, 2*(n-k)); got != want {
			t.Fatalf("refused %010b: counters %s, want %s", refused, got, want)
		}
	}
}

func setTotalLength(packet []byte) {
	packet[offTotalLength], packet[offTotalLength+1] = byte(len(packet)>>8), byte(len(packet))
	fixChecksum(packet)
}
