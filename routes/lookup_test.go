package routes

import (
	"errors"
	"net/netip"
	"testing"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// The way of a packet is the kernel's own answer, for this host's packets and for those of pods.
func TestLookup(t *testing.T) {
	underlayHost(t)
	eth1, err := netlink.LinkByName("eth1")
	noError(t, err)
	addRoute(t, netlink.Route{Dst: ipNet("0.0.0.0/0"), Gw: []byte{198, 18, 1, 254}, LinkIndex: eth1.Attrs().Index})
	addRoute(t, netlink.Route{Dst: ipNet("203.0.113.0/24"), Type: unix.RTN_BLACKHOLE})
	addRoute(t, netlink.Route{Dst: ipNet("203.0.112.0/24"), Type: unix.RTN_UNREACHABLE})
	noError(t, EnableForwarding())

	addr := netip.MustParseAddr
	pod, none := addr("172.17.0.2"), netip.Addr{}
	for _, tt := range []struct {
		name     string
		src, dst netip.Addr
		in       string
		want     Way
	}{
		{"own, on the link", none, addr("198.18.0.77"), "", Way{Device: "eth0", Source: addr("198.18.0.1"), MTU: 1500}},
		{"own, by the default route", none, addr("192.0.2.1"), "", Way{Device: "eth1", Source: addr("198.18.1.1"), Gateway: addr("198.18.1.254"), MTU: 1500}},
		{"own, to itself", none, addr("198.18.0.1"), "", Way{Device: "lo", Source: addr("198.18.0.1"), MTU: 65536, Local: true}},
		{"a pod's", pod, addr("192.0.2.1"), "docker0", Way{Device: "eth1", Gateway: addr("198.18.1.254"), MTU: 1500}},
		{"a pod's, to this host", pod, addr("198.18.0.1"), "docker0", Way{Device: "docker0", MTU: 1500, Local: true}},
		{"blackhole", none, addr("203.0.113.9"), "", Way{Refused: "blackhole"}},
		{"blackhole, a pod's", pod, addr("203.0.113.9"), "docker0", Way{Refused: "blackhole"}},
		{"unreachable, a pod's", pod, addr("203.0.112.9"), "docker0", Way{Refused: "unreachable"}},
		{"unreachable", none, addr("203.0.112.9"), "", Way{Refused: "unreachable"}},
	} {
		got, err := Lookup(tt.src, tt.dst, tt.in)
		if tt.want.Local {
			got.Device, tt.want.Device, got.MTU, tt.want.MTU = "", "", 0, 0 // the kernel names lo or the incoming one
		}
		if err != nil || got != tt.want {
			t.Errorf("%s: %+v, %v; want %+v", tt.name, got, err, tt.want)
		}
	}
	if _, err := Lookup(addr("198.18.0.1"), addr("192.0.2.1"), "docker0"); !errors.Is(err, ErrMartian) {
		t.Errorf("our own address from a pod: %v, want ErrMartian", err)
	}
}

func TestBridgeOf(t *testing.T) {
	underlayHost(t)
	docker, err := netlink.LinkByName("docker0")
	noError(t, err)
	noError(t, netlink.AddrAdd(docker, &netlink.Addr{IPNet: ipNet("10.5.2.1/24")}))
	for subnet, want := range map[string]string{"172.17.0.0/16": "docker0", "10.5.2.0/24": "docker0", "10.5.1.0/24": ""} {
		if got, err := BridgeOf(netip.MustParsePrefix(subnet)); err != nil || got != want {
			t.Errorf("bridge of %s: %q, %v; want %q", subnet, got, err, want)
		}
	}
}
