package tunnel

import (
	"encoding/binary"
	"fmt"
	"net/netip"
)

// A Trace is what the tunnel would do with a packet that a pod or this host sends.
type Trace struct {
	// Peer is the one that gets it; nil where nobody holds the destination.
	Peer *Peer
	// Dropped is the reason why it would not be sent; 0: it would.
	Dropped DropReason
	// Limit is the length of the largest packet that the path to Peer takes, 0 if it is not known to be less than the device's MTU.
	Limit int
	// Fragments says that the packet would be sent in pieces of at most Limit.
	Fragments bool
}

// minTrace is the length of the shortest packet that Trace takes: a UDP datagram without payload.
const minTrace = minHeaderLen + udpHeaderLen

// Trace asks the code of the packet path itself, with a UDP datagram of length bytes in all, TTL 64, and DF or not. Nothing is sent or
// counted. src and dst are IPv4.
func (t *Tunnel) Trace(src, dst netip.Addr, length int, df bool) (Trace, error) {
	if length < minTrace || length > maxPacket {
		return Trace{}, fmt.Errorf("trace a packet of %d bytes: want %d to %d", length, minTrace, maxPacket)
	}
	if !src.Is4() || !dst.Is4() {
		return Trace{}, fmt.Errorf("trace a packet from %s to %s: want IPv4 addresses", src, dst)
	}
	p := Packet{Head: tracePacket(src, dst, length, df)}
	table := burstTable{Table: t.table.Load()}
	v := Trace{Dropped: t.lanes[0].outbound.route(&table, &p), Peer: p.Peer, Fragments: p.Limit != 0}
	if p.Peer != nil {
		if limit := int(p.Peer.limit.Load()); limit != maxPacket {
			v.Limit = limit
		}
	}
	return v, nil
}

func tracePacket(src, dst netip.Addr, length int, df bool) []byte {
	const ttl = 64
	b := make([]byte, length)
	b[0] = 4<<4 | minHeaderLen/4
	binary.BigEndian.PutUint16(b[offTotalLength:], uint16(length))
	if df {
		binary.BigEndian.PutUint16(b[offFragment:], flagDF)
	}
	b[offTTL], b[offProtocol] = ttl, protocolUDP
	source, destination := src.As4(), dst.As4()
	copy(b[offSource:], source[:])
	copy(b[offDestination:], destination[:])
	binary.BigEndian.PutUint16(b[minHeaderLen+offUDPLength:], uint16(length-minHeaderLen))
	binary.BigEndian.PutUint16(b[offChecksum:], checksum(b[:minHeaderLen]))
	return b
}
