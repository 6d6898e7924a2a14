package routes

import (
	"fmt"
	"net/netip"
	"slices"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// Overlaps returns an error if the overlay's network shares addresses with
// an interface address or a directly connected network of this host: packets
// for one would go to the other. The error names both.
//
// Left out are the interface called except (the TUN device, which may be
// there from the run before) and whatever lies within one of own: subnets
// that this host holds or held, whose container bridge belongs there.
func Overlaps(network netip.Prefix, except string, own ...netip.Prefix) error {
	network = network.Masked()
	all, err := interfaces()
	if err != nil {
		return fmt.Errorf("check network %s for overlaps: %w", network, err)
	}
	for _, h := range all {
		for _, a := range h.addrs {
			if h.name != except && network.Overlaps(a) && !within(a, own) {
				return fmt.Errorf("network %s overlaps address %s of interface %s: choose another network or remove the address", network, a, h.name)
			}
		}
	}
	routes, err := mainRoutes()
	if err != nil {
		return fmt.Errorf("check network %s for overlaps: list routes: %w", network, err)
	}
	for _, r := range routes {
		h := all.byIndex(r.LinkIndex)
		if h == nil || h.name == except || !isConnected(r) {
			continue
		}
		if dst := prefixOf(r.Dst); network.Overlaps(dst) && !within(dst, own) {
			return fmt.Errorf("network %s overlaps route %s of interface %s: choose another network or remove the route", network, dst, h.name)
		}
	}
	return nil
}

// ContainerSubnets returns the subnets of the given length in network that bridges of this host have the first address of, as
// a container runtime gives it to its bridge: those that it has been started with.
func ContainerSubnets(network netip.Prefix, length int) ([]netip.Prefix, error) {
	all, err := interfaces()
	if err != nil {
		return nil, fmt.Errorf("look for container bridges: %w", err)
	}
	var subnets []netip.Prefix
	for _, h := range all {
		for _, a := range h.addrs {
			first := a.Masked().Addr().Next()
			if h.isBridge && a.Bits() == length && a.Addr() == first && within(a, []netip.Prefix{network}) {
				subnets = append(subnets, a.Masked())
			}
		}
	}
	return subnets, nil
}

// isConnected tells routes to neighbours on a link from routes by way of a
// router. A wider route by way of a router (10.0.0.0/8 into a company) is no
// conflict: the overlay's is longer, and longer wins.
func isConnected(r netlink.Route) bool {
	return r.Type == unix.RTN_UNICAST && r.Scope == netlink.SCOPE_LINK && !isDefault(r)
}

// within reports whether p lies completely inside one of the prefixes.
func within(p netip.Prefix, prefixes []netip.Prefix) bool {
	return slices.ContainsFunc(prefixes, func(outer netip.Prefix) bool {
		return outer.IsValid() && outer.Bits() <= p.Bits() && outer.Contains(p.Addr())
	})
}
