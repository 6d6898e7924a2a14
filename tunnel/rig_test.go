package tunnel

import (
	"bytes"
	"encoding/binary"
	"net/netip"
	"testing"
)

// The hosts of most tests: ours holds 10.5.1.0/24, near and far are its peers.
var (
	ownSubnet = netip.MustParsePrefix("10.5.1.0/24")
	ownAddr   = netip.MustParseAddr("10.5.1.0")
	ownPod    = netip.MustParseAddr("10.5.1.10")

	nearSubnet   = netip.MustParsePrefix("10.5.2.0/24")
	nearEndpoint = netip.MustParseAddrPort("198.18.0.2:8285")
	nearPod      = netip.MustParseAddr("10.5.2.10")

	farSubnet   = netip.MustParsePrefix("10.5.3.0/24")
	farEndpoint = netip.MustParseAddrPort("198.18.0.3:8285")
	farPod      = netip.MustParseAddr("10.5.3.10")

	nobodysPod = netip.MustParseAddr("10.5.99.10")
)

// A rig is a tunnel of one queue between two fakes. Its bursts run in the test's own goroutine.
type rig struct {
	tb      testing.TB
	queue   *fakeQueue
	conn    *fakeConn
	near    *Peer
	far     *Peer
	tunnel  *Tunnel
	sent    []Packet // copies of what the socket took
	written [][]byte // copies of what the TUN device took
}

func newRig(tb testing.TB, spoof SpoofCheck) *rig {
	r := &rig{
		tb:    tb,
		queue: newFakeQueue(),
		conn:  newFakeConn(),
		near:  NewPeer(nearSubnet, nearEndpoint),
		far:   NewPeer(farSubnet, farEndpoint),
	}
	tunnel, err := New(Config{
		Device:     &fakeDevice{queues: []Queue{r.queue}},
		Conns:      []Conn{r.conn},
		Address:    ownAddr,
		SpoofCheck: spoof,
	})
	if err != nil {
		tb.Fatal(err)
	}
	tunnel.SetTable(NewTable(ownSubnet, []*Peer{r.near, r.far}))
	r.tunnel = tunnel
	return r
}

// record keeps copies of what comes out; without it the rig does not allocate.
func (r *rig) record() *rig {
	r.conn.out = func(p *Packet) {
		sent := *p
		sent.Head, sent.Tail = bytes.Clone(p.Head), bytes.Clone(p.Tail)
		r.sent = append(r.sent, sent)
	}
	r.queue.out = func(packet []byte) { r.written = append(r.written, bytes.Clone(packet)) }
	return r
}

// out moves one burst of packets from the TUN device to the socket.
func (r *rig) out(packets ...[]byte) error {
	r.queue.in <- packets
	return r.tunnel.lanes[0].outbound.burst()
}

// in moves one burst of datagrams from the socket to the TUN device.
func (r *rig) in(datagrams ...Datagram) error {
	r.conn.in <- datagrams
	return r.tunnel.lanes[0].inbound.burst()
}

func (r *rig) tx() Counters { return r.tunnel.Stats().Tx }
func (r *rig) rx() Counters { return r.tunnel.Stats().Rx }

// onlyDrop returns the reason of the single drop in c.
func onlyDrop(tb testing.TB, c Counters) DropReason {
	tb.Helper()
	if n := c.Dropped(); n != 1 {
		tb.Fatalf("%d packets dropped: want 1", n)
	}
	for reason := range DropReasons() {
		if c.Drops[reason] == 1 {
			return reason
		}
	}
	tb.Fatal("the drop has no reason")
	return 0
}

// udpPacket returns an IPv4 packet from src to dst with a UDP datagram of size bytes of payload.
func udpPacket(src, dst netip.Addr, size int) []byte {
	const protocolUDP, udpHeaderLen = 17, 8
	body := make([]byte, udpHeaderLen+size)
	binary.BigEndian.PutUint16(body[0:], 40000)
	binary.BigEndian.PutUint16(body[2:], 5001)
	binary.BigEndian.PutUint16(body[4:], uint16(len(body)))
	for i := range size {
		body[udpHeaderLen+i] = byte(i)
	}
	return ipPacket(src, dst, protocolUDP, body)
}

// ipPacket returns an IPv4 packet with TTL 64 and a right header checksum.
func ipPacket(src, dst netip.Addr, protocol byte, body []byte) []byte {
	p := make([]byte, minHeaderLen, minHeaderLen+len(body))
	p[0] = 0x45
	binary.BigEndian.PutUint16(p[offTotalLength:], uint16(minHeaderLen+len(body)))
	p[offTTL], p[offProtocol] = 64, protocol
	copy(p[offSource:], src.AsSlice())
	copy(p[offDestination:], dst.AsSlice())
	return fixChecksum(append(p, body...))
}

// edit returns a copy of packet with the byte at offset set, and the header checksum right again.
func edit(packet []byte, offset int, value byte) []byte {
	packet = bytes.Clone(packet)
	packet[offset] = value
	return fixChecksum(packet)
}

func fixChecksum(packet []byte) []byte {
	headerLen := min(headerLength(packet), len(packet))
	if headerLen < minHeaderLen {
		return packet
	}
	packet[offChecksum], packet[offChecksum+1] = 0, 0
	binary.BigEndian.PutUint16(packet[offChecksum:], slowChecksum(packet[:headerLen]))
	return packet
}

// slowChecksum is the obvious twin of checksum: one's complement addition, one word after the other.
func slowChecksum(b []byte) uint16 {
	sum := 0
	for i := range b {
		word := int(b[i])
		if i%2 == 0 {
			word <<= 8
		}
		if sum += word; sum > 0xffff {
			sum -= 0xffff
		}
	}
	return ^uint16(sum)
}
