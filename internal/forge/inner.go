package forge

import (
	"encoding/binary"
	"math/rand/v2"
	"net/netip"
)

// Addresses are those that a Generator chooses among, so that packets meet the
// rules at their edges. None may be empty.
type Addresses struct {
	Sources      []netip.Addr // of inner packets
	Destinations []netip.Addr
	Senders      []netip.Addr // of datagrams, on the underlay
	Underlay     []netip.AddrPort
}

// A Generator makes packets; the same seed makes the same ones.
type Generator struct {
	*rand.Rand
	Addresses

	id     uint16 // of the next packet
	serial uint64
}

// NewGenerator returns a generator for a seed.
func NewGenerator(seed uint64, a Addresses) *Generator {
	return &Generator{Rand: rand.New(rand.NewPCG(seed, 0)), Addresses: a}
}

func pick[T any](r *rand.Rand, of []T) T { return of[r.IntN(len(of))] }

// maxPlain is the length up to which most packets are made: they fit any path.
const maxPlain = 1400

// Packet makes an inner packet and says of which kind it is. A third is as any
// host would send it.
func (g *Generator) Packet() (kind string, packet []byte) {
	if g.IntN(3) == 0 {
		return "valid", g.valid()
	}
	k := pick(g.Rand, kinds)
	return k.name, k.make(g)
}

// kinds are the ways of a packet to be odd or damaged.
var kinds = []struct {
	name string
	make func(*Generator) []byte
}{
	{"empty", func(*Generator) []byte { return nil }},
	{"tiny", func(g *Generator) []byte { return g.valid()[:1+g.IntN(headerLen)] }},
	{"random", func(g *Generator) []byte { return g.bytes(g.IntN(maxPlain)) }},
	{"truncated", func(g *Generator) []byte { p := g.valid(); return p[:g.IntN(len(p))] }},
	{"trailing", func(g *Generator) []byte { return append(g.valid(), g.bytes(1+g.IntN(64))...) }},
	{"version", func(g *Generator) []byte { return g.set(0, byte(g.IntN(16))<<4|5) }},
	{"nibble 0", func(g *Generator) []byte { return g.set(0, byte(g.IntN(16))) }},
	{"control", (*Generator).control},
	{"ihl", func(g *Generator) []byte { return g.set(0, 0x40|byte(g.IntN(16))) }},
	{"length", (*Generator).wrongLength},
	{"ttl", func(g *Generator) []byte { return g.set(offTTL, pick(g.Rand, []byte{0, 1, 2, 255})) }},
	{"checksum", func(g *Generator) []byte { p := g.valid(); p[offChecksum] ^= 1 << g.IntN(8); return p }},
	{"fragment", (*Generator).fragment},
	{"options", (*Generator).options},
	{"flipped", (*Generator).flipped},
	{"ipv6", (*Generator).ipv6},
	{"nested", (*Generator).nested},
	{"protocol", func(g *Generator) []byte { return g.set(offProtocol, byte(g.IntN(256))) }},
	{"tos", func(g *Generator) []byte { return g.set(offTOS, byte(g.IntN(256))) }},
	{"icmp error", (*Generator).icmpError},
}

// valid makes a packet with right lengths and checksums between any two of the
// addresses.
func (g *Generator) valid() []byte {
	src := netip.AddrPortFrom(pick(g.Rand, g.Sources), uint16(1024+g.IntN(4)))
	dst := netip.AddrPortFrom(pick(g.Rand, g.Destinations), uint16(2048+g.IntN(2)))
	payload := g.payload()
	g.id++
	switch g.IntN(4) {
	case 0:
		return ipv4(src.Addr(), dst.Addr(), protoICMP, g.id, echo(payload))
	case 1:
		return ipv4(src.Addr(), dst.Addr(), protoTCP, g.id, tcp(src, dst, g.Uint32(), payload))
	default:
		return ipv4(src.Addr(), dst.Addr(), protoUDP, g.id, udp(src, dst, payload))
	}
}

// Run makes up to n packets of one flow that may be merged on their way.
func (g *Generator) Run(n int) (packets [][]byte) {
	src := netip.AddrPortFrom(pick(g.Rand, g.Sources), uint16(1024+g.IntN(4)))
	dst := netip.AddrPortFrom(pick(g.Rand, g.Destinations), uint16(2048+g.IntN(2)))
	size, sequence, isTCP := 8+g.IntN(200), g.Uint32(), g.IntN(2) == 0
	for range 1 + g.IntN(n) {
		payload := g.bytes(size)
		g.id++
		var p []byte
		if isTCP {
			p = ipv4(src.Addr(), dst.Addr(), protoTCP, g.id, tcp(src, dst, sequence, payload))
		} else {
			p = ipv4(src.Addr(), dst.Addr(), protoUDP, g.id, udp(src, dst, payload))
		}
		if g.IntN(8) == 0 { // damage that a merge must not hide
			p[len(p)-1] ^= 1
		}
		sequence += uint32(size)
		packets = append(packets, p)
	}
	return packets
}

// Oversized makes a whole packet longer than any link here carries, with DF, up
// to the longest that fits a datagram.
func (g *Generator) Oversized() []byte {
	src, dst := pick(g.Rand, g.Sources), pick(g.Rand, g.Destinations)
	const most = maxPacket - headerLen - udpHeaderLen - headerLen
	g.id++
	p := ipv4(src, dst, protoICMP, g.id, echo(g.bytes(1500+g.IntN(most-8-1500+1))))
	binary.BigEndian.PutUint16(p[offFragment:], dontFragment)
	fixHeaderChecksum(p)
	return p
}

// payload begins with a serial number, so that no two packets are the same.
func (g *Generator) payload() []byte {
	g.serial++
	size := 0
	if g.IntN(4) == 0 {
		size = g.IntN(maxPlain - headerLen - tcpHeaderLen - 8)
	}
	return append(binary.BigEndian.AppendUint64(nil, g.serial), g.bytes(size)...)
}

func (g *Generator) bytes(n int) []byte {
	b := make([]byte, n)
	for i := range b {
		b[i] = byte(g.Uint32())
	}
	return b
}

// set makes a packet with one byte of its header changed, and the checksum right.
func (g *Generator) set(offset int, value byte) []byte {
	p := g.valid()
	p[offset] = value
	fixHeaderChecksum(p)
	return p
}

// wrongLength makes a packet whose total length is a lie, often by one.
func (g *Generator) wrongLength() []byte {
	p := g.valid()
	length := uint16(len(p))
	binary.BigEndian.PutUint16(p[offLength:], pick(g.Rand, []uint16{
		length - 1, length + 1, 0, headerLen - 1, headerLen, maxPacket, uint16(g.Uint32()),
	}))
	fixHeaderChecksum(p)
	return p
}

// fragment makes any fragment: first, middle, last, overlapping, beyond the end.
func (g *Generator) fragment() []byte {
	p := g.valid()
	binary.BigEndian.PutUint16(p[offFragment:], uint16(g.Uint32()))
	fixHeaderChecksum(p)
	return p
}

// options makes a packet with up to 40 bytes of options: real ones, such as
// source routes, and nonsense with lengths that lie.
func (g *Generator) options() []byte {
	p := g.valid()
	n := 4 * (1 + g.IntN((maxHeader-headerLen)/4))
	o := g.bytes(n)
	// End, no-op, record route, timestamp, security, loose and strict source
	// route, router alert: RFC 791, RFC 2113.
	o[0] = pick(g.Rand, []byte{0, 1, 7, 68, 130, 131, 137, 148, o[0]})
	if g.IntN(2) == 0 {
		o[1] = byte(n)
	}
	p = append(append(append([]byte(nil), p[:headerLen]...), o...), p[headerLen:]...)
	p[0] = 0x40 | byte((headerLen+n)/4)
	binary.BigEndian.PutUint16(p[offLength:], uint16(len(p)))
	fixHeaderChecksum(p)
	return p
}

// flipped makes a packet with some bits of its first bytes flipped.
func (g *Generator) flipped() []byte {
	p := g.valid()
	for range 1 + g.IntN(4) {
		p[g.IntN(min(len(p), headerLen+udpHeaderLen))] ^= 1 << g.IntN(8)
	}
	return p
}

// ipv6 makes an IPv6 packet (RFC 8200) to a link-local multicast address.
func (g *Generator) ipv6() []byte {
	p := append(make([]byte, 40), g.payload()...)
	p[0] = 6 << 4
	binary.BigEndian.PutUint16(p[4:], uint16(len(p)-40))
	p[6], p[7] = protoUDP, 64
	copy(p[8:], netip.MustParseAddr("fe80::1").AsSlice())
	copy(p[24:], netip.MustParseAddr("ff02::1").AsSlice())
	return p
}

// control makes a control datagram, as docs/wire.md describes them: mostly whole,
// in the name of the holder of one of the sources.
func (g *Generator) control() []byte {
	c := g.bytes(64 + g.IntN(2)*g.IntN(maxPlain))
	c[0], c[1], c[3] = 1, byte(1+g.IntN(2)), 24
	subnet := netip.PrefixFrom(pick(g.Rand, g.Sources), 24).Masked().Addr().As4()
	copy(c[4:], subnet[:])
	c[24] &= 0x7f
	switch g.IntN(8) {
	case 0:
		c[g.IntN(8)] ^= 1 << g.IntN(8)
	case 1:
		c[24] |= 0x80
	case 2:
		c = c[:g.IntN(64)]
	}
	return c
}

// nested makes a tunnel in the tunnel: the inner packet is again a datagram to
// somebody's tunnel, or a bare packet in a packet, around a valid one.
func (g *Generator) nested() []byte {
	inside := g.valid()
	g.id++
	if g.IntN(4) == 0 {
		return ipv4(pick(g.Rand, g.Sources), pick(g.Rand, g.Destinations), protoIPIP, g.id, inside)
	}
	src, dst := pick(g.Rand, g.Underlay), pick(g.Rand, g.Underlay)
	if g.IntN(2) == 0 {
		src = netip.AddrPortFrom(pick(g.Rand, g.Sources), src.Port())
	}
	if g.IntN(2) == 0 {
		dst = netip.AddrPortFrom(pick(g.Rand, g.Destinations), dst.Port())
	}
	return ipv4(src.Addr(), dst.Addr(), protoUDP, g.id, udp(src, dst, inside))
}

// icmpError makes an error about a packet that nobody sent.
func (g *Generator) icmpError() []byte {
	quoted := g.valid()
	m := append([]byte{pick(g.Rand, []byte{3, 4, 5, 11, 12}), byte(g.IntN(16)), 0, 0}, g.bytes(4)...)
	m = append(m, quoted[:min(len(quoted), headerLen+8)]...)
	binary.BigEndian.PutUint16(m[2:], ^sum(m))
	g.id++
	return ipv4(pick(g.Rand, g.Sources), pick(g.Rand, g.Destinations), protoICMP, g.id, m)
}
