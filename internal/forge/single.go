package forge

import (
	"encoding/binary"
	"net/netip"
)

// UDP is a packet with a datagram, both whole.
func UDP(from, to netip.AddrPort, payload []byte) []byte {
	return ipv4(from.Addr(), to.Addr(), protoUDP, 1, udp(from, to, payload))
}

// ICMPError is an ICMP error about a packet, of which it quotes the header and 8
// bytes, as anybody can send it. The MTU is that of "fragmentation needed".
func ICMPError(from, to netip.Addr, kind, code byte, mtu uint16, about []byte) []byte {
	m := append([]byte{kind, code, 0, 0, 0, 0, 0, 0}, about[:min(len(about), headerLen+8)]...)
	binary.BigEndian.PutUint16(m[6:], mtu)
	binary.BigEndian.PutUint16(m[2:], ^sum(m))
	return ipv4(from, to, protoICMP, 1, m)
}

// Control is a control datagram of docs/wire.md in the name of a subnet's holder,
// with anything in the other fields.
func (g *Generator) Control(kind byte, subnet netip.Prefix, length int) []byte {
	c := g.bytes(length)
	c[0], c[1], c[2], c[3] = 1, kind, byte(g.IntN(2)), byte(subnet.Bits())
	copy(c[4:], subnet.Addr().AsSlice())
	c[24] &= 0x7f
	return c
}
