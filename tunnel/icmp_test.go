package tunnel

import (
	"bytes"
	"encoding/binary"
	"errors"
	"math/rand/v2"
	"net/netip"
	"testing"
	"time"

	"golang.org/x/net/icmp"
	"golang.org/x/net/ipv4"
	"golang.org/x/sys/unix"
)

// The errors are parsed by golang.org/x/net and summed by the slow twin.
func TestICMPErrors(t *testing.T) {
	tests := []struct {
		name   string
		packet []byte
		typ    ipv4.ICMPType
		quote  int // bytes of packet
	}{
		{"net unreachable", udpPacket(ownPod, nobodysPod, 100), ipv4.ICMPTypeDestinationUnreachable, 128},
		{"time exceeded", edit(udpPacket(ownPod, nearPod, 100), offTTL, 1), ipv4.ICMPTypeTimeExceeded, 128},
		{"TTL 0", edit(udpPacket(ownPod, nearPod, 100), offTTL, 0), ipv4.ICMPTypeTimeExceeded, 128},
		{"odd length", udpPacket(ownPod, nobodysPod, 101), ipv4.ICMPTypeDestinationUnreachable, 129},
		{"largest quote", udpPacket(ownPod, nobodysPod, 520), ipv4.ICMPTypeDestinationUnreachable, 548},
		{"cut quote", udpPacket(ownPod, nobodysPod, 1400), ipv4.ICMPTypeDestinationUnreachable, 548},
		{"trimmed quote", append(udpPacket(ownPod, nobodysPod, 4), 1, 2, 3), ipv4.ICMPTypeDestinationUnreachable, 32},
		{"header only", edit(udpPacket(ownPod, nobodysPod, 0)[:20], 3, 20), ipv4.ICMPTypeDestinationUnreachable, 20},
		{"echo request", ipPacket(ownPod, nobodysPod, protocolICMP, []byte{8, 0, 0, 0}), ipv4.ICMPTypeDestinationUnreachable, 24},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			r := newRig(t, SpoofStrict).record()
			// Twice: the second is made where the first was.
			if err := errors.Join(r.out(tt.packet), r.out(tt.packet)); err != nil {
				t.Fatal(err)
			}
			if got := r.tunnel.Stats().ICMPErrors; got != 2 || len(r.written) != 2 {
				t.Fatalf("%d ICMP errors counted, %d written: want 2", got, len(r.written))
			}
			for _, packet := range r.written {
				checkICMPError(t, packet, tt.typ, tt.packet[:tt.quote])
			}
		})
	}
}

func checkICMPError(t *testing.T, packet []byte, typ ipv4.ICMPType, quote []byte) {
	t.Helper()
	header, err := ipv4.ParseHeader(packet)
	if err != nil {
		t.Fatal(err)
	}
	want := ipv4.Header{
		Version: 4, Len: 20, TOS: 0xc0, TotalLen: 28 + len(quote), Flags: ipv4.DontFragment, TTL: 64, Protocol: 1,
		Src: ownAddr.AsSlice(), Dst: quote[offSource : offSource+4],
	}
	want.Checksum = header.Checksum // summed below
	if header.String() != want.String() || len(packet) != want.TotalLen {
		t.Errorf("header %v and %d bytes, want %v", header, len(packet), &want)
	}
	if sum := slowChecksum(packet[:20]); sum != 0 {
		t.Errorf("header checksum is off by %04x", sum)
	}
	if sum := slowChecksum(packet[20:]); sum != 0 {
		t.Errorf("ICMP checksum is off by %04x", sum)
	}
	message, err := icmp.ParseMessage(1, packet[20:])
	if err != nil {
		t.Fatal(err)
	}
	if message.Type != typ || message.Code != 0 {
		t.Errorf("got %v code %d, want %v code 0", message.Type, message.Code, typ)
	}
	if !bytes.Equal(packet[24:28], make([]byte, 4)) {
		t.Errorf("the unused field is %x, want zeros", packet[24:28])
	}
	if !bytes.Equal(packet[28:], quote) {
		t.Errorf("quoted %x, want %x", packet[28:], quote)
	}
}

// The quote of a packet in two pieces is that of the same packet in one.
func TestICMPErrorAboutGatheredPacket(t *testing.T) {
	whole := udpPacket(ownPod, nobodysPod, 900)
	now := time.Now()
	want := bytes.Clone(newICMPErrors(ownAddr).about(&Packet{Head: whole}, icmpMessage{typ: icmpUnreachable, code: icmpNetUnreachable}, now))
	for _, split := range []int{20, 28, 300, 547, 548, 549, 900} {
		p := Packet{Head: whole[:split], Tail: whole[split:]}
		if got := newICMPErrors(ownAddr).about(&p, icmpMessage{typ: icmpUnreachable, code: icmpNetUnreachable}, now); !bytes.Equal(got, want) {
			t.Errorf("split at %d: got %x, want %x", split, got, want)
		}
	}
}

func TestMayAnswer(t *testing.T) {
	good := udpPacket(ownPod, nobodysPod, 20)
	from := func(src string) []byte { return udpPacket(netip.MustParseAddr(src), nobodysPod, 20) }
	to := func(dst string) []byte { return udpPacket(ownPod, netip.MustParseAddr(dst), 20) }
	icmpOf := func(body ...byte) []byte { return ipPacket(ownPod, nobodysPod, protocolICMP, body) }
	withOptions := append(edit(good[:20], 0, 0x46), make([]byte, 4)...)
	withOptions[offProtocol] = protocolICMP

	tests := []struct {
		name   string
		packet []byte
		want   bool
	}{
		{"UDP", good, true},
		{"first fragment", edit(good, offFragment, 0x20), true},
		{"DF", edit(good, offFragment, 0x40), true},
		{"second fragment", edit(good, offFragment+1, 1), false},
		{"fragment 0x1000", edit(good, offFragment, 0x10), false},
		{"echo request", icmpOf(8, 0), true},
		{"echo reply", icmpOf(0, 0), true},
		{"timestamp", icmpOf(13, 0), true},
		{"unreachable", icmpOf(3, 1), false},
		{"source quench", icmpOf(4, 0), false},
		{"redirect", icmpOf(5, 0), false},
		{"time exceeded", icmpOf(11, 0), false},
		{"parameter problem", icmpOf(12, 0), false},
		{"ICMP without its type", icmpOf(), false},
		{"echo request behind options", append(withOptions, 8), true},
		{"time exceeded behind options", append(withOptions[:24:24], 11), false},
		{"from zero", from("0.0.0.0"), false},
		{"from network 0", from("0.1.2.3"), false},
		{"from loopback", from("127.0.0.1"), false},
		{"from multicast", from("224.0.0.1"), false},
		{"from reserved", from("240.0.0.1"), false},
		{"from broadcast", from("255.255.255.255"), false},
		{"from 223.255.255.254", from("223.255.255.254"), true},
		{"to multicast", to("239.1.1.1"), false},
		{"to a peer's broadcast", to("10.5.2.255"), false},
		{"to broadcast", to("255.255.255.255"), false},
	}
	near := NewPeer(nearSubnet, nearEndpoint)
	for _, tt := range tests {
		if got := mayAnswer(&Packet{Head: fixChecksum(tt.packet), Peer: near}); got != tt.want {
			t.Errorf("%s: got %v, want %v", tt.name, got, tt.want)
		}
	}
}

// Of a damaged header nobody knows from whom it is.
func TestDamagedPacketIsNotAnswered(t *testing.T) {
	damaged := udpPacket(ownPod, nobodysPod, 20)
	damaged[offChecksum] ^= 1
	if mayAnswer(&Packet{Head: damaged}) {
		t.Error("a packet with a wrong header checksum may be answered")
	}
}

// What mayAnswer forbids is not answered, but dropped all the same.
func TestForbiddenICMPErrorIsNotSent(t *testing.T) {
	r := newRig(t, SpoofStrict).record()
	forbidden := ipPacket(ownPod, nobodysPod, protocolICMP, []byte{11, 0, 0, 0})
	if err := r.out(forbidden); err != nil {
		t.Fatal(err)
	}
	if len(r.written) != 0 || r.tunnel.Stats().ICMPErrors != 0 {
		t.Errorf("%d ICMP errors about an ICMP error", len(r.written))
	}
	if got := onlyDrop(t, r.tx()); got != DropNoPeer {
		t.Errorf("dropped as %v, want %v", got, DropNoPeer)
	}
}

func TestICMPErrorsAreLimited(t *testing.T) {
	r := newRig(t, SpoofStrict).record()
	now := time.Now()
	r.tunnel.lanes[0].outbound.now = func() time.Time { return now }
	unreachable := udpPacket(ownPod, nobodysPod, 0)
	answered := func(packets int) int {
		t.Helper()
		r.written = nil
		for range packets {
			if err := r.out(unreachable); err != nil {
				t.Fatal(err)
			}
		}
		return len(r.written)
	}
	if n := answered(200); n != icmpBurst {
		t.Errorf("%d of 200 packets at once were answered, want %d", n, icmpBurst)
	}
	now = now.Add(10 * icmpInterval)
	if n := answered(200); n != 10 {
		t.Errorf("%d of 200 packets were answered after 10 intervals, want 10", n)
	}
	now = now.Add(time.Hour)
	if n := answered(200); n != icmpBurst {
		t.Errorf("%d of 200 packets were answered after an hour, want %d", n, icmpBurst)
	}
	if got := r.tx().Drops[DropNoPeer]; got != 600 {
		t.Errorf("%d packets dropped, want 600", got)
	}
	// One pod's errors are not at the cost of another's, up to the limit of all together.
	unreachable = udpPacket(ownPod.Next(), nobodysPod, 0)
	if n := answered(200); n != icmpBurst {
		t.Errorf("%d of 200 packets of another pod were answered, want %d", n, icmpBurst)
	}
	all := 2 * icmpBurst
	for pod := ownPod.Next().Next(); ownSubnet.Contains(pod); pod = pod.Next() {
		unreachable = udpPacket(pod, nobodysPod, 0)
		all += answered(icmpBurst)
	}
	if all != icmpAllBurst {
		t.Errorf("%d packets of all pods were answered, want %d", all, icmpAllBurst)
	}
}

// Over any time the limit allows what an exact bucket of fractional tokens allows.
func TestRateLimitEqualsSlowTwin(t *testing.T) {
	r := rand.New(rand.NewPCG(9, 10))
	limit := rateLimit{interval: 10 * time.Millisecond, burst: 5}
	now := time.Unix(1000, 0)
	tokens := 5 * 10_000 // in µs of an interval
	for i := range 100_000 {
		step := r.IntN(20_000)
		now = now.Add(time.Duration(step) * time.Microsecond)
		tokens = min(tokens+step, 5*10_000)
		want := tokens >= 10_000
		if want {
			tokens -= 10_000
		}
		if got := limit.allow(now); got != want {
			t.Fatalf("packet %d: got %v, want %v", i, got, want)
		}
	}
}

// unlimited takes the rate limits away.
func (e *icmpErrors) unlimited() {
	e.limit.interval = 0
	for i := range e.limits {
		e.limits[i].interval = 0
	}
}

// The quote of a super-packet is its first segment, and that of a packet without its checksum has one: the sender knows nothing of
// what the kernel hands over.
func TestICMPErrorAboutUnfinishedPacket(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 5))
	now := time.Now()
	for range 200 {
		s := randomSuper(r)
		want := slowSplit(s)[0]
		got := newICMPErrors(ownAddr).about(&Packet{Head: s.packet, Offload: s.vnet}, icmpMessage{typ: icmpTimeExceeded, code: icmpTTLExceeded}, now)
		checkICMPError(t, got, ipv4.ICMPTypeTimeExceeded, want[:min(len(want), maxICMPError-minHeaderLen-icmpHeaderLen)])
	}

	want := udpPacket(ownPod, nobodysPod, 33)
	setTransportChecksum(want)
	p := Packet{Head: bytes.Clone(want), Offload: vnetHeader{flags: unix.VIRTIO_NET_HDR_F_NEEDS_CSUM, csumStart: 20, csumOffset: 6}}
	binary.BigEndian.PutUint16(p.Head[26:], fold(pseudoSum(p.Head, protocolUDP, len(want)-20)))
	got := newICMPErrors(ownAddr).about(&p, icmpMessage{typ: icmpUnreachable, code: icmpNetUnreachable}, now)
	checkICMPError(t, got, ipv4.ICMPTypeDestinationUnreachable, want)
}

// A TUN device that refuses the answer changes nothing else.
func TestICMPErrorThatCannotBeWritten(t *testing.T) {
	r := newRig(t, SpoofStrict).record()
	r.queue.refuse = func([]byte) error { return unix.EIO }
	err := r.out(udpPacket(ownPod, nobodysPod, 0), udpPacket(ownPod, nearPod, 0))
	if err != nil {
		t.Fatal(err)
	}
	if s := r.tunnel.Stats(); s.ICMPErrors != 0 || s.Tx.Packets != 1 {
		t.Errorf("%d ICMP errors and %d packets counted, want 0 and 1", s.ICMPErrors, s.Tx.Packets)
	}
}
