package tunnel

import (
	"bytes"
	"encoding/binary"

	"golang.org/x/sys/unix"
)

// Consecutive packets of one flow become one super-packet, which walks through the kernel once. It is what the kernel's own
// receive offload (GRO) would make of them: cut into segments again it gives the same packets, but for IP IDs that mean
// nothing (RFC 6864). Whatever is not the plain middle of a flow stays as it is. Above all that is a packet with a wrong
// checksum: a super-packet's are computed anew, which would hide the damage from the receiver.

// maxMerged is the length of the largest super-packet that is made. With link-layer headers it stays below the size from which
// an interface cuts super-packets again before it sends them, 64 KB.
const maxMerged = 65500

// A merger finds runs of packets that can be one, and makes the headers that they then have.
type merger struct {
	vnet    vnetHeader
	headers [maxHeadersLen]byte
	// headersLen is the length of headers, and that of the headers of each packet of the run.
	headersLen int
}

// run returns how many packets at the start of packets, each in one piece, can be one super-packet. If that is more than one,
// the fields of m are the super-packet's.
func (m *merger) run(packets []Packet, tso, uso bool) int {
	first := packets[0].Head
	if len(packets) == 1 || !canMerge(first, tso, uso) {
		return 1
	}
	m.headersLen = mergeHeadersLen(first)
	size, total := len(first)-m.headersLen, len(first)
	n := 1
	for n < min(len(packets), maxSegments) && !endsRun(packets[n-1].Head, m.headersLen+size) {
		next := packets[n].Head
		total += len(next) - m.headersLen
		if total > maxMerged || !continues(first, next, m.headersLen, n, size) {
			break
		}
		if n == 1 && !intact(first) || !intact(next) {
			break
		}
		n++
	}
	if n > 1 {
		m.build(packets[:n], size)
	}
	return n
}

// canMerge says whether packet can be part of a super-packet: a TCP segment with data and the plain flags, or a UDP datagram with
// data and a checksum; without IP options and not a fragment.
func canMerge(packet []byte, tso, uso bool) bool {
	if packet[0] != 4<<4|minHeaderLen/4 || binary.BigEndian.Uint16(packet[offFragment:])&^flagDF != 0 {
		return false
	}
	transport := packet[minHeaderLen:]
	switch packet[offProtocol] {
	case protocolTCP:
		if !tso || len(transport) < minTCPHeaderLen {
			return false
		}
		length := tcpHeaderLength(transport)
		return length >= minTCPHeaderLen && len(transport) > length &&
			transport[offTCPData]&0xf == 0 && transport[offTCPFlags]&^tcpPSH == tcpACK
	case protocolUDP:
		return uso && len(transport) > udpHeaderLen &&
			int(binary.BigEndian.Uint16(transport[offUDPLength:])) == len(transport) &&
			binary.BigEndian.Uint16(transport[offUDPChecksum:]) != 0
	}
	return false
}

// mergeHeadersLen returns the length of the headers of a packet that can be merged.
func mergeHeadersLen(packet []byte) int {
	if packet[offProtocol] == protocolTCP {
		return minHeaderLen + tcpHeaderLength(packet[minHeaderLen:])
	}
	return minHeaderLen + udpHeaderLen
}

// endsRun says whether nothing may follow packet in a run: it is shorter than the others or has the PSH flag.
func endsRun(packet []byte, fullLen int) bool {
	return len(packet) < fullLen || packet[offProtocol] == protocolTCP && packet[minHeaderLen+offTCPFlags]&tcpPSH != 0
}

// continues says whether next can be packet n of the run that first begins: all headers the same but for those that count on.
func continues(first, next []byte, headersLen, n, size int) bool {
	if len(next) <= headersLen || len(next) > headersLen+size ||
		!bytes.Equal(next[:offTotalLength], first[:offTotalLength]) ||
		!bytes.Equal(next[offFragment:offChecksum], first[offFragment:offChecksum]) ||
		!bytes.Equal(next[offSource:minHeaderLen+4], first[offSource:minHeaderLen+4]) { // addresses and ports
		return false
	}
	if binary.BigEndian.Uint16(first[offFragment:])&flagDF == 0 &&
		binary.BigEndian.Uint16(next[offID:]) != binary.BigEndian.Uint16(first[offID:])+uint16(n) {
		return false
	}
	a, b := first[minHeaderLen:headersLen], next[minHeaderLen:headersLen]
	if first[offProtocol] == protocolUDP {
		return canMerge(next, true, true)
	}
	return b[offTCPFlags]&^tcpPSH == tcpACK &&
		binary.BigEndian.Uint32(b[offTCPSequence:]) == binary.BigEndian.Uint32(a[offTCPSequence:])+uint32(n*size) &&
		bytes.Equal(b[offTCPAck:offTCPFlags], a[offTCPAck:offTCPFlags]) &&
		bytes.Equal(b[offTCPWindow:offTCPChecksum], a[offTCPWindow:offTCPChecksum]) &&
		bytes.Equal(b[offTCPChecksum+2:], a[offTCPChecksum+2:]) // urgent pointer and options
}

// intact says whether both checksums of packet are right.
func intact(packet []byte) bool {
	transport := packet[minHeaderLen:]
	sum := pseudoSum(packet, packet[offProtocol], len(transport)) + uint32(onesSum(transport))
	return fold(sum) == 0xffff && onesSum(packet[:minHeaderLen]) == 0xffff
}

// build makes the headers of the super-packet of a run.
func (m *merger) build(packets []Packet, size int) {
	first, last := packets[0].Head, packets[len(packets)-1].Head
	length := m.headersLen + (len(packets)-1)*size + len(last) - m.headersLen
	headers := m.headers[:copy(m.headers[:], first[:m.headersLen])]
	binary.BigEndian.PutUint16(headers[offTotalLength:], uint16(length))
	clear(headers[offChecksum : offChecksum+2])
	binary.BigEndian.PutUint16(headers[offChecksum:], checksum(headers[:minHeaderLen]))

	transport, transportLen := headers[minHeaderLen:], length-minHeaderLen
	pseudo := fold(pseudoSum(headers, headers[offProtocol], transportLen))
	m.vnet = vnetHeader{flags: unix.VIRTIO_NET_HDR_F_NEEDS_CSUM, gsoSize: uint16(size), csumStart: minHeaderLen}
	if headers[offProtocol] == protocolTCP {
		m.vnet.gsoType, m.vnet.csumOffset = unix.VIRTIO_NET_HDR_GSO_TCPV4, offTCPChecksum
		transport[offTCPFlags] = last[minHeaderLen+offTCPFlags] // with PSH, if it has that
	} else {
		m.vnet.gsoType, m.vnet.csumOffset = unix.VIRTIO_NET_HDR_GSO_UDP_L4, offUDPChecksum
		binary.BigEndian.PutUint16(transport[offUDPLength:], uint16(transportLen))
	}
	binary.BigEndian.PutUint16(transport[m.vnet.csumOffset:], pseudo)
}
