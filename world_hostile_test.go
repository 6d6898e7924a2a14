//go:build attack

package main

import (
	"fmt"
	"net"
	"net/netip"
	"strings"
	"testing"

	"github.com/vishvananda/netlink"
	clientv3 "go.etcd.io/etcd/client/v3"

	"twill/internal/lab"
)

// A host without a lease, and a host with one that sends for another's pods, get
// nothing through; each try is counted.
func TestWorldSourceFilter(t *testing.T) {
	c := newCluster(t, 3, network(testNetwork))
	target, peer, stranger := c.Hosts[0], c.Hosts[1], c.Hosts[2]
	for _, h := range []*lab.Host{target, peer} {
		c.start(h)
		c.attach(h)
	}
	c.waitPeers(target, 1)
	pods := c.pods()
	for _, test := range []struct {
		from   *lab.Host
		src    netip.Addr
		dst    netip.Addr
		reason string
	}{
		{stranger, pods[1].Addr(), pods[0].Addr(), "unknown-endpoint"},
		{peer, nobody, pods[0].Addr(), "spoofed-source"},
		{peer, pods[0].Addr(), pods[0].Addr(), "spoofed-source"},
		{peer, pods[1].Addr(), nobody, "not-for-us"},
		{peer, pods[1].Addr(), peer.Addr(), "not-for-us"},
		{peer, pods[1].Addr(), pods[0].Addr(), ""},
	} {
		before := c.mustStatus(target).Rx
		c.sendTunnelled(test.from.Namespace, target, test.src, test.dst)
		c.waitFor("the packet to be counted", func() error {
			now := c.mustStatus(target).Rx
			if test.reason == "" && now.Packets == before.Packets+1 || test.reason != "" && now.Drops[test.reason] == before.Drops[test.reason]+1 {
				return nil
			}
			return fmt.Errorf("%s to %s by %s: want reason %q, counters were %+v and are %+v", test.src, test.dst, test.from.Name, test.reason, before, now)
		})
	}
	c.pingAll()
}

// What a pod sends to another host's tunnel would arrive in the name of its own host,
// which masquerades it. Where twill keeps the forward rules it does not get out; where it
// does not, the pod may speak for the pods of its host, as docs/threat-model.md says, and
// for nobody else.
func TestWorldPodSpeaksToTunnel(t *testing.T) {
	c := newCluster(t, 3, network(testNetwork))
	daemons := c.startAll("--ip-masq", "--probe-interval", "0")
	host, target, pods := c.Hosts[0], c.Hosts[1], c.pods()
	neighbour := c.subnetOf(host).Addr().Next().Next().Next().Next()
	send := func(from *lab.Namespace, src netip.Addr, reason string) {
		t.Helper()
		before := c.mustStatus(target).Rx
		c.sendTunnelled(from, target, src, pods[1].Addr())
		c.waitFor("the packet to be counted", func() error {
			now := c.mustStatus(target).Rx
			if counted := now.Packets + now.Drops[reason] - before.Packets - before.Drops[reason]; counted != 1 {
				return fmt.Errorf("%d packets in, drops %v", now.Packets-before.Packets, now.Drops)
			}
			if let := now.Packets != before.Packets; let != (reason == "") {
				return fmt.Errorf("from %s: let in %v, drops %v, want reason %q", src, let, now.Drops, reason)
			}
			return nil
		})
	}
	send(pods[0], neighbour, "")
	send(pods[0], pods[2].Addr(), "spoofed-source")

	c.stop(daemons[0])
	c.start(host, "--iptables-forward-rules", "--ip-masq", "--probe-interval", "0")
	c.waitPeers(target, 2)
	before := c.mustStatus(target).Rx
	c.sendTunnelled(pods[0], target, neighbour, pods[1].Addr())
	c.sendTunnelled(pods[0], target, pods[2].Addr(), pods[1].Addr())
	send(host.Namespace, nobody, "spoofed-source") // comes after them
	if after := c.mustStatus(target).Rx; after.Packets != before.Packets || after.Drops["spoofed-source"] != before.Drops["spoofed-source"]+1 {
		t.Errorf("with the rules counters went from %+v to %+v", before, after)
	}
	c.pingAll()
}

// nobody is in a subnet that is never leased, the first.
var nobody = netip.MustParseAddr("10.5.0.9")

// sendTunnelled sends a bare IPv4 packet with a protocol that nobody answers.
func (c *cluster) sendTunnelled(from *lab.Namespace, to *lab.Host, src, dst netip.Addr) {
	c.t.Helper()
	packet := append([]byte{0x45, 0, 0, 20, 0, 0, 0, 0, 9, 253, 0, 0}, src.AsSlice()...) // 253: RFC 3692, for experiments
	packet = append(packet, dst.AsSlice()...)
	c.must(from.Do(func() error {
		conn, err := net.Dial("udp4", netip.AddrPortFrom(to.Addr(), 8285).String())
		if err != nil {
			return err
		}
		defer conn.Close()
		_, err = conn.Write(packet)
		return err
	}))
}

// A tunnel whose underlay is another tunnel.
func TestWorldTunnelInTunnel(t *testing.T) {
	c := newCluster(t, 2, network(testNetwork))
	c.put("/inner/config", `{"Network":"10.77.0.0/16","Backend":{"Type":"udp","Port":9285}}`)
	c.startAll()
	var inner []*lab.Namespace
	for _, h := range c.Hosts {
		// So that the pods reach etcd, which stands outside.
		c.must(netlink.RouteAdd(&netlink.Route{Dst: ipNetOf(c.subnetOf(h)), Gw: h.Addr().AsSlice()}))
		pod, err := h.AsHost(h.Pods[0])
		c.must(err)
		c.start(pod, "--etcd-prefix", "/inner")
		env := readEnv(t, pod.EnvFile())
		if want := 1500 - 2*encapsulation; env.MTU != want {
			t.Errorf("the inner tunnel's MTU is %d, want %d", env.MTU, want)
		}
		inner = append(inner, pod.At(env.Subnet.Masked().Addr()))
	}
	c.pingSoon(inner[0], inner[1].Addr())
	for i := range inner {
		from, to := inner[i], inner[1-i]
		c.must(lab.Echo(c.ctx, from, to, 1, 1000, 1416, 5000))
		_, err := lab.Transfer(c.ctx, from, to, transferSize)
		c.must(err)
	}
}

// Packets that come back to where they were end there: neither kind of loop costs
// more than a drop for each packet.
func TestWorldLoopsEnd(t *testing.T) {
	c := newCluster(t, 2, network(testNetwork))
	c.startAll("--probe-interval", "0") // probes would loop, and count, too
	here, there, pods := c.Hosts[0], c.Hosts[1], c.pods()
	const pings = 5
	lost := pods[1].Addr()

	// The other host has no bridge: its kernel sends the packets back into the
	// overlay.
	c.must(there.RemoveBridge())
	before := c.mustStatus(there)
	for range pings {
		c.silent("the pod is gone", pods[0], lost)
	}
	after := c.mustStatus(there)
	if got := after.Rx.Packets - before.Rx.Packets; got != pings {
		t.Errorf("%d packets arrived for %d pings", got, pings)
	}
	if got := after.Tx.Packets - before.Tx.Packets; got > pings { // its ICMP errors at most
		t.Errorf("%d packets left again for %d pings", got, pings)
	}
	c.attach(there)
	c.pingAll()

	// The way to the other host's endpoint leads into the tunnel.
	loop := &netlink.Route{Dst: ipNetOf(netip.PrefixFrom(there.Addr(), 32)), LinkIndex: c.linkOf(here.Namespace, defaultTunName).Attrs().Index}
	c.must(here.Link().RouteAdd(loop))
	before = c.mustStatus(here)
	for range pings {
		c.silent("the route loops", pods[0], c.pods()[1].Addr())
	}
	after = c.mustStatus(here)
	if sent, looped := after.Tx.Packets-before.Tx.Packets, after.Tx.Drops["loop"]-before.Tx.Drops["loop"]; looped < pings || looped > sent {
		t.Errorf("%d of %d packets were dropped as a loop, want at least %d and each at most once", looped, sent, pings)
	}
	c.must(here.Link().RouteDel(loop))
	c.pingAll()
}

// The whole network of a daemon vanishes below it: it waits, spends nothing, and
// ends when asked. Others do not notice.
func TestWorldNamespaceDeletion(t *testing.T) {
	c := newCluster(t, 2, network(testNetwork))
	c.startAll()
	h := c.Hosts[0]
	c.must(netlink.RouteAdd(&netlink.Route{Dst: ipNetOf(c.subnetOf(h)), Gw: h.Addr().AsSlice()}))
	c.put("/inner/config", network("10.77.0.0/16"))
	second, err := h.AddPod()
	c.must(err)
	pod, err := h.AsHost(second)
	c.must(err)
	doomed := c.start(pod, "--etcd-prefix", "/inner")
	stream, err := lab.StartStream(c.ctx, c.pods()[0], c.pods()[1], lab.StreamOptions{})
	c.must(err)
	c.must(h.Link().LinkDel(c.linkOf(h.Namespace, "pod2"))) // and with it the pod's end
	c.waitFor("the daemon to miss etcd", func() error {
		if s := doomed.Status(); !strings.Contains(s, "etcd is away") {
			return fmt.Errorf("status is %q", s)
		}
		return nil
	})
	before, err := doomed.Usage()
	c.must(err)
	if r := stream.Stop(); r.Lost() != 0 {
		t.Errorf("others lost %d of %d packets", r.Lost(), r.Sent)
	}
	after, err := doomed.Usage()
	c.must(err)
	if spent := after.CPU - before.CPU; spent > stopLimit {
		t.Errorf("a daemon without a network spent %v of CPU in about a second", spent)
	}
	c.stop(doomed)
	c.pingAll()
}

// Thousands of leases, some of which contradict others: all that are right are
// peers, and traffic flows meanwhile.
func TestWorldManyLeases(t *testing.T) {
	c := newCluster(t, 2, `{"Network":"10.0.0.0/8","SubnetMax":"10.99.255.0"}`)
	c.startAll("--lease-grace", "1s")
	h, pods := c.Hosts[0], c.pods()
	stream, err := lab.StartStream(c.ctx, pods[0], pods[1], lab.StreamOptions{})
	c.must(err)

	const blocks, each = 40, 100 // etcd takes at most 128 operations at once
	name := func(i, j int) string { return fmt.Sprintf("%s/subnets/10.%d.%d.0-24", defaultPrefix, 200+i, j) }
	for i := range blocks {
		var puts []clientv3.Op
		for j := range each {
			puts = append(puts, clientv3.OpPut(name(i, j), fmt.Sprintf(`{"PublicIP":"198.19.%d.%d"}`, i, j+1)))
		}
		_, err := c.etcd.Txn(c.ctx).Then(puts...).Commit()
		c.must(err)
	}
	// Overlaps: a part of a lease, one around several, and one of ours.
	own := c.subnetOf(h)
	overlaps := []string{"10.200.1.0-25", "10.200.0.0-16", fmt.Sprintf("%s-25", own.Addr()), "10.0.0.0-8"}
	for _, key := range overlaps {
		c.put(defaultPrefix+"/subnets/"+key, `{"PublicIP":"198.19.200.1"}`)
	}
	c.waitFor("all leases", func() error {
		if s := c.mustStatus(h); s.Peers != blocks*each+1 || s.Skipped != len(overlaps) {
			return fmt.Errorf("%d peers, %d skipped; want %d, %d", s.Peers, s.Skipped, blocks*each+1, len(overlaps))
		}
		return nil
	})
	c.pingAll()

	_, err = c.etcd.Delete(c.ctx, defaultPrefix+"/subnets/10.200.", clientv3.WithRange(defaultPrefix+"/subnets/10.24:"))
	c.must(err)
	c.waitFor("the leases to go", func() error {
		if s := c.mustStatus(h); s.Peers != 1 {
			return fmt.Errorf("%d peers", s.Peers)
		}
		return nil
	})
	c.pingAll()
	if r := stream.Stop(); r.Lost() != 0 || r.Duplicated != 0 {
		t.Errorf("lost %d of %d packets, duplicated %d", r.Lost(), r.Sent, r.Duplicated)
	}
}

// After all of it nothing is left: of the daemons on the hosts, and of the lab.
func TestWorldNothingIsLeft(t *testing.T) {
	c := newCluster(t, 2, network(testNetwork))
	var before []string
	for _, h := range c.Hosts {
		before = append(before, c.kernelState(h))
	}
	daemons := c.startAll("--iptables-forward-rules", "--ip-masq")
	c.pingAll()
	daemons[0].Kill()
	c.stop(daemons[1])
	for i, h := range c.Hosts {
		c.must(h.RemoveBridge())
		_, err := h.Twill(c.ctx, "down", "--run-dir", h.RunDir(), "--state-dir", h.StateDir(), "--release-lease", "--etcd-endpoints", c.EtcdEndpoint())
		c.must(err)
		if after := c.kernelState(h); after != before[i] {
			t.Errorf("%s: kernel state was %s\nand is %s", h.Name, before[i], after)
		}
		c.must(h.Exec(c.ctx, "sh", "-c", "! iptables-save | grep -i -e twill -e 10.5"))
	}
	if leases := c.leases(); len(leases) != 0 {
		t.Errorf("leases are left: %+v", leases)
	}
	c.must(c.Close())
	links, err := netlink.LinkList()
	c.must(err)
	if len(links) != 1 {
		t.Errorf("links are left: %v", links)
	}
}
