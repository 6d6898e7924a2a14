package forge

import (
	"encoding/binary"
	"net/netip"
)

// An ICMP error that a router sends, RFC 792 and RFC 1812 section 5.2.7.
type icmpError struct {
	kind, code byte
	mtu        int // of the next hop, RFC 1191; only of "fragmentation needed"
}

// errorsFor are the drop reasons that the sender of a packet is told.
var errorsFor = map[string]icmpError{
	"no-peer":     {kind: 3, code: 0},
	"loop":        {kind: 3, code: 0},
	"too-big":     {kind: 3, code: 4},
	"ttl-expired": {kind: 11, code: 0},
}

// The quote makes an error no longer than this, RFC 1812 section 4.3.2.3.
const longestError = 576

// answer is the ICMP error that the sender of a dropped packet gets, but for the
// rate limits; nil: none. The packet is as long as its header says; it may go to a
// peer.
func (r Rules) answer(packet []byte, drop string, to *Lease) []byte {
	e, told := errorsFor[drop]
	if !told || r.forbidden(packet, to) {
		return nil
	}
	if drop == "too-big" {
		e.mtu = to.PathMTU
	}
	src, _ := addresses(packet)
	quote := packet[:min(len(packet), longestError-headerLen-8)]
	m := append([]byte{e.kind, e.code, 0, 0, 0, 0, 0, 0}, quote...)
	binary.BigEndian.PutUint16(m[6:], uint16(e.mtu))
	binary.BigEndian.PutUint16(m[2:], ^sum(m))
	p := ipv4(r.Own.Addr(), src, protoICMP, 0, m)
	p[offTOS] = 6 << 5 // precedence internetwork control, RFC 1812 section 4.3.2.5
	binary.BigEndian.PutUint16(p[offFragment:], dontFragment)
	fixHeaderChecksum(p)
	return p
}

// forbidden tells whether no error may be sent about a packet: the list of RFC 1812
// section 4.3.2.7, in its order.
func (r Rules) forbidden(packet []byte, to *Lease) bool {
	src, dst := addresses(packet)
	header := packet[:int(packet[0]&0xf)*4]
	switch {
	case packet[offProtocol] == protoICMP && isError(packet[len(header):]):
		return true
	case sum(header) != 0xffff: // fails the validation of section 5.2.2
		return true
	case isMany(dst) || to != nil && dst == lastOf(to.Subnet):
		return true
	case isMany(src) || isNetwork(src, 0) || isNetwork(src, 127):
		return true
	case binary.BigEndian.Uint16(packet[offFragment:])&0x1fff != 0:
		return true
	}
	return false
}

// isError tells whether an ICMP message is an error; one without a type may be.
func isError(message []byte) bool {
	if len(message) == 0 {
		return true
	}
	switch message[0] {
	case 3, 4, 5, 11, 12: // unreachable, source quench, redirect, time exceeded, parameter problem
		return true
	}
	return false
}

// isMany tells of an address that is not one host's: multicast, reserved, broadcast.
func isMany(a netip.Addr) bool { return a.As4()[0] >= 224 }

// isNetwork tells whether an address is in the network with the given first byte.
func isNetwork(a netip.Addr, first byte) bool { return a.As4()[0] == first }
