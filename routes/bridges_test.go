package routes

import (
	"net/netip"
	"slices"
	"testing"

	"github.com/vishvananda/netlink"
)

func TestBridges(t *testing.T) {
	newNamespace(t)
	addBridge(t, "docker0", "10.5.72.1/24", "172.17.0.1/16")
	addBridge(t, "br0")
	addAddress(t, addTUN(t, "tun0", netlink.TUNTAP_MODE_TUN), netlink.Addr{IPNet: ipNet("10.5.75.1/24")})
	got, err := Bridges()
	noError(t, err)
	want := []Bridge{{"docker0", netip.MustParsePrefix("10.5.72.1/24")}, {"docker0", netip.MustParsePrefix("172.17.0.1/16")}}
	if !slices.Equal(got, want) {
		t.Errorf("got %v, want %v", got, want)
	}
}
