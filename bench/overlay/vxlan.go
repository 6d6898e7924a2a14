package overlay

import (
	"context"
	"fmt"
	"net"
	"net/netip"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"twill/internal/lab"
)

// vxlan is the kernel's VXLAN, set up as Flannel's vxlan backend does it: no
// learning, and for the other host a route, a neighbour and a forwarding entry.
type vxlan struct{}

const (
	vxlanDevice = "vxlan1"
	vxlanID     = 1
	// vxlanPort is the kernel's default, which Flannel uses too.
	vxlanPort = 8472
	// vxlanMTU leaves room for the outer IPv4, UDP and VXLAN headers and the
	// inner Ethernet header (RFC 7348): 20 + 8 + 8 + 14 bytes.
	vxlanMTU = underlayMTU - 50
)

func (vxlan) Name() string          { return "vxlan" }
func (vxlan) Kind() string          { return "kernel VXLAN" }
func (vxlan) Find() (string, error) { return "", nil }

func (v vxlan) Start(_ context.Context, l *lab.Lab) (*Network, error) {
	n, err := addPods(l, vxlanMTU)
	if err != nil {
		return nil, err
	}
	for i, h := range l.Hosts {
		if err := v.addDevice(h, l.Carrier(), i); err != nil {
			return nil, fmt.Errorf("vxlan of %s: %w", h.Name, err)
		}
		other := 1 - i
		if err := v.addPeer(h, l.Hosts[other].Addr(), other); err != nil {
			return nil, fmt.Errorf("vxlan of %s: %w", h.Name, err)
		}
	}
	return n, nil
}

// mac is the hardware address of host i's device.
func (vxlan) mac(i int) net.HardwareAddr {
	return net.HardwareAddr{0x02, 0, 0, 0, 0, byte(i + 1)} // 02: locally administered
}

func (v vxlan) addDevice(h *lab.Host, carrier string, i int) error {
	underlay, err := h.Link().LinkByName(carrier)
	if err != nil {
		return err
	}
	device := &netlink.Vxlan{
		LinkAttrs:    netlink.LinkAttrs{Name: vxlanDevice, MTU: vxlanMTU, HardwareAddr: v.mac(i)},
		VxlanId:      vxlanID,
		VtepDevIndex: underlay.Attrs().Index,
		SrcAddr:      h.Addr().AsSlice(),
		Port:         vxlanPort,
		Learning:     false,
	}
	if err := h.Link().LinkAdd(device); err != nil {
		return fmt.Errorf("add device: %w", err)
	}
	address := netip.PrefixFrom(subnet(i).Addr(), 32)
	if err := h.Link().AddrAdd(device, &netlink.Addr{IPNet: ipNet(address)}); err != nil {
		return fmt.Errorf("add address %s: %w", address, err)
	}
	return h.Link().LinkSetUp(device)
}

// addPeer tells a host how to reach the other one.
func (v vxlan) addPeer(h *lab.Host, endpoint netip.Addr, other int) error {
	device, err := h.Link().LinkByName(vxlanDevice)
	if err != nil {
		return err
	}
	index, gateway := device.Attrs().Index, net.IP(subnet(other).Addr().AsSlice())
	neighbour := &netlink.Neigh{
		LinkIndex: index, State: netlink.NUD_PERMANENT,
		IP: gateway, HardwareAddr: v.mac(other),
	}
	if err := h.Link().NeighSet(neighbour); err != nil {
		return fmt.Errorf("set neighbour %s: %w", gateway, err)
	}
	forwarding := &netlink.Neigh{
		LinkIndex: index, State: netlink.NUD_PERMANENT,
		Family: unix.AF_BRIDGE, Flags: netlink.NTF_SELF,
		IP: endpoint.AsSlice(), HardwareAddr: v.mac(other),
	}
	if err := h.Link().NeighSet(forwarding); err != nil {
		return fmt.Errorf("set forwarding entry to %s: %w", endpoint, err)
	}
	route := &netlink.Route{
		LinkIndex: index, Dst: ipNet(subnet(other)), Gw: gateway,
		Flags: int(netlink.FLAG_ONLINK),
	}
	if err := h.Link().RouteAdd(route); err != nil {
		return fmt.Errorf("add route to %s: %w", subnet(other), err)
	}
	return nil
}
