package tunnel

import (
	"encoding/binary"

	"golang.org/x/sys/unix"
)

// The kernel hands over packets in the state in which it gives them to a network card: with checksums to be finished, and as
// super-packets to be cut into segments. What a card would do is done here. A segment gets headers of its own and shares the
// payload with the super-packet: no payload is copied.

// A cut is a super-packet that is being cut.
type cut struct {
	headers []byte // of IP and TCP or UDP, those of the first segment but for lengths, checksums and flags
	payload []byte // what is still to be sent
	size    int    // payload of each segment but the last
	ipLen   int    // length of the IP header
	tcp     bool

	index        int    // of the next segment
	id           uint16 // IP ID of the first segment
	sequence     uint32 // TCP sequence number of the next segment
	flags        byte   // TCP flags of the super-packet
	ipSum        uint32 // over the parts of the IP header that are the same in all segments
	transportSum uint32 // over those of pseudo header and transport header
}

// newCut returns the cut of a super-packet, or false if its header from the kernel does not fit what it is. The IP header has
// been checked.
func newCut(p *Packet) (cut, bool) {
	packet, ipLen := p.Head, headerLength(p.Head)
	fragment := binary.BigEndian.Uint16(packet[offFragment:]) &^ flagDF
	if !p.Offload.needsChecksum() && !p.Offload.checksumValid() || p.transportStart() != ipLen || p.Offload.gsoSize == 0 || fragment != 0 {
		return cut{}, false
	}
	transport := packet[ipLen:]
	var transportLen int
	var tcp bool
	switch {
	case p.Offload.gsoType&^unix.VIRTIO_NET_HDR_GSO_ECN == unix.VIRTIO_NET_HDR_GSO_TCPV4 && packet[offProtocol] == protocolTCP:
		if len(transport) < minTCPHeaderLen {
			return cut{}, false
		}
		transportLen, tcp = tcpHeaderLength(transport), true
		if transportLen < minTCPHeaderLen {
			return cut{}, false
		}
	case p.Offload.gsoType == unix.VIRTIO_NET_HDR_GSO_UDP_L4 && packet[offProtocol] == protocolUDP:
		transportLen = udpHeaderLen
	default:
		return cut{}, false
	}
	if len(transport) <= transportLen {
		return cut{}, false
	}
	c := cut{
		headers: packet[:ipLen+transportLen],
		payload: transport[transportLen:],
		size:    int(p.Offload.gsoSize),
		ipLen:   ipLen,
		tcp:     tcp,
		id:      binary.BigEndian.Uint16(packet[offID:]),
	}
	c.sumConstants()
	return c, true
}

// sumConstants takes out of the headers what differs between segments and sums up the rest.
func (c *cut) sumConstants() {
	ip, transport := c.headers[:c.ipLen], c.headers[c.ipLen:]
	clear(ip[offTotalLength : offID+2])
	clear(ip[offChecksum : offChecksum+2])
	c.ipSum = uint32(onesSum(ip))
	if c.tcp {
		c.sequence = binary.BigEndian.Uint32(transport[offTCPSequence:])
		c.flags = transport[offTCPFlags]
		clear(transport[offTCPSequence : offTCPSequence+4])
		transport[offTCPFlags] = 0
		clear(transport[offTCPChecksum : offTCPChecksum+2])
	} else {
		clear(transport[offUDPLength:udpHeaderLen])
	}
	c.transportSum = pseudoSum(ip, ip[offProtocol], 0) + uint32(onesSum(transport))
}

func (c *cut) more() bool { return len(c.payload) > 0 }

// nextLen returns the length of the next segment.
func (c *cut) nextLen() int { return len(c.headers) + min(c.size, len(c.payload)) }

// next returns the next segment, with its headers in arena, which has room for maxHeadersLen.
func (c *cut) next(arena []byte) Packet {
	payload := c.payload[:min(c.size, len(c.payload))]
	c.payload = c.payload[len(payload):]

	headers := arena[:copy(arena, c.headers)]
	length := len(headers) + len(payload)
	id := c.id + uint16(c.index)
	binary.BigEndian.PutUint16(headers[offTotalLength:], uint16(length))
	binary.BigEndian.PutUint16(headers[offID:], id)
	binary.BigEndian.PutUint16(headers[offChecksum:], ^fold(c.ipSum+uint32(length)+uint32(id)))

	sum := c.transportSum + uint32(length-c.ipLen) + uint32(onesSum(payload))
	if c.tcp {
		c.finishTCP(headers[c.ipLen:], len(payload), sum)
	} else {
		c.finishUDP(headers[c.ipLen:], len(payload), sum)
	}
	c.index++
	return Packet{Head: headers, Tail: payload}
}

// finishTCP writes what is special in the TCP header of a segment. FIN and PSH are about the end of the super-packet, and are
// the last segment's; CWR answers one mark and is the first one's (RFC 3168 section 6.1.2).
func (c *cut) finishTCP(tcp []byte, payloadLen int, sum uint32) {
	flags := c.flags
	if c.more() {
		flags &^= tcpFIN | tcpPSH
	}
	if c.index > 0 {
		flags &^= tcpCWR
	}
	tcp[offTCPFlags] = flags
	binary.BigEndian.PutUint32(tcp[offTCPSequence:], c.sequence)
	sum += uint32(flags) + c.sequence>>16 + c.sequence&0xffff
	binary.BigEndian.PutUint16(tcp[offTCPChecksum:], ^fold(sum))
	c.sequence += uint32(payloadLen)
}

func (c *cut) finishUDP(udp []byte, payloadLen int, sum uint32) {
	length := udpHeaderLen + payloadLen
	binary.BigEndian.PutUint16(udp[offUDPLength:], uint16(length))
	binary.BigEndian.PutUint16(udp[offUDPChecksum:], udpChecksum(^fold(sum+uint32(length))))
}

// transportStart returns where the transport header starts. The kernel says it only of a packet whose checksum is to be finished.
func (p *Packet) transportStart() int {
	if p.Offload.needsChecksum() {
		return int(p.Offload.csumStart)
	}
	return headerLength(p.Head)
}

// segments returns into how many packets p, of which nothing has been checked, is to be cut; at least 1.
func (p *Packet) segments() int {
	if !p.Offload.isSuper() || len(p.Head) < minHeaderLen {
		return 1
	}
	transport, size := p.transportStart(), int(p.Offload.gsoSize)
	if size == 0 || len(p.Head) < transport+minTCPHeaderLen {
		return 1
	}
	payload := p.Len() - transport - udpHeaderLen
	if p.Head[offProtocol] == protocolTCP {
		payload = p.Len() - transport - tcpHeaderLength(p.Head[transport:])
	}
	return max(1, (payload+size-1)/size)
}

// segmentLen returns the length of the largest packet that p is to be cut into, of which the IP header has been checked. It is 0 where
// the header from the kernel does not fit what p is, which newCut refuses.
func (p *Packet) segmentLen() int {
	if !p.Offload.isSuper() {
		return p.Len()
	}
	transport, transportLen := p.transportStart(), udpHeaderLen
	if len(p.Head) < transport+minTCPHeaderLen {
		return 0
	}
	if p.Head[offProtocol] == protocolTCP {
		transportLen = tcpHeaderLength(p.Head[transport:])
	}
	return min(p.Len(), transport+transportLen+int(p.Offload.gsoSize))
}

// finishChecksum computes the transport checksum of a packet in one piece whose checksum field holds the sum of the pseudo
// header. It returns false if the header from the kernel does not fit the packet.
func finishChecksum(p *Packet) bool {
	if !p.Offload.needsChecksum() {
		return true
	}
	start, offset := int(p.Offload.csumStart), int(p.Offload.csumOffset)
	if start < headerLength(p.Head) || start+offset+2 > len(p.Head) {
		return false
	}
	sum := ^onesSum(p.Head[start:])
	if p.Head[offProtocol] == protocolUDP {
		sum = udpChecksum(sum)
	}
	binary.BigEndian.PutUint16(p.Head[start+offset:], sum)
	p.Offload = vnetHeader{}
	return true
}
