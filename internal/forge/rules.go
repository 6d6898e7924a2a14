package forge

import (
	"encoding/binary"
	"net/netip"
	"slices"

	xipv4 "golang.org/x/net/ipv4"
)

// Lease is one peer as the daemon under test knows it.
type Lease struct {
	Subnet   netip.Prefix
	Endpoint netip.AddrPort
	Twill    bool // speaks with control datagrams
	PathMTU  int  // the longest packet that its path takes; 0: any
}

// Rules tell what has to become of a packet. They are written down once more
// here, from the design, without a thought for speed.
type Rules struct {
	Own    netip.Prefix // the daemon's subnet
	Host   []netip.Addr // addresses of the daemon's host
	Leases []Lease      // of the peers; no two overlap
	Check  string       // --spoof-check: strict, source or off
	ToAll  bool         // --directed-broadcast
}

// Fate is what becomes of a packet: it is dropped for a reason, or it goes on.
type Fate struct {
	Drop    string         // the reason's name in `twill status`; "": none
	Peer    *Lease         // that the packet is counted with; nil: none
	Answer  []byte         // outbound: the ICMP error that its sender gets, but for rate limits; nil: none
	Packet  []byte         // what goes on
	To      netip.AddrPort // outbound: the peer's endpoint
	Control bool           // inbound: the daemon takes it for itself
}

// Inbound is the fate of the payload of a datagram from an underlay address, with
// the TOS byte that it arrived with.
func (r Rules) Inbound(from netip.Addr, tos byte, payload []byte) Fate {
	if len(payload) > 0 && payload[0]>>4 == 0 {
		return r.control(from, payload)
	}
	h, drop := parse(payload)
	if drop != "" {
		return Fate{Drop: drop}
	}
	src, dst := addresses(payload)
	sender := r.lease(src)
	if sender == nil || sender.Endpoint.Addr() != from {
		sender = r.at(from)
	}
	if drop := r.checkSource(from, src); drop != "" {
		return Fate{Drop: drop, Peer: sender}
	}
	if !r.Own.Contains(dst) {
		return Fate{Drop: "not-for-us", Peer: sender}
	}
	if dst == lastOf(r.Own) && !r.ToAll {
		return Fate{Drop: "multicast", Peer: sender}
	}
	fate := decapsulated(payload[:h.TotalLen], tos, sender != nil && sender.Twill)
	fate.Peer = sender
	return fate
}

// checkSource judges where an inbound packet says that it is from.
func (r Rules) checkSource(from, src netip.Addr) (drop string) {
	if r.Check != "off" && !r.isEndpoint(from) {
		return "unknown-endpoint"
	}
	holder := r.lease(src)
	if r.Check == "strict" && (holder == nil || holder.Endpoint.Addr() != from) {
		return "spoofed-source"
	}
	ours := r.Own.Contains(src) || slices.Contains(r.Host, src)
	if ours || isMany(src) || isNetwork(src, 0) || isNetwork(src, 127) || holder != nil && src == lastOf(holder.Subnet) {
		return "martian"
	}
	return ""
}

// The ECN field, RFC 3168 section 5.
const (
	notECT = 0
	ect1   = 1
	ect0   = 2
	ce     = 3
)

// decapsulated is a packet with the ECN field that RFC 6040 section 4.2 gives it,
// and from a twill peer with the DSCP of the outer header.
func decapsulated(packet []byte, outer byte, twill bool) Fate {
	tos := packet[offTOS]
	switch inner, mark := tos&3, outer&3; {
	case mark == ce && inner == notECT:
		return Fate{Drop: "ecn"}
	case mark == ce:
		tos |= ce
	case mark == ect1 && inner == ect0:
		tos ^= ect0 | ect1
	}
	if twill {
		tos = outer&^3 | tos&3
	}
	if tos == packet[offTOS] {
		return Fate{Packet: packet}
	}
	return Fate{Packet: changed(packet, offTOS, tos)}
}

// control is the fate of a control datagram: only a twill peer that speaks for
// its own lease from its own endpoint is heard, whatever the check.
func (r Rules) control(from netip.Addr, payload []byte) Fate {
	const length, version, probe, reply = 64, 1, 1, 2
	if len(payload) < length || payload[0] != version || payload[1] != probe && payload[1] != reply {
		return Fate{Drop: "control"}
	}
	addr, bits := netip.AddrFrom4([4]byte(payload[4:])), int(payload[3])
	negativeHold := payload[24]&0x80 != 0
	if bits > 32 || netip.PrefixFrom(addr, bits).Masked().Addr() != addr || negativeHold {
		return Fate{Drop: "control"}
	}
	l := r.lease(addr)
	if l == nil || l.Subnet.Bits() != bits || l.Endpoint.Addr() != from {
		if r.isEndpoint(from) {
			return Fate{Drop: "spoofed-source", Peer: r.at(from)}
		}
		return Fate{Drop: "unknown-endpoint"}
	}
	if !l.Twill {
		return Fate{Drop: "control", Peer: l}
	}
	return Fate{Control: true, Peer: l}
}

// Outbound is the fate of a packet that the daemon reads from its device.
func (r Rules) Outbound(packet []byte) Fate {
	h, drop := parse(packet)
	if drop != "" {
		return Fate{Drop: drop}
	}
	packet = packet[:h.TotalLen]
	_, dst := addresses(packet)
	to := r.lease(dst)
	if drop := r.checkOutbound(h, packet, to); drop != "" {
		if drop == "foreign-source" || drop == "martian" { // nobody has looked where it goes
			to = nil
		}
		return Fate{Drop: drop, Peer: to, Answer: r.answer(packet, drop, to)}
	}
	return Fate{Peer: to, Packet: oneHopLess(packet), To: to.Endpoint}
}

// checkOutbound is why a packet to the pods of a peer, nil if there is none, does
// not go out.
func (r Rules) checkOutbound(h *xipv4.Header, packet []byte, to *Lease) (drop string) {
	src, dst := addresses(packet)
	switch {
	case r.Check == "strict" && !r.Own.Contains(src) && !slices.Contains(r.Host, src):
		return "foreign-source"
	case src == lastOf(r.Own) || isMany(src) || isNetwork(src, 0) || isNetwork(src, 127):
		return "martian"
	case dst.IsMulticast() || dst == netip.AddrFrom4([4]byte{255, 255, 255, 255}):
		return "multicast"
	case r.Own.Contains(dst):
		return "own-subnet"
	case to == nil && r.isEndpoint(dst):
		return "loop"
	case to == nil:
		return "no-peer"
	case dst == lastOf(to.Subnet) && !r.ToAll:
		return "multicast"
	case h.TTL <= 1:
		return "ttl-expired"
	case to.PathMTU != 0 && len(packet) > to.PathMTU && h.Flags&xipv4.DontFragment != 0:
		return "too-big"
	}
	return ""
}

// parse reads the header of a packet, or tells why it is none.
func parse(packet []byte) (h *xipv4.Header, drop string) {
	if len(packet) > 0 && packet[0]>>4 == 6 {
		return nil, "ipv6"
	}
	h, err := xipv4.ParseHeader(packet)
	if err != nil || h.Version != 4 || h.Len < headerLen || h.TotalLen < h.Len || h.TotalLen > len(packet) {
		return nil, "bad-header"
	}
	return h, ""
}

func (r Rules) lease(a netip.Addr) *Lease {
	for i, l := range r.Leases {
		if l.Subnet.Contains(a) {
			return &r.Leases[i]
		}
	}
	return nil
}

// lastOf is a subnet's broadcast address.
func lastOf(p netip.Prefix) netip.Addr {
	last := p.Masked().Addr()
	for p.Contains(last.Next()) {
		last = last.Next()
	}
	return last
}

func (r Rules) isEndpoint(a netip.Addr) bool { return r.at(a) != nil }

// at is the last lease with an endpoint at the address.
func (r Rules) at(a netip.Addr) (l *Lease) {
	for i := range r.Leases {
		if r.Leases[i].Endpoint.Addr() == a {
			l = &r.Leases[i]
		}
	}
	return l
}

// oneHopLess is the packet as a router passes it on.
func oneHopLess(packet []byte) []byte { return changed(packet, offTTL, packet[offTTL]-1) }

// changed is a packet with another byte in its header. A header checksum that was
// wrong is wrong by as much afterwards, as RFC 1624 says.
func changed(packet []byte, offset int, value byte) []byte {
	p := append([]byte(nil), packet...)
	word := offset &^ 1
	words := make([]byte, 0, 6) // ~HC, ~m, m'
	words = binary.BigEndian.AppendUint16(words, ^binary.BigEndian.Uint16(p[offChecksum:]))
	words = binary.BigEndian.AppendUint16(words, ^binary.BigEndian.Uint16(p[word:]))
	p[offset] = value
	words = append(words, p[word:word+2]...)
	binary.BigEndian.PutUint16(p[offChecksum:], ^sum(words))
	return p
}
