package tunnel

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"net/netip"
	"testing"
)

// manyPeers returns n peers with a subnet /24 and an endpoint each.
func manyPeers(n int) []*Peer {
	peers := make([]*Peer, n)
	for i := range peers {
		subnet := netip.PrefixFrom(netip.AddrFrom4([4]byte{10 + byte(i>>16), byte(i >> 8), byte(i), 0}), 24)
		endpoint := netip.AddrFrom4([4]byte{192, byte(i >> 16), byte(i >> 8), byte(i)})
		peers[i] = NewPeer(subnet, netip.AddrPortFrom(endpoint, 8285))
	}
	return peers
}

// BenchmarkLookup looks up the destinations of bursts: 16 trains of 4 packets, each to a random address in some peer's subnet.
func BenchmarkLookup(b *testing.B) {
	for _, n := range []int{2, 100, 1000, 10_000, 100_000} {
		b.Run(fmt.Sprintf("peers=%d", n), func(b *testing.B) {
			peers := manyPeers(n)
			table := NewTable(netip.MustParsePrefix("10.255.0.0/24"), peers)
			r := rand.New(rand.NewPCG(1, 1))
			addrs := make([]netip.Addr, 1<<12)
			for i := range addrs {
				addr := peers[r.IntN(n)].Subnet().Addr().As4()
				addr[3] = byte(r.Uint32())
				addrs[i] = netip.AddrFrom4(addr)
			}
			b.ReportAllocs()
			burst := burstTable{Table: table}
			for i := 0; b.Loop(); i++ {
				if burst.Lookup(addrs[i/4%len(addrs)]) == nil {
					b.Fatal("no peer")
				}
			}
		})
	}
}

// BenchmarkNewTable makes a table of all peers.
func BenchmarkNewTable(b *testing.B) {
	for _, n := range []int{2, 100, 1000, 10_000, 100_000} {
		b.Run(fmt.Sprintf("peers=%d", n), func(b *testing.B) {
			peers := manyPeers(n)
			for b.Loop() {
				NewTable(netip.MustParsePrefix("10.255.0.0/24"), peers)
			}
		})
	}
}

// BenchmarkNextTable is the cost of a change of the leases: one peer moves.
func BenchmarkNextTable(b *testing.B) {
	for _, n := range []int{2, 100, 1000, 10_000, 100_000} {
		b.Run(fmt.Sprintf("peers=%d", n), func(b *testing.B) {
			peers := manyPeers(n)
			own := netip.MustParsePrefix("10.255.0.0/24")
			table := NewTable(own, peers)
			for b.Loop() {
				peers[n/2] = NewPeer(peers[n/2].subnet, nearEndpoint)
				table = table.Next(own, peers)
			}
		})
	}
}

// The benchmarks of the two directions count a packet through the tunnel's own code, between fake edges that copy it once.

func BenchmarkOutbound(b *testing.B) {
	for _, size := range []int{64, 1400} {
		b.Run(fmt.Sprintf("size=%d", size), func(b *testing.B) {
			r := newRig(b, SpoofStrict)
			packets := fill([][]byte{udpPacket(ownPod, nearPod, size), udpPacket(ownPod, farPod, size)})
			benchmarkBursts(b, size, func() error { return r.out(packets...) })
		})
	}
}

func BenchmarkInbound(b *testing.B) {
	for _, size := range []int{64, 1400} {
		b.Run(fmt.Sprintf("size=%d", size), func(b *testing.B) {
			r := newRig(b, SpoofStrict)
			datagrams := fill([]Datagram{
				{Data: udpPacket(nearPod, ownPod, size), From: nearEndpoint},
				{Data: udpPacket(farPod, ownPod, size), From: farEndpoint},
			})
			benchmarkBursts(b, size, func() error { return r.in(datagrams...) })
		})
	}
}

func benchmarkBursts(b *testing.B, size int, burst func() error) {
	b.ReportAllocs()
	b.SetBytes(int64(size * burstSize))
	for b.Loop() {
		if err := burst(); err != nil {
			b.Fatal(err)
		}
	}
	b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N*burstSize), "ns/packet")
}

// A reusableSuper is a super-packet with a copy to be split again and again.
type reusableSuper struct {
	superPacket
	work, head []byte // the copy, and its headers
}

// largeSuper returns a TCP super-packet of 45 segments.
func largeSuper(size int) reusableSuper {
	random := rand.New(rand.NewPCG(61, 62))
	s := randomSuper(random)
	for s.packet[offProtocol] != protocolTCP || headerLength(s.packet) != minHeaderLen {
		s = randomSuper(random)
	}
	headersLen := minHeaderLen + tcpHeaderLength(s.packet[minHeaderLen:])
	s.packet = append(s.packet[:headersLen], randomBytes(random, 45*size)...)
	s.packet[minHeaderLen+offTCPData] &= 0xf0
	s.packet[minHeaderLen+offTCPFlags] = tcpACK
	setTotalLength(s.packet)
	s.vnet.gsoSize = uint16(size)
	work := bytes.Clone(s.packet)
	return reusableSuper{s, work, work[:headersLen]}
}

// BenchmarkOutboundSuper splits super-packets of 64 KB.
func BenchmarkOutboundSuper(b *testing.B) {
	r := newRig(b, SpoofStrict)
	out := r.tunnel.lanes[0].outbound
	s := largeSuper(1420)
	packets := make([]Packet, 1)
	b.SetBytes(int64(len(s.packet)))
	b.ReportAllocs()
	for b.Loop() {
		copy(s.head, s.packet) // the headers are changed in place, the payload is not
		packets[0] = Packet{Head: s.work, Offload: s.vnet}
		if err := out.send(out.forward(packets)); err != nil {
			b.Fatal(err)
		}
	}
}

// BenchmarkMerge merges 45 segments.
func BenchmarkMerge(b *testing.B) {
	var packets []Packet
	for _, segment := range slowSplit(largeSuper(1420).superPacket) {
		packets = append(packets, Packet{Head: segment})
	}
	var m merger
	b.SetBytes(int64(len(packets) * packets[0].Len()))
	b.ReportAllocs()
	for b.Loop() {
		if n := m.run(packets, true, true); n != len(packets) {
			b.Fatalf("%d of %d merged", n, len(packets))
		}
	}
}

// BenchmarkInboundChecks is the cost of what each --spoof-check asks of a packet, without the fakes: a burst from one of 1000 peers.
func BenchmarkInboundChecks(b *testing.B) {
	peers := manyPeers(1000)
	own := netip.MustParsePrefix("10.255.0.0/24")
	for _, spoof := range []SpoofCheck{SpoofStrict, SpoofSource, SpoofOff} {
		b.Run("spoof-check="+spoof.String(), func(b *testing.B) {
			r := newRig(b, spoof)
			r.tunnel.SetTable(NewTable(own, peers))
			in := r.tunnel.lanes[0].inbound
			from := peers[500]
			datagrams := fill([]Datagram{{Data: udpPacket(from.subnet.Addr().Next(), own.Addr().Next(), 1400), From: from.endpoint}})
			b.ReportAllocs()
			for b.Loop() {
				if len(in.accept(datagrams)) != len(datagrams) {
					b.Fatal("a packet was dropped")
				}
			}
			b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/float64(len(datagrams)), "ns/packet")
		})
	}
}

// BenchmarkOutboundChecks is the same in the other direction: a burst to one of 1000 peers.
func BenchmarkOutboundChecks(b *testing.B) {
	peers := manyPeers(1000)
	own := netip.MustParsePrefix("10.255.0.0/24")
	for _, spoof := range []SpoofCheck{SpoofStrict, SpoofSource, SpoofOff} {
		b.Run("spoof-check="+spoof.String(), func(b *testing.B) {
			r := newRig(b, spoof)
			r.tunnel.SetTable(NewTable(own, peers))
			out := r.tunnel.lanes[0].outbound
			packet := udpPacket(own.Addr().Next(), peers[500].subnet.Addr().Next(), 1400)
			packets := make([]Packet, burstSize)
			b.ReportAllocs()
			for b.Loop() {
				for i := range packets {
					packets[i] = Packet{Head: packet}
				}
				packet[offTTL] = 64 + burstSize
				if len(out.forward(packets)) != len(packets) {
					b.Fatal("a packet was dropped")
				}
			}
			b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/float64(len(packets)), "ns/packet")
		})
	}
}

// BenchmarkSendTOS is the cost of a group's TOS: one control message more.
func BenchmarkSendTOS(b *testing.B) {
	for _, tos := range []byte{0, 0xb8} {
		b.Run(fmt.Sprintf("tos=%02x", tos), func(b *testing.B) {
			from, to := listenWith(b, anyPort, AllOffloads), listenWith(b, anyPort, AllOffloads)
			batch := make([]Packet, 46)
			for i := range batch {
				batch[i] = Packet{Head: make([]byte, 1400), Peer: peerAt(to.LocalAddr()), TOS: tos}
				batch[i].Peer = batch[0].Peer
			}
			for b.Loop() {
				if _, err := from.Send(batch); err != nil {
					b.Fatal(err)
				}
				for n := 0; n < len(batch); {
					datagrams, err := to.Receive()
					if err != nil {
						b.Fatal(err)
					}
					n += len(datagrams)
				}
			}
		})
	}
}
