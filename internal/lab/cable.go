package lab

import (
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
		if err := end.addAddr(end.Link, end.Addr); err != nil {
			return err
		}
		if err := end.setUp(end.Link); err != nil {
			return err
		}
	}
	return nil
}
