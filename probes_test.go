package main

import (
	"fmt"
	"strings"
	"testing"

	"twill/internal/api"
	"twill/internal/lab"
)

// peer returns what h's daemon tells of its only peer.
func (c *cluster) peer(h *lab.Host) (api.Peer, error) {
	peers, err := c.peers(h)
	if err != nil {
		return api.Peer{}, err
	}
	if len(peers) != 1 {
		return api.Peer{}, fmt.Errorf("%d peers, want 1", len(peers))
	}
	return peers[0], nil
}

// waitPeer waits until h's only peer is as want says.
func (c *cluster) waitPeer(h *lab.Host, what string, want func(api.Peer) bool) api.Peer {
	c.t.Helper()
	var peer api.Peer
	c.waitFor(what, func() (err error) {
		if peer, err = c.peer(h); err == nil && !want(peer) {
			err = fmt.Errorf("the peer is %+v", peer)
		}
		return err
	})
	return peer
}

// Probes tell how a peer is, and since when it does not answer.
func TestPeersAreProbed(t *testing.T) {
	c := newCluster(t, 2, network(testNetwork))
	daemons := c.startAll("--probe-interval", "1s")
	c.pingAll()
	peer := c.waitPeer(c.Hosts[0], "three replies", func(p api.Peer) bool { return p.ProbesAnswered >= 3 })
	if peer.State != api.StateUp || peer.Reason != "" || peer.RTT == nil || peer.RTT.Smoothed <= 0 || peer.Loss == nil || peer.PathMTU != 1472 {
		t.Errorf("a peer that answers is told as %+v", peer)
	}
	if ahead := peer.ClockAhead; ahead == nil || *ahead > 1 || *ahead < -1 {
		t.Errorf("a peer with the same clock is ahead by %v", ahead)
	}
	out, err := c.Hosts[0].Twill(c.ctx, "peers", "--run-dir", c.Hosts[0].RunDir())
	if err != nil || !strings.Contains(string(out), " ms ") {
		t.Errorf("twill peers: %v\n%s", err, out)
	}

	c.stop(daemons[1])
	peer = c.waitPeer(c.Hosts[0], "the peer to be unreachable", func(p api.Peer) bool { return p.State == api.StateUnreachable })
	if !strings.Contains(peer.Reason, "no answer to") {
		t.Errorf("reason %q", peer.Reason)
	}
	c.start(c.Hosts[1])
	c.waitPeer(c.Hosts[0], "the peer to be back", func(p api.Peer) bool { return p.State == api.StateUp })
}

// The path to a peer becomes smaller below running daemons: transfers go on, and twill peers tells.
func TestUnderlayBecomesSmaller(t *testing.T) {
	c := newCluster(t, 2, network(testNetwork))
	c.startAll("--probe-interval", "1s")
	c.pingAll()
	c.must(c.SetUnderlayMTU(1400))
	pods := c.pods()
	for i := range pods {
		_, err := lab.Transfer(c.ctx, pods[i], pods[1-i], transferSize)
		c.must(err)
	}
	for _, h := range c.Hosts {
		c.waitPeer(h, "the path MTU", func(p api.Peer) bool { return p.PathMTU == 1400-28 })
	}
}
