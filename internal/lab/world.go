package lab

import (
	"fmt"
	"net/netip"

	"github.com/vishvananda/netlink"
)

// The methods here change the underlay below running daemons.

// SpareAddr is an unused underlay address for the host to move to.
func (h *Host) SpareAddr() netip.Addr { return nth(h.lab.underlay, spareHost+h.number) }

// AddAddress gives the host's uplink a second address, with the underlay's
// length. [Namespace.Addr] stays the first one.
func (h *Host) AddAddress(a netip.Addr) error {
	return h.addAddr(uplink, netip.PrefixFrom(a, h.lab.underlay.Bits()))
}

// SetAddress moves the host to another underlay address: the old one goes, and
// the default route is made again, since the kernel drops it with the address.
func (h *Host) SetAddress(a netip.Addr) error {
	l, err := h.find(uplink)
	if err != nil {
		return err
	}
	old := netip.PrefixFrom(h.addr, h.lab.underlay.Bits())
	if err := h.link.AddrDel(l, &netlink.Addr{IPNet: ipNet(old)}); err != nil {
		return fmt.Errorf("remove %s from %s of %s: %w", old, uplink, h.Name, err)
	}
	if err := h.AddAddress(a); err != nil {
		return err
	}
	h.addr = a
	return h.AddDefaultRoute()
}

// AddDefaultRoute and DeleteDefaultRoute change the host's route by the switch.
func (h *Host) AddDefaultRoute() error { return h.AddRoute(defaultRoute, h.lab.Addr()) }

func (h *Host) DeleteDefaultRoute() error { return h.DeleteRoute(defaultRoute, h.lab.Addr()) }

// SetUplink sets the host's uplink up, or down with all its routes; up makes the
// default route again.
func (h *Host) SetUplink(up bool) error {
	if up {
		if err := h.setUp(uplink); err != nil {
			return err
		}
		return h.AddDefaultRoute()
	}
	l, err := h.find(uplink)
	if err != nil {
		return err
	}
	if err := h.link.LinkSetDown(l); err != nil {
		return fmt.Errorf("set %s of %s down: %w", uplink, h.Name, err)
	}
	return nil
}

// SetCable connects the host's cable to the switch or pulls it out at the
// switch's end: the uplink keeps its addresses and routes, without a carrier.
func (h *Host) SetCable(connected bool) error {
	port, err := h.lab.link.LinkByName(h.port)
	if err != nil {
		return fmt.Errorf("find port of %s: %w", h.Name, err)
	}
	set := h.lab.link.LinkSetDown
	if connected {
		set = h.lab.link.LinkSetUp
	}
	if err := set(port); err != nil {
		return fmt.Errorf("set port of %s to connected=%t: %w", h.Name, connected, err)
	}
	return nil
}

// SetUnderlayMTU sets the MTU of the switch, its ports and the hosts' uplinks.
func (l *Lab) SetUnderlayMTU(mtu int) error {
	for _, h := range l.Hosts {
		up, err := h.find(uplink)
		if err != nil {
			return err
		}
		if err := h.link.LinkSetMTU(up, mtu); err != nil {
			return fmt.Errorf("set mtu %d of %s: %w", mtu, h.Name, err)
		}
		if err := l.setMTU(h.port, mtu); err != nil {
			return err
		}
	}
	return l.setMTU(l.bridge, mtu)
}

func (l *Lab) setMTU(name string, mtu int) error {
	link, err := l.link.LinkByName(name)
	if err != nil {
		return fmt.Errorf("find link %s: %w", name, err)
	}
	if err := l.link.LinkSetMTU(link, mtu); err != nil {
		return fmt.Errorf("set mtu %d of %s: %w", mtu, name, err)
	}
	return nil
}
