package routes

import (
	"fmt"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// routeProtocol marks our routes (`ip route` shows "proto 116"), so that a
// route of an earlier run is told from one that an administrator put on the
// device. 116 is ASCII "t"; neither linux/rtnetlink.h nor iproute2's
// rt_protos give the number to anybody.
const routeProtocol netlink.RouteProtocol = 't'

// checkRoute looks for a route to Network that is not by our device. Any
// metric counts: which of two such routes wins is not left to chance.
func (l Link) checkRoute(link netlink.Link) error {
	routes, err := mainRoutes()
	if err != nil {
		return fmt.Errorf("list routes: %w", err)
	}
	for _, r := range routes {
		if prefixOf(r.Dst) == l.Network.Masked() && r.LinkIndex != link.Attrs().Index {
			return fmt.Errorf("route %s by device %s: there is one already, %s: remove it or choose another network",
				l.Network.Masked(), l.Name, describe(r))
		}
	}
	return nil
}

// refusals are the route types that lead to no device.
var refusals = map[int]string{
	unix.RTN_BLACKHOLE:   "blackhole",
	unix.RTN_UNREACHABLE: "unreachable",
	unix.RTN_PROHIBIT:    "prohibit",
	unix.RTN_THROW:       "throw",
}

// describe says where a route leads, in the words of ip-route(8).
func describe(r netlink.Route) string {
	where := refusals[r.Type]
	if index := outgoing(r); where == "" {
		where = fmt.Sprintf("by interface index %d", index)
		if link, err := netlink.LinkByIndex(index); err == nil {
			where = "by device " + link.Attrs().Name
		}
	}
	if r.Gw != nil {
		where += " via " + r.Gw.String()
	}
	return fmt.Sprintf("%s (protocol %s, metric %d)", where, r.Protocol, r.Priority)
}

// applyRoute leaves one route of ours on the device. Another route to Network
// by the device, such as one without our protocol number, gives way to it;
// routes of others elsewhere stay.
func (l Link) applyRoute(link netlink.Link) error {
	routes, err := mainRoutes()
	if err != nil {
		return fmt.Errorf("list routes: %w", err)
	}
	want := netlink.Route{
		LinkIndex: link.Attrs().Index,
		Dst:       ipNetOf(l.Network.Masked()),
		Scope:     netlink.SCOPE_LINK,
		Protocol:  routeProtocol,
		Table:     unix.RT_TABLE_MAIN,
		Type:      unix.RTN_UNICAST,
	}
	found := false
	for _, r := range routes {
		switch {
		case r.LinkIndex != want.LinkIndex:
		case sameRoute(r, want):
			found = true
		case r.Protocol == routeProtocol || prefixOf(r.Dst) == l.Network.Masked():
			if err := netlink.RouteDel(&r); err != nil {
				return fmt.Errorf("delete old route %s by device %s: %w", prefixOf(r.Dst), l.Name, err)
			}
		}
	}
	if found {
		return nil
	}
	// RouteAdd fails if somebody was faster; RouteReplace would overwrite.
	if err := netlink.RouteAdd(&want); err != nil {
		return fmt.Errorf("add route %s by device %s: %w", l.Network.Masked(), l.Name, err)
	}
	return nil
}

// sameRoute compares what applyRoute sets and what would make packets take
// another way if it were set.
func sameRoute(have, want netlink.Route) bool {
	return prefixOf(have.Dst) == prefixOf(want.Dst) && have.LinkIndex == want.LinkIndex &&
		have.Scope == want.Scope && have.Protocol == want.Protocol && have.Type == want.Type &&
		have.Priority == want.Priority && have.Tos == want.Tos && have.MTU == want.MTU &&
		have.Src == nil && have.Gw == nil
}
