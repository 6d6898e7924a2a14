package tunnel

import "fmt"

// SpoofCheck says how far the source of an inbound packet is checked.
type SpoofCheck uint8

const (
	// SpoofStrict, the default: the datagram comes from the endpoint of a lease, and the source of the packet in it lies
	// in a lease of that endpoint.
	SpoofStrict SpoofCheck = iota
	// SpoofSource: the datagram comes from the endpoint of a lease.
	SpoofSource
	// SpoofOff: anyone who reaches the port may send packets to the pods.
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
