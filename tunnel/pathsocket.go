package tunnel

import (
	"fmt"
	"net/netip"

	"golang.org/x/sys/unix"
)

// openAsking opens the socket of a group for PathMTU. It is connected to one peer after the other, which sends nothing, and receives
// nothing: its filter refuses everything.
func openAsking(from netip.Addr) (socket, error) {
	s, err := openSocket(netip.AddrPortFrom(from, 0), setSendOptions)
	if err != nil {
		return socket{}, fmt.Errorf("socket for path MTUs: %w", err)
	}
	return s, nil
}

func (c *udpConn) PathMTU(to netip.AddrPort) (mtu int, err error) {
	err = control(c.asking.raw, func(fd int) error {
		if err := unix.Connect(fd, &unix.SockaddrInet4{Addr: to.Addr().As4(), Port: int(to.Port())}); err != nil {
			return err
		}
		mtu, err = unix.GetsockoptInt(fd, unix.IPPROTO_IP, unix.IP_MTU)
		return err
	})
	if err != nil {
		return 0, fmt.Errorf("path MTU to %s: %w", to, err)
	}
	return mtu, nil
}

func (c *udpConn) SendControl(data []byte, to netip.AddrPort) error {
	_, err := c.WriteToUDPAddrPort(data, to)
	return err
}
