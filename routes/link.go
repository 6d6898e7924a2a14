package routes

import (
	"errors"
	"fmt"
	"net"
	"net/netip"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// Bounds of a TUN device's MTU in bytes: the smallest that IPv4 allows
// (RFC 791, section 3.2) and the kernel's own limit for IFF_TUN.
const (
	minMTU = 68
	maxMTU = 65535
)

// Link is the wanted state of the tunnel's TUN device. The device itself is
// opened by package tunnel before.
type Link struct {
	Name    string
	Address netip.Addr   // IPv4, set on the device as /32
	MTU     int          // bytes, 68 to 65535
	Network netip.Prefix // IPv4, the one route of the device
	// TxQueueLen is the length of each queue in packets, GSOMaxSize the largest
	// super-packet in bytes that the kernel hands over. 0 leaves them alone.
	TxQueueLen int
	GSOMaxSize int
}

// Apply makes the device what l says: its MTU, Address as its only IPv4
// address, up, and one route to Network, with the switches that the tunnel's
// own packets need (see applyInetConf). It leaves the transmit queue length
// and routes that others put on the device alone. Applied twice, it changes
// nothing.
//
// A route to exactly Network that does not go by this device is somebody
// else's: the error names it, and nothing has been changed then.
func (l Link) Apply() error {
	if err := l.check(); err != nil {
		return err
	}
	link, err := tunDevice(l.Name)
	if err != nil {
		return err
	}
	if err := l.checkRoute(link); err != nil {
		return err
	}
	if err := l.applyMTU(link); err != nil {
		return err
	}
	if err := l.applyQueueing(link); err != nil {
		return err
	}
	if err := l.applyInetConf(link); err != nil {
		return err
	}
	if err := l.applyAddress(link); err != nil {
		return err
	}
	if err := l.applyUp(link); err != nil {
		return err
	}
	return l.applyRoute(link)
}

func (l Link) check() error {
	if !l.Address.Is4() {
		return fmt.Errorf("device %s: address %s: want an IPv4 address", l.Name, l.Address)
	}
	if l.MTU < minMTU || l.MTU > maxMTU {
		return fmt.Errorf("device %s: MTU %d: want %d to %d", l.Name, l.MTU, minMTU, maxMTU)
	}
	if !l.Network.Addr().Is4() || l.Network.Bits() < 1 {
		return fmt.Errorf("device %s: network %s: want an IPv4 prefix of at least /1", l.Name, l.Network)
	}
	return nil
}

func (l Link) applyMTU(link netlink.Link) error {
	if link.Attrs().MTU == l.MTU {
		return nil
	}
	if err := netlink.LinkSetMTU(link, l.MTU); err != nil {
		return fmt.Errorf("device %s: set MTU %d: %w", l.Name, l.MTU, err)
	}
	return nil
}

func (l Link) applyQueueing(link netlink.Link) error {
	attrs := link.Attrs()
	if l.TxQueueLen != 0 && attrs.TxQLen != l.TxQueueLen {
		if err := netlink.LinkSetTxQLen(link, l.TxQueueLen); err != nil {
			return fmt.Errorf("device %s: set txqueuelen %d: %w", l.Name, l.TxQueueLen, err)
		}
	}
	if l.GSOMaxSize == 0 {
		return nil
	}
	size := uint32(l.GSOMaxSize)
	if attrs.GSOMaxSize != size {
		if err := netlink.LinkSetGSOMaxSize(link, l.GSOMaxSize); err != nil {
			return fmt.Errorf("device %s: set gso_max_size %d: %w", l.Name, size, err)
		}
	}
	// Linux 6.3; 0 is an older kernel, for which the other one counts.
	if attrs.GSOIPv4MaxSize != 0 && attrs.GSOIPv4MaxSize != size {
		if err := netlink.LinkSetGSOIPv4MaxSize(link, l.GSOMaxSize); err != nil {
			return fmt.Errorf("device %s: set gso_ipv4_max_size %d: %w", l.Name, size, err)
		}
	}
	return nil
}

// applyAddress adds the wanted address before it deletes others: a device
// that loses its last address loses all its routes.
func (l Link) applyAddress(link netlink.Link) error {
	have, err := dump(func() ([]netlink.Addr, error) { return netlink.AddrList(link, netlink.FAMILY_V4) })
	if err != nil {
		return fmt.Errorf("device %s: list addresses: %w", l.Name, err)
	}
	want := netip.PrefixFrom(l.Address, l.Address.BitLen())
	var others []netlink.Addr
	found := false
	for _, a := range have {
		if a.Peer == nil && prefixOf(a.IPNet) == want {
			found = true
		} else {
			others = append(others, a)
		}
	}
	if !found {
		if err := netlink.AddrAdd(link, &netlink.Addr{IPNet: ipNetOf(want)}); err != nil {
			return fmt.Errorf("device %s: add address %s: %w", l.Name, want, err)
		}
	}
	for _, a := range others {
		// EADDRNOTAVAIL: a secondary address went with its primary.
		if err := netlink.AddrDel(link, &a); err != nil && !errors.Is(err, unix.EADDRNOTAVAIL) {
			return fmt.Errorf("device %s: delete address %s: %w", l.Name, a.IPNet, err)
		}
	}
	return nil
}

func (l Link) applyUp(link netlink.Link) error {
	if link.Attrs().Flags&net.FlagUp != 0 {
		return nil
	}
	if err := netlink.LinkSetUp(link); err != nil {
		return fmt.Errorf("device %s: set up: %w", l.Name, err)
	}
	return nil
}
