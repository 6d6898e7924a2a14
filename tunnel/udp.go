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
