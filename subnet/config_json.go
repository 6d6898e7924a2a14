package subnet

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/netip"
	"reflect"
	"slices"
	"strings"
)

// rawConfig is the network config as it stands in etcd, before any rule was applied.
// encoding/json matches the keys regardless of case and skips unknown ones, as Flannel does.
type rawConfig struct {
	EnableIPv4    *bool      `json:",omitempty"` // absent means true
	EnableIPv6    bool       `json:",omitempty"`
	Network       string     `json:",omitempty"`
	SubnetLen     int        `json:",omitempty"`
	SubnetMin     string     `json:",omitempty"`
	SubnetMax     string     `json:",omitempty"`
	IPv6Network   string     `json:",omitempty"`
	IPv6SubnetLen int        `json:",omitempty"`
	IPv6SubnetMin string     `json:",omitempty"`
	IPv6SubnetMax string     `json:",omitempty"`
	Backend       rawBackend `json:",omitzero"`
}

type rawBackend struct {
	Type string
	Port *int `json:",omitempty"` // absent means DefaultPort
}

// ParseConfig reads the network config, the JSON under <prefix>/config in etcd, and fills in
// Flannel's defaults. The error names every field that breaks a rule, its value and what is
// allowed.
func ParseConfig(raw []byte) (Config, error) {
	var r rawConfig
	if err := unmarshal(raw, &r); err != nil {
		return Config{}, err
	}
	return r.validate()
}

func (r rawConfig) validate() (Config, error) {
	if r.EnableIPv4 != nil && !*r.EnableIPv4 {
		return Config{}, errors.New("EnableIPv4 false: twill carries IPv4, want true")
	}
	port, backendErr := r.Backend.validate()
	v4, v4Err := ipv4Family.validate(rawRange{r.Network, r.SubnetLen, r.SubnetMin, r.SubnetMax})
	var v6 addrRange
	var v6Err error
	if r.EnableIPv6 {
		v6, v6Err = ipv6Family.validate(rawRange{r.IPv6Network, r.IPv6SubnetLen, r.IPv6SubnetMin, r.IPv6SubnetMax})
	}
	if err := joinLine(v4Err, v6Err, backendErr); err != nil {
		return Config{}, err
	}
	return Config{
		Network:       v4.network,
		SubnetLen:     v4.subnetLen,
		SubnetMin:     v4.min,
		SubnetMax:     v4.max,
		IPv6Network:   v6.network,
		IPv6SubnetLen: v6.subnetLen,
		IPv6SubnetMin: v6.min,
		IPv6SubnetMax: v6.max,
		Backend:       BackendUDP,
		Port:          port,
	}, nil
}

func (b rawBackend) validate() (port uint16, err error) {
	// Flannel compares backend types regardless of case.
	if b.Type != "" && !strings.EqualFold(b.Type, BackendUDP) {
		return 0, fmt.Errorf("Backend.Type %.32q: twill speaks %q only", b.Type, BackendUDP)
	}
	if b.Port == nil {
		return DefaultPort, nil
	}
	if *b.Port < 1 || *b.Port > 65535 {
		return 0, fmt.Errorf("Backend.Port %d: want 1 to 65535", *b.Port)
	}
	return uint16(*b.Port), nil
}

// JSON is the config in canonical form, every default spelled out: ParseConfig gives the same
// Config back. Fields unknown to twill are not in it.
func (c Config) JSON() []byte {
	port := int(c.Port)
	r := rawConfig{
		Network:   c.Network.String(),
		SubnetLen: c.SubnetLen,
		SubnetMin: c.SubnetMin.String(),
		SubnetMax: c.SubnetMax.String(),
		Backend:   rawBackend{Type: c.Backend, Port: &port},
	}
	if c.IPv6Ignored() {
		r.EnableIPv6 = true
		r.IPv6Network = c.IPv6Network.String()
		r.IPv6SubnetLen = c.IPv6SubnetLen
		r.IPv6SubnetMin = c.IPv6SubnetMin.String()
		r.IPv6SubnetMax = c.IPv6SubnetMax.String()
	}
	raw, err := json.Marshal(r)
	if err != nil {
		panic(fmt.Sprintf("network config: %v", err)) // strings, numbers and bools always encode
	}
	return raw
}

// MarshalJSON is JSON, for a Config inside another document.
func (c Config) MarshalJSON() ([]byte, error) {
	return c.JSON(), nil
}

// UnmarshalJSON is ParseConfig, so that a Config read from a file is as valid as one from etcd.
func (c *Config) UnmarshalJSON(raw []byte) error {
	parsed, err := ParseConfig(raw)
	if err != nil {
		return err
	}
	*c = parsed
	return nil
}

// family holds the rules in which the two address families differ.
type family struct {
	prefix        string // of the config's field names
	example       string // a Network
	is            func(netip.Addr) bool
	usualSubnet   int // bits; the default SubnetLen where four of them fit
	longestSubnet int // bits; leaves four addresses: base, bridge, one pod, broadcast
	unusable      []netip.Prefix
}

var (
	ipv4Family = family{
		prefix: "", example: "10.5.0.0/16", is: netip.Addr.Is4, usualSubnet: 24, longestSubnet: 30,
		unusable: []netip.Prefix{
			netip.MustParsePrefix("0.0.0.0/8"),          // this host on this network, RFC 1122 3.2.1.3
			netip.MustParsePrefix("127.0.0.0/8"),        // loopback, RFC 1122 3.2.1.3
			netip.MustParsePrefix("224.0.0.0/4"),        // multicast, RFC 5771
			netip.MustParsePrefix("255.255.255.255/32"), // limited broadcast, RFC 919
		},
	}
	ipv6Family = family{
		prefix: "IPv6", example: "fd00:5::/48", is: netip.Addr.Is6, usualSubnet: 64, longestSubnet: 126,
		unusable: []netip.Prefix{
			netip.MustParsePrefix("::1/128"),  // loopback, RFC 4291 2.5.3
			netip.MustParsePrefix("ff00::/8"), // multicast, RFC 4291 2.7
		},
	}
)

// subnetsPerNetwork is how many subnets a Network has to hold at least, as bits of prefix:
// four, of which the first is skipped.
const subnetsPerNetwork = 2

// rawRange is the part of the config that both address families have, as given.
type rawRange struct {
	network   string
	subnetLen int
	min, max  string
}

// addrRange is a validated rawRange.
type addrRange struct {
	network   netip.Prefix
	subnetLen int
	min, max  netip.Addr
}

func (f family) validate(raw rawRange) (addrRange, error) {
	network, err := f.network(raw.network)
	if err != nil {
		return addrRange{}, err
	}
	subnetLen, err := f.subnetLen(raw.subnetLen, network)
	if err != nil {
		return addrRange{}, err
	}
	r := addrRange{network: network, subnetLen: subnetLen}

	// The first subnet is left out: its base address is the Network's own.
	first := setBits(network.Addr(), subnetLen-1, subnetLen)
	last := setBits(network.Addr(), network.Bits(), subnetLen)
	var minErr, maxErr error
	r.min, minErr = f.bound("SubnetMin", raw.min, first, r)
	r.max, maxErr = f.bound("SubnetMax", raw.max, last, r)
	if err := joinLine(minErr, maxErr); err != nil {
		return addrRange{}, err
	}
	if r.max.Less(r.min) {
		return addrRange{}, fmt.Errorf("%sSubnetMin %s: want at most %sSubnetMax %s", f.prefix, r.min, f.prefix, r.max)
	}
	return r, nil
}

// network parses the Network; host bits are cleared as Flannel clears them.
func (f family) network(s string) (netip.Prefix, error) {
	field := f.prefix + "Network"
	if s == "" {
		return netip.Prefix{}, fmt.Errorf("%s: required, want a prefix like %s", field, f.example)
	}
	network, err := netip.ParsePrefix(s)
	if err != nil || !f.is(network.Addr()) {
		return netip.Prefix{}, fmt.Errorf("%s %.64q: want a prefix like %s", field, s, f.example)
	}
	if smallest := f.longestSubnet - subnetsPerNetwork; network.Bits() > smallest {
		return netip.Prefix{}, fmt.Errorf("%s %s: too small, want /%d or larger", field, network, smallest)
	}
	for _, u := range f.unusable {
		if u.Overlaps(network) {
			return netip.Prefix{}, fmt.Errorf("%s %s: overlaps %s, want unicast addresses", field, network, u)
		}
	}
	return network.Masked(), nil
}

func (f family) subnetLen(n int, network netip.Prefix) (int, error) {
	shortest := network.Bits() + subnetsPerNetwork
	if n == 0 {
		return max(f.usualSubnet, shortest), nil
	}
	if n < shortest || n > f.longestSubnet {
		return 0, fmt.Errorf("%sSubnetLen %d: want %d to %d for a /%d network, which has to hold four subnets",
			f.prefix, n, shortest, f.longestSubnet, network.Bits())
	}
	return n, nil
}

// bound parses SubnetMin or SubnetMax. The unspecified address means the default, as in Flannel.
func (f family) bound(name, s string, byDefault netip.Addr, r addrRange) (netip.Addr, error) {
	if s == "" {
		return byDefault, nil
	}
	addr, err := netip.ParseAddr(s)
	switch {
	case err != nil || !f.is(addr) || addr.Zone() != "":
		return netip.Addr{}, fmt.Errorf("%s%s %.64q: want an address in %s", f.prefix, name, s, r.network)
	case addr.IsUnspecified():
		return byDefault, nil
	case !r.network.Contains(addr):
		return netip.Addr{}, fmt.Errorf("%s%s %s: want an address in %s", f.prefix, name, addr, r.network)
	}
	if base := netip.PrefixFrom(addr, r.subnetLen).Masked().Addr(); base != addr {
		return netip.Addr{}, fmt.Errorf("%s%s %s: not on a /%d boundary, want %s", f.prefix, name, addr, r.subnetLen, base)
	}
	return addr, nil
}

// setBits sets the bits [from, to) of addr, counted from the most significant one.
func setBits(addr netip.Addr, from, to int) netip.Addr {
	b := addr.AsSlice()
	for i := from; i < to; i++ {
		b[i/8] |= 0x80 >> (i % 8)
	}
	set, _ := netip.AddrFromSlice(b) // same length as addr's own
	return set
}

// UnknownFields names the fields of a network config that twill does not read, in order: those
// of Flannel alone, and misspelt ones.
func UnknownFields(raw []byte) []string {
	var fields map[string]json.RawMessage
	if json.Unmarshal(raw, &fields) != nil {
		return nil
	}
	known := reflect.TypeFor[rawConfig]()
	var unknown []string
	for name := range fields {
		_, ok := known.FieldByNameFunc(func(field string) bool { return strings.EqualFold(field, name) })
		if !ok {
			unknown = append(unknown, name)
		}
	}
	slices.Sort(unknown)
	return unknown
}
