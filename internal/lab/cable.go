package lab

import (
	"errors"
	"fmt"
	"net/netip"

	"github.com/vishvananda/netlink"
)

// End is one end of a cable: the name of the new link in a namespace, and its
// address with the length of the network between the two.
type End struct {
	*Namespace
	Link string
	Addr netip.Prefix
}

// Connect makes a cable between two namespaces, besides the switch: a second
// network card, or the inside of a router.
func Connect(a, b End) error {
	if err := lay(a, b); err != nil {
		return err
	}
	for _, end := range []End{a, b} {
		if err := end.addAddr(end.Link, end.Addr); err != nil {
			return err
		}
	}
	return nil
}

// lay makes a cable whose ends are up and have no addresses.
func lay(a, b End) error {
	cable := &netlink.Veth{
		LinkAttrs:     netlink.LinkAttrs{Name: a.Link, MTU: underlayMTU},
		PeerName:      b.Link,
		PeerMTU:       underlayMTU,
		PeerNamespace: netlink.NsFd(b.FD()),
	}
	if err := a.link.LinkAdd(cable); err != nil {
		return fmt.Errorf("connect %s of %s to %s of %s: %w", a.Link, a.Name, b.Link, b.Name, err)
	}
	for _, end := range []End{a, b} {
		if err := end.setUp(end.Link); err != nil {
			return err
		}
	}
	return nil
}

// directLink is the network card at either end of a direct cable.
const directLink = "eth1"

// ConnectDirectly joins a lab's two hosts by a cable of their own, which takes
// the packets to each other's address. The switch, which is a bridge that the
// hosts' processors work for, is left to etcd.
func (l *Lab) ConnectDirectly() error {
	if len(l.Hosts) != 2 {
		return fmt.Errorf("connect %d hosts directly: want 2", len(l.Hosts))
	}
	a, b := l.Hosts[0], l.Hosts[1]
	if err := lay(End{Namespace: a.Namespace, Link: directLink}, End{Namespace: b.Namespace, Link: directLink}); err != nil {
		return err
	}
	l.carrier = directLink
	return errors.Join(a.reachDirectly(b), b.reachDirectly(a))
}

// reachDirectly routes the packets to another host's address by the direct cable.
func (h *Host) reachDirectly(other *Host) error {
	link, err := h.find(directLink)
	if err != nil {
		return err
	}
	route := &netlink.Route{
		LinkIndex: link.Attrs().Index,
		Scope:     netlink.SCOPE_LINK,
		Dst:       ipNet(netip.PrefixFrom(other.addr, 32)),
		Src:       h.addr.AsSlice(),
	}
	if err := h.link.RouteAdd(route); err != nil {
		return fmt.Errorf("add route of %s to %s by %s: %w", h.Name, other.addr, directLink, err)
	}
	return nil
}

// Carrier is the name of the network card that the hosts' packets to each other
// leave by.
func (l *Lab) Carrier() string { return l.carrier }
