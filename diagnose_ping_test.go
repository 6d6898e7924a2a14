package main

import (
	"encoding/json"
	"strings"
	"testing"

	"twill/internal/api"
	"twill/internal/lab"
)

// twillPing runs twill ping on h and returns its report; err is that of its exit.
func (c *cluster) twillPing(h *lab.Host, args ...string) (report api.PingReport, err error) {
	c.t.Helper()
	line := append([]string{"ping", "--run-dir", h.RunDir(), "--json", "-c", "3", "-i", "50ms", "-W", "500ms"}, args...)
	out, err := h.Twill(c.patient(), line...)
	if out != "" {
		c.must(json.Unmarshal([]byte(out), &report))
	}
	return report, err
}

func TestPing(t *testing.T) {
	c := newCluster(t, 2, network(testNetwork))
	daemons := c.startAll()
	h, other := c.Hosts[0], c.Hosts[1]
	peer, err := c.peer(h)
	c.must(err)

	for _, to := range []string{other.Name, peer.NodeID, peer.Subnet.String(), other.Pods[0].Addr().String()} {
		r, err := c.twillPing(h, to)
		if err != nil || r.Sent != 3 || r.Received != 3 || r.Loss != 0 || r.Node != other.Name || r.Subnet != peer.Subnet || r.Endpoint != peer.Endpoint {
			t.Errorf("ping %s: %+v, %v", to, r, err)
		}
		if r.RTT == nil || r.RTT.Min <= 0 || r.RTT.Min > r.RTT.Avg || r.RTT.Avg > r.RTT.Max || len(r.Probes) != 3 {
			t.Errorf("ping %s: times %+v of %d probes", to, r.RTT, len(r.Probes))
		}
	}
	out, err := h.Twill(c.ctx, "ping", "--run-dir", h.RunDir(), "-c", "1", other.Name)
	if err != nil || !strings.Contains(out, "seq=1 time=") || !strings.Contains(out, "1 packets transmitted, 1 received, 0% packet loss") || !strings.Contains(out, "rtt min/avg/max/mdev = ") {
		t.Errorf("%v\n%s", err, out)
	}

	c.fails(h, exitFailed, "no peer is called", "ping", "--run-dir", h.RunDir(), "nobody")
	c.fails(h, exitFailed, "this host itself", "ping", "--run-dir", h.RunDir(), h.Name)
	c.fails(h, exitFailed, "own subnet", "ping", "--run-dir", h.RunDir(), h.Gateway().Addr().String())
	c.fails(h, exitFailed, "underlay address of "+other.Name, "ping", "--run-dir", h.RunDir(), other.Addr().String())
	c.fails(h, exitUsage, "want 64 to", "ping", "--run-dir", h.RunDir(), "-s", "10", other.Name)
	c.fails(h, exitUsage, "0 arguments", "ping", "--run-dir", h.RunDir())
	c.fails(h, exitFailed, "no twill daemon runs", "ping", "--run-dir", "/nowhere", other.Name)

	r, err := c.twillPing(h, "-s", "1600", other.Name)
	checkFailure(t, err, exitFailed, "")
	if r.Received != 0 || !strings.Contains(r.Probes[0].Error, "message too long") || !strings.Contains(r.Reason, "64 bytes is answered") || !strings.Contains(r.Remedy, "at most 1472 bytes") {
		t.Errorf("a ping that the interface does not take: %+v", r)
	}
	c.stop(daemons[1])
	if r, err = c.twillPing(h, other.Name); err == nil || r.Received != 0 || r.Loss != 1 || r.RTT != nil {
		t.Errorf("a peer that is away: %+v, %v", r, err)
	}
}

// A peer that runs Flannel cannot be asked, and ping says so.
func TestPingFlannel(t *testing.T) {
	c := newCluster(t, 1, network(testNetwork))
	c.put(defaultPrefix+"/subnets/10.5.77.0-24", `{"PublicIP":"198.18.0.99"}`)
	h := c.Hosts[0]
	c.start(h)
	c.waitPeers(h, 1)
	c.fails(h, exitFailed, "runs Flannel", "ping", "--run-dir", h.RunDir(), "10.5.77.0/24")
}
