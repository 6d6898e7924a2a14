package subnet

import (
	"encoding/binary"
	"fmt"
	"net/netip"
)

const (
	// BackendUDP is the backend type that twill speaks.
	BackendUDP = "udp"
	// DefaultPort is the UDP port of Flannel's udp backend when the config names none.
	DefaultPort = 8285
)

// Config is the validated network config: what every host of one overlay has to agree on.
// It is comparable; two hosts with equal Configs allocate from the same subnets.
// The zero Config is not valid; ParseConfig and DefaultConfig make valid ones.
type Config struct {
	Network   netip.Prefix // the overlay, masked IPv4
	SubnetLen int          // prefix length of a host's subnet, in bits
	SubnetMin netip.Addr   // base address of the first allocatable subnet
	SubnetMax netip.Addr   // base address of the last allocatable subnet, inclusive

	// The IPv6 half of a dual-stack network. It is validated and kept so that it survives
	// a round trip through etcd, but twill carries IPv4 only. Zero when IPv6 is off.
	IPv6Network   netip.Prefix
	IPv6SubnetLen int
	IPv6SubnetMin netip.Addr
	IPv6SubnetMax netip.Addr

	Backend string // always BackendUDP
	Port    uint16 // UDP port of every peer whose lease names none
}

// DefaultConfig is the Config of a network about which nothing but its CIDR was said.
func DefaultConfig(network netip.Prefix) (Config, error) {
	return rawConfig{Network: network.String()}.validate()
}

// IPv6Ignored tells whether the network is dual-stack, of which twill uses the IPv4 half only.
func (c Config) IPv6Ignored() bool {
	return c.IPv6Network.IsValid()
}

// SubnetCount is the number of allocatable subnets.
func (c Config) SubnetCount() int {
	span := addrUint32(c.SubnetMax) - addrUint32(c.SubnetMin)
	return int(span>>(32-c.SubnetLen)) + 1
}

// Subnet is the i-th allocatable subnet in address order, from SubnetMin (0) to SubnetMax
// (SubnetCount-1). It is the zero Prefix for any other i.
func (c Config) Subnet(i int) netip.Prefix {
	if i < 0 || i >= c.SubnetCount() {
		return netip.Prefix{}
	}
	base := addrUint32(c.SubnetMin) + uint32(i)<<(32-c.SubnetLen)
	return netip.PrefixFrom(uint32Addr(base), c.SubnetLen)
}

// Check returns nil when subnet is one that the config allocates, else an error that says
// which bound it breaks. A lease made under an older config is the usual reason.
func (c Config) Check(subnet netip.Prefix) error {
	switch {
	case !subnet.IsValid() || !subnet.Addr().Is4():
		return fmt.Errorf("subnet %s: not an IPv4 prefix", subnet)
	case subnet.Bits() != c.SubnetLen:
		return fmt.Errorf("subnet %s: length /%d, want SubnetLen /%d", subnet, subnet.Bits(), c.SubnetLen)
	case subnet != subnet.Masked():
		return fmt.Errorf("subnet %s: not on a /%d boundary, want %s", subnet, c.SubnetLen, subnet.Masked())
	case !c.Network.Contains(subnet.Addr()):
		return fmt.Errorf("subnet %s: outside Network %s", subnet, c.Network)
	case subnet.Addr().Less(c.SubnetMin) || c.SubnetMax.Less(subnet.Addr()):
		return fmt.Errorf("subnet %s: outside SubnetMin %s to SubnetMax %s", subnet, c.SubnetMin, c.SubnetMax)
	}
	return nil
}

func addrUint32(a netip.Addr) uint32 {
	b := a.As4()
	return binary.BigEndian.Uint32(b[:])
}

func uint32Addr(u uint32) netip.Addr {
	var b [4]byte
	binary.BigEndian.PutUint32(b[:], u)
	return netip.AddrFrom4(b)
}
