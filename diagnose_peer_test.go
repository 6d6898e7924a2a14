//go:build attack

package main

import (
	"net"
	"net/netip"
	"testing"
	"time"

	"github.com/vishvananda/netlink"
	clientv3 "go.etcd.io/etcd/client/v3"

	"twill/internal/api"
	"twill/internal/lab"
)

// What is wrong with a peer, or on the way to it, each fault lifted before the next.
func TestDiagnosePeer(t *testing.T) {
	c := newCluster(t, 2, network(testNetwork))
	daemons := c.startAll("--probe-interval", "1s")
	a, b := c.Hosts[0], c.Hosts[1]
	c.keepInUse()
	c.waitHealthy(c.Hosts)
	lifted := func() { c.waitHealthy(c.Hosts, api.FindingPeers, api.ProblemUnknownSender) }

	// Blocked one way: b hears nothing of a, and goes on probing it.
	in := []string{"INPUT", "-p", "udp", "--dport", "8285", "-j", "DROP"}
	liftIn := c.rule(b, in...)
	c.waitFound(a, api.ReasonOneWay, "its packets arrive", "let UDP to "+b.Addr().String()+":8285 through")

	c.waitFound(b, api.FindingInput, "INPUT drops datagrams to UDP port 8285 from "+a.Addr().String(), "iptables -I INPUT -p udp --dport 8285 -j ACCEPT")

	// And both ways; b's own rule forbids it to send.
	liftOut := c.rule(b, "OUTPUT", "-p", "udp", "-d", a.Addr().String(), "-j", "DROP")
	c.waitFound(a, api.ReasonDropped, "the network says nothing", "firewalls of both hosts")
	c.waitFound(b, api.ReasonForbidden, "a rule of this host", "iptables -S OUTPUT")
	liftIn()
	liftOut()
	lifted()

	c.must(b.SetCable(false))
	c.forgetNeighbour(a, b.Addr())
	c.waitFound(a, api.ReasonHost, "no host answers at "+b.Addr().String(), "has the address")
	c.must(b.SetCable(true))
	lifted()

	c.stop(daemons[1])
	c.waitFound(a, api.ReasonDaemon, "nobody listens on UDP port 8285", "systemctl start twill")

	// Its lease goes while it is away: it is deleted, or expires.
	subnet := c.subnetOf(b)
	key := leaseKey(subnet)
	_, err := c.etcd.Delete(c.ctx, key)
	c.must(err)
	c.waitFound(a, api.FindingPeerLease, "expired or was deleted", "takes its lease again")
	d := c.start(b, "--probe-interval", "1s")
	lifted()
	c.stop(d)
	resp, err := c.etcd.Get(c.ctx, key)
	c.must(err)
	_, err = c.etcd.Revoke(c.ctx, clientv3.LeaseID(resp.Kvs[0].Lease))
	c.must(err)
	c.waitFound(a, api.FindingPeerLease, "expired or was deleted", "takes its lease again")

	d = c.start(b, "--probe-interval", "1s", "--public-ip", "203.0.113.9")
	c.waitFound(a, api.ReasonAddress, "come from "+b.Addr().String(), "--public-ip "+b.Addr().String())
	c.stop(d)
	c.start(b, "--probe-interval", "1s")
	lifted()

	// The path drops what is larger without a word.
	c.rule(b, "INPUT", "-p", "udp", "--dport", "8285", "-m", "length", "--length", "1301:65535", "-j", "DROP")
	c.waitFound(a, api.FindingPathMTU, "less than the MTU 1472", "--mtu ")
}

// forgetNeighbour saves the up to 45 s for which the kernel believes that a neighbour is there.
func (c *cluster) forgetNeighbour(h *lab.Host, addr netip.Addr) {
	c.t.Helper()
	link, err := h.Link().LinkByName("eth0")
	c.must(err)
	c.must(h.Link().NeighDel(&netlink.Neigh{LinkIndex: link.Attrs().Index, IP: addr.AsSlice()}))
}

// keepInUse has the pods send a datagram to each other now and then until the end of the test, as they do where anybody notices a fault:
// a peer in use is probed each interval.
func (c *cluster) keepInUse() {
	c.t.Helper()
	for _, from := range c.pods() {
		for _, to := range c.pods() {
			if from.Name != to.Name {
				c.sendUntilEnd(from, to)
			}
		}
	}
}

func (c *cluster) sendUntilEnd(from, to *lab.Namespace) {
	c.t.Helper()
	const discard = 9
	var conn net.Conn
	c.must(from.Do(func() (err error) {
		conn, err = net.DialUDP("udp4", nil, &net.UDPAddr{IP: to.Addr().AsSlice(), Port: discard})
		return err
	}))
	done, ended := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(ended)
		defer conn.Close()
		tick := time.NewTicker(200 * time.Millisecond)
		defer tick.Stop()
		for {
			select {
			case <-done:
				return
			case <-tick.C:
				conn.Write([]byte("x"))
			}
		}
	}()
	c.t.Cleanup(func() { close(done); <-ended })
}
