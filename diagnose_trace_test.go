package main

import (
	"encoding/json"
	"fmt"
	"net/netip"
	"strings"
	"testing"

	"twill/internal/api"
	"twill/internal/lab"
)

// traced runs twill trace on h and checks where the packet ends.
func (c *cluster) traced(h *lab.Host, passes bool, verdict, remedy string, args ...string) {
	c.t.Helper()
	c.must(c.tracesTo(h, passes, verdict, remedy, args...))
}

func (c *cluster) tracesTo(h *lab.Host, passes bool, verdict, remedy string, args ...string) error {
	out, err := h.Twill(c.ctx, append([]string{"trace", "--json", "--run-dir", h.RunDir()}, args...)...)
	var got api.Trace
	if bad := json.Unmarshal([]byte(out), &got); bad != nil {
		return fmt.Errorf("%w: %w: %q", bad, err, out)
	}
	if got.Passes != passes || passes != (err == nil) || !strings.Contains(got.Verdict, verdict) || !strings.Contains(got.Remedy, remedy) || passes != (got.Remedy == "") {
		return fmt.Errorf("trace %v: %+v, %v; want passes=%t, %q, %q", args, got, err, passes, verdict, remedy)
	}
	return nil
}

func TestTrace(t *testing.T) {
	c := newCluster(t, 2, network(testNetwork))
	daemons := c.startAll("--probe-interval", "1s")
	c.pingAll()
	h, other := c.Hosts[0], c.Hosts[1]
	pod, remote := h.Pods[0].Addr(), other.Pods[0].Addr()

	c.traced(h, true, "goes to host2 at "+other.Addr().String()+":8285", "", remote.String())
	c.traced(h, true, "goes to host2", "", "--from", h.Addr().String(), "--size", "1472", remote.String())
	c.traced(h, false, "MTU 1472", "at most 1472 bytes", "--size", "1473", remote.String())
	c.traced(h, true, "stays on this host, on docker0", "", "--from", h.Addr().String(), pod.String())
	c.traced(h, true, "an address of this host", "", h.Gateway().Addr().String())
	c.traced(h, true, "does not meet twill: the kernel sends it by eth0 via", "", "192.0.2.9")
	c.traced(h, false, "no lease holds 10.5.0.9", "start twill", "10.5.0.9") // the first subnet is never given to a host
	c.must(h.Sysctl("net/ipv4/conf/docker0/rp_filter", "0"))
	c.must(h.Sysctl("net/ipv4/conf/all/rp_filter", "0"))
	c.traced(h, false, "neither in this host's subnet", "--spoof-check", "--from", "192.0.2.77", remote.String())

	c.put(leaseKey(netip.MustParsePrefix("10.5.0.0/24")), `{"PublicIP":"127.0.0.1"}`)
	c.waitFor("the bad lease to be known", func() error {
		return c.tracesTo(h, false, "10.5.0.0-24 is not used: public IP 127.0.0.1", "twill leases", "10.5.0.9")
	})

	drop := c.rule(h, "FORWARD", "-d", remote.String(), "-j", "DROP")
	c.traced(h, false, "FORWARD drops it", "iptables -I FORWARD", remote.String())
	drop()

	c.must(h.Exec(c.ctx, "nft", "add table inet mine; add chain inet mine passed { type filter hook forward priority 0; policy drop; }"))
	out, err := h.Twill(c.ctx, "trace", "--run-dir", h.RunDir(), remote.String())
	if err != nil || !strings.Contains(out, "the chain inet mine passed of nftables drops") {
		t.Errorf("a chain of nftables: %v\n%s", err, out)
	}
	c.must(h.Exec(c.ctx, "nft", "delete table inet mine"))

	c.must(h.AddRoute(netip.PrefixFrom(remote, 32), c.Addr()))
	c.traced(h, false, "its route leads into eth0, past twill", "ip route", remote.String())
	c.must(h.DeleteRoute(netip.PrefixFrom(remote, 32), c.Addr()))

	c.ip(h, "route", "add", "blackhole", other.Addr().String())
	c.traced(h, false, "the kernel has a route of type blackhole to "+other.Addr().String(), "delete that route", remote.String())
	c.ip(h, "route", "delete", "blackhole", other.Addr().String())

	c.stop(daemons[1])
	c.waitFor("the peer to be unreachable", func() error {
		return c.tracesTo(h, false, "does not answer", "systemctl start twill", remote.String())
	})
	c.fails(h, exitUsage, "not an IPv4 address", "trace", "--run-dir", h.RunDir(), "host2")
	c.fails(h, exitFailed, "no twill daemon runs", "trace", "--run-dir", "/nowhere", remote.String())
	out, _ = h.Twill(c.ctx, "trace", "--run-dir", h.RunDir(), remote.String())
	if !strings.Contains(out, "lease") || !strings.Contains(out, "to do") {
		t.Errorf("twill trace printed\n%s", out)
	}
}
