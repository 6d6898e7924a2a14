package tunnel

import (
	"fmt"
	"net/netip"
)

// SpoofCheck says how far the source of a packet is checked.
type SpoofCheck uint8

const (
	// SpoofStrict, the default. Inbound: the datagram comes from the endpoint of a lease, and the source of the packet in
	// it lies in a lease of that endpoint. Outbound: the source lies in our own subnet or is an address of this host, so
	// that our pods cannot be the attackers of hosts that check less.
	SpoofStrict SpoofCheck = iota
	// SpoofSource: the inbound datagram comes from the endpoint of a lease.
	SpoofSource
	// SpoofOff: anyone who reaches the port may send packets to the pods. With either, what says that it is from ourselves, or from
	// an address that names no single host, is refused all the same.
	SpoofOff
)

var spoofCheckNames = [...]string{SpoofStrict: "strict", SpoofSource: "source", SpoofOff: "off"}

// ParseSpoofCheck returns the check called name: strict, source or off.
func ParseSpoofCheck(name string) (SpoofCheck, error) {
	for check, n := range spoofCheckNames {
		if n == name {
			return SpoofCheck(check), nil
		}
	}
	return 0, fmt.Errorf("spoof check %q: want strict, source or off", name)
}

func (c SpoofCheck) String() string {
	if int(c) < len(spoofCheckNames) {
		return spoofCheckNames[c]
	}
	return fmt.Sprintf("SpoofCheck(%d)", uint8(c))
}

// namesOneHost says whether an address with the given first byte can be that of one host: not in network 0, loopback, multicast,
// reserved, nor the limited broadcast, RFC 1812 section 5.3.7.
func namesOneHost(first byte) bool { return first != 0 && first != 127 && first < 224 }

// hostAddresses are the addresses of this host, at which a packet may start beside our subnet. The set is never changed.
type hostAddresses map[netip.Addr]struct{}

// SetHostAddresses says which addresses this host has, from the next burst on. Without it there are none.
func (t *Tunnel) SetHostAddresses(addrs []netip.Addr) {
	set := make(hostAddresses, len(addrs))
	for _, addr := range addrs {
		set[addr.Unmap()] = struct{}{}
	}
	t.hosts.Store(&set)
}
