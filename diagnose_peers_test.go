package main

import (
	"fmt"
	"net/netip"
	"testing"

	"twill/internal/api"
	"twill/internal/lab"
)

// rule adds an iptables rule to a host, and returns what takes it away again.
func (c *cluster) rule(h *lab.Host, args ...string) (lift func()) {
	c.t.Helper()
	c.must(h.Exec(c.ctx, append([]string{"iptables", "-w", "-I"}, args...)...))
	return func() {
		c.t.Helper()
		c.must(h.Exec(c.ctx, append([]string{"iptables", "-w", "-D"}, args...)...))
	}
}

// waitReason waits until h says code of its only peer.
func (c *cluster) waitReason(h *lab.Host, code string) {
	c.t.Helper()
	c.waitPeer(h, "the reason "+code, func(p api.Peer) bool {
		return p.State == api.StateUnreachable && p.ReasonCode == code && p.Remedy != ""
	})
}

func (c *cluster) waitUp(hosts ...*lab.Host) {
	c.t.Helper()
	for _, h := range hosts {
		c.waitPeer(h, "the peer to be up", func(p api.Peer) bool { return p.State == api.StateUp && p.Reason == "" })
	}
}

// Why a peer does not answer is told from what arrives of it and what the network says.
func TestPeersTellWhyUnreachable(t *testing.T) {
	c := newCluster(t, 2, network(testNetwork))
	daemons := c.startAll("--probe-interval", "1s")
	a, b := c.Hosts[0], c.Hosts[1]
	c.keepInUse()
	c.waitUp(a, b)

	in := []string{"INPUT", "-p", "udp", "--dport", "8285", "-j", "DROP"}
	lift := c.rule(b, in...)
	c.waitReason(a, api.ProblemPeerOneWay) // b hears a no more, but goes on probing it
	lift()
	c.waitUp(a, b)

	lift = c.rule(b, in...)
	liftOut := c.rule(b, "OUTPUT", "-p", "udp", "-d", a.Addr().String(), "-j", "DROP")
	c.waitReason(a, api.ProblemPeerDropped)
	c.waitReason(b, api.ProblemPeerForbidden) // its own rule
	lift()
	liftOut()
	c.waitUp(a, b)

	c.must(b.SetCable(false))
	c.waitReason(a, api.ProblemPeerHost)
	c.must(b.SetCable(true))
	c.waitUp(a, b)

	c.stop(daemons[1])
	c.waitReason(a, api.ProblemPeerDaemon)

	wrong := netip.MustParseAddr("203.0.113.9")
	c.start(b, "--probe-interval", "1s", "--public-ip", wrong.String())
	c.waitReason(a, api.ProblemPeerAddress)
	peer, err := c.peer(a)
	c.must(err)
	if want := fmt.Sprintf("come from %s", b.Addr()); !containsAll(peer.Reason, want) || !containsAll(peer.Remedy, "--public-ip "+b.Addr().String()) {
		t.Errorf("a peer with a wrong public IP: %q; %q", peer.Reason, peer.Remedy)
	}
}
