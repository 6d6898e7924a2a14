package subnet

import (
	"net/netip"
	"slices"
	"testing"
)

func TestProblem(t *testing.T) {
	c := mustConfig(t, `{"Network":"10.5.0.0/16","SubnetMin":"10.5.10.0","SubnetMax":"10.5.20.0"}`)
	own := netip.MustParsePrefix("10.5.11.0/24")
	at := func(ip string) string { return flannelValue(netip.MustParseAddr(ip)) }
	const good = `{"PublicIP":"192.0.2.2"}`
	for _, tt := range []struct{ name, value, want string }{
		{"10.5.12.0-24", good, ""},
		{"10.5.12.0-24&fd00:5:c::-64", good, ""},
		{"10.5.200.0-24", good, ""}, // beyond SubnetMax: of an older config, and in use all the same
		{"10.5.12.0-24", at("169.254.1.1"), ""},
		{"10.5.12.0-24", flannelVXLAN, `backend "vxlan"; twill carries udp only`},
		{"10.5.12.0_24", good, `lease key "10.5.12.0_24": want ADDRESS-LENGTH like 10.5.52.0-24, length 1 to 30, or with &ADDRESS-LENGTH for IPv6, length 1 to 126`},
		{"10.5.12.0-24", "", "lease value: invalid JSON at byte 0: unexpected end of JSON input"},
		{"10.5.12.0-24", `{}`, "lease value: PublicIP: required, want an IPv4 address"},
		{"10.5.12.0-25", good, "subnet 10.5.12.0/25 is not a /24 inside 10.5.0.0/16"},
		{"10.4.0.0-14", good, "subnet 10.4.0.0/14 is not a /24 inside 10.5.0.0/16"},
		{"10.6.12.0-24", good, "subnet 10.6.12.0/24 is not a /24 inside 10.5.0.0/16"},
		{"10.5.11.0-24&fd00:5:c::-64", good, "subnet 10.5.11.0/24 overlaps our own 10.5.11.0/24"},
		{"10.5.12.0-24", at("10.5.12.1"), "public IP 10.5.12.1 lies inside the overlay 10.5.0.0/16"},
		{"10.5.12.0-24", at("0.0.0.0"), "public IP 0.0.0.0 lies in 0.0.0.0/8, where no host has its address"},
		{"10.5.12.0-24", at("0.1.2.3"), "public IP 0.1.2.3 lies in 0.0.0.0/8, where no host has its address"},
		{"10.5.12.0-24", at("127.8.8.8"), "public IP 127.8.8.8 lies in 127.0.0.0/8, where no host has its address"},
		{"10.5.12.0-24", at("239.1.1.1"), "public IP 239.1.1.1 lies in 224.0.0.0/4, where no host has its address"},
		{"10.5.12.0-24", at("255.255.255.255"), "public IP 255.255.255.255 lies in 255.255.255.255/32, where no host has its address"},
		{"10.5.12.0-24", at("fd00::1"), "lease value: PublicIP fd00::1: want an IPv4 address"},
		{"10.5.12.0-24", at("::ffff:192.0.2.2"), "lease value: PublicIP ::ffff:192.0.2.2: want an IPv4 address"},
	} {
		if got := Problem(leaseAt(t, tt.name, tt.value), c, own); got != tt.want {
			t.Errorf("%s = %s:\n got %q\nwant %q", tt.name, tt.value, got, tt.want)
		}
	}
	if got := Problem(leaseAt(t, "10.5.11.0-24", good), c, netip.Prefix{}); got != "" {
		t.Errorf("without a lease of our own: %q, want no problem", got)
	}
	if got := Problem(Lease{Key: Key{Subnet: netip.MustParsePrefix("10.5.12.0/24")}}, c, own); got != "public IP invalid IP is not an IPv4 address" {
		t.Errorf("without an address: %q", got)
	}
}

func TestChanges(t *testing.T) {
	at := func(third byte) *Peer {
		return &Peer{Lease: Lease{Key: Key{Subnet: netip.PrefixFrom(netip.AddrFrom4([4]byte{10, 5, third, 0}), 24)}}}
	}
	stays, goes, comes, was, is := at(1), at(2), at(3), at(4), at(4)
	type change struct{ before, after *Peer }
	for _, tt := range []struct {
		name          string
		before, after []*Peer
		want          []change
	}{
		{"nothing", nil, nil, nil},
		{"the same", []*Peer{stays}, []*Peer{stays}, nil},
		{"first", nil, []*Peer{comes}, []change{{nil, comes}}},
		{"last", []*Peer{goes}, nil, []change{{goes, nil}}},
		{"all kinds", []*Peer{stays, goes, was}, []*Peer{stays, comes, is}, []change{{goes, nil}, {nil, comes}, {was, is}}},
	} {
		var got []change
		for before, after := range Changes(tt.before, tt.after) {
			got = append(got, change{before, after})
		}
		if !slices.Equal(got, tt.want) {
			t.Errorf("%s: %v, want %v", tt.name, got, tt.want)
		}
	}
}

func TestNote(t *testing.T) {
	if got := Note(leaseAt(t, "10.5.12.0-24&fd00:5:c::-64", flannelDual)); got != "IPv6 subnet fd00:5:c::/64 is not used" {
		t.Errorf("dual-stack: %q", got)
	}
	if got := Note(leaseAt(t, "10.5.12.0-24", flannelUDP)); got != "" {
		t.Errorf("IPv4 only: %q, want nothing", got)
	}
}
