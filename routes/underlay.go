package routes

import (
	"cmp"
	"errors"
	"fmt"
	"net/netip"
	"regexp"
	"slices"
	"strings"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// Underlay is the interface that carries the tunnel's datagrams.
type Underlay struct {
	Name  string
	Index int
	MTU   int        // bytes
	Addr  netip.Addr // the IPv4 address to send from and listen on
}

// Selector says how to find the underlay. The fields are tried in their order
// and the entries of each in theirs; the first interface that is up and has
// an IPv4 address is taken. The zero Selector means the default route.
type Selector struct {
	Ifaces   []string         // interface names or IPv4 addresses
	Regexes  []*regexp.Regexp // each matched on all names, then on all addresses
	CanReach netip.Addr       // the interface and source address of the route to it
}

// FindUnderlay chooses the underlay interface and the address on it: global
// before link-local, permanent before dynamic; an address that was itself
// asked for is taken as it is. The error says what was tried and which
// interfaces there are.
func FindUnderlay(s Selector) (Underlay, error) {
	all, err := interfaces()
	if err != nil {
		return Underlay{}, fmt.Errorf("find the underlay: %w", err)
	}
	var tried []string
	for _, choose := range s.choices() {
		u, err := choose(all)
		if err == nil {
			return u, nil
		}
		tried = append(tried, err.Error())
	}
	return Underlay{}, fmt.Errorf("no usable underlay interface: %s; this host has: %s", strings.Join(tried, "; "), all)
}

// choice is one way to find the underlay among the host's interfaces.
type choice func(hostInterfaces) (Underlay, error)

func (s Selector) choices() []choice {
	var choices []choice
	for _, want := range s.Ifaces {
		choices = append(choices, func(all hostInterfaces) (Underlay, error) { return byNameOrAddress(all, want) })
	}
	for _, re := range s.Regexes {
		choices = append(choices, func(all hostInterfaces) (Underlay, error) { return byRegexp(all, re) })
	}
	if s.CanReach.IsValid() {
		choices = append(choices, func(all hostInterfaces) (Underlay, error) { return byRouteTo(all, s.CanReach) })
	}
	if len(choices) == 0 {
		choices = append(choices, byDefaultRoute)
	}
	return choices
}

func byNameOrAddress(all hostInterfaces, want string) (Underlay, error) {
	if addr, err := netip.ParseAddr(want); err == nil {
		h := all.find(func(h hostInterface) bool { return h.has(addr) })
		if h == nil {
			return Underlay{}, fmt.Errorf("interface with address %s: there is none", addr)
		}
		return h.underlayAt(addr)
	}
	h := all.find(func(h hostInterface) bool { return h.name == want })
	if h == nil {
		return Underlay{}, fmt.Errorf("interface %s: no such interface or address", want)
	}
	return h.underlay()
}

// byRegexp skips interfaces that match but cannot be used, loopback among
// them, so that a generous expression finds the one that can.
func byRegexp(all hostInterfaces, re *regexp.Regexp) (Underlay, error) {
	refused := fmt.Errorf("interface matching %q: no name or address matches", re)
	for _, h := range all {
		if !re.MatchString(h.name) {
			continue
		}
		u, err := h.underlay()
		if err == nil {
			return u, nil
		}
		refused = fmt.Errorf("interface matching %q: %w", re, err)
	}
	for _, h := range all {
		for _, a := range h.addrs {
			if !re.MatchString(a.Addr().String()) {
				continue
			}
			u, err := h.underlayAt(a.Addr())
			if err == nil {
				return u, nil
			}
			refused = fmt.Errorf("interface matching %q: %w", re, err)
		}
	}
	return Underlay{}, refused
}

func byRouteTo(all hostInterfaces, target netip.Addr) (Underlay, error) {
	if !target.Is4() {
		return Underlay{}, fmt.Errorf("interface that reaches %s: want an IPv4 address", target)
	}
	routes, err := netlink.RouteGet(target.AsSlice())
	if err != nil {
		return Underlay{}, fmt.Errorf("interface that reaches %s: look up the route: %w", target, err)
	}
	route := routes[0]
	if route.Type == unix.RTN_LOCAL {
		return Underlay{}, fmt.Errorf("interface that reaches %s: the address is this host's own, want one of another host", target)
	}
	h := all.byIndex(route.LinkIndex)
	if h == nil {
		return Underlay{}, fmt.Errorf("interface that reaches %s: interface index %d is gone", target, route.LinkIndex)
	}
	if source, ok := netip.AddrFromSlice(route.Src); ok {
		return h.underlayAt(source.Unmap())
	}
	return h.underlay()
}

// byDefaultRoute takes the default route with the lowest metric whose
// interface is usable.
func byDefaultRoute(all hostInterfaces) (Underlay, error) {
	routes, err := mainRoutes()
	if err != nil {
		return Underlay{}, fmt.Errorf("list routes: %w", err)
	}
	routes = slices.DeleteFunc(routes, func(r netlink.Route) bool { return !isDefault(r) })
	slices.SortStableFunc(routes, func(a, b netlink.Route) int { return cmp.Compare(a.Priority, b.Priority) })

	refused := errors.New("there is no default route to tell it by, name the interface with --iface")
	for _, r := range routes {
		h := all.byIndex(outgoing(r))
		if h == nil {
			continue
		}
		u, err := h.underlay()
		if err == nil {
			return u, nil
		}
		refused = fmt.Errorf("default route: %w", err)
	}
	return Underlay{}, refused
}

func isDefault(r netlink.Route) bool {
	return r.Type == unix.RTN_UNICAST && (r.Dst == nil || prefixOf(r.Dst).Bits() == 0)
}

// outgoing returns the index of the interface that a route leaves by, of its
// first next hop if it has several.
func outgoing(r netlink.Route) int {
	if len(r.MultiPath) > 0 {
		return r.MultiPath[0].LinkIndex
	}
	return r.LinkIndex
}

func (h *hostInterface) has(addr netip.Addr) bool {
	return slices.ContainsFunc(h.addrs, func(p netip.Prefix) bool { return p.Addr() == addr })
}

// underlay makes h the underlay with its preferred address.
func (h *hostInterface) underlay() (Underlay, error) {
	for _, a := range h.addrs {
		if !a.Addr().IsLoopback() {
			return h.underlayAt(a.Addr())
		}
	}
	if len(h.addrs) > 0 {
		return Underlay{}, fmt.Errorf("%s has only loopback addresses, which no other host reaches", h.name)
	}
	return Underlay{}, fmt.Errorf("%s has no IPv4 address", h.name)
}

// underlayAt makes h the underlay with a given address.
func (h *hostInterface) underlayAt(addr netip.Addr) (Underlay, error) {
	if addr.IsLoopback() {
		return Underlay{}, fmt.Errorf("%s of %s is a loopback address, which no other host reaches", addr, h.name)
	}
	if !h.up {
		return Underlay{}, fmt.Errorf("%s is down", h.name)
	}
	return Underlay{Name: h.name, Index: h.index, MTU: h.mtu, Addr: addr}, nil
}
