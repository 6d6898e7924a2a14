package routes

import (
	"errors"
	"fmt"
	"net/netip"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// A Way is where the kernel would send a packet.
type Way struct {
	Device  string
	Gateway netip.Addr // invalid: the destination is on the link
	Source  netip.Addr // that the host itself would send from; invalid where it is not the sender
	MTU     int        // of the device in bytes, or of the route where that is less
	Local   bool       // an address of this host
	Refused string     // blackhole, unreachable, prohibit: there is a route, which leads nowhere
}

// ErrMartian is wrapped by Lookup's error where the kernel refuses the source: a
// reverse path filter, or an address of this host as that of another.
var ErrMartian = errors.New("the kernel does not take the source from that interface (rp_filter)")

// Lookup asks the kernel which way a packet from src to dst takes, both IPv4: one
// that comes in by the interface in, or one of this host's own if in is "". An
// invalid src leaves it to the kernel.
func Lookup(src, dst netip.Addr, in string) (Way, error) {
	options := &netlink.RouteGetOptions{Iif: in}
	if src.IsValid() {
		options.SrcAddr = src.AsSlice()
	}
	found, err := netlink.RouteGetWithOptions(dst.AsSlice(), options)
	switch {
	case in != "" && errors.Is(err, unix.EINVAL):
		// A bad source, or a blackhole: only of the latter is the same said for our own packets.
		if own, err := Lookup(netip.Addr{}, dst, ""); err == nil && own.Refused != "" {
			return own, nil
		}
		return Way{}, fmt.Errorf("route from %s to %s: %w", src, dst, ErrMartian)
	case errors.Is(err, unix.EXDEV):
		return Way{}, fmt.Errorf("route from %s to %s: %w", src, dst, ErrMartian)
	case errors.Is(err, unix.ENETUNREACH):
		return Way{}, fmt.Errorf("route to %s: there is none", dst)
	case errors.Is(err, unix.EHOSTUNREACH):
		return Way{Refused: refusals[unix.RTN_UNREACHABLE]}, nil
	case errors.Is(err, unix.EACCES):
		return Way{Refused: refusals[unix.RTN_PROHIBIT]}, nil
	case errors.Is(err, unix.EINVAL):
		return Way{Refused: refusals[unix.RTN_BLACKHOLE]}, nil
	case err != nil:
		return Way{}, fmt.Errorf("route to %s: %w", dst, err)
	}
	route := found[0]
	w := Way{Local: route.Type == unix.RTN_LOCAL, MTU: route.MTU}
	if gateway, ok := netip.AddrFromSlice(route.Gw); ok {
		w.Gateway = gateway.Unmap()
	}
	if source, ok := netip.AddrFromSlice(route.Src); ok && in == "" {
		w.Source = source.Unmap()
	}
	link, err := netlink.LinkByIndex(route.LinkIndex)
	if err != nil {
		return Way{}, fmt.Errorf("route to %s: interface index %d: %w", dst, route.LinkIndex, err)
	}
	w.Device = link.Attrs().Name
	if w.MTU == 0 || w.MTU > link.Attrs().MTU {
		w.MTU = link.Attrs().MTU
	}
	return w, nil
}
