package routes

import (
	"net/netip"
	"slices"
	"testing"

	"github.com/vishvananda/netlink"
)

func TestContainerSubnets(t *testing.T) {
	newNamespace(t)
	addBridge(t, "docker0", "10.5.72.1/24")
	addBridge(t, "cni0", "10.5.73.1/24")
	addBridge(t, "lan0", "10.5.74.2/24")
	addBridge(t, "wide0", "10.5.128.1/17")
	addBridge(t, "docker1", "172.17.0.1/16")
	addAddress(t, addTUN(t, "tun0", netlink.TUNTAP_MODE_TUN), netlink.Addr{IPNet: ipNet("10.5.75.1/24")})
	got, err := ContainerSubnets(netip.MustParsePrefix("10.5.0.0/16"), 24)
	noError(t, err)
	if want := []netip.Prefix{netip.MustParsePrefix("10.5.72.0/24"), netip.MustParsePrefix("10.5.73.0/24")}; !slices.Equal(got, want) {
		t.Errorf("got %v, want %v", got, want)
	}
}

func TestOverlaps(t *testing.T) {
	newNamespace(t)
	eth0 := addBridge(t, "eth0", "198.18.0.1/24")
	docker0 := addBridge(t, "docker0", "10.5.72.1/24")
	addBridge(t, "docker1", "172.17.0.1/16")
	addRoute(t, netlink.Route{Dst: ipNet("192.0.2.0/24"), LinkIndex: eth0.Attrs().Index, Scope: netlink.SCOPE_LINK})
	addRoute(t, netlink.Route{Dst: ipNet("0.0.0.0/0"), Gw: []byte{198, 18, 0, 254}})
	addRoute(t, netlink.Route{Dst: ipNet("0.0.0.0/0"), LinkIndex: eth0.Attrs().Index, Scope: netlink.SCOPE_LINK, Priority: 100})
	addRoute(t, netlink.Route{Dst: ipNet("10.0.0.0/8"), Gw: []byte{198, 18, 0, 254}})
	// As a bridge plugin without a bridge makes them, one for each pod.
	addRoute(t, netlink.Route{Dst: ipNet("10.5.72.9/32"), LinkIndex: docker0.Attrs().Index, Scope: netlink.SCOPE_LINK})
	addTUN(t, "twill0", netlink.TUNTAP_MODE_TUN)
	own := Link{Name: "twill0", Address: netip.MustParseAddr("10.5.72.0"), MTU: 1472, Network: netip.MustParsePrefix("10.5.0.0/16")}
	noError(t, own.Apply())

	prefix := netip.MustParsePrefix
	tests := map[string]struct {
		network netip.Prefix
		own     []netip.Prefix
		names   []string // of the error; none: no error
	}{
		"restart with docker0 in our subnet": {prefix("10.5.0.0/16"), []netip.Prefix{prefix("10.5.72.0/24")}, nil},
		"host bits set":                      {prefix("10.5.1.2/16"), []netip.Prefix{prefix("10.5.72.1/24")}, nil},
		"two subnets held":                   {prefix("10.5.0.0/16"), []netip.Prefix{prefix("10.5.3.0/24"), prefix("10.5.72.0/24")}, nil},
		"no subnet known":                    {prefix("10.5.0.0/16"), nil, []string{"10.5.0.0/16", "10.5.72.1/24", "docker0"}},
		"subnet not known yet":               {prefix("10.5.0.0/16"), []netip.Prefix{{}}, []string{"10.5.0.0/16", "10.5.72.1/24", "docker0"}},
		"docker0 in another subnet":          {prefix("10.5.0.0/16"), []netip.Prefix{prefix("10.5.3.0/24")}, []string{"10.5.72.1/24", "docker0"}},
		"docker0 only partly in our subnet":  {prefix("10.5.0.0/16"), []netip.Prefix{prefix("10.5.72.0/25")}, []string{"10.5.72.1/24", "docker0"}},
		"host bits in the error":             {prefix("198.18.9.9/15"), nil, []string{"network 198.18.0.0/15"}},
		"underlay inside":                    {prefix("198.18.0.0/15"), nil, []string{"198.18.0.0/15", "198.18.0.1/24", "eth0"}},
		"inside the underlay":                {prefix("198.18.0.128/25"), nil, []string{"198.18.0.128/25", "198.18.0.1/24", "eth0"}},
		"another docker network":             {prefix("172.16.0.0/12"), nil, []string{"172.16.0.0/12", "172.17.0.1/16", "docker1"}},
		"connected route without address":    {prefix("192.0.0.0/16"), nil, []string{"192.0.0.0/16", "192.0.2.0/24", "eth0"}},
		"loopback":                           {prefix("127.0.0.0/8"), nil, []string{"127.0.0.1/8", "lo"}},
		"wider route by a router":            {prefix("10.9.0.0/16"), nil, nil},
		"free":                               {prefix("203.0.113.0/24"), nil, nil},
	}
	for name, tt := range tests {
		err := Overlaps(tt.network, "twill0", tt.own...)
		if tt.names == nil {
			if err != nil {
				t.Errorf("%s: %v", name, err)
			}
			continue
		}
		if err == nil {
			t.Errorf("%s: no error", name)
			continue
		}
		wantError(t, err, tt.names...)
	}

	// The device of an earlier run, whatever subnet that had.
	addTUN(t, "twill1", netlink.TUNTAP_MODE_TUN)
	noError(t, Link{Name: "twill1", Address: netip.MustParseAddr("10.7.1.0"), MTU: 1472, Network: prefix("10.7.0.0/16")}.Apply())
	noError(t, Overlaps(prefix("10.7.0.0/16"), "twill1", prefix("10.7.9.0/24")))
	noError(t, Overlaps(prefix("10.7.0.0/16"), "twill1"))

	// Another network by its twill is somebody else's for us.
	if err := Overlaps(prefix("10.5.0.0/16"), "twill1", prefix("10.5.72.0/24")); err == nil {
		t.Error("the route of twill0 is no conflict for twill1")
	} else {
		wantError(t, err, "10.5.0.0/16", "twill0")
	}
}
