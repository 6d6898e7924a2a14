package forge

import (
	"encoding/binary"
	"net"
	"net/netip"
)

// Datagram is a UDP datagram on its way to the daemon's port.
type Datagram struct {
	Kind    string
	From    netip.AddrPort
	TOS     byte // DSCP and ECN
	Payload []byte
	Damage  Damage
}

// Damage is what is wrong with the datagram itself.
type Damage int

// A kernel passes only what is undamaged on to a socket. The first three are.
const (
	Whole         Damage = iota
	NoChecksum           // UDP checksum 0: none, RFC 768
	InFragments          // two IP fragments, out of order
	BadChecksum          // of UDP
	LongLength           // UDP length beyond the packet
	LostFragment         // the first fragment alone
	BadIPChecksum        // of the outer header
	OtherPort            // not the daemon's
	damages
)

// Arrives tells whether a kernel passes the datagram on.
func (d *Datagram) Arrives() bool { return d.Damage <= InFragments }

// Datagram wraps a packet: mostly undamaged, from any of the senders.
func (g *Generator) Datagram(kind string, packet []byte) Datagram {
	d := Datagram{Kind: kind, Payload: packet, From: netip.AddrPortFrom(pick(g.Rand, g.Senders), uint16(1024+g.IntN(3)))}
	if g.IntN(2) == 0 {
		d.TOS = byte(g.IntN(256))
	}
	if g.IntN(8) == 0 {
		d.Damage = Damage(g.IntN(int(damages)))
	}
	return d
}

// Datagrams makes about n datagrams, with runs of a flow from one sender among
// them, and now and then one that is as long as can be.
func (g *Generator) Datagrams(n int) (all []Datagram) {
	for len(all) < n {
		switch g.IntN(20) {
		case 0:
			sender := g.Datagram("run", nil)
			for _, p := range g.Run(20) {
				sender.Payload, sender.Damage = p, Whole
				all = append(all, sender)
			}
		case 1:
			if g.IntN(8) == 0 {
				all = append(all, g.Datagram("oversized", g.Oversized()))
			}
		default:
			all = append(all, g.Datagram(g.Packet()))
		}
	}
	return all
}

// Frames are the Ethernet frames that carry the datagram to an address over a
// link with the given MTU.
func (d *Datagram) Frames(to netip.AddrPort, ethernet Ethernet, mtu int, id uint16) (frames [][]byte) {
	if d.Damage == OtherPort {
		to = netip.AddrPortFrom(to.Addr(), to.Port()+1)
	}
	transport := udp(d.From, to, d.Payload)
	switch d.Damage {
	case NoChecksum:
		binary.BigEndian.PutUint16(transport[6:], 0)
	case BadChecksum:
		transport[6] ^= 0x55
		transport[7] |= 1 // not 0, which would be none
	case LongLength:
		binary.BigEndian.PutUint16(transport[4:], uint16(len(transport)+1))
	}
	packet := ipv4(d.From.Addr(), to.Addr(), protoUDP, d.id(id), transport)
	packet[offTOS] = d.TOS
	fixHeaderChecksum(packet)
	if len(d.Payload) > 0 && (d.Damage == InFragments || d.Damage == LostFragment) {
		mtu = min(mtu, headerLen+(len(transport)/2+7)&^7)
	}
	packets := fragments(packet, mtu)
	switch d.Damage {
	case InFragments:
		packets[0], packets[len(packets)-1] = packets[len(packets)-1], packets[0]
	case LostFragment:
		packets = packets[:1]
		binary.BigEndian.PutUint16(packets[0][offFragment:], moreFragments)
		fixHeaderChecksum(packets[0])
	case BadIPChecksum:
		packets[0][offChecksum] ^= 0x55
	}
	for _, p := range packets {
		frames = append(frames, ethernet.Frame(p))
	}
	return frames
}

// id is the outer IP ID: what never becomes whole has IDs of its own, so that it
// is not completed by a later datagram.
func (d *Datagram) id(n uint16) uint16 {
	if d.Arrives() {
		return n &^ 0x8000
	}
	return n | 0x8000
}

// fragments cuts a packet as RFC 791 section 3.2 says, into pieces of at most
// mtu bytes with their header; a packet that fits is one piece.
func fragments(packet []byte, mtu int) (pieces [][]byte) {
	if len(packet) <= mtu {
		return [][]byte{packet}
	}
	payload := packet[headerLen:]
	step := (mtu - headerLen) &^ 7
	for at := 0; at < len(payload); at += step {
		end := min(at+step, len(payload))
		p := append(append([]byte(nil), packet[:headerLen]...), payload[at:end]...)
		field := uint16(at / 8)
		if end < len(payload) {
			field |= moreFragments
		}
		binary.BigEndian.PutUint16(p[offFragment:], field)
		binary.BigEndian.PutUint16(p[offLength:], uint16(len(p)))
		fixHeaderChecksum(p)
		pieces = append(pieces, p)
	}
	return pieces
}

// Ethernet is the addressing of a frame.
type Ethernet struct {
	From, To net.HardwareAddr
}

const (
	ethernetHeaderLen = 14
	ethertypeIPv4     = 0x0800
)

// Frame is a frame around an IPv4 packet.
func (e Ethernet) Frame(packet []byte) []byte {
	f := append(append([]byte(nil), e.To...), e.From...)
	f = binary.BigEndian.AppendUint16(f, ethertypeIPv4)
	return append(f, packet...)
}
