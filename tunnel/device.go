package tunnel

import (
	"net/netip"
	"syscall"
	"time"
)

// A Packet is one IPv4 packet on its way through the tunnel. It may be gathered from two pieces of memory, so that the
// segments of a large send can each have a header of their own and share the rest.
type Packet struct {
	// Head starts with the IP header and holds at least the IP and the transport header, if the packet has that much.
	Head []byte
	// Tail continues Head; empty where the packet lies in one piece.
	Tail []byte
	// Peer is the host that an outbound packet goes to, or an inbound packet comes from (nil if SpoofOff let it in
	// from an unknown host).
	Peer *Peer
	// SourcePort says from which of the Conn's source ports an outbound packet leaves, 0 to SourcePorts - 1.
	SourcePort int
	// TOS is that of the outer packet of an outbound packet.
	TOS byte
	// Limit is the length of the largest fragment that an outbound packet without DF is to be cut into; 0: it fits.
	Limit int
	// Offload is what the kernel left undone of a packet that it handed over: its checksum, to cut it into segments.
	// Zero where the packet is complete, as it is everywhere but between Queue.Read and the split.
	Offload vnetHeader
}

// Len returns the length of the packet.
func (p *Packet) Len() int { return len(p.Head) + len(p.Tail) }

// trim cuts the packet down to length bytes.
func (p *Packet) trim(length int) {
	if length <= len(p.Head) {
		p.Head, p.Tail = p.Head[:length], nil
		return
	}
	p.Tail = p.Tail[:length-len(p.Head)]
}

// A Datagram is the payload of one UDP datagram, with where it came from.
type Datagram struct {
	Data []byte
	// From is the address and port of the sender, IPv4 in its plain form (not mapped into IPv6).
	From netip.AddrPort
	// TOS is that of the outer packet.
	TOS byte
	// Truncated says that the datagram was longer than the buffer it was received into.
	Truncated bool
}

// A Device is an open TUN device.
type Device interface {
	Name() string
	// Queues returns the queues that were opened. The kernel keeps the packets of a flow on one queue: the one that
	// packets of the flow's other direction were last written to.
	Queues() []Queue
	// Modes says which offloads the device uses, none in the plain mode.
	Modes() []Mode
	// Close ends reads and writes with an error.
	Close() error
}

// A Queue is one queue of a Device. Read, Write and Inject may be called at the same time, each by one goroutine.
type Queue interface {
	syscall.Conn // to hand its descriptor on, see OpenConfig.Adopt
	// Read waits for a packet, then takes what else is there without waiting. The packets are the Queue's and valid until
	// the next Read; the caller may change them. After the deadline the error is os.ErrDeadlineExceeded, when the
	// device was deleted it is unix.EBADFD.
	Read() ([]Packet, error)
	// Write hands packets, each in one piece, to the kernel. It returns the fate of the first n of them, n at least 1:
	// the kernel took them, or refused them for the reason that the error gives. The caller goes on with the others.
	// Write does not wait.
	Write(packets []Packet) (n int, err error)
	// Inject is Write for one packet that the tunnel itself has made.
	Inject(packet []byte) error
	// SetReadDeadline ends reads, waiting and to come, at t.
	SetReadDeadline(t time.Time) error
}

// A Conn is one UDP socket. Receive and Send may be called at the same time, each by one goroutine.
type Conn interface {
	syscall.Conn // to hand its descriptor on, see ListenConfig.Adopt
	// Receive waits for a datagram, then takes what else is there without waiting. The datagrams are the Conn's and
	// valid until the next Receive. After the deadline the error is, or wraps, os.ErrDeadlineExceeded.
	Receive() ([]Datagram, error)
	// SourcePorts returns from how many ports Send can send. Port 0 is that of LocalAddr.
	SourcePorts() int
	// Send sends each packet as one datagram to its peer's endpoint. It returns the fate of the first n of them, n at
	// least 1: the kernel took them, or refused them for the reason that the error gives. The caller goes on with the
	// others. Send waits for room in the socket's send buffer until the deadline.
	Send(packets []Packet) (n int, err error)
	// SendControl sends a control datagram, with DF, from source port 0. It may be called beside Send by one goroutine.
	SendControl(data []byte, to netip.AddrPort) error
	// PathMTU returns what the kernel knows of the path: the length in bytes of the largest outer packet, by the interface, the route
	// and the ICMP messages that came in. It may be called as SendControl.
	PathMTU(to netip.AddrPort) (int, error)
	// LocalAddr returns the address that the socket is bound to.
	LocalAddr() netip.AddrPort
	// Modes says which offloads the socket uses. They are those of its whole group.
	Modes() []Mode
	// SetReadDeadline ends Receive, SetWriteDeadline ends Send, waiting and to come, at t.
	SetReadDeadline(t time.Time) error
	SetWriteDeadline(t time.Time) error
	// Close ends Receive and Send with an error.
	Close() error
}
