package tunnel

import (
	"encoding/binary"
	"math/bits"
)

// All packets between two hosts have one outer flow if each sends from one port, and an outer flow stays on one path of the
// underlay, one queue of a network card and one socket of the receiver. Towards a peer that does not care about the source port
// the flows are spread over several: each inner flow has one, so it stays in order.

// sourcePort returns which of n source ports the flow of a packet has. The header has been checked.
func sourcePort(head []byte, n int) int {
	high, _ := bits.Mul64(uint64(flowHash(head))<<32, uint64(n))
	return int(high)
}

// flowHash returns a hash of the addresses, the protocol, and the ports where there are some in every packet of the flow.
func flowHash(head []byte) uint32 {
	hash := binary.NativeEndian.Uint64(head[offSource:]) ^ uint64(head[offProtocol])
	hash *= 0x9e3779b97f4a7c15 // 2^64 / golden ratio, Knuth's multiplicative hash
	if transport := head[headerLength(head):]; hasPorts(head) && len(transport) >= 4 {
		hash ^= uint64(binary.NativeEndian.Uint32(transport))
		hash ^= hash >> 32
		hash *= 0x9e3779b97f4a7c15
	}
	return uint32(hash >> 32)
}

// hasPorts says whether a packet has ports. Only the first fragment of several has; so none of them counts.
func hasPorts(head []byte) bool {
	protocol := head[offProtocol]
	return (protocol == protocolTCP || protocol == protocolUDP) && binary.BigEndian.Uint16(head[offFragment:])&^flagDF == 0
}

// A gatherer brings the packets of a batch that go the same way, to one peer from one source port, together, so that they can be
// sent as groups. The order of those with the same way, and with it that of each flow, stays.
type gatherer struct {
	ways    [2 * burstSize]way
	wayOf   [2 * burstSize]uint8
	scratch [2 * burstSize]Packet
}

type way struct {
	peer       *Peer
	sourcePort int
	next       int // where its next packet goes; before that, the number of packets
}

// gather orders packets, a batch, in place.
func (g *gatherer) gather(packets []Packet) {
	ways := g.findWays(packets)
	if len(ways) == 1 {
		return
	}
	start := 0
	for i := range ways {
		start, ways[i].next = start+ways[i].next, start
	}
	copy(g.scratch[:], packets)
	for i := range packets {
		w := &ways[g.wayOf[i]]
		packets[w.next] = g.scratch[i]
		w.next++
	}
}

// findWays returns the ways in the order in which they first appear.
func (g *gatherer) findWays(packets []Packet) []way {
	ways := g.ways[:0]
	last := 0
	for i := range packets {
		p := &packets[i]
		if len(ways) == 0 || ways[last].peer != p.Peer || ways[last].sourcePort != p.SourcePort {
			for last = 0; last < len(ways); last++ {
				if ways[last].peer == p.Peer && ways[last].sourcePort == p.SourcePort {
					break
				}
			}
			if last == len(ways) {
				ways = append(ways, way{peer: p.Peer, sourcePort: p.SourcePort})
			}
		}
		ways[last].next++
		g.wayOf[i] = uint8(last)
	}
	return ways
}
