package tunnel

import (
	"encoding/binary"
	"net/netip"
	"sync/atomic"
	"time"
	"unsafe"

	"golang.org/x/sys/cpu"
	"golang.org/x/sys/unix"
)

// A Peer is one remote host: the subnet of its pods and where its tunnel listens. It keeps its counters through every
// Table that it is put into.
type Peer struct {
	subnet    netip.Prefix
	endpoint  netip.AddrPort
	broadcast netip.Addr            // of subnet, see broadcastOf
	twill     bool                  // runs twill, see NewTwillPeer
	sockaddr  unix.RawSockaddrInet4 // endpoint, as the kernel takes it
	// limit is the length of the largest packet that the path to the peer takes, maxPacket as long as nothing else is known.
	limit atomic.Int32
	path  atomic.Pointer[path] // nil until the prober has to do with the peer

	// The two directions are counted by different goroutines, on cache lines of their own.
	_        cpu.CacheLinePad
	tx       traffic
	_        cpu.CacheLinePad
	rx       traffic
	lastSeen atomic.Int64 // Unix time in ns, 0: never
	_        cpu.CacheLinePad
	drops    [numDropReasons]atomic.Uint64
	// claims is from where control datagrams last came that name the peer's subnet, but not from its endpoint.
	claims lastSighting
}

// traffic counts packets and their bytes.
type traffic struct {
	packets, bytes atomic.Uint64
}

func (t *traffic) add(packets, bytes uint64) {
	t.packets.Add(packets)
	t.bytes.Add(bytes)
}

// PeerStats counts what was exchanged with a peer since the Peer was made. Bytes are those of the inner packets.
type PeerStats struct {
	TxPackets, TxBytes uint64
	RxPackets, RxBytes uint64
	// Drops counts packets to the peer that could not be sent, and packets from it that were not accepted, by DropReason.
	Drops [numDropReasons]uint64
	// LastSeen is when the last packet or control datagram was accepted from the peer; zero if none was.
	LastSeen time.Time
	// Claimed is from where control datagrams that name the peer's subnet last came, but not from its endpoint. They are
	// dropped: the peer's lease names another address than it sends from, or somebody else uses its name.
	Claimed Sighting
	// Path is what is known of the way to the peer and back.
	Path PathStats
}

// Dropped returns how many packets were dropped for any reason.
func (s *PeerStats) Dropped() uint64 { return sumDrops(&s.Drops) }

// NewPeer returns the peer that holds subnet and listens at endpoint, both IPv4. Nothing is expected of it but that it carries
// packets as Flannel's udp backend does.
func NewPeer(subnet netip.Prefix, endpoint netip.AddrPort) *Peer {
	endpoint = netip.AddrPortFrom(endpoint.Addr().Unmap(), endpoint.Port())
	p := &Peer{subnet: subnet.Masked(), endpoint: endpoint, broadcast: broadcastOf(subnet)}
	p.limit.Store(maxPacket)
	p.sockaddr.Family = unix.AF_INET
	p.sockaddr.Addr = endpoint.Addr().As4()
	binary.BigEndian.PutUint16((*[2]byte)(unsafe.Pointer(&p.sockaddr.Port))[:], endpoint.Port())
	return p
}

// NewTwillPeer returns a peer like NewPeer's that runs twill. It does not look at the port that packets come from: flows to it
// leave from several ports, where there are several sockets.
func NewTwillPeer(subnet netip.Prefix, endpoint netip.AddrPort) *Peer {
	p := NewPeer(subnet, endpoint)
	p.twill = true
	return p
}

// broadcastOf returns the last address of an IPv4 subnet (RFC 919); it is invalid where there is none, with 31 bits (RFC 3021) and 32,
// and for the zero Prefix.
func broadcastOf(subnet netip.Prefix) netip.Addr {
	bits := subnet.Bits()
	if bits < 0 || bits >= 31 {
		return netip.Addr{}
	}
	last := binary.BigEndian.Uint32(subnet.Addr().AsSlice()) | (1<<(32-bits) - 1)
	return netip.AddrFrom4([4]byte(binary.BigEndian.AppendUint32(nil, last)))
}

// Subnet returns the subnet whose packets go to the peer.
func (p *Peer) Subnet() netip.Prefix { return p.subnet }

// Endpoint returns the underlay address and port at which the peer listens.
func (p *Peer) Endpoint() netip.AddrPort { return p.endpoint }

// Stats returns the counters as they are now.
func (p *Peer) Stats() PeerStats {
	s := PeerStats{
		TxPackets: p.tx.packets.Load(),
		TxBytes:   p.tx.bytes.Load(),
		RxPackets: p.rx.packets.Load(),
		RxBytes:   p.rx.bytes.Load(),
		Claimed:   p.claims.load(),
	}
	for reason := range p.drops {
		s.Drops[reason] = p.drops[reason].Load()
	}
	known := p.path.Load()
	if known == nil {
		known = &path{}
	}
	s.Path = known.stats(time.Now())
	if limit := p.limit.Load(); limit != maxPacket {
		s.Path.MTU = int(limit)
	}
	if ns := p.lastSeen.Load(); ns != 0 {
		s.LastSeen = time.Unix(0, ns)
	}
	return s
}

// drop counts n packets to or from the peer.
func (p *Peer) drop(reason DropReason, n int) { p.drops[reason].Add(uint64(n)) }

// peerRun returns how many packets at the start of a burst, at least one, have the same peer, and their bytes.
func peerRun(packets []Packet) (n int, bytes uint64) {
	for n < len(packets) && packets[n].Peer == packets[0].Peer {
		bytes += uint64(packets[n].Len())
		n++
	}
	return n, bytes
}
