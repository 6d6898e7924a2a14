package forge

import (
	"encoding/binary"
	"net/netip"
)

// Offsets in an IPv4 header, RFC 791 section 3.1.
const (
	headerLen   = 20 // without options
	maxHeader   = 60
	maxPacket   = 65535
	offTOS      = 1
	offLength   = 2
	offID       = 4
	offFragment = 6 // 3 flags, then 13 bits of offset in units of 8 bytes
	offTTL      = 8
	offProtocol = 9
	offChecksum = 10
	offSource   = 12
	offDest     = 16

	dontFragment  = 0x4000
	moreFragments = 0x2000
)

// Protocol numbers, and the lengths of the headers behind them.
const (
	protoICMP = 1
	protoIPIP = 4
	protoTCP  = 6
	protoUDP  = 17

	udpHeaderLen = 8
	tcpHeaderLen = 20
)

// ipv4 makes a packet with a right header. Fields other than those given are
// the usual: no options, no fragment, TTL 64.
func ipv4(src, dst netip.Addr, protocol byte, id uint16, payload []byte) []byte {
	p := make([]byte, headerLen+len(payload))
	p[0] = 0x45
	binary.BigEndian.PutUint16(p[offLength:], uint16(len(p)))
	binary.BigEndian.PutUint16(p[offID:], id)
	p[offTTL] = 64
	p[offProtocol] = protocol
	copy(p[offSource:], src.AsSlice())
	copy(p[offDest:], dst.AsSlice())
	copy(p[headerLen:], payload)
	fixHeaderChecksum(p)
	return p
}

// fixHeaderChecksum makes the checksum right for the header as long as its IHL
// says, where that many bytes are there.
func fixHeaderChecksum(p []byte) {
	n := int(p[0]&0xf) * 4
	if n < headerLen || n > len(p) {
		return
	}
	binary.BigEndian.PutUint16(p[offChecksum:], 0)
	binary.BigEndian.PutUint16(p[offChecksum:], ^sum(p[:n]))
}

// udp makes a UDP datagram with a right checksum.
func udp(src, dst netip.AddrPort, payload []byte) []byte {
	d := make([]byte, udpHeaderLen+len(payload))
	binary.BigEndian.PutUint16(d[0:], src.Port())
	binary.BigEndian.PutUint16(d[2:], dst.Port())
	binary.BigEndian.PutUint16(d[4:], uint16(len(d)))
	copy(d[udpHeaderLen:], payload)
	binary.BigEndian.PutUint16(d[6:], transportChecksum(src.Addr(), dst.Addr(), protoUDP, d))
	return d
}

// tcp makes a TCP segment with ACK set and a right checksum.
func tcp(src, dst netip.AddrPort, sequence uint32, payload []byte) []byte {
	s := make([]byte, tcpHeaderLen+len(payload))
	binary.BigEndian.PutUint16(s[0:], src.Port())
	binary.BigEndian.PutUint16(s[2:], dst.Port())
	binary.BigEndian.PutUint32(s[4:], sequence)
	s[12] = tcpHeaderLen / 4 << 4
	s[13] = 0x10                                // ACK
	binary.BigEndian.PutUint16(s[14:], 1<<16-1) // window
	copy(s[tcpHeaderLen:], payload)
	binary.BigEndian.PutUint16(s[16:], transportChecksum(src.Addr(), dst.Addr(), protoTCP, s))
	return s
}

// echo makes an ICMP echo request with a right checksum.
func echo(payload []byte) []byte {
	m := append([]byte{8, 0, 0, 0, 0, 0, 0, 0}, payload...)
	binary.BigEndian.PutUint16(m[2:], ^sum(m))
	return m
}

// transportChecksum is the checksum of a TCP segment or UDP datagram whose
// checksum field is 0, with the pseudo header of RFC 768. UDP sends 0 as 0xffff.
func transportChecksum(src, dst netip.Addr, protocol byte, data []byte) uint16 {
	pseudo := append(src.AsSlice(), dst.AsSlice()...)
	pseudo = append(pseudo, 0, protocol)
	pseudo = binary.BigEndian.AppendUint16(pseudo, uint16(len(data)))
	c := ^sum(append(pseudo, data...))
	if c == 0 && protocol == protoUDP {
		return 0xffff
	}
	return c
}

func addresses(packet []byte) (src, dst netip.Addr) {
	return netip.AddrFrom4([4]byte(packet[offSource:])), netip.AddrFrom4([4]byte(packet[offDest:]))
}

// sum is the one's complement sum of RFC 1071 over b.
func sum(b []byte) uint16 {
	var s uint32
	for i := 0; i+1 < len(b); i += 2 {
		s += uint32(b[i])<<8 | uint32(b[i+1])
	}
	if len(b)%2 == 1 {
		s += uint32(b[len(b)-1]) << 8
	}
	for s > 0xffff {
		s = s>>16 + s&0xffff
	}
	return uint16(s)
}
