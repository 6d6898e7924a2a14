package subnet

import (
	"fmt"
	"net/netip"
	"strconv"
	"strings"
)

// Key is the name of a lease in etcd: the part of its key after <prefix>/subnets/.
type Key struct {
	Subnet     netip.Prefix // masked IPv4
	IPv6Subnet netip.Prefix // masked IPv6; the zero Prefix unless the lease is dual-stack
}

// ParseKey reads "10.5.52.0-24" or, of a dual-stack lease, "10.12.13.0-24&fd00:12:13::-56".
// It takes the canonical form only, so that no two names mean the same subnet.
func ParseKey(name string) (Key, error) {
	v4, v6, dual := strings.Cut(name, "&")
	k := Key{Subnet: parseDashed(v4)}
	if dual {
		k.IPv6Subnet = parseDashed(v6)
	}
	switch {
	case !inFamily(k.Subnet, ipv4Family), dual && !inFamily(k.IPv6Subnet, ipv6Family):
		return Key{}, fmt.Errorf("lease key %.128q: want ADDRESS-LENGTH like 10.5.52.0-24, length 1 to %d, or with &ADDRESS-LENGTH for IPv6, length 1 to %d",
			name, ipv4Family.longestSubnet, ipv6Family.longestSubnet)
	case k.Subnet != k.Subnet.Masked(), k.IPv6Subnet != k.IPv6Subnet.Masked():
		return Key{}, fmt.Errorf("lease key %.128q: host bits set, want %s", name, k.masked())
	case k.String() != name:
		return Key{}, fmt.Errorf("lease key %.128q: not in canonical form, want %s", name, k)
	}
	return k, nil
}

// String is the name that ParseKey reads.
func (k Key) String() string {
	s := dashed(k.Subnet)
	if k.IPv6Subnet.IsValid() {
		s += "&" + dashed(k.IPv6Subnet)
	}
	return s
}

func (k Key) masked() Key {
	return Key{Subnet: k.Subnet.Masked(), IPv6Subnet: k.IPv6Subnet.Masked()}
}

// parseDashed reads ADDRESS-LENGTH; what it cannot read is the zero Prefix.
func parseDashed(s string) netip.Prefix {
	address, length, _ := strings.Cut(s, "-")
	addr, err := netip.ParseAddr(address)
	if err != nil || addr.Zone() != "" {
		return netip.Prefix{}
	}
	bits, err := strconv.ParseUint(length, 10, 8)
	if err != nil {
		return netip.Prefix{}
	}
	return netip.PrefixFrom(addr, int(bits))
}

// inFamily tells whether p has a length that a subnet of the family can have in some network.
func inFamily(p netip.Prefix, f family) bool {
	return p.IsValid() && f.is(p.Addr()) && p.Bits() >= 1 && p.Bits() <= f.longestSubnet
}

func dashed(p netip.Prefix) string {
	return p.Addr().String() + "-" + strconv.Itoa(p.Bits())
}
