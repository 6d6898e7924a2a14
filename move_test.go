package main

import (
	"fmt"
	"net/netip"
	"os"
	"os/exec"
	"slices"
	"strings"
	"testing"

	"twill/internal/api"
	"twill/internal/daemon"
	"twill/internal/lab"
)

func (c *cluster) status(h *lab.Host) (s api.Status, err error) {
	// twill status itself would be an error where the host is degraded.
	err = api.Get(c.ctx, daemon.SocketPath(h.RunDir()), api.StatusPath, &s)
	return s, err
}

// waitEndpoint waits until from sends to endpoint what is for its one peer.
func (c *cluster) waitEndpoint(from *lab.Host, endpoint netip.AddrPort) {
	c.t.Helper()
	c.waitFor("the endpoint "+endpoint.String(), func() error {
		peers, err := c.peers(from)
		if err == nil && (len(peers) != 1 || peers[0].Endpoint != endpoint) {
			err = fmt.Errorf("peers are %+v", peers)
		}
		return err
	})
}

// A host gets another address while its daemon runs, also after a time without
// any, and keeps its lease.
func TestAddressMovesAtRunTime(t *testing.T) {
	c := newCluster(t, 2, network(testNetwork))
	daemons := c.startAll()
	moved := c.Hosts[1]
	before := c.subnetOf(moved)
	first := moved.Addr()
	c.must(moved.SetAddress(moved.SpareAddr()))
	c.waitEndpoint(c.Hosts[0], netip.AddrPortFrom(moved.SpareAddr(), 8285))
	c.pingAll()

	c.must(moved.SetUplink(false))
	c.waitFor("the problem", func() error {
		s, err := c.status(moved)
		if err == nil && !slices.ContainsFunc(s.Problems, func(p api.Problem) bool { return p.Code == api.ProblemUnderlay }) {
			err = fmt.Errorf("problems are %q", s.Problems)
		}
		return err
	})
	c.must(moved.SetUplink(true))
	c.must(moved.SetAddress(first))
	c.waitEndpoint(c.Hosts[0], netip.AddrPortFrom(first, 8285))
	c.pingAll()
	c.waitFor("no problem", func() error {
		s, err := c.status(moved)
		if err == nil && len(s.Problems) > 0 {
			err = fmt.Errorf("problems are %q", s.Problems)
		}
		return err
	})
	if after := c.subnetOf(moved); after != before {
		t.Errorf("subnet %s after the moves, want %s", after, before)
	}
	for _, p := range daemons {
		c.stop(p)
	}
}

// An uplink that goes down and comes up with the same address costs only that
// time.
func TestUplinkFlaps(t *testing.T) {
	c := newCluster(t, 2, network(testNetwork))
	c.startAll()
	for range 3 {
		c.must(c.Hosts[1].SetUplink(false))
		c.must(c.Hosts[1].SetUplink(true))
	}
	c.waitFor("pings", func() error {
		_, err := lab.PingAll(c.ctx, c.pods(), lab.PingOptions{})
		return err
	})
}

func TestUnderlayMTUChangesAtRunTime(t *testing.T) {
	for name, tt := range map[string]struct {
		args []string
		want int
	}{
		"followed":    {want: 1400 - 28},
		"set by hand": {args: []string{"--mtu", "1300"}, want: 1300},
	} {
		t.Run(name, func(t *testing.T) {
			c := newCluster(t, 1, network(testNetwork))
			h := c.Hosts[0]
			p := c.start(h, tt.args...)
			c.must(c.SetUnderlayMTU(1400))
			c.waitFor("the daemon to see it", func() error {
				if log := p.Log(); !strings.Contains(log, "the underlay has changed") {
					return fmt.Errorf("log is %s", log)
				}
				return nil
			})
			c.waitFor("the MTU", func() error {
				device, err := h.Link().LinkByName(defaultTunName)
				if err != nil {
					return err
				}
				s, err := c.status(h)
				if env := readEnv(t, h.EnvFile()).MTU; err == nil && (device.Attrs().MTU != tt.want || env != tt.want || s.MTU != tt.want) {
					err = fmt.Errorf("device %d, subnet.env %d, status %d; want %d", device.Attrs().MTU, env, s.MTU, tt.want)
				}
				return err
			})
		})
	}
}

// subnet.env cannot be written when the MTU changes: said, and made up for.
func TestSubnetFileIsWrittenOnceItCanBe(t *testing.T) {
	c := newCluster(t, 1, network(testNetwork))
	h := c.Hosts[0]
	c.start(h, "--iptables-resync", "1")
	c.must(os.Remove(h.EnvFile()))
	c.must(os.Mkdir(h.EnvFile(), 0o755))
	c.must(c.SetUnderlayMTU(1400))
	c.waitFor("the problem", func() error {
		s, err := c.status(h)
		if err == nil && (s.MTU != 1372 || len(s.Problems) != 1 || s.Problems[0].Code != api.ProblemSubnetFile) {
			err = fmt.Errorf("MTU %d, problems %q", s.MTU, s.Problems)
		}
		return err
	})
	c.must(os.Remove(h.EnvFile()))
	c.waitFor("subnet.env", func() error {
		s, err := c.status(h)
		if err == nil && len(s.Problems) != 0 {
			err = fmt.Errorf("problems are %q", s.Problems)
		}
		return err
	})
	if mtu := readEnv(t, h.EnvFile()).MTU; mtu != 1372 {
		t.Errorf("subnet.env says MTU %d, want %d", mtu, 1372)
	}
}

// Peers reach a host at another port than it listens on.
func TestPublicPort(t *testing.T) {
	c := newCluster(t, 2, network(testNetwork))
	behind := c.Hosts[1]
	c.must(behind.Do(func() error {
		out, err := exec.Command("iptables", "-t", "nat", "-A", "PREROUTING", "-p", "udp", "--dport", "8300", "-j", "REDIRECT", "--to-ports", "9000").CombinedOutput()
		if err != nil {
			err = fmt.Errorf("%w: %s", err, out)
		}
		return err
	}))
	c.start(c.Hosts[0])
	c.start(behind, "--port", "9000", "--public-port", "8300")
	for _, h := range c.Hosts {
		c.attach(h)
	}
	c.waitEndpoint(c.Hosts[0], netip.AddrPortFrom(behind.Addr(), 8300))
	c.waitPeers(behind, 1)
	c.pingAll()
}

// The port in the network config changes: said, and shown as a problem.
func TestConfigProblemIsShown(t *testing.T) {
	c := newCluster(t, 1, network(testNetwork))
	h := c.Hosts[0]
	c.start(h)
	c.put(defaultPrefix+"/config", network("10.6.0.0/16"))
	c.waitFor("the problem", func() error {
		s, err := c.status(h)
		if err == nil && (len(s.Problems) != 1 || s.Problems[0].Code != api.ProblemConfig) {
			err = fmt.Errorf("problems are %q", s.Problems)
		}
		return err
	})
}
