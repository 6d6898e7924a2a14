package routes

import (
	"cmp"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"strings"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// hostInterface is one interface as it was when interfaces was called.
type hostInterface struct {
	name     string
	index    int
	mtu      int
	up       bool // administratively up; says nothing of the carrier
	isBridge bool
	addrs    []netip.Prefix // IPv4 with the prefix length set on the interface, the preferred one first
}

// hostInterfaces is a snapshot of all interfaces, in the kernel's order.
type hostInterfaces []hostInterface

// interfaces reads the links and their IPv4 addresses.
func interfaces() (hostInterfaces, error) {
	links, err := dump(netlink.LinkList)
	if err != nil {
		return nil, fmt.Errorf("list interfaces: %w", err)
	}
	addrs, err := dump(func() ([]netlink.Addr, error) { return netlink.AddrList(nil, netlink.FAMILY_V4) })
	if err != nil {
		return nil, fmt.Errorf("list addresses: %w", err)
	}
	slices.SortStableFunc(addrs, func(a, b netlink.Addr) int { return cmp.Compare(addressRank(a), addressRank(b)) })

	var all hostInterfaces
	for _, link := range links {
		attrs := link.Attrs()
		h := hostInterface{name: attrs.Name, index: attrs.Index, mtu: attrs.MTU, up: attrs.Flags&net.FlagUp != 0, isBridge: link.Type() == "bridge"}
		for _, a := range addrs {
			if a.LinkIndex == h.index {
				h.addrs = append(h.addrs, prefixOf(a.IPNet))
			}
		}
		all = append(all, h)
	}
	return all, nil
}

// HostAddresses returns the IPv4 addresses of all interfaces but those of
// 127.0.0.0/8.
func HostAddresses() ([]netip.Addr, error) {
	all, err := interfaces()
	if err != nil {
		return nil, err
	}
	var addrs []netip.Addr
	for _, h := range all {
		for _, a := range h.addrs {
			if !a.Addr().IsLoopback() {
				addrs = append(addrs, a.Addr())
			}
		}
	}
	return addrs, nil
}

// addressRank orders the addresses of an interface: global before link-local,
// then permanent before dynamic. Lower is better.
func addressRank(a netlink.Addr) int {
	rank := 0
	if a.Scope != unix.RT_SCOPE_UNIVERSE || a.IP.IsLinkLocalUnicast() {
		rank += 2
	}
	if a.Flags&unix.IFA_F_PERMANENT == 0 {
		rank++
	}
	return rank
}

// byIndex returns the interface with that index, nil if there is none.
func (all hostInterfaces) byIndex(index int) *hostInterface {
	return all.find(func(h hostInterface) bool { return h.index == index })
}

// find returns the first interface that matches, nil if there is none.
func (all hostInterfaces) find(match func(hostInterface) bool) *hostInterface {
	if i := slices.IndexFunc(all, match); i >= 0 {
		return &all[i]
	}
	return nil
}

// String lists the interfaces that have an IPv4 address, and says how many
// have none: on a container host those are by far the most.
func (all hostInterfaces) String() string {
	var with []string
	without := 0
	for _, h := range all {
		if len(h.addrs) == 0 {
			without++
			continue
		}
		var addrs []string
		for _, a := range h.addrs {
			addrs = append(addrs, a.String())
		}
		with = append(with, h.name+" "+strings.Join(addrs, " "))
	}
	if without > 0 {
		with = append(with, fmt.Sprintf("%d without an IPv4 address", without))
	}
	return strings.Join(with, ", ")
}

// prefixOf converts an IPv4 network of the netlink library; the zero Prefix
// stands for nil.
func prefixOf(n *net.IPNet) netip.Prefix {
	if n == nil {
		return netip.Prefix{}
	}
	addr, ok := netip.AddrFromSlice(n.IP)
	if !ok {
		return netip.Prefix{}
	}
	bits, _ := n.Mask.Size()
	return netip.PrefixFrom(addr.Unmap(), bits)
}

// ipNetOf is the way back from prefixOf, host bits kept.
func ipNetOf(p netip.Prefix) *net.IPNet {
	return &net.IPNet{IP: p.Addr().AsSlice(), Mask: net.CIDRMask(p.Bits(), p.Addr().BitLen())}
}
