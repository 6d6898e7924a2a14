package tunnel

import (
	"bytes"
	"encoding/binary"
	"math/rand/v2"
	"net"
	"net/netip"
	"slices"
	"testing"
)

// spreadRig is a rig whose socket has several source ports and whose near peer takes packets from any.
func spreadRig(t *testing.T, ports int) *rig {
	r := newRig(t, SpoofStrict).record()
	r.tunnel.lanes[0].outbound.ports = ports
	r.near = NewTwillPeer(nearSubnet, nearEndpoint)
	r.tunnel.SetTable(NewTable(ownSubnet, []*Peer{r.near, r.far}))
	return r
}

// Each flow to a peer that allows it keeps to one of the source ports, and all ports are used; Flannel's peers get the one.
func TestSpread(t *testing.T) {
	const ports, flows = 4, 400
	random := rand.New(rand.NewPCG(51, 52))
	r := spreadRig(t, ports)
	portOf := map[uint16]int{}
	used := make([]int, ports)
	for range 5 {
		for flow := range uint16(flows) {
			packet := udpPacket(ownPod, nearPod, random.IntN(100))
			binary.BigEndian.PutUint16(packet[minHeaderLen:], flow)
			r.sent = nil
			if err := r.out(packet, udpPacket(ownPod, farPod, int(flow))); err != nil {
				t.Fatal(err)
			}
			for _, p := range r.sent {
				if p.Peer == r.far {
					if p.SourcePort != 0 {
						t.Fatalf("a plain peer got a packet from port %d", p.SourcePort)
					}
					continue
				}
				if port, known := portOf[flow]; known && port != p.SourcePort {
					t.Fatalf("flow %d moved from port %d to %d", flow, port, p.SourcePort)
				}
				portOf[flow] = p.SourcePort
				used[p.SourcePort]++
			}
		}
	}
	for port, n := range used {
		if n < 5*flows/ports/2 {
			t.Errorf("port %d got %d of %d packets", port, n, 5*flows)
		}
	}
}

// All fragments of a datagram, and all segments of a super-packet, take the same way.
func TestSpreadKeepsTogether(t *testing.T) {
	random := rand.New(rand.NewPCG(53, 54))
	r := spreadRig(t, 8)
	for range 200 {
		s := randomSuper(random)
		s.packet[offFragment] = 0 // no DF: some segments go in fragments
		fixChecksum(s.packet)
		r.near.limit.Store(int32(548 + random.IntN(2500)))
		r.routed(s)
		for _, p := range r.sent {
			if want := sourcePort(s.packet, 8); p.SourcePort != want {
				t.Fatalf("segment of a super-packet from port %d, want %d", p.SourcePort, want)
			}
		}
		first, later := bytes.Clone(s.packet), bytes.Clone(s.packet)
		first[offFragment], later[offFragment+1] = 0x20, 10
		fillRandom(random, later[headerLength(later):])
		if sourcePort(first, 8) != sourcePort(later, 8) {
			t.Fatal("fragments of a datagram from two ports")
		}
	}
}

// gather against a stable sort by first appearance.
func TestGather(t *testing.T) {
	r := rand.New(rand.NewPCG(55, 56))
	peers := manyPeers(20)
	var g gatherer
	for range 1000 {
		packets := make([]Packet, 1+r.IntN(2*burstSize))
		peerCount, portCount := 1+r.IntN(len(peers)), 1+r.IntN(3)
		for i := range packets {
			packets[i] = Packet{Head: []byte{byte(i)}, Peer: peers[r.IntN(peerCount)], SourcePort: r.IntN(portCount)}
		}
		want := slices.Clone(packets)
		firstOf := func(p Packet) int {
			return slices.IndexFunc(packets, func(q Packet) bool { return q.Peer == p.Peer && q.SourcePort == p.SourcePort })
		}
		order := make([]int, len(packets))
		for i, p := range packets {
			order[i] = firstOf(p)
		}
		slices.SortStableFunc(want, func(a, b Packet) int { return order[a.Head[0]] - order[b.Head[0]] })
		g.gather(packets)
		for i := range want {
			if packets[i].Head[0] != want[i].Head[0] || packets[i].Peer != want[i].Peer {
				t.Fatalf("place %d has packet %d, want %d", i, packets[i].Head[0], want[i].Head[0])
			}
		}
	}
}

// A group of sockets sends from as many ports, of which the first is the one that it listens on, and answers come to that one only.
func TestSourcePorts(t *testing.T) {
	to := plainSocket(t)
	conns, err := ListenConfig{Address: anyPort, Sockets: 3, Offloads: AllOffloads}.Listen()
	if err != nil {
		t.Fatal(err)
	}
	peer := peerAt(to.LocalAddr().(*net.UDPAddr).AddrPort())
	seen := map[netip.AddrPort]int{}
	for _, c := range conns {
		if c.SourcePorts() != 3 {
			t.Fatalf("%d source ports, want 3", c.SourcePorts())
		}
		batch := []Packet{{SourcePort: 0}, {SourcePort: 2}, {SourcePort: 2}, {SourcePort: 1}}
		for i := range batch {
			batch[i].Head, batch[i].Peer = []byte{byte(batch[i].SourcePort)}, peer
		}
		for _, want := range []int{1, 2, 1} {
			n, err := c.Send(batch)
			if n != want || err != nil {
				t.Fatalf("sent %d packets, %v; want %d", n, err, want)
			}
			batch = batch[n:]
		}
		for range 4 {
			var b [2]byte
			_, from, err := to.ReadFromUDPAddrPort(b[:])
			if err != nil {
				t.Fatal(err)
			}
			if port, known := seen[from]; known && port != int(b[0]) || from == c.LocalAddr() != (b[0] == 0) {
				t.Errorf("source port %d is %v", b[0], from)
			}
			seen[from] = int(b[0])
		}
	}
	if len(seen) != 3 {
		t.Errorf("packets came from %v, want 3 ports", seen)
	}
	for _, c := range conns {
		c.Close()
	}
	for from := range seen { // all closed: the ports are free again
		free, err := net.ListenUDP("udp4", net.UDPAddrFromAddrPort(from))
		if err != nil {
			t.Fatal(err)
		}
		free.Close()
	}
}
