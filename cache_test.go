package main

import (
	"fmt"
	"os"
	"strings"
	"testing"
	"time"

	"twill/internal/lab"
	"twill/subnet"
)

// waitCache waits until h could start without etcd, with n peers.
func (c *cluster) waitCache(peers int) {
	c.t.Helper()
	for _, h := range c.Hosts {
		c.waitFor("the cache of "+h.Name, func() error {
			raw, err := os.ReadFile(subnet.CachePath(h.StateDir()))
			if err == nil && strings.Count(string(raw), `"Name"`) != 1+peers {
				err = fmt.Errorf("it holds %s", raw)
			}
			return err
		})
	}
}

// Both hosts restart while etcd is away: they forward, say so, and follow etcd
// once it is back.
func TestStartWithoutEtcd(t *testing.T) {
	c := newCluster(t, 2, network(testNetwork))
	daemons := c.startAll()
	before := c.subnetOf(c.Hosts[0])
	c.waitCache(1)
	for _, p := range daemons {
		c.stop(p)
	}
	c.StopEtcd()
	for i, h := range c.Hosts {
		begin := time.Now()
		daemons[i] = c.start(h)
		t.Logf("%s ready after %v without etcd", h.Name, time.Since(begin).Round(time.Millisecond))
		if s := daemons[i].Status(); !strings.Contains(s, "from cache since") {
			t.Errorf("STATUS=%q does not tell of the cache", s)
		}
	}
	if after := c.subnetOf(c.Hosts[0]); after != before {
		t.Errorf("subnet %s without etcd, want %s", after, before)
	}
	c.pingAll()
	pods := c.pods()
	stream, err := lab.StartStream(c.ctx, pods[0], pods[1], lab.StreamOptions{})
	c.must(err)

	c.must(c.StartEtcd(c.ctx))
	for i, h := range c.Hosts {
		c.waitFor("the daemon to follow etcd", func() error {
			s, err := c.status(h)
			if err == nil && (!s.Etcd.Reachable || !s.Etcd.Cached.IsZero() || strings.Contains(daemons[i].Status(), "cache")) {
				err = fmt.Errorf("status is %+v, STATUS=%q", s.Etcd, daemons[i].Status())
			}
			return err
		})
	}
	if r := stream.Stop(); r.Lost() != 0 {
		t.Errorf("etcd came back: %d of %d packets lost", r.Lost(), r.Sent)
	}
}

// Without a cache a start waits, and says for what.
func TestStartWaitsForEtcd(t *testing.T) {
	c := newCluster(t, 1, network(testNetwork))
	h := c.Hosts[0]
	c.StopEtcd()
	c.must(os.MkdirAll(h.StateDir(), 0o755))
	c.must(os.WriteFile(subnet.CachePath(h.StateDir()), []byte(`{"Version":1,`), 0o600))
	p, err := h.StartDaemon()
	c.must(err)
	c.waitFor("STATUS=", func() error {
		if s := p.Status(); !strings.Contains(s, "waiting for etcd at "+c.EtcdEndpoint()) {
			return fmt.Errorf("status is %q", s)
		}
		return nil
	})
	if !strings.Contains(p.Log(), "the cache is not used") {
		t.Errorf("the broken cache is not said in\n%s", p.Log())
	}
	c.must(c.StartEtcd(c.ctx))
	c.must(p.Ready(c.patient()))
}

// etcd has lost everything, and a host restarts: the cache knows the network, and
// the same subnet is taken again.
func TestRestartOverAnEmptyEtcd(t *testing.T) {
	c := newCluster(t, 2, network(testNetwork))
	daemons := c.startAll()
	before := c.subnetOf(c.Hosts[0])
	c.waitCache(1)
	c.stop(daemons[0])
	c.StopEtcd()
	c.must(c.WipeEtcd())
	c.must(c.StartEtcd(c.ctx))
	c.start(c.Hosts[0])
	c.waitFor("both leases in etcd", func() error {
		if n := len(c.leases()); n != 2 {
			return fmt.Errorf("%d leases", n)
		}
		return nil
	})
	if after := c.subnetOf(c.Hosts[0]); after != before {
		t.Errorf("subnet %s, want %s", after, before)
	}
	c.pingAll()
}
