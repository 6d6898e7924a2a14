package routes

import (
	"fmt"
	"net/netip"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

var testLink = Link{
	Name:    "twill0",
	Address: netip.MustParseAddr("10.5.72.0"),
	MTU:     1472,
	Network: netip.MustParsePrefix("10.5.0.0/16"),
}

// linkState is what Apply is responsible for, and what it must leave alone.
func linkState(t *testing.T, name string) (state struct {
	up         bool
	mtu, queue int
	addrs      []string
	routes     []string
}) {
	t.Helper()
	link, err := netlink.LinkByName(name)
	noError(t, err)
	state.up = link.Attrs().Flags&unix.IFF_UP != 0
	state.mtu, state.queue = link.Attrs().MTU, link.Attrs().TxQLen
	addrs, err := netlink.AddrList(link, netlink.FAMILY_V4)
	noError(t, err)
	for _, a := range addrs {
		state.addrs = append(state.addrs, a.IPNet.String())
	}
	routes, err := netlink.RouteList(link, netlink.FAMILY_V4)
	noError(t, err)
	for _, r := range routes {
		state.routes = append(state.routes, r.Dst.String()+" "+r.Scope.String()+" "+r.Protocol.String()+fmt.Sprint(" ", r.Priority))
	}
	return state
}

func wantLink(t *testing.T, want Link, otherRoutes ...string) {
	t.Helper()
	got := linkState(t, want.Name)
	if !got.up {
		t.Error("device is not up")
	}
	if got.mtu != want.MTU {
		t.Errorf("MTU %d, want %d", got.mtu, want.MTU)
	}
	if addrs := []string{want.Address.String() + "/32"}; !slices.Equal(got.addrs, addrs) {
		t.Errorf("addresses %q, want %q", got.addrs, addrs)
	}
	routes := append([]string{want.Network.Masked().String() + " link 116 0"}, otherRoutes...)
	slices.Sort(routes)
	slices.Sort(got.routes)
	if !slices.Equal(got.routes, routes) {
		t.Errorf("routes %q, want %q", got.routes, routes)
	}
}

func TestLinkApply(t *testing.T) {
	newNamespace(t)
	device := addTUN(t, "twill0", netlink.TUNTAP_MODE_TUN)
	noError(t, netlink.LinkSetTxQLen(device, 1234))

	noError(t, testLink.Apply())
	wantLink(t, testLink)
	if got := linkState(t, "twill0").queue; got != 1234 {
		t.Errorf("transmit queue length %d, want 1234 as before", got)
	}
}

// The kernel reports every change of addresses and routes; the second Apply
// causes no report. Links are compared instead: the kernel reports them at any
// time when it has looked after the carrier.
func TestLinkApplyTwice(t *testing.T) {
	newNamespace(t)
	addTUN(t, "twill0", netlink.TUNTAP_MODE_TUN)
	noError(t, testLink.Apply())
	before := linkState(t, "twill0")

	done := make(chan struct{})
	defer close(done)
	addrs, routes := make(chan netlink.AddrUpdate, 100), make(chan netlink.RouteUpdate, 100)
	noError(t, netlink.AddrSubscribe(addrs, done))
	noError(t, netlink.RouteSubscribe(routes, done))
	noError(t, testLink.Apply())
	// Reports come in order, so the ones caused here come behind.
	fence := addBridge(t, "fence0", "192.0.2.1/24").Attrs().Index
	deadline := time.After(10 * time.Second)
	for addrSeen, routeSeen := false, false; !addrSeen || !routeSeen; {
		select {
		case u := <-addrs:
			addrSeen = addrSeen || u.LinkIndex == fence
			if u.LinkIndex != fence && u.LinkAddress.IP.To4() != nil {
				t.Errorf("second Apply changed address %s", &u.LinkAddress)
			}
		case u := <-routes:
			routeSeen = routeSeen || u.LinkIndex == fence
			if u.LinkIndex != fence && u.Family == netlink.FAMILY_V4 {
				t.Errorf("second Apply changed route %s", u.Route)
			}
		case <-deadline:
			t.Fatal("no report of the fence")
		}
	}
	if after := linkState(t, "twill0"); !reflect.DeepEqual(after, before) {
		t.Errorf("second Apply made %+v of %+v", after, before)
	}
}

func TestLinkApplyConverges(t *testing.T) {
	newNamespace(t)
	device := addTUN(t, "twill0", netlink.TUNTAP_MODE_TUN)
	noError(t, testLink.Apply())

	// Address and network of another run.
	changed := Link{Name: "twill0", Address: netip.MustParseAddr("10.6.3.0"), MTU: 1400, Network: netip.MustParsePrefix("10.6.0.0/16")}
	noError(t, changed.Apply())
	wantLink(t, changed)

	// Only the network: the address stays, the old route goes.
	changed.Network = netip.MustParsePrefix("10.6.0.0/15")
	noError(t, changed.Apply())
	wantLink(t, changed)

	// Somebody adds addresses, a secondary and a peer's among them.
	addAddress(t, device, netlink.Addr{IPNet: ipNet("192.0.2.1/24")})
	addAddress(t, device, netlink.Addr{IPNet: ipNet("192.0.2.2/24")})
	addAddress(t, device, netlink.Addr{IPNet: ipNet("192.0.2.3/32"), Peer: ipNet("192.0.2.4/32")})
	noError(t, changed.Apply())
	wantLink(t, changed)

	// Setting a device down deletes its routes.
	noError(t, netlink.LinkSetDown(device))
	noError(t, changed.Apply())
	wantLink(t, changed)

	// Without the address the route goes too.
	noError(t, netlink.AddrDel(device, &netlink.Addr{IPNet: ipNet("10.6.3.0/32")}))
	noError(t, changed.Apply())
	wantLink(t, changed)

	// The address with a peer is another address.
	noError(t, netlink.AddrDel(device, &netlink.Addr{IPNet: ipNet("10.6.3.0/32")}))
	addAddress(t, device, netlink.Addr{IPNet: ipNet("10.6.3.0/32"), Peer: ipNet("192.0.2.4/32")})
	noError(t, changed.Apply())
	wantLink(t, changed)

	noError(t, netlink.LinkSetMTU(device, 9000))
	noError(t, changed.Apply())
	wantLink(t, changed)
}

func TestLinkApplyRoutesOnDevice(t *testing.T) {
	newNamespace(t)
	device := addTUN(t, "twill0", netlink.TUNTAP_MODE_TUN)
	index := device.Attrs().Index
	noError(t, netlink.LinkSetUp(device))
	// An administrator's own, elsewhere: stays. The same network without our
	// protocol number, as Flannel would have set it, and one with a metric:
	// replaced.
	addRoute(t, netlink.Route{Dst: ipNet("203.0.113.0/24"), LinkIndex: index, Scope: netlink.SCOPE_LINK, Protocol: unix.RTPROT_STATIC})
	addRoute(t, netlink.Route{Dst: ipNet("10.5.0.0/16"), LinkIndex: index, Scope: netlink.SCOPE_LINK, Protocol: unix.RTPROT_BOOT})
	addRoute(t, netlink.Route{Dst: ipNet("10.5.0.0/16"), LinkIndex: index, Scope: netlink.SCOPE_LINK, Protocol: routeProtocol, Priority: 50})
	noError(t, testLink.Apply())
	wantLink(t, testLink, "203.0.113.0/24 link static 0")
}

func TestLinkApplyForeignRoute(t *testing.T) {
	foreign := map[string]func(eth0 netlink.Link) netlink.Route{
		"same metric": func(eth0 netlink.Link) netlink.Route {
			return netlink.Route{LinkIndex: eth0.Attrs().Index, Scope: netlink.SCOPE_LINK}
		},
		"other metric": func(eth0 netlink.Link) netlink.Route {
			return netlink.Route{LinkIndex: eth0.Attrs().Index, Scope: netlink.SCOPE_LINK, Priority: 4096}
		},
		"by a router":      func(netlink.Link) netlink.Route { return netlink.Route{Gw: []byte{198, 18, 0, 254}} },
		"with our number":  func(netlink.Link) netlink.Route { return netlink.Route{Gw: []byte{198, 18, 0, 254}, Protocol: 't'} },
		"without a device": func(netlink.Link) netlink.Route { return netlink.Route{Type: unix.RTN_BLACKHOLE} },
	}
	for name, route := range foreign {
		newNamespace(t)
		eth0 := addBridge(t, "eth0", "198.18.0.1/24")
		addTUN(t, "twill0", netlink.TUNTAP_MODE_TUN)
		r := route(eth0)
		r.Dst = ipNet("10.5.0.0/16")
		addRoute(t, r)
		before := run(t, "ip", "link", "show", "twill0") + ipDump(t)

		err := testLink.Apply()
		if err == nil {
			t.Errorf("%s: no error", name)
			continue
		}
		wantError(t, err, "10.5.0.0/16", "twill0")
		if r.Type != unix.RTN_BLACKHOLE {
			wantError(t, err, "eth0")
		} else {
			wantError(t, err, "blackhole")
		}
		if after := run(t, "ip", "link", "show", "twill0") + ipDump(t); after != before {
			t.Errorf("%s: refused, but changed\n%s\nto\n%s", name, before, after)
		}
	}
}

// ipDump is the IPv4 state of the namespace in words.
func ipDump(t *testing.T) string {
	t.Helper()
	return run(t, "ip", "-4", "-o", "addr") + run(t, "ip", "-4", "route", "show", "table", "all")
}

// Routes that share nothing but the table survive Apply and Remove.
func TestLinkLeavesOthersAlone(t *testing.T) {
	newNamespace(t)
	eth0 := addBridge(t, "eth0", "198.18.0.1/24")
	addRoute(t, netlink.Route{Dst: ipNet("10.0.0.0/8"), Gw: []byte{198, 18, 0, 254}})
	addRoute(t, netlink.Route{Dst: ipNet("10.5.0.0/17"), LinkIndex: eth0.Attrs().Index, Scope: netlink.SCOPE_LINK, Protocol: routeProtocol})
	other := Link{Name: "twill1", Address: netip.MustParseAddr("10.6.1.0"), MTU: 1400, Network: netip.MustParsePrefix("10.6.0.0/16")}
	addTUN(t, "twill1", netlink.TUNTAP_MODE_TUN)
	noError(t, other.Apply())
	before := ipDump(t)

	addTUN(t, "twill0", netlink.TUNTAP_MODE_TUN)
	noError(t, testLink.Apply())
	wantLink(t, testLink)
	noError(t, DeleteDevice(testLink.Name))
	noError(t, DeleteDevice(testLink.Name))
	if after := ipDump(t); after != before {
		t.Errorf("before:\n%s\nafter:\n%s", before, after)
	}
}

func TestLinkErrors(t *testing.T) {
	newNamespace(t)
	wantError(t, testLink.Apply(), "twill0", "no such device")

	addBridge(t, "twill0")
	wantError(t, testLink.Apply(), "twill0", "not a TUN device", "bridge")
	wantError(t, DeleteDevice(testLink.Name), "twill0", "not a TUN device")

	broken := map[string]func(*Link){
		"1 to 15 bytes":           func(l *Link) { l.Name = strings.Repeat("x", 16) },
		"address 2001:db8::":      func(l *Link) { l.Address = netip.MustParseAddr("2001:db8::") },
		"address invalid IP":      func(l *Link) { l.Address = netip.Addr{} },
		"MTU 67: want 68":         func(l *Link) { l.MTU = 67 },
		"MTU 65536: want 68 to":   func(l *Link) { l.MTU = 65536 },
		"network 2001:db8::/32":   func(l *Link) { l.Network = netip.MustParsePrefix("2001:db8::/32") },
		"network invalid Prefix":  func(l *Link) { l.Network = netip.Prefix{} },
		"network 0.0.0.0/0: want": func(l *Link) { l.Network = netip.MustParsePrefix("0.0.0.0/0") },
	}
	for name, breakIt := range broken {
		l := testLink
		breakIt(&l)
		wantError(t, l.Apply(), name)
	}
}

func TestLinkMTUBounds(t *testing.T) {
	newNamespace(t)
	addTUN(t, "twill0", netlink.TUNTAP_MODE_TUN)
	for _, mtu := range []int{minMTU, maxMTU} {
		l := testLink
		l.MTU = mtu
		noError(t, l.Apply())
		wantLink(t, l)
	}
}

// The tunnel's offload mode wants a longer queue and smaller super-packets.
func TestLinkQueueing(t *testing.T) {
	newNamespace(t)
	addTUN(t, testLink.Name, netlink.TUNTAP_MODE_TUN)
	l := testLink
	l.TxQueueLen, l.GSOMaxSize = 8000, 61000
	for range 2 {
		noError(t, l.Apply())
		link, err := netlink.LinkByName(l.Name)
		noError(t, err)
		a := link.Attrs()
		if a.TxQLen != l.TxQueueLen || a.GSOMaxSize != 61000 || a.GSOIPv4MaxSize != 61000 {
			t.Errorf("txqueuelen %d, gso_max_size %d, gso_ipv4_max_size %d; want 8000, 61000, 61000", a.TxQLen, a.GSOMaxSize, a.GSOIPv4MaxSize)
		}
	}
}
