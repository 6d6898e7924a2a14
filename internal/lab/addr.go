package lab

import (
	"net"
	"net/netip"
)

// ipNet is a prefix as netlink takes it, with its host bits.
func ipNet(p netip.Prefix) *net.IPNet {
	return &net.IPNet{IP: p.Addr().AsSlice(), Mask: net.CIDRMask(p.Bits(), p.Addr().BitLen())}
}

// nth is the prefix's base address plus i. The lab counts within a /24.
func nth(p netip.Prefix, i int) netip.Addr {
	b := p.Masked().Addr().As4()
	b[3] += byte(i)
	return netip.AddrFrom4(b)
}
