package routes

import (
	"net/netip"
	"regexp"
	"testing"

	"github.com/vishvananda/netlink"
)

// underlayHost is a host with an uplink, a second network, a container
// bridge, an interface without an address and one that is down.
func underlayHost(t *testing.T) {
	newNamespace(t)
	addBridge(t, "eth0", "198.18.0.1/24", "198.18.0.9/24")
	addBridge(t, "eth1", "198.18.1.1/24")
	addBridge(t, "docker0", "172.17.0.1/16")
	addBridge(t, "bare0")
	if err := netlink.LinkSetDown(addBridge(t, "down0", "198.18.9.1/24")); err != nil {
		t.Fatal(err)
	}
}

func TestFindUnderlay(t *testing.T) {
	underlayHost(t)
	eth1, err := netlink.LinkByName("eth1")
	noError(t, err)
	addRoute(t, netlink.Route{Dst: ipNet("0.0.0.0/0"), Gw: []byte{198, 18, 1, 254}, LinkIndex: eth1.Attrs().Index})
	addRoute(t, netlink.Route{Dst: ipNet("203.0.113.0/24"), Gw: []byte{198, 18, 0, 254}, Src: []byte{198, 18, 0, 9}})

	re := func(exprs ...string) (res []*regexp.Regexp) {
		for _, e := range exprs {
			res = append(res, regexp.MustCompile(e))
		}
		return res
	}
	tests := map[string]struct {
		selector Selector
		name     string
		addr     string
	}{
		"default route":             {Selector{}, "eth1", "198.18.1.1"},
		"name":                      {Selector{Ifaces: []string{"eth0"}}, "eth0", "198.18.0.1"},
		"address":                   {Selector{Ifaces: []string{"198.18.0.9"}}, "eth0", "198.18.0.9"},
		"first of two names":        {Selector{Ifaces: []string{"eth1", "eth0"}}, "eth1", "198.18.1.1"},
		"second when first absent":  {Selector{Ifaces: []string{"eth7", "eth0"}}, "eth0", "198.18.0.1"},
		"second when first is down": {Selector{Ifaces: []string{"down0", "eth0"}}, "eth0", "198.18.0.1"},
		"second when first is bare": {Selector{Ifaces: []string{"bare0", "eth0"}}, "eth0", "198.18.0.1"},
		"regexp on name":            {Selector{Regexes: re("^eth[1-9]$")}, "eth1", "198.18.1.1"},
		"regexp on address":         {Selector{Regexes: re(`^198\.18\.0\.9$`)}, "eth0", "198.18.0.9"},
		"regexp name before address": {
			Selector{Regexes: re(`^198\.18\.0\.1$|^eth1$`)}, "eth1", "198.18.1.1"},
		"regexp skips loopback":   {Selector{Regexes: re(".")}, "eth0", "198.18.0.1"},
		"second regexp":           {Selector{Regexes: re("^wlan", "^eth1")}, "eth1", "198.18.1.1"},
		"name before regexp":      {Selector{Ifaces: []string{"eth1"}, Regexes: re("^eth0")}, "eth1", "198.18.1.1"},
		"regexp after names":      {Selector{Ifaces: []string{"eth7"}, Regexes: re("^eth0")}, "eth0", "198.18.0.1"},
		"can reach":               {Selector{CanReach: netip.MustParseAddr("198.18.0.77")}, "eth0", "198.18.0.1"},
		"can reach, route source": {Selector{CanReach: netip.MustParseAddr("203.0.113.7")}, "eth0", "198.18.0.9"},
		"can reach, by default":   {Selector{CanReach: netip.MustParseAddr("192.0.2.1")}, "eth1", "198.18.1.1"},
		"can reach after the rest": {
			Selector{Ifaces: []string{"eth7"}, Regexes: re("^wlan"), CanReach: netip.MustParseAddr("198.18.0.77")}, "eth0", "198.18.0.1"},
	}
	for name, tt := range tests {
		// No t.Run: a subtest is another goroutine, and so in another namespace.
		got, err := FindUnderlay(tt.selector)
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		link, err := netlink.LinkByName(tt.name)
		noError(t, err)
		want := Underlay{Name: tt.name, Index: link.Attrs().Index, MTU: link.Attrs().MTU, Addr: netip.MustParseAddr(tt.addr)}
		if got != want {
			t.Errorf("%s: got %+v, want %+v", name, got, want)
		}
	}
}

func TestFindUnderlayErrors(t *testing.T) {
	underlayHost(t)
	tests := map[string]struct {
		selector Selector
		names    []string
	}{
		"no default route": {Selector{}, []string{"no default route", "--iface", "eth0 198.18.0.1/24 198.18.0.9/24", "1 without"}},
		"absent name":      {Selector{Ifaces: []string{"eth7", "eth8"}}, []string{"eth7", "eth8", "docker0 172.17.0.1/16"}},
		"absent address":   {Selector{Ifaces: []string{"192.0.2.7"}}, []string{"192.0.2.7", "eth0"}},
		"no address":       {Selector{Ifaces: []string{"bare0"}}, []string{"bare0 has no IPv4 address"}},
		"down":             {Selector{Ifaces: []string{"down0"}}, []string{"down0 is down"}},
		"loopback":         {Selector{Ifaces: []string{"lo"}}, []string{"lo", "loopback"}},
		"loopback address": {Selector{Ifaces: []string{"127.0.0.1"}}, []string{"127.0.0.1", "loopback"}},
		"regexp":           {Selector{Regexes: []*regexp.Regexp{regexp.MustCompile("^wlan")}}, []string{`"^wlan"`, "eth1"}},
		"regexp unusable":  {Selector{Regexes: []*regexp.Regexp{regexp.MustCompile("^down")}}, []string{`"^down"`, "down0 is down"}},
		"unreachable":      {Selector{CanReach: netip.MustParseAddr("192.0.2.1")}, []string{"192.0.2.1", "unreachable"}},
		"own address":      {Selector{CanReach: netip.MustParseAddr("198.18.1.1")}, []string{"198.18.1.1", "own"}},
		"IPv6":             {Selector{CanReach: netip.MustParseAddr("2001:db8::1")}, []string{"2001:db8::1", "IPv4"}},
	}
	for name, tt := range tests {
		got, err := FindUnderlay(tt.selector)
		if err == nil {
			t.Errorf("%s: got %+v, want an error", name, got)
			continue
		}
		wantError(t, err, tt.names...)
	}
}

// A default route with a better metric wins; one whose interface cannot be
// used does not.
func TestFindUnderlayDefaultRoutes(t *testing.T) {
	newNamespace(t)
	var links []netlink.Link
	for i, name := range []string{"eth0", "eth1", "eth2"} {
		links = append(links, addBridge(t, name))
		addRoute(t, netlink.Route{Dst: ipNet("0.0.0.0/0"), LinkIndex: links[i].Attrs().Index, Scope: netlink.SCOPE_LINK, Priority: 300 - 100*i})
	}
	addAddress(t, links[0], netlink.Addr{IPNet: ipNet("198.18.0.1/24")})
	addAddress(t, links[1], netlink.Addr{IPNet: ipNet("198.18.1.1/24")})
	got, err := FindUnderlay(Selector{})
	noError(t, err)
	if got.Name != "eth1" {
		t.Errorf("got %s, want eth1: eth2 has the best metric but no address", got.Name)
	}
}

func TestFindUnderlayMultipathDefault(t *testing.T) {
	newNamespace(t)
	eth0 := addBridge(t, "eth0", "198.18.0.1/24")
	eth1 := addBridge(t, "eth1", "198.18.1.1/24")
	addRoute(t, netlink.Route{Dst: ipNet("0.0.0.0/0"), MultiPath: []*netlink.NexthopInfo{
		{LinkIndex: eth1.Attrs().Index, Gw: []byte{198, 18, 1, 254}},
		{LinkIndex: eth0.Attrs().Index, Gw: []byte{198, 18, 0, 254}},
	}})
	got, err := FindUnderlay(Selector{})
	noError(t, err)
	if got.Name != "eth1" {
		t.Errorf("got %s, want eth1, the first next hop", got.Name)
	}
}

func TestAddressPreference(t *testing.T) {
	newNamespace(t)
	link := addBridge(t, "eth0")
	// From worst to best; the kernel lists them in this order.
	addresses := []netlink.Addr{
		{IPNet: ipNet("169.254.0.1/24"), ValidLft: 1000, PreferedLft: 1000},
		{IPNet: ipNet("169.254.1.1/24")},
		{IPNet: ipNet("198.18.0.1/24"), ValidLft: 1000, PreferedLft: 1000},
		{IPNet: ipNet("198.18.1.1/24")},
	}
	for _, a := range addresses {
		addAddress(t, link, a)
		got, err := FindUnderlay(Selector{Ifaces: []string{"eth0"}})
		noError(t, err)
		if got.Addr != prefixOf(a.IPNet).Addr() {
			t.Errorf("got %s, want %s", got.Addr, a.IP)
		}
	}
}
