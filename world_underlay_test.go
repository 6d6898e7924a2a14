//go:build attack

package main

import (
	"errors"
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"testing"

	"github.com/vishvananda/netlink"
	"golang.org/x/net/ipv4"
	"golang.org/x/sys/unix"

	"twill/internal/api"
	"twill/internal/lab"
)

// A host behind a NAT router whose mappings are forgotten after a second: its
// peers reach it at the router's address, and it them, whoever speaks first.
func TestWorldNAT(t *testing.T) {
	c := newCluster(t, 3, network(testNetwork))
	outside, inside, router := c.Hosts[0], c.Hosts[1], c.Hosts[2]
	c.putBehind(inside, router)
	// Probes would keep the mappings alive.
	c.start(outside, "--probe-interval", "0")
	c.start(inside, "--probe-interval", "0", "--iface", "eth1", "--public-ip", router.Addr().String())
	for _, h := range []*lab.Host{outside, inside} {
		c.attach(h)
		c.waitPeers(h, 1)
	}
	pods := c.pods()
	for _, direction := range [][2]int{{0, 1}, {1, 0}, {0, 1}} {
		from, to := pods[direction[0]], pods[direction[1]]
		c.waitFor("the NAT router to forget", func() error { return c.noUDPMappings(router) })
		_, err := lab.Ping(c.ctx, from, to.Addr(), lab.PingOptions{})
		c.must(err)
		c.must(lab.Echo(c.ctx, from, to, 100, 1400, 3000))
	}
	for i := range pods {
		_, err := lab.Transfer(c.ctx, pods[i], pods[1-i], transferSize)
		c.must(err)
	}
	sources := c.outerSources(outside, "eth0", func() { c.must(lab.Echo(c.ctx, pods[1], pods[0], 100)) })
	if !slices.Equal(slices.Collect(maps.Keys(sources)), []netip.Addr{router.Addr()}) {
		t.Errorf("outer sources are %v, want the router's %s only", sources, router.Addr())
	}
}

// putBehind takes a host off the switch and connects it to a router that
// translates its address, and passes the tunnel's port on to it.
func (c *cluster) putBehind(inside, router *lab.Host) {
	c.t.Helper()
	gateway, addr := netip.MustParsePrefix("192.168.7.1/24"), netip.MustParsePrefix("192.168.7.2/24")
	c.must(inside.SetUplink(false))
	c.must(lab.Connect(
		lab.End{Namespace: router.Namespace, Link: "lan0", Addr: gateway},
		lab.End{Namespace: inside.Namespace, Link: "eth1", Addr: addr}))
	c.must(inside.AddRoute(netip.MustParsePrefix("0.0.0.0/0"), gateway.Addr()))
	for _, rule := range [][]string{
		{"POSTROUTING", "-o", "eth0", "-j", "MASQUERADE"},
		{"PREROUTING", "-i", "eth0", "-p", "udp", "--dport", "8285", "-j", "DNAT", "--to-destination", addr.Addr().String()},
	} {
		c.must(router.Exec(c.ctx, append([]string{"iptables", "-w", "-t", "nat", "-A"}, rule...)...))
	}
	for _, timeout := range []string{"nf_conntrack_udp_timeout", "nf_conntrack_udp_timeout_stream"} {
		c.must(router.Sysctl("net/netfilter/"+timeout, "1"))
	}
}

// noUDPMappings is an error while the router remembers a UDP flow.
func (c *cluster) noUDPMappings(router *lab.Host) error {
	var handle *netlink.Handle
	err := router.Do(func() (err error) { handle, err = netlink.NewHandle(unix.NETLINK_NETFILTER); return err })
	if err != nil {
		return err
	}
	defer handle.Close()
	flows, err := handle.ConntrackTableList(netlink.ConntrackTable, netlink.FAMILY_V4)
	if err != nil {
		return err
	}
	for _, f := range flows {
		if f.Forward.Protocol == unix.IPPROTO_UDP {
			return fmt.Errorf("it remembers %s", f)
		}
	}
	return nil
}

// The way to the peer is in a table of its own, and only for what comes from our
// underlay address: the main table leads nowhere.
func TestWorldPolicyRouting(t *testing.T) {
	c := newCluster(t, 2, network(testNetwork))
	c.startAll()
	h, peer := c.Hosts[0], c.Hosts[1]
	const table = 100
	to := ipNetOf(netip.PrefixFrom(peer.Addr(), 32))
	rule := netlink.NewRule()
	rule.Priority, rule.Table, rule.Src = 99, table, ipNetOf(netip.PrefixFrom(h.Addr(), 32))
	blackhole := &netlink.Route{Dst: to, Type: unix.RTN_BLACKHOLE, Scope: netlink.SCOPE_UNIVERSE}
	c.must(h.Link().RouteAdd(&netlink.Route{Dst: to, LinkIndex: c.linkOf(h.Namespace, "eth0").Attrs().Index, Table: table, Scope: netlink.SCOPE_LINK}))
	c.must(h.Link().RouteAdd(blackhole))
	c.silent("the main table has a black hole", c.pods()[0], c.pods()[1].Addr())
	c.must(h.Link().RuleAdd(rule))
	c.pingAll()
	_, err := lab.Transfer(c.ctx, c.pods()[0], c.pods()[1], transferSize)
	c.must(err)
	c.must(h.Link().RuleDel(rule))
	c.silent("the rule is gone", c.pods()[0], c.pods()[1].Addr())
	c.must(h.Link().RouteDel(blackhole))
	c.pingSoon(c.pods()[0], c.pods()[1].Addr())
}

// The way to a peer takes less than the device: the daemon tells the pods, also
// about super-packets, and their TCP believes it.
func TestWorldFragmentationNeeded(t *testing.T) {
	c := newCluster(t, 2, network(testNetwork))
	c.startAll("--probe-interval", "1s", "--mtu", "1472")
	h, pods := c.Hosts[0], c.pods()
	const mtu = 1400
	c.must(c.SetUnderlayMTU(mtu))
	c.waitPeer(h, "the path MTU", func(p api.Peer) bool {
		c.pingAll()
		return p.PathMTU == mtu-encapsulation
	})
	_, err := lab.Transfer(c.ctx, pods[0], pods[1], transferSize)
	c.must(err)
	// Each flow learns it once; what is sent before it has heard costs a few windows.
	if s := c.mustStatus(h); s.Tx.Drops["too-big"] == 0 || s.Tx.Drops["too-big"] > 2000 {
		t.Errorf("drops are %v, want some too-big, and not many", s.Tx.Drops)
	}
	// Another pod has not heard yet.
	other, err := h.AddPod()
	c.must(err)
	_, err = lab.Ping(c.ctx, other, pods[1].Addr(), lab.PingOptions{Size: mtu - encapsulation - ipICMP + 1, DontFragment: true})
	checkICMPError(t, err, c.subnetOf(h).Addr(), ipv4.ICMPTypeDestinationUnreachable, 4)
	var e *lab.ICMPError
	if errors.As(err, &e) && e.MTU != mtu-encapsulation {
		t.Errorf("the next hop's MTU is told as %d, want %d", e.MTU, mtu-encapsulation)
	}
	_, err = lab.Ping(c.ctx, other, pods[1].Addr(), lab.PingOptions{Size: mtu - encapsulation - ipICMP, DontFragment: true})
	c.must(err)
}

// Whatever addresses the uplink has besides, packets come from the lease's, which
// is the one that peers accept.
func TestWorldStickySource(t *testing.T) {
	c := newCluster(t, 2, network(testNetwork))
	c.startAll()
	h, peer, pods := c.Hosts[0], c.Hosts[1], c.pods()
	onlyFrom := func(when string, want netip.Addr) {
		t.Helper()
		sources := c.outerSources(peer, "eth0", func() { c.must(lab.Echo(c.ctx, pods[0], pods[1], 1, 1000, 4000)) })
		if len(sources) != 1 || sources[want] == 0 {
			t.Errorf("%s: tunnel packets come from %v, want only %s", when, sources, want)
		}
	}
	onlyFrom("one address", h.Addr())
	c.must(h.AddAddress(h.SpareAddr()))
	// The kernel would now choose the spare address for whatever is not bound.
	prefer := &netlink.Route{Dst: ipNetOf(netip.PrefixFrom(peer.Addr(), 32)), LinkIndex: c.linkOf(h.Namespace, "eth0").Attrs().Index,
		Src: h.SpareAddr().AsSlice(), Scope: netlink.SCOPE_LINK}
	c.must(h.Link().RouteAdd(prefer))
	onlyFrom("a second address that the route prefers", h.Addr())
	c.must(h.Link().RouteDel(prefer))
	spare := &netlink.Addr{IPNet: ipNetOf(netip.PrefixFrom(h.SpareAddr(), 24))}
	c.must(h.Link().AddrDel(c.linkOf(h.Namespace, "eth0"), spare))
	onlyFrom("the second address is gone", h.Addr())

	// Our own address goes, and comes back.
	own := &netlink.Addr{IPNet: ipNetOf(netip.PrefixFrom(h.Addr(), 24))}
	c.must(h.Link().AddrDel(c.linkOf(h.Namespace, "eth0"), own))
	c.silent("our address is gone", pods[0], pods[1].Addr())
	c.must(h.AddAddress(h.Addr()))
	c.must(h.AddDefaultRoute())
	c.pingSoon(pods[0], pods[1].Addr())
	onlyFrom("our address is back", h.Addr())
}

func TestWorldInterfacesDownAndUp(t *testing.T) {
	c := newCluster(t, 2, network(testNetwork))
	daemons := c.startAll("--iptables-resync", "1")
	h, pods := c.Hosts[0], c.pods()
	for name, flap := range map[string][2]func() error{
		"cable":  {func() error { return h.SetCable(false) }, func() error { return h.SetCable(true) }},
		"uplink": {func() error { return h.SetUplink(false) }, func() error { return h.SetUplink(true) }},
	} {
		c.must(flap[0]())
		c.silent(name+" down", pods[0], pods[1].Addr())
		c.must(flap[1]())
		c.pingSoon(pods[0], pods[1].Addr())
	}
	// The daemon itself puts its device right.
	c.must(h.Link().LinkSetDown(c.linkOf(h.Namespace, defaultTunName)))
	c.pingSoon(pods[0], pods[1].Addr())
	_, err := lab.Transfer(c.ctx, pods[0], pods[1], transferSize)
	c.must(err)
	for _, d := range daemons {
		c.stop(d) // it has lived through all of it
	}
}
