package main

import (
	"fmt"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/vishvananda/netlink"
	clientv3 "go.etcd.io/etcd/client/v3"

	"twill/internal/lab"
	"twill/subnet"
)

// A start that fails says one clear line and leaves nothing behind.
func TestFailedStart(t *testing.T) {
	for _, test := range []struct {
		name   string
		config string
		spoil  func(*cluster, *lab.Host)
		args   []string
		code   int
		says   string
	}{
		{name: "no config", code: exitFailed, says: "no network config at etcd key /coreos.com/network/config"},
		{name: "broken config", config: `{"Network":`, code: exitFailed, says: "network config at etcd key /coreos.com/network/config"},
		{name: "bad config", config: `{"Network":"10.5.0.0/16","SubnetLen":12}`, code: exitFailed, says: "SubnetLen"},
		{name: "overlapping underlay", config: network("198.18.0.0/15"), code: exitFailed, says: "198.18.0."},
		{name: "no default route", config: network(testNetwork), code: exitFailed, says: "--iface",
			spoil: func(c *cluster, h *lab.Host) { c.must(h.DeleteDefaultRoute()) }},
		{name: "no such interface", config: network(testNetwork), args: []string{"--iface", "eth9"}, code: exitFailed, says: "eth9"},
		{name: "port in use", config: network(testNetwork), code: exitFailed, says: "8285",
			spoil: func(c *cluster, h *lab.Host) { c.occupy(h, 8285) }},
		{name: "name taken by another device", config: network(testNetwork), args: []string{"--tun-name", "eth0"}, code: exitFailed, says: "eth0"},
		{name: "no forwarding", config: network(testNetwork), code: exitFailed, says: "--set-sysctls",
			spoil: func(c *cluster, h *lab.Host) { c.must(h.Sysctl("net/ipv4/ip_forward", "0")) }},
		{name: "unwritable subnet file", config: network(testNetwork), args: []string{"--subnet-file", "/proc/subnet.env"}, code: exitFailed, says: "/proc/subnet.env"},
		{name: "masquerade without iptables", config: network(testNetwork), args: []string{"--ip-masq"}, code: exitFailed, says: "iptables",
			spoil: func(c *cluster, _ *lab.Host) { c.t.Setenv("PATH", "/nonexistent") }},
		{name: "foreign route", config: network(testNetwork), code: exitFailed, says: "eth0",
			spoil: func(c *cluster, h *lab.Host) { c.must(h.AddRoute(netip.MustParsePrefix(testNetwork), c.Addr())) }},
		{name: "unknown flag", args: []string{"--no-such-flag"}, code: exitUsage, says: "no-such-flag"},
		{name: "bad number", args: []string{"--mtu", "large"}, code: exitUsage, says: "mtu"},
		{name: "bad MTU", args: []string{"--mtu", "100"}, code: exitUsage, says: "mtu 100: want 576 to"},
		{name: "bad address", args: []string{"--public-ip", "here"}, code: exitUsage, says: "public-ip"},
		{name: "bad network", args: []string{"--network", "10.5.0.0/30"}, code: exitUsage, says: "network"},
		{name: "bad endpoints", args: []string{"--etcd-endpoints", "localhost"}, code: exitUsage, says: "etcd-endpoints"},
		{name: "bad regex", args: []string{"--iface-regex", "("}, code: exitUsage, says: "iface-regex"},
		{name: "arguments", args: []string{"now"}, code: exitUsage, says: `"now"`},
	} {
		t.Run(test.name, func(t *testing.T) {
			c := newCluster(t, 1, test.config)
			h := c.Hosts[0]
			if test.spoil != nil {
				test.spoil(c, h)
			}
			before := c.kernelState(h)
			args := append([]string{"run", "--etcd-endpoints", c.EtcdEndpoint(), "--run-dir", h.RunDir(), "--state-dir", h.StateDir()}, test.args...)
			c.fails(h, test.code, test.says, args...)
			if after := c.kernelState(h); after != before {
				t.Errorf("left behind: kernel state was %s\nand is %s", before, after)
			}
			for _, path := range []string{h.EnvFile(), filepath.Join(h.RunDir(), "twill.sock")} {
				if _, err := os.Stat(path); err == nil {
					t.Errorf("left behind: %s", path)
				}
			}
			if resp, err := c.etcd.Get(c.ctx, defaultPrefix+"/subnets/", clientv3.WithPrefix()); err != nil || len(resp.Kvs) != 0 {
				t.Errorf("left behind in etcd: %v, %v", resp, err)
			}
		})
	}
}

// kernelState is what a failed start must not change.
func (c *cluster) kernelState(h *lab.Host) string {
	c.t.Helper()
	links, err := h.Link().LinkList()
	c.must(err)
	routes, err := h.Link().RouteList(nil, netlink.FAMILY_V4)
	c.must(err)
	var state string
	for _, l := range links {
		state += l.Attrs().Name + " "
	}
	for _, r := range routes {
		state += fmt.Sprint(r.Dst, " ", r.LinkIndex, "; ")
	}
	return state
}

// occupy binds a UDP port on the host for the rest of the test.
func (c *cluster) occupy(h *lab.Host, port int) {
	c.t.Helper()
	c.must(h.Do(func() error {
		conn, err := net.ListenUDP("udp4", &net.UDPAddr{IP: h.Addr().AsSlice(), Port: port})
		if err == nil {
			c.t.Cleanup(func() { conn.Close() })
		}
		return err
	}))
}

func TestSecondDaemonOnOneRunDir(t *testing.T) {
	c := newCluster(t, 1, network(testNetwork))
	h := c.Hosts[0]
	c.start(h)
	c.fails(h, exitFailed, "in use by another twill", "run", "--etcd-endpoints", c.EtcdEndpoint(), "--run-dir", h.RunDir(), "--state-dir", h.StateDir())
	c.fails(h, exitFailed, "still runs", "down", "--run-dir", h.RunDir(), "--state-dir", h.StateDir())
	if _, err := c.peers(h); err != nil {
		t.Errorf("the first daemon does not answer any more: %v", err)
	}
}

func TestDownRemovesEverything(t *testing.T) {
	c := newCluster(t, 1, network(testNetwork))
	h := c.Hosts[0]
	before := c.kernelState(h)
	p := c.start(h, "--iptables-forward-rules", "--ip-masq")
	c.stop(p)
	if c.kernelState(h) == before {
		t.Error("a stop removed the device; a restart would have to make it anew")
	}
	down := []string{"down", "--run-dir", h.RunDir(), "--state-dir", h.StateDir()}
	_, err := h.Twill(c.ctx, down...)
	c.must(err)
	if after := c.kernelState(h); after != before {
		t.Errorf("kernel state was %s\nand is %s", before, after)
	}
	if _, err := os.Stat(subnet.NodeIDPath(h.StateDir())); err != nil {
		t.Errorf("the node id went although its lease is in etcd: %v", err)
	}
	for range 2 { // the second has nothing to do
		_, err := h.Twill(c.ctx, append(down, "--release-lease", "--etcd-endpoints", c.EtcdEndpoint())...)
		c.must(err)
	}
	for _, dir := range []string{h.RunDir(), h.StateDir()} {
		if _, err := os.Stat(dir); err == nil {
			t.Errorf("%s is still there", dir)
		}
	}
	if leases := c.leases(); len(leases) != 0 {
		t.Errorf("leases are still there: %+v", leases)
	}
}

// A restart that fails leaves what the earlier run left, in use as it was.
func TestFailedRestartBreaksNothing(t *testing.T) {
	c := newCluster(t, 1, network(testNetwork))
	h := c.Hosts[0]
	c.stop(c.start(h, "--iptables-forward-rules"))
	before, rules := c.kernelState(h), c.rules(h)
	if !strings.Contains(rules, "TWILL-FWD-twill0") {
		t.Fatalf("no rules to begin with: %s", rules)
	}
	c.occupy(h, 8285)
	c.fails(h, exitFailed, "8285", "run", "--etcd-endpoints", c.EtcdEndpoint(), "--run-dir", h.RunDir(), "--state-dir", h.StateDir(), "--mtu", "1200")
	if after := c.kernelState(h); after != before {
		t.Errorf("kernel state was %s\nand is %s", before, after)
	}
	if after := c.rules(h); after != rules {
		t.Errorf("rules were %s\nand are %s", rules, after)
	}
}

func (c *cluster) rules(h *lab.Host) (rules string) {
	c.t.Helper()
	c.must(h.Do(func() error {
		out, err := exec.Command("iptables", "-S").CombinedOutput()
		rules = string(out)
		return err
	}))
	return rules
}

// A network that cannot work here must not stay in etcd, where it would win
// over the corrected one.
func TestOverlappingNetworkIsNotWritten(t *testing.T) {
	c := newCluster(t, 1, "")
	h := c.Hosts[0]
	c.fails(h, exitFailed, "overlap", "run", "--etcd-endpoints", c.EtcdEndpoint(), "--run-dir", h.RunDir(), "--state-dir", h.StateDir(), "--network", "198.18.0.0/15")
	c.start(h, "--network", testNetwork)
	if e := readEnv(t, h.EnvFile()); e.Network.String() != testNetwork {
		t.Errorf("network is %s, want %s", e.Network, testNetwork)
	}
}

// Failed starts must not fill etcd with leases that hold no key.
func TestFailedStartsLeaveNoEtcdLease(t *testing.T) {
	c := newCluster(t, 1, network(testNetwork))
	h := c.Hosts[0]
	c.occupy(h, 8285)
	for range 2 {
		c.fails(h, exitFailed, "8285", "run", "--etcd-endpoints", c.EtcdEndpoint(), "--run-dir", h.RunDir(), "--state-dir", h.StateDir())
	}
	resp, err := c.etcd.Leases(c.ctx)
	c.must(err)
	if len(resp.Leases) != 0 {
		t.Errorf("%d etcd leases are left", len(resp.Leases))
	}
}

func TestCommandsWithoutDaemon(t *testing.T) {
	c := newCluster(t, 1, "")
	h := c.Hosts[0]
	c.fails(h, exitFailed, "no twill daemon runs", "peers", "--run-dir", h.RunDir())
	c.fails(h, exitNotRunning, "no twill daemon runs", "status", "--run-dir", h.RunDir())
	c.fails(h, exitFailed, "no twill daemon runs", "top", "--run-dir", h.RunDir())
	c.fails(h, exitUsage, "unknown command", "peer")
	c.fails(h, exitFailed, "subnet.env", "docker-opts", "-f", h.EnvFile(), "-d", h.Dir()+"/docker")
	c.fails(h, exitFailed, "no network config", "config", "get", "--etcd-endpoints", c.EtcdEndpoint())
	c.fails(h, exitFailed, "SubnetLen", "config", "set", "--etcd-endpoints", c.EtcdEndpoint(), `{"Network":"10.5.0.0/16","SubnetLen":99}`)
	c.fails(h, exitUsage, "neither JSON nor a file", "config", "check", "nowhere")
	c.StopEtcd()
	c.fails(h, exitFailed, "gave no answer", "leases", "--etcd-endpoints", c.EtcdEndpoint())
}
