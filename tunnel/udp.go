package tunnel

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"syscall"
	"time"
	"unsafe"

	"golang.org/x/net/ipv4"
	"golang.org/x/sys/unix"
)

// socketBuffer is the size asked for the send and the receive buffer of each socket, in bytes; the kernel doubles it for its
// own bookkeeping. It holds what a 10 Gb/s link delivers in 3 ms, in which a busy machine gives us the CPU.
const socketBuffer = 4 << 20

// Listen opens n UDP sockets on addr, an IPv4 address of this host and a port (0: any free one). Between several the kernel
// divides what arrives by the flow of the outer header.
func Listen(addr netip.AddrPort, n int) ([]Conn, error) {
	if !addr.Addr().Is4() {
		return nil, fmt.Errorf("listen on UDP %s: want an IPv4 address", addr)
	}
	if n < 1 || n > maxQueues {
		return nil, fmt.Errorf("listen on UDP %s with %d sockets: want 1 to %d", addr, n, maxQueues)
	}
	conns, err := listenGroup(addr, n)
	if err != nil {
		for _, c := range conns {
			c.Close()
		}
		return nil, fmt.Errorf("listen on UDP %s: %w", addr, explainListen(err))
	}
	return conns, nil
}

// listenGroup returns the sockets it opened also with an error.
//
// SO_REUSEPORT lets a process of the same user join the group, so another twill on the same port would go unnoticed and take
// part of the packets. So the first socket is bound without it, which fails if anybody holds the port, and gets the option
// after that; only then the others can join.
func listenGroup(addr netip.AddrPort, n int) ([]Conn, error) {
	first, err := listenUDP(addr, false)
	if err != nil {
		return nil, err
	}
	conns := []Conn{first}
	if n == 1 {
		return conns, nil
	}
	if err := first.setReusePort(); err != nil {
		return conns, err
	}
	for len(conns) < n {
		next, err := listenUDP(first.LocalAddr(), true)
		if err != nil {
			return conns, err
		}
		conns = append(conns, next)
	}
	return conns, nil
}

func explainListen(err error) error {
	switch {
	case errors.Is(err, unix.EADDRINUSE):
		return fmt.Errorf("%w: another process, perhaps another twill or flanneld, has the port", err)
	case errors.Is(err, unix.EADDRNOTAVAIL):
		return fmt.Errorf("%w: the address is not on any interface of this host", err)
	case errors.Is(err, unix.EACCES):
		return fmt.Errorf("%w: ports below net.ipv4.ip_unprivileged_port_start need CAP_NET_BIND_SERVICE", err)
	}
	return err
}

// udpConn is a Conn that sends and receives one packet a datagram, up to a burst in one system call.
type udpConn struct {
	conn     *net.UDPConn
	raw      syscall.RawConn
	local    netip.AddrPort
	receiver receiver
	sender   sender
}

func listenUDP(addr netip.AddrPort, reusePort bool) (*udpConn, error) {
	config := net.ListenConfig{Control: func(_, _ string, raw syscall.RawConn) error {
		return control(raw, func(fd int) error { return setOptions(fd, reusePort) })
	}}
	packetConn, err := config.ListenPacket(context.Background(), "udp4", addr.String())
	if err != nil {
		// An OpError says the address again, which the caller says.
		if opErr := (*net.OpError)(nil); errors.As(err, &opErr) {
			err = opErr.Err
		}
		return nil, err
	}
	conn := packetConn.(*net.UDPConn)
	raw, err := conn.SyscallConn()
	if err != nil {
		conn.Close()
		return nil, err
	}
	local := conn.LocalAddr().(*net.UDPAddr).AddrPort()
	c := &udpConn{conn: conn, raw: raw, local: netip.AddrPortFrom(local.Addr().Unmap(), local.Port())}
	c.receiver.init(raw)
	c.sender.init(conn)
	return c, nil
}

// control calls set with the socket's descriptor.
func control(raw syscall.RawConn, set func(fd int) error) error {
	var err error
	if e := raw.Control(func(fd uintptr) { err = set(int(fd)) }); e != nil {
		return e
	}
	return err
}

// setOptions sets the options that a socket has before it is bound.
func setOptions(fd int, reusePort bool) error {
	if reusePort {
		if err := setReusePort(fd); err != nil {
			return err
		}
	}
	// Every outer packet carries DF and is as large as its inner packet asks, or is refused with EMSGSIZE if the
	// interface cannot take it:
	//  - DONT, and WANT once a smaller path MTU is known, would fragment. One lost fragment loses the packet, and
	//    fragments of one host pair share an ID space of 16 bits, which a fast tunnel wraps within their lifetime
	//    (RFC 4963).
	//  - DO follows the path MTU that ICMP messages set in the route cache of the host. Anyone who knows two addresses
	//    can forge these, and stop all larger packets of the tunnel for ten minutes.
	//  - PROBE sets DF and looks at the interface's MTU alone, as a tunnel that finds its path MTU itself has to.
	if err := unix.SetsockoptInt(fd, unix.IPPROTO_IP, unix.IP_MTU_DISCOVER, unix.IP_PMTUDISC_PROBE); err != nil {
		return fmt.Errorf("set IP_MTU_DISCOVER: %w", err)
	}
	if err := setBuffer(fd, unix.SO_RCVBUFFORCE, unix.SO_RCVBUF); err != nil {
		return fmt.Errorf("set SO_RCVBUF: %w", err)
	}
	if err := setBuffer(fd, unix.SO_SNDBUFFORCE, unix.SO_SNDBUF); err != nil {
		return fmt.Errorf("set SO_SNDBUF: %w", err)
	}
	return nil
}

// setBuffer sets a buffer's size past the system's limit where we may (CAP_NET_ADMIN in the initial user namespace), else up
// to it (net.core.rmem_max, wmem_max).
func setBuffer(fd, force, limited int) error {
	if unix.SetsockoptInt(fd, unix.SOL_SOCKET, force, socketBuffer) == nil {
		return nil
	}
	return unix.SetsockoptInt(fd, unix.SOL_SOCKET, limited, socketBuffer)
}

func setReusePort(fd int) error {
	if err := unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_REUSEPORT, 1); err != nil {
		return fmt.Errorf("set SO_REUSEPORT: %w", err)
	}
	return nil
}

func (c *udpConn) setReusePort() error { return control(c.raw, setReusePort) }

func (c *udpConn) Receive() ([]Datagram, error) { return c.receiver.receive() }

func (c *udpConn) Send(packets []Packet) (int, error) { return c.sender.send(packets) }

func (c *udpConn) LocalAddr() netip.AddrPort { return c.local }

func (c *udpConn) SetDeadline(t time.Time) error { return c.conn.SetDeadline(t) }

func (c *udpConn) Close() error { return c.conn.Close() }

// sender sends bursts with sendmmsg(2).
type sender struct {
	conn     *ipv4.PacketConn
	messages [burstSize]ipv4.Message
	buffers  [burstSize][2][]byte // head and tail of each message
}

func (s *sender) init(conn *net.UDPConn) {
	s.conn = ipv4.NewPacketConn(conn)
}

func (s *sender) send(packets []Packet) (int, error) {
	packets = packets[:min(len(packets), burstSize)]
	for i := range packets {
		p := &packets[i]
		s.buffers[i] = [2][]byte{p.Head, p.Tail}
		pieces := s.buffers[i][:1]
		if len(p.Tail) > 0 {
			pieces = s.buffers[i][:2]
		}
		s.messages[i].Buffers = pieces
		s.messages[i].Addr = p.Peer.addr
	}
	n, err := s.conn.WriteBatch(s.messages[:len(packets)], 0)
	return max(n, 0), err // -1 with an error
}

// receiver receives bursts with recvmmsg(2). golang.org/x/net's ReadBatch allocates each source address.
type receiver struct {
	raw       syscall.RawConn
	recvmmsg  func(fd uintptr) bool // made once: a closure made for each call would be allocated
	buffers   [burstSize][]byte
	iovecs    [burstSize]unix.Iovec
	sources   [burstSize]unix.RawSockaddrInet4
	headers   [burstSize]mmsghdr
	datagrams [burstSize]Datagram
	n         int
	err       error
}

// mmsghdr is struct mmsghdr of recvmmsg(2).
type mmsghdr struct {
	msg    unix.Msghdr
	length uint32
}

func (r *receiver) init(raw syscall.RawConn) {
	r.raw = raw
	r.recvmmsg = r.receiveBurst
	r.buffers = newBuffers()
	for i, buffer := range r.buffers {
		r.iovecs[i].Base = &buffer[0]
		r.iovecs[i].SetLen(len(buffer))
		msg := &r.headers[i].msg
		msg.Name = (*byte)(unsafe.Pointer(&r.sources[i]))
		msg.Namelen = unix.SizeofSockaddrInet4
		msg.Iov = &r.iovecs[i]
		msg.SetIovlen(1)
	}
}

func (r *receiver) receive() ([]Datagram, error) {
	r.n, r.err = 0, nil
	if err := r.raw.Read(r.recvmmsg); err != nil {
		return nil, err
	}
	for i := range r.n {
		header := &r.headers[i]
		r.datagrams[i] = Datagram{
			Data:      r.buffers[i][:header.length],
			From:      addrPort(&r.sources[i]),
			Truncated: header.msg.Flags&unix.MSG_TRUNC != 0,
		}
		header.msg.Namelen = unix.SizeofSockaddrInet4 // the kernel has written to it
	}
	return r.datagrams[:r.n], r.err
}

// receiveBurst takes what is there, up to a burst. It returns false to be called again when there is something to receive.
func (r *receiver) receiveBurst(fd uintptr) bool {
	for {
		n, _, errno := unix.Syscall6(unix.SYS_RECVMMSG, fd, uintptr(unsafe.Pointer(&r.headers)), burstSize, unix.MSG_DONTWAIT, 0, 0)
		switch errno {
		case 0:
			r.n = int(n)
			return true
		case unix.EAGAIN:
			return false
		case unix.EINTR:
		default:
			r.err = errno
			return true
		}
	}
}

func addrPort(sa *unix.RawSockaddrInet4) netip.AddrPort {
	port := (*[2]byte)(unsafe.Pointer(&sa.Port)) // in network order
	return netip.AddrPortFrom(netip.AddrFrom4(sa.Addr), uint16(port[0])<<8|uint16(port[1]))
}
