package main

import (
	"errors"
	"fmt"
	"net/netip"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/vishvananda/netlink"
	"golang.org/x/net/ipv4"

	"twill/internal/api"
	"twill/internal/lab"
	"twill/subnet"
)

func readEnv(t *testing.T, path string) subnet.Env {
	t.Helper()
	e, err := subnet.ReadEnv(path)
	if err != nil {
		t.Fatal(err)
	}
	return e
}

// transferSize is enough for TCP to open its window, and done in a moment.
const transferSize = 16 << 20

func TestPodsReachPods(t *testing.T) {
	for _, hosts := range []int{2, 3} {
		t.Run(fmt.Sprintf("%d hosts", hosts), func(t *testing.T) {
			c := newCluster(t, hosts, network(testNetwork))
			c.startAll()
			c.pingAll()
			mtu := readEnv(t, c.Hosts[0].EnvFile()).MTU
			const ipUDP = 20 + 8
			for _, from := range c.pods() {
				for _, to := range c.pods() {
					if from == to {
						continue
					}
					c.must(lab.Echo(c.ctx, from, to, 0, 1, mtu-ipUDP-1, mtu-ipUDP, mtu-ipUDP+1, 4000, 20000))
					_, err := lab.Transfer(c.ctx, from, to, transferSize)
					c.must(err)
				}
			}
		})
	}
}

// Every offload can be switched off, alone or with all others, and a host
// without any gets on with one that has them all.
func TestOffloadsOff(t *testing.T) {
	for _, offload := range []string{"off", "tso", "uso", "udp-segment,udp-gro", "tso,udp-segment"} {
		t.Run(offload, func(t *testing.T) {
			c := newCluster(t, 2, network(testNetwork))
			c.start(c.Hosts[0], "--offload", offload)
			c.start(c.Hosts[1])
			for i, h := range c.Hosts {
				c.attach(h)
				c.waitPeers(h, 1)
				s, err := c.status(h)
				c.must(err)
				for _, o := range s.Offloads {
					if on := i == 1 || slices.Contains(strings.Split(offload, ","), o.Name); o.On != on || on != (o.Why == "") {
						t.Errorf("with --offload %s: %+v", offload, o)
					}
				}
				if len(s.Offloads) != 4 {
					t.Errorf("with --offload %s: %+v, want four", offload, s.Offloads)
				}
			}
			pods := c.pods()
			for i := range pods {
				from, to := pods[i], pods[1-i]
				c.must(lab.Echo(c.ctx, from, to, 1, 1444, 20000))
				_, err := lab.Transfer(c.ctx, from, to, transferSize)
				c.must(err)
			}
		})
	}
}

func TestMTU(t *testing.T) {
	c := newCluster(t, 2, network(testNetwork))
	c.startAll("--mtu", "1300")
	pods := c.pods()
	if mtu := readEnv(t, c.Hosts[0].EnvFile()).MTU; mtu != 1300 {
		t.Errorf("subnet.env says MTU %d, want 1300", mtu)
	}
	const ipICMP = 20 + 8
	_, err := lab.Ping(c.ctx, pods[0], pods[1].Addr(), lab.PingOptions{Size: 1300 - ipICMP, DontFragment: true})
	c.must(err)
	if _, err := lab.Ping(c.ctx, pods[0], pods[1].Addr(), lab.PingOptions{Size: 1300 - ipICMP + 1, DontFragment: true}); err == nil {
		t.Error("a packet of 1301 bytes with DF came through an MTU of 1300")
	}
}

func TestHostJoinsAndLeaves(t *testing.T) {
	c := newCluster(t, 3, network(testNetwork))
	for _, h := range c.Hosts[:2] {
		c.start(h, "--lease-grace", "1s")
		c.attach(h)
	}
	c.waitPeers(c.Hosts[0], 1)

	third := c.Hosts[2]
	p := c.start(third)
	c.attach(third)
	c.waitPeers(c.Hosts[0], 2)
	c.waitPeers(c.Hosts[1], 2)
	c.pingAll()

	c.stop(p)
	_, err := third.Twill(c.ctx, "down", "--run-dir", third.RunDir(), "--state-dir", third.StateDir(),
		"--release-lease", "--etcd-endpoints", c.EtcdEndpoint())
	c.must(err)
	c.waitPeers(c.Hosts[0], 1)
	c.waitPeers(c.Hosts[1], 1)
	if leases := c.leases(); len(leases) != 2 {
		t.Errorf("%d leases in etcd after the third host left, want 2: %+v", len(leases), leases)
	}
}

// A stop leaves device, route and lease: the pods' packets wait for nobody, but
// nothing has to be made anew.
func TestRestartKeepsSubnet(t *testing.T) {
	for name, end := range map[string]func(*cluster, *lab.Process){
		"stopped": (*cluster).stop,
		"killed":  func(_ *cluster, p *lab.Process) { p.Kill() },
	} {
		t.Run(name, func(t *testing.T) {
			c := newCluster(t, 2, network(testNetwork))
			daemons := c.startAll()
			before := c.subnetOf(c.Hosts[0])
			end(c, daemons[0])
			c.start(c.Hosts[0])
			if after := c.subnetOf(c.Hosts[0]); after != before {
				t.Errorf("subnet %s after a restart, want %s", after, before)
			}
			c.pingAll()
		})
	}
}

// /run is empty after a boot, and a container bridge may be up before us.
func TestRestartWithoutSubnetFile(t *testing.T) {
	c := newCluster(t, 1, network(testNetwork))
	p := c.start(c.Hosts[0])
	c.attach(c.Hosts[0])
	before := c.subnetOf(c.Hosts[0])
	c.stop(p)
	c.must(os.Remove(c.Hosts[0].EnvFile()))
	c.start(c.Hosts[0])
	if after := c.subnetOf(c.Hosts[0]); after != before {
		t.Errorf("subnet %s, want %s", after, before)
	}
}

// Somebody deletes our route: it would cost all traffic.
func TestRouteIsPutBack(t *testing.T) {
	c := newCluster(t, 2, network(testNetwork))
	c.startAll("--iptables-resync", "1")
	link := c.Hosts[0].Link()
	twill0, err := link.LinkByName(defaultTunName)
	c.must(err)
	routes, err := link.RouteList(twill0, netlink.FAMILY_V4)
	c.must(err)
	for _, r := range routes {
		c.must(link.RouteDel(&r))
	}
	c.waitFor("the route", func() error {
		now, err := link.RouteList(twill0, netlink.FAMILY_V4)
		if err == nil && len(now) != len(routes) {
			err = fmt.Errorf("%d routes, want %d", len(now), len(routes))
		}
		return err
	})
	c.pingAll()
}

func TestRestartAfterEtcdLostEverything(t *testing.T) {
	c := newCluster(t, 2, network(testNetwork))
	daemons := c.startAll()
	before := []any{c.subnetOf(c.Hosts[0]), c.subnetOf(c.Hosts[1])}
	for _, p := range daemons {
		c.stop(p)
	}
	c.StopEtcd()
	c.must(c.WipeEtcd())
	c.must(c.StartEtcd(c.ctx))
	for i, h := range c.Hosts {
		c.start(h, "--network", testNetwork)
		if after := c.subnetOf(h); after != before[i] {
			t.Errorf("%s: subnet %s, want the one of its subnet.env, %s", h.Name, after, before[i])
		}
	}
	c.waitPeers(c.Hosts[0], 1)
	c.waitPeers(c.Hosts[1], 1)
	c.pingAll()
}

func TestEndpointMoves(t *testing.T) {
	c := newCluster(t, 2, network(testNetwork))
	daemons := c.startAll()
	moved := c.Hosts[1]
	before := c.subnetOf(moved)
	c.stop(daemons[1])
	c.must(moved.SetAddress(moved.SpareAddr()))
	c.start(moved)
	if after := c.subnetOf(moved); after != before {
		t.Errorf("subnet %s after the move, want %s", after, before)
	}
	c.waitFor("the new endpoint", func() error {
		peers, err := c.peers(c.Hosts[0])
		if err == nil && (len(peers) != 1 || peers[0].Endpoint.Addr() != moved.SpareAddr()) {
			err = fmt.Errorf("peers are %+v", peers)
		}
		return err
	})
	c.pingAll()
}

// Two networks on the same hosts have nothing in common but the machine.
func TestTwoNetworksSideBySide(t *testing.T) {
	c := newCluster(t, 2, network(testNetwork))
	c.put("/other/config", `{"Network":"10.77.0.0/16","Backend":{"Type":"udp","Port":9285}}`)
	c.startAll()
	for _, h := range c.Hosts {
		second := []string{"--etcd-prefix", "/other", "--run-dir", h.Dir() + "/run2", "--state-dir", h.Dir() + "/state2", "--tun-name", "twill1"}
		c.start(h, second...)
	}
	for _, h := range c.Hosts {
		e := readEnv(t, h.Dir()+"/run2/subnet.env")
		if e.Network.String() != "10.77.0.0/16" {
			t.Errorf("%s: second network is %s", h.Name, e.Network)
		}
	}
	c.pingAll()
	c.waitFor("the second network's peer", func() error {
		var out api.Peers
		err := c.twillJSON(c.Hosts[0], &out, "peers", "--run-dir", c.Hosts[0].Dir()+"/run2", "--json")
		if err == nil && len(out.Peers) != 1 {
			err = fmt.Errorf("sees %+v", out.Peers)
		}
		return err
	})
	// The other network's tunnel addresses reach each other too.
	far := readEnv(t, c.Hosts[1].Dir()+"/run2/subnet.env").Subnet.Masked().Addr()
	_, err := lab.Ping(c.ctx, c.Hosts[0].Namespace, far, lab.PingOptions{})
	c.must(err)
}

func TestTrafficFlowsWithoutEtcd(t *testing.T) {
	c := newCluster(t, 2, network(testNetwork))
	daemons := c.startAll()
	pods := c.pods()
	stream, err := lab.StartStream(c.ctx, pods[0], pods[1], lab.StreamOptions{})
	c.must(err)
	c.StopEtcd()
	c.waitFor("the daemon to notice", func() error {
		if s := daemons[0].Status(); !strings.Contains(s, "etcd is away") {
			return fmt.Errorf("status is %q", s)
		}
		return nil
	})
	c.must(c.StartEtcd(c.ctx))
	c.waitFor("the daemon to be content", func() error {
		if s := daemons[0].Status(); strings.Contains(s, "etcd is away") {
			return fmt.Errorf("status is %q", s)
		}
		return nil
	})
	if r := stream.Stop(); r.Lost() != 0 || r.Duplicated != 0 {
		t.Errorf("etcd away: %d of %d packets lost, %d duplicated", r.Lost(), r.Sent, r.Duplicated)
	}
}

// stopLimit is what the daemon promises, plus what a loaded machine adds.
const stopLimit = time.Second

func TestStopsAtOnce(t *testing.T) {
	c := newCluster(t, 1, network(testNetwork))
	stop := func(what string, p *lab.Process) {
		t.Helper()
		begin := time.Now()
		c.stop(p)
		if took := time.Since(begin); took > stopLimit {
			t.Errorf("%s: took %v to stop, want less than %v", what, took, stopLimit)
		}
	}
	stop("etcd well", c.start(c.Hosts[0]))
	p := c.start(c.Hosts[0])
	c.StopEtcd()
	stop("etcd away", p)

	p, err := c.Hosts[0].StartDaemon()
	c.must(err)
	c.waitFor("word that etcd is away", func() error {
		if !strings.Contains(p.Log(), "etcd does not answer") {
			return fmt.Errorf("it said: %s", p.Log())
		}
		return nil
	})
	stop("etcd away from the start", p)
}

// The pods must be told, as a router tells them: without an answer they would
// wait for their time-outs.
func TestPodsGetICMPErrors(t *testing.T) {
	c := newCluster(t, 2, network(testNetwork))
	c.startAll()
	pods := c.pods()
	nobody := netip.MustParseAddr("10.5.0.9") // the first subnet is never leased
	tunnel := c.subnetOf(c.Hosts[0]).Addr()

	_, err := lab.Ping(c.ctx, pods[0], nobody, lab.PingOptions{})
	checkICMPError(t, err, tunnel, ipv4.ICMPTypeDestinationUnreachable, 0)
	// The first hop is the pod's host, the second twill: the overlay is one hop.
	_, err = lab.Ping(c.ctx, pods[0], pods[1].Addr(), lab.PingOptions{TTL: 2})
	checkICMPError(t, err, tunnel, ipv4.ICMPTypeTimeExceeded, 0)
	_, err = lab.Ping(c.ctx, c.Hosts[0].Namespace, nobody, lab.PingOptions{})
	checkICMPError(t, err, tunnel, ipv4.ICMPTypeDestinationUnreachable, 0)
}

func checkICMPError(t *testing.T, err error, from netip.Addr, kind ipv4.ICMPType, code int) {
	t.Helper()
	var e *lab.ICMPError
	if !errors.As(err, &e) {
		t.Errorf("got %v, want ICMP %v from %s", err, kind, from)
	} else if e.From != from || e.Type != kind || e.Code != code {
		t.Errorf("got %v, want %v code %d from %s", e, kind, code, from)
	}
}
