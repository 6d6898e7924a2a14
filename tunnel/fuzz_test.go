package tunnel

import (
	"bytes"
	"encoding/binary"
	"net/netip"
	"testing"

	"golang.org/x/net/ipv4"
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

// FuzzOutbound reads any bytes from the TUN device, in one piece or two. They are sent or dropped, once. What is sent is the
// packet that its header describes, with one hop less; what is answered is answered with a right ICMP error.
func FuzzOutbound(f *testing.F) {
	for _, packet := range seeds(ownPod, nearPod) {
		f.Add(packet, uint16(0xffff))
		f.Add(packet, uint16(minHeaderLen+8))
	}
	r := newRig(f, SpoofStrict).record()
	out := r.tunnel.lanes[0].outbound
	out.icmp.unlimited()
	f.Fuzz(func(t *testing.T, packet []byte, headLen uint16) {
		if len(packet) > maxPacket {
			return
		}
		r.sent, r.written = nil, nil
		before := r.tunnel.Stats()
		split := headSplit(packet, int(headLen))
		p := Packet{Head: bytes.Clone(packet[:split]), Tail: bytes.Clone(packet[split:])}
		if err := out.send(out.forward([]Packet{p})); err != nil {
			t.Fatal(err)
		}
		out.tally.flush(&out.totals)
		after := r.tunnel.Stats()

		sent, dropped := after.Tx.Packets-before.Tx.Packets, after.Tx.Dropped()-before.Tx.Dropped()
		if sent+dropped != 1 || int(sent) != len(r.sent) {
			t.Fatalf("%d sent and %d dropped: want one of them", sent, dropped)
		}
		for _, p := range r.sent {
			checkSent(t, packet, p)
		}
		if len(r.written) > 1 || len(r.written) == 1 && sent == 1 {
			t.Fatalf("%d answers to a packet of which %d were sent", len(r.written), sent)
		}
		for _, answer := range r.written {
			checkAnswer(t, packet, answer)
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

func checkSent(t *testing.T, packet []byte, sent Packet) {
	t.Helper()
	header, err := ipv4.ParseHeader(packet)
	if err != nil || header.Version != 4 || header.TotalLen > len(packet) || header.TotalLen < header.Len {
		t.Fatalf("sent a packet with the header %v, %v", header, err)
	}
	dst, _ := netip.AddrFromSlice(header.Dst.To4())
	if !sent.Peer.Subnet().Contains(dst) {
		t.Errorf("sent a packet for %s to the holder of %s", dst, sent.Peer.Subnet())
	}
	want := bytes.Clone(packet[:header.TotalLen])
	if want[offTTL] <= 1 {
		t.Errorf("sent a packet with TTL %d", want[offTTL])
	}
	// The checksum may have been wrong; then it stays as wrong as it was.
	was := checksumError(want[:header.Len])
	want[offTTL]--
	got := append(bytes.Clone(sent.Head), sent.Tail...)
	if is := checksumError(got[:header.Len]); is != was {
		t.Errorf("the header checksum was off by %04x and is off by %04x", was, is)
	}
	copy(want[offChecksum:], got[offChecksum:offChecksum+2])
	if !bytes.Equal(got, want) {
		t.Errorf("sent %x, want %x", got, want)
	}
}

// checksumError returns by how much the sum over a header misses 0xffff, with the two zeros of one's complement as one.
func checksumError(header []byte) uint16 { return slowChecksum(header) % 0xffff }

func checkAnswer(t *testing.T, packet, answer []byte) {
	t.Helper()
	if len(answer) < 28 || len(answer) > maxICMPError {
		t.Fatalf("answer of %d bytes, want 28 to %d", len(answer), maxICMPError)
	}
	if slowChecksum(answer[:20]) != 0 || slowChecksum(answer[20:]) != 0 {
		t.Errorf("answer with a wrong checksum: %x", answer)
	}
	if source(answer) != ownAddr || destination(answer) != source(packet) {
		t.Errorf("answer from %s to %s about a packet of %s", source(answer), destination(answer), source(packet))
	}
	if !bytes.HasPrefix(packet, answer[28:]) {
		t.Errorf("answer quotes %x of %x", answer[28:], packet)
	}
}

// FuzzInbound receives any bytes from any host with any check. What is written is the packet that its header describes,
// unchanged, and the rules, told in another way, let it in; and what they let in is written.
func FuzzInbound(f *testing.F) {
	endpoint := func(addr netip.AddrPort) uint32 { return binary.BigEndian.Uint32(addr.Addr().AsSlice()) }
	for _, packet := range seeds(nearPod, ownPod) {
		for spoof := SpoofStrict; spoof <= SpoofOff; spoof++ {
			f.Add(packet, endpoint(nearEndpoint), uint8(spoof))
			f.Add(packet, endpoint(farEndpoint), uint8(spoof))
		}
		f.Add(packet, uint32(0xc6120042), uint8(SpoofOff))
	}
	r := newRig(f, SpoofStrict).record()
	in := r.tunnel.lanes[0].inbound
	f.Fuzz(func(t *testing.T, data []byte, from uint32, spoof uint8) {
		if len(data) > maxPacket {
			return
		}
		in.spoof = SpoofCheck(spoof % 3)
		addr := netip.AddrFrom4([4]byte(binary.BigEndian.AppendUint32(nil, from)))
		r.written = nil
		before := r.tunnel.Stats().Rx
		if err := r.in(Datagram{Data: data, From: netip.AddrPortFrom(addr, 8285)}); err != nil {
			t.Fatal(err)
		}
		after := r.tunnel.Stats().Rx
		written, dropped := after.Packets-before.Packets, after.Dropped()-before.Dropped()
		if written+dropped != 1 || int(written) != len(r.written) {
			t.Fatalf("%d written and %d dropped: want one of them", written, dropped)
		}
		want := mayEnter(data, addr, in.spoof)
		if got := written == 1; got != (want != nil) {
			t.Fatalf("%x from %s, check %s: written %v, want %v", data, addr, in.spoof, got, want != nil)
		}
		if written == 1 && !bytes.Equal(r.written[0], want) {
			t.Errorf("written %x, want %x", r.written[0], want)
		}
	})
}

// mayEnter is the slow twin of the inbound checks: the packet that may enter, or nil.
func mayEnter(data []byte, from netip.Addr, spoof SpoofCheck) []byte {
	header, err := ipv4.ParseHeader(data)
	if err != nil || header.Version != 4 || header.Len < 20 || header.TotalLen < header.Len || header.TotalLen > len(data) {
		return nil
	}
	src, _ := netip.AddrFromSlice(header.Src.To4())
	dst, _ := netip.AddrFromSlice(header.Dst.To4())
	leases := map[netip.Addr]netip.Prefix{nearEndpoint.Addr(): nearSubnet, farEndpoint.Addr(): farSubnet}
	lease, known := leases[from]
	if spoof != SpoofOff && !known {
		return nil
	}
	if spoof == SpoofStrict && !lease.Contains(src) {
		return nil
	}
	if !ownSubnet.Contains(dst) {
		return nil
	}
	return data[:header.TotalLen]
}
