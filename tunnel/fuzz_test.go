package tunnel

import (
	"bytes"
	"encoding/binary"
	"net/netip"
	"testing"

	"twill/internal/forge"
)

// seeds returns packets between our pod and others in the given direction, whole, damaged and odd.
func seeds(src, dst netip.Addr) [][]byte {
	good := udpPacket(src, dst, 100)
	return [][]byte{
		good,
		good[:20], good[:19], good[:1], nil,
		append(bytes.Clone(good), 1, 2, 3),
		edit(good, 0, 0x46), edit(good, 0, 0x4f), edit(good, 0, 0x44), edit(good, 0, 0x60), edit(good, 0, 0x05),
		edit(good, offTTL, 1), edit(good, offTTL, 0), edit(good, offTTL, 255),
		edit(good, 2, 0xff), edit(good, 3, 20), edit(good, 3, 0),
		edit(good, offFragment, 0x20), edit(good, offFragment+1, 3),
		ipPacket(src, dst, protocolICMP, []byte{8, 0, 0, 0}),
		ipPacket(src, dst, protocolICMP, []byte{3, 1, 0, 0}),
		ipPacket(src, dst, protocolICMP, nil),
		udpPacket(dst, src, 1), udpPacket(src, src, 1), udpPacket(dst, dst, 1),
		udpPacket(src, broadcast, 1), udpPacket(netip.IPv4Unspecified(), dst, 1),
		udpPacket(src, nobodysPod, 1400), udpPacket(nobodysPod, dst, 1400),
	}
}

// rigRules are the rules of a rig, by their slow twin.
func rigRules(spoof SpoofCheck) forge.Rules {
	return forge.Rules{
		Own:    ownSubnet,
		Host:   []netip.Addr{hostAddr},
		Leases: []forge.Lease{{Subnet: nearSubnet, Endpoint: nearEndpoint}, {Subnet: farSubnet, Endpoint: farEndpoint, PathMTU: farLimit}},
		Check:  spoof.String(),
	}
}

// hostAddr is an address of the host of a rig with rigRules, farLimit what the path to its far peer takes.
var hostAddr = netip.MustParseAddr("198.18.0.1")

const farLimit = 1000

func newRulesRig(tb testing.TB) *rig {
	r := newRig(tb, SpoofStrict).record()
	r.tunnel.SetHostAddresses([]netip.Addr{hostAddr})
	r.far.limit.Store(farLimit)
	return r
}

// dropsSince returns the drops by name and their number.
func dropsSince(before, after *[numDropReasons]uint64) (names string, n uint64) {
	for reason := range DropReasons() {
		if d := after[reason] - before[reason]; d != 0 {
			names += reason.String()
			n += d
		}
	}
	return names, n
}

// FuzzOutbound reads any bytes from the TUN device, in one piece or two, with any check. They are sent, dropped and answered as the
// slow twin of the rules says, byte by byte, and counted once, in total and with the peer.
func FuzzOutbound(f *testing.F) {
	for _, packet := range append(seeds(ownPod, nearPod), seeds(ownPod, farPod)...) {
		for spoof := SpoofStrict; spoof <= SpoofOff; spoof++ {
			f.Add(packet, uint16(0xffff), uint8(spoof))
			f.Add(packet, uint16(minHeaderLen+8), uint8(spoof))
		}
	}
	f.Add(edit(udpPacket(ownPod, farPod, 1400), offFragment, 0x40), uint16(0xffff), uint8(0))
	r := newRulesRig(f)
	out := r.tunnel.lanes[0].outbound
	out.icmp.unlimited()
	f.Fuzz(func(t *testing.T, packet []byte, headLen uint16, spoof uint8) {
		if len(packet) > maxPacket {
			return
		}
		out.spoof = SpoofCheck(spoof % 3)
		r.sent, r.written = nil, nil
		before, nearBefore, farBefore := r.tunnel.Stats(), r.near.Stats(), r.far.Stats()
		split := headSplit(packet, int(headLen))
		p := Packet{Head: bytes.Clone(packet[:split]), Tail: bytes.Clone(packet[split:])}
		if err := out.send(out.forward([]Packet{p})); err != nil {
			t.Fatal(err)
		}
		out.tally.flush(&out.totals)
		after, near, far := r.tunnel.Stats(), r.near.Stats(), r.far.Stats()

		want := rigRules(out.spoof).Outbound(packet)
		dropped, n := dropsSince(&before.Tx.Drops, &after.Tx.Drops)
		if dropped != want.Drop || n > 1 {
			t.Fatalf("%x dropped %d times as %q, want once as %q", packet, n, dropped, want.Drop)
		}
		if sent := after.Tx.Packets - before.Tx.Packets; int(sent) != len(r.sent) || (sent > 0) != (want.Drop == "") {
			t.Fatalf("%x sent as %d packets and counted as %d, want drop %q", packet, len(r.sent), sent, want.Drop)
		}
		for endpoint, stats := range map[netip.AddrPort][2]PeerStats{nearEndpoint: {nearBefore, near}, farEndpoint: {farBefore, far}} {
			isPeers := want.Peer != nil && want.Peer.Endpoint == endpoint
			if _, n := dropsSince(&stats[0].Drops, &stats[1].Drops); (n == 1) != (isPeers && want.Drop != "") || n > 1 {
				t.Errorf("%x: %d drops counted with the peer %s, want those of %q with %+v", packet, n, endpoint, want.Drop, want.Peer)
			}
			if sent := stats[1].TxPackets - stats[0].TxPackets; (sent > 0) != (isPeers && want.Drop == "") {
				t.Errorf("%x: %d packets counted with the peer %s, want %+v", packet, sent, endpoint, want.Peer)
			}
		}
		if want.Drop == "" {
			checkSent(t, want, r.sent)
		}
		var answer []byte
		if len(r.written) == 1 {
			answer = r.written[0]
		}
		if len(r.written) > 1 || !bytes.Equal(answer, want.Answer) {
			t.Errorf("%x is answered %x, want %x", packet, r.written, want.Answer)
		}
	})
}

// headSplit returns where a Queue may split packet at n: not inside the IP header, nor the first bytes behind it.
func headSplit(packet []byte, n int) int {
	if len(packet) == 0 {
		return 0
	}
	return min(len(packet), max(n, headerLength(packet)+8))
}

// checkSent checks that what was sent is the packet that the rules want, or its fragments.
func checkSent(t *testing.T, want forge.Fate, sent []Packet) {
	t.Helper()
	for _, p := range sent {
		if p.Peer.endpoint != want.To {
			t.Errorf("sent to %s, want %s", p.Peer.endpoint, want.To)
		}
		if want.Peer.PathMTU != 0 && p.Len() > want.Peer.PathMTU {
			t.Errorf("a packet of %d bytes on a path that takes %d", p.Len(), want.Peer.PathMTU)
		}
	}
	if len(sent) == 1 && len(want.Packet) <= farLimit || want.Peer.PathMTU == 0 {
		if got := append(bytes.Clone(sent[0].Head), sent[0].Tail...); len(sent) != 1 || !bytes.Equal(got, want.Packet) {
			t.Errorf("sent %x, want %x", got, want.Packet)
		}
		return
	}
	var data []byte
	for _, p := range sent {
		whole := append(bytes.Clone(p.Head), p.Tail...)
		if slowChecksum(whole[:headerLength(whole)]) != 0 {
			t.Errorf("a fragment with a wrong checksum: %x", whole)
		}
		data = append(data, whole[headerLength(whole):]...)
	}
	if !bytes.Equal(data, want.Packet[headerLength(want.Packet):]) {
		t.Errorf("the fragments carry %x, want %x", data, want.Packet)
	}
}

// FuzzInbound receives any bytes from any host with any check and any TOS. They are written or dropped as the slow twin of the rules
// says, byte by byte, and counted once, in total and with the peer.
func FuzzInbound(f *testing.F) {
	endpoint := func(addr netip.AddrPort) uint32 { return binary.BigEndian.Uint32(addr.Addr().AsSlice()) }
	for _, packet := range seeds(nearPod, ownPod) {
		for spoof := SpoofStrict; spoof <= SpoofOff; spoof++ {
			f.Add(packet, endpoint(nearEndpoint), uint8(spoof), uint8(0))
			f.Add(packet, endpoint(farEndpoint), uint8(spoof), uint8(ecnCE))
		}
		f.Add(packet, uint32(0xc6120042), uint8(SpoofOff), uint8(0))
	}
	for _, odd := range []string{"10.5.1.0", "10.5.2.255", "198.18.0.1", "127.0.0.1", "0.0.0.0", "224.0.0.1", "255.255.255.255"} {
		f.Add(udpPacket(netip.MustParseAddr(odd), ownPod, 10), endpoint(nearEndpoint), uint8(SpoofSource), uint8(0))
	}
	f.Add(udpPacket(nearPod, netip.MustParseAddr("10.5.1.255"), 10), endpoint(nearEndpoint), uint8(0), uint8(0))
	r := newRulesRig(f)
	in := r.tunnel.lanes[0].inbound
	f.Fuzz(func(t *testing.T, data []byte, from uint32, spoof, tos uint8) {
		if len(data) > maxPacket {
			return
		}
		in.spoof = SpoofCheck(spoof % 3)
		addr := netip.AddrFrom4([4]byte(binary.BigEndian.AppendUint32(nil, from)))
		r.written = nil
		before, nearBefore, farBefore := r.tunnel.Stats(), r.near.Stats(), r.far.Stats()
		if err := r.in(Datagram{Data: data, From: netip.AddrPortFrom(addr, 8285), TOS: tos}); err != nil {
			t.Fatal(err)
		}
		after, near, far := r.tunnel.Stats(), r.near.Stats(), r.far.Stats()

		want := rigRules(in.spoof).Inbound(addr, tos, data)
		dropped, n := dropsSince(&before.Rx.Drops, &after.Rx.Drops)
		if dropped != want.Drop || n > 1 {
			t.Fatalf("%x from %s, check %s: dropped %d times as %q, want once as %q", data, addr, in.spoof, n, dropped, want.Drop)
		}
		written := after.Rx.Packets - before.Rx.Packets
		if int(written) != len(r.written) || (written == 1) != (want.Drop == "") {
			t.Fatalf("%x: %d packets written and %d counted, want drop %q", data, len(r.written), written, want.Drop)
		}
		if written == 1 && !bytes.Equal(r.written[0], want.Packet) {
			t.Errorf("written %x, want %x", r.written[0], want.Packet)
		}
		for endpoint, stats := range map[netip.AddrPort][2]PeerStats{nearEndpoint: {nearBefore, near}, farEndpoint: {farBefore, far}} {
			isPeers := want.Peer != nil && want.Peer.Endpoint == endpoint
			_, n := dropsSince(&stats[0].Drops, &stats[1].Drops)
			if got := stats[1].RxPackets - stats[0].RxPackets; (n == 1) != (isPeers && want.Drop != "") || (got == 1) != (isPeers && written == 1) {
				t.Errorf("%x: %d drops and %d packets counted with the peer %s, want %q with %+v", data, n, got, endpoint, want.Drop, want.Peer)
			}
		}
	})
}
