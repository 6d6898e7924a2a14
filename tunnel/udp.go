package tunnel

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// socketBuffer is the size asked for the send and the receive buffer of each socket, in bytes; the kernel doubles it for its
// own bookkeeping. It holds what a 10 Gb/s link delivers in 3 ms, in which a busy machine gives us the CPU.
const socketBuffer = 4 << 20

// Listen opens n UDP sockets on addr, without offloads, as ListenConfig.Listen does.
func Listen(addr netip.AddrPort, n int) ([]Conn, error) {
	return ListenConfig{Address: addr, Sockets: n}.Listen()
}

// ListenConfig says which UDP sockets to open, and how.
type ListenConfig struct {
	// Address is an IPv4 address of this host and a port, 0: any free one.
	Address netip.AddrPort
	// Sockets is their number, 1 to 256. Between several the kernel divides what arrives by the flow of the outer header, and
	// they send from as many source ports.
	Sockets int
	// Offloads are those that may be used; only UDPSegment and UDPGRO concern the sockets.
	Offloads Offloads
	// Log is told when an offload is switched off while the sockets are in use; nil discards that.
	Log *slog.Logger
}

// Listen opens the sockets.
func (c ListenConfig) Listen() ([]Conn, error) {
	if err := c.validate(); err != nil {
		return nil, err
	}
	conns, err := listenGroup(c.Address, c.Sockets, c.modes())
	if err != nil {
		closeConns(conns)
		return nil, fmt.Errorf("listen on UDP %s: %w", c.Address, explainListen(err))
	}
	return conns, nil
}

func (c ListenConfig) validate() error {
	if !c.Address.Addr().Is4() {
		return fmt.Errorf("listen on UDP %s: want an IPv4 address", c.Address)
	}
	if c.Sockets < 1 || c.Sockets > maxQueues {
		return fmt.Errorf("listen on UDP %s with %d sockets: want 1 to %d", c.Address, c.Sockets, maxQueues)
	}
	return nil
}

func (c ListenConfig) modes() *udpModes {
	if c.Log == nil {
		c.Log = slog.New(slog.DiscardHandler)
	}
	return &udpModes{
		segment: newModeSwitch(nameUDPSegment, c.Offloads.UDPSegment, c.Log),
		gro:     newModeSwitch(nameUDPGRO, c.Offloads.UDPGRO, c.Log),
	}
}

// udpModes are the offloads of a group of sockets.
type udpModes struct{ segment, gro *modeSwitch }

// listenGroup opens the sockets of a group and those that they share for further source ports. It returns what it opened also with
// an error.
func listenGroup(addr netip.AddrPort, n int, modes *udpModes) ([]Conn, error) {
	conns, err := listenReusePort(addr, n, modes)
	if err != nil {
		return conns, err
	}
	return conns, openShared(conns, addr.Addr())
}

// openShared opens the sockets that the group shares: those that give it as many source ports as it has members, and that for PathMTU.
func openShared(conns []Conn, addr netip.Addr) error {
	first := conns[0].(*udpConn)
	asking, err := openAsking(addr)
	if err != nil {
		return err
	}
	first.asking, first.ownsAsking = asking, true
	for len(first.extra) < len(conns)-1 {
		socket, err := openSocket(netip.AddrPortFrom(addr, 0), setSendOptions)
		if err != nil {
			return fmt.Errorf("further source port: %w", err)
		}
		first.extra = append(first.extra, socket)
	}
	for _, c := range conns {
		c.(*udpConn).sendFrom(first.extra)
		c.(*udpConn).asking = first.asking
	}
	return nil
}

// listenReusePort returns the sockets it opened also with an error.
//
// SO_REUSEPORT lets a process of the same user join the group, so another twill on the same port would go unnoticed and take
// part of the packets. So the first socket is bound without it, which fails if anybody holds the port, and gets the option
// after that; only then the others can join.
func listenReusePort(addr netip.AddrPort, n int, modes *udpModes) ([]Conn, error) {
	first, err := listenUDP(addr, false, modes)
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
		next, err := listenUDP(first.LocalAddr(), true, modes)
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

// udpConn is a Conn.
type udpConn struct {
	socket
	local      netip.AddrPort
	modes      *udpModes
	extra      []socket // for further source ports of the group, in its first member, which closes them
	asking     socket   // for PathMTU, shared by the group
	ownsAsking bool     // and closes asking
	receiver   interface{ receive() ([]Datagram, error) }
	sender     sender
}

// A socket is a UDP socket and its descriptor.
type socket struct {
	*net.UDPConn
	raw syscall.RawConn
}

func listenUDP(addr netip.AddrPort, reusePort bool, modes *udpModes) (*udpConn, error) {
	socket, err := openSocket(addr, func(fd int) error { return setOptions(fd, reusePort, modes) })
	if err != nil {
		return nil, err
	}
	return newUDPConn(socket, modes), nil
}

// newUDPConn returns the Conn of a bound socket that has its options.
func newUDPConn(socket socket, modes *udpModes) *udpConn {
	c := &udpConn{socket: socket, local: socket.local(), modes: modes}
	if modes.gro.on() {
		c.receiver = newGROReceiver(c.raw)
	} else {
		c.receiver = newReceiver(c.raw)
	}
	c.sendFrom(nil)
	return c
}

// openSocket returns a socket that is bound to addr after set has been called with its descriptor.
func openSocket(addr netip.AddrPort, set func(fd int) error) (socket, error) {
	config := net.ListenConfig{Control: func(_, _ string, raw syscall.RawConn) error { return control(raw, set) }}
	conn, err := config.ListenPacket(context.Background(), "udp4", addr.String())
	if err != nil {
		// An OpError says the address again, which the caller says.
		if opErr := (*net.OpError)(nil); errors.As(err, &opErr) {
			err = opErr.Err
		}
		return socket{}, err
	}
	return newSocket(conn)
}

// newSocket takes conn over.
func newSocket(conn net.PacketConn) (socket, error) {
	udp, ok := conn.(*net.UDPConn)
	if !ok {
		conn.Close()
		return socket{}, fmt.Errorf("it is a %T: want a UDP socket", conn)
	}
	raw, err := udp.SyscallConn()
	if err != nil {
		conn.Close()
		return socket{}, err
	}
	return socket{UDPConn: udp, raw: raw}, nil
}

// local returns the address that the socket is bound to, IPv4 in its plain form.
func (s socket) local() netip.AddrPort {
	local := s.UDPConn.LocalAddr().(*net.UDPAddr).AddrPort()
	return netip.AddrPortFrom(local.Addr().Unmap(), local.Port())
}

// sendFrom makes the socket itself and the extra ones the source ports.
func (c *udpConn) sendFrom(extra []socket) {
	ports := []syscall.RawConn{c.raw}
	for _, s := range extra {
		ports = append(ports, s.raw)
	}
	c.sender.init(ports, c.modes.segment)
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
func setOptions(fd int, reusePort bool, modes *udpModes) error {
	if reusePort {
		if err := setReusePort(fd); err != nil {
			return err
		}
	}
	if err := setBuffer(fd, unix.SO_RCVBUFFORCE, unix.SO_RCVBUF); err != nil {
		return fmt.Errorf("set SO_RCVBUF: %w", err)
	}
	probeSegment(fd, modes.segment)
	enableGRO(fd, modes.gro)
	if err := unix.SetsockoptInt(fd, unix.IPPROTO_IP, unix.IP_RECVTOS, 1); err != nil {
		return fmt.Errorf("set IP_RECVTOS: %w", err)
	}
	return setSending(fd)
}

// setSendOptions sets the options of a socket that only sends. Its filter lets nothing in, so that what others send to its port does
// not lie in memory.
func setSendOptions(fd int) error {
	refuse := unix.SockFilter{Code: unix.BPF_RET | unix.BPF_K, K: 0}
	if err := unix.SetsockoptSockFprog(fd, unix.SOL_SOCKET, unix.SO_ATTACH_FILTER, &unix.SockFprog{Len: 1, Filter: &refuse}); err != nil {
		return fmt.Errorf("set SO_ATTACH_FILTER: %w", err)
	}
	return setSending(fd)
}

func setSending(fd int) error {
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
	if err := setBuffer(fd, unix.SO_SNDBUFFORCE, unix.SO_SNDBUF); err != nil {
		return fmt.Errorf("set SO_SNDBUF: %w", err)
	}
	return nil
}

// probeSegment switches UDP_SEGMENT off if the kernel does not have it. A size of 0, the default, leaves it to each send.
func probeSegment(fd int, segment *modeSwitch) {
	if segment.on() && unix.SetsockoptInt(fd, unix.IPPROTO_UDP, unix.UDP_SEGMENT, 0) != nil {
		segment.turnOff(offByKernel)
	}
}

// enableGRO switches UDP_GRO on for the socket, or off if the kernel does not have it. Reading it back came after the option,
// and with it the last repairs to what it does.
func enableGRO(fd int, gro *modeSwitch) {
	if !gro.on() {
		return
	}
	err := unix.SetsockoptInt(fd, unix.IPPROTO_UDP, unix.UDP_GRO, 1)
	if on, e := unix.GetsockoptInt(fd, unix.IPPROTO_UDP, unix.UDP_GRO); err != nil || e != nil || on == 0 {
		gro.turnOff(offByKernel)
	}
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

func (c *udpConn) Modes() []Mode { return []Mode{c.modes.segment.mode(), c.modes.gro.mode()} }

func (c *udpConn) LocalAddr() netip.AddrPort { return c.local }

func (c *udpConn) SourcePorts() int { return len(c.sender.ports) }

func (c *udpConn) SetWriteDeadline(t time.Time) error {
	err := c.UDPConn.SetWriteDeadline(t)
	for _, s := range c.extra {
		err = errors.Join(err, s.SetWriteDeadline(t))
	}
	return err
}

func (c *udpConn) Close() error {
	err := c.UDPConn.Close()
	if c.ownsAsking {
		err = errors.Join(err, c.asking.Close())
	}
	for _, s := range c.extra {
		err = errors.Join(err, s.Close())
	}
	return err
}
