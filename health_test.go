package main

import (
	"errors"
	"fmt"
	"net/http"
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

// waitProblem waits until h's daemon has the problem, or none of its code any more.
func (c *cluster) waitProblem(h *lab.Host, code string, there bool) (p api.Problem) {
	c.t.Helper()
	c.waitFor(fmt.Sprintf("the problem %s (%v)", code, there), func() error {
		s, err := c.status(h)
		if err != nil {
			return err
		}
		i := slices.IndexFunc(s.Problems, func(p api.Problem) bool { return p.Code == code })
		if (i >= 0) != there {
			return fmt.Errorf("problems are %+v", s.Problems)
		}
		if there {
			p = s.Problems[i]
		}
		return nil
	})
	return p
}

// statusCode runs twill status on h to its end.
func (c *cluster) statusCode(h *lab.Host) (out string, code int) {
	c.t.Helper()
	out, err := h.Twill(c.patient(), "status", "--run-dir", h.RunDir())
	var exit *exec.ExitError
	if err != nil && !errors.As(err, &exit) {
		c.t.Fatal(err)
	}
	if exit != nil {
		out, code = out+err.Error(), exit.ExitCode()
	}
	return out, code
}

// ip runs ip(8) on h.
func (c *cluster) ip(h *lab.Host, args ...string) {
	c.t.Helper()
	c.must(h.Do(func() error {
		out, err := exec.Command("ip", args...).CombinedOutput()
		if err != nil {
			err = fmt.Errorf("ip %s: %w: %s", strings.Join(args, " "), err, out)
		}
		return err
	}))
}

// The exit code tells how the daemon is, and a daemon that ended with an error is still asked for the reason, until the next is
// ready or twill down has been there.
func TestStatusOfLivingAndDead(t *testing.T) {
	c := newCluster(t, 1, network(testNetwork))
	h := c.Hosts[0]
	if out, code := c.statusCode(h); code != exitNotRunning || !strings.Contains(out, "no twill daemon runs") {
		t.Errorf("before the first start: exit code %d, want %d:\n%s", code, exitNotRunning, out)
	}
	p := c.start(h)
	if out, code := c.statusCode(h); code != exitOK || !strings.HasPrefix(out, "healthy\n") {
		t.Errorf("exit code %d, want %d:\n%s", code, exitOK, out)
	}
	c.StopEtcd()
	c.waitProblem(h, api.ProblemEtcdAway, true)
	if out, code := c.statusCode(h); code != exitDegraded || !strings.HasPrefix(out, "degraded: 1 problem\n") {
		t.Errorf("without etcd: exit code %d, want %d:\n%s", code, exitDegraded, out)
	}
	c.must(c.StartEtcd(c.ctx))
	c.waitProblem(h, api.ProblemEtcdAway, false)

	kill := func(p *lab.Process) {
		t.Helper()
		c.ip(h, "link", "delete", "twill0")
		code, err := p.Wait(c.patient())
		c.must(err)
		if out, status := c.statusCode(h); code != exitFailed || status != exitNotRunning || !strings.Contains(out, "the last one ended") || !strings.Contains(out, "device was deleted") {
			t.Errorf("the daemon ended with %d; status is %d, want %d and the reason:\n%s", code, status, exitNotRunning, out)
		}
	}
	kill(p)
	p = c.start(h)
	c.stop(p)
	if out, code := c.statusCode(h); code != exitNotRunning || strings.Contains(out, "the last one ended") {
		t.Errorf("after a stop: exit code %d, want %d and no reason:\n%s", code, exitNotRunning, out)
	}
	kill(c.start(h))
	_, err := h.Twill(c.ctx, "down", "--run-dir", h.RunDir(), "--state-dir", h.StateDir())
	c.must(err)
	if out, code := c.statusCode(h); code != exitNotRunning || strings.Contains(out, "the last one ended") {
		t.Errorf("after twill down: exit code %d, want %d and no reason:\n%s", code, exitNotRunning, out)
	}
}

// A daemon that waits for etcd is not one that does not run.
func TestStatusOfAStart(t *testing.T) {
	c := newCluster(t, 1, network(testNetwork))
	h := c.Hosts[0]
	c.StopEtcd()
	p, err := h.StartDaemon()
	c.must(err)
	c.waitFor("the start to be told", func() error {
		if out, code := c.statusCode(h); code != exitNotRunning || !strings.Contains(out, "is starting") {
			return fmt.Errorf("exit code %d: %s", code, out)
		}
		return nil
	})
	c.stop(p)
}

// Why a start failed is told, too.
func TestLastWordsOfAFailedStart(t *testing.T) {
	c := newCluster(t, 1, network(testNetwork))
	h := c.Hosts[0]
	c.occupy(h, 8285)
	c.fails(h, exitFailed, "8285", "run", "--etcd-endpoints", c.EtcdEndpoint(), "--run-dir", h.RunDir(), "--state-dir", h.StateDir())
	if out, code := c.statusCode(h); code != exitNotRunning || !strings.Contains(out, "the last one ended") || !strings.Contains(out, "8285") {
		t.Errorf("exit code %d, want %d and the reason:\n%s", code, exitNotRunning, out)
	}
}

// A second daemon that finds the run directory taken leaves no last words in it.
func TestLastWordsOfAnIntruder(t *testing.T) {
	c := newCluster(t, 1, network(testNetwork))
	h := c.Hosts[0]
	c.start(h)
	c.fails(h, exitFailed, "in use by another twill", "run", "--etcd-endpoints", c.EtcdEndpoint(), "--run-dir", h.RunDir(), "--state-dir", h.StateDir())
	if _, err := os.Stat(daemon.LastEndPath(h.RunDir())); err == nil {
		t.Error("its last words lie in the run directory of another")
	}
}

// A lease that names a wrong address: the peer's status and peers say from where its packets come.
func TestWrongPublicIPIsNamed(t *testing.T) {
	c := newCluster(t, 2, network(testNetwork))
	good, wrong := c.Hosts[0], c.Hosts[1]
	c.start(good)
	c.start(wrong, "--public-ip", wrong.SpareAddr().String())
	c.attach(good)
	peer := c.waitPeer(good, "the reason", func(p api.Peer) bool { return p.State == api.StateUnreachable && p.ClaimedFrom == wrong.Addr() })
	for _, want := range []string{"come from " + wrong.Addr().String(), "lease says " + wrong.SpareAddr().String()} {
		if !strings.Contains(peer.Reason, want) || !strings.Contains(peer.Remedy, "--public-ip") {
			t.Errorf("the peer is told with reason %q and remedy %q, want %q", peer.Reason, peer.Remedy, want)
		}
	}
	c.waitProblem(good, api.ProblemPeersUnreachable, true)
	out, err := good.Twill(c.ctx, "peers", "--run-dir", good.RunDir(), "--state", "unreachable")
	if err != nil || !strings.Contains(out, "is its --public-ip right?") {
		t.Errorf("%v:\n%s", err, out)
	}
	// Who takes no part in this knows nothing about it.
	if p := c.waitPeer(wrong, "its own view", func(p api.Peer) bool { return p.State == api.StateUnreachable }); p.ClaimedFrom.IsValid() {
		t.Errorf("the host with the wrong address is told that %s claims to be its peer", p.ClaimedFrom)
	}
}

// A host that is switched off makes the one other host of a network degraded, but none where most others answer: all would be.
func TestFewPeersAwayAreANotice(t *testing.T) {
	c := newCluster(t, 4, network(testNetwork))
	h := c.Hosts[0]
	c.start(h, "--probe-interval", "1s", "--http-addr", httpAddr)
	var daemons []*lab.Process
	for _, other := range c.Hosts[1:] {
		daemons = append(daemons, c.start(other))
	}
	c.waitFor("all peers to answer", func() error {
		s, err := c.status(h)
		if err == nil && s.PeerStates[api.StateUp] != 3 {
			err = fmt.Errorf("they are %v", s.PeerStates)
		}
		return err
	})
	c.stop(daemons[0])
	c.waitFor("the notice", func() error {
		s, err := c.status(h)
		if err == nil && (len(s.Notices) != 1 || s.Notices[0].Code != api.ProblemPeersUnreachable) {
			err = fmt.Errorf("notices are %+v", s.Notices)
		}
		return err
	})
	want := "peers without an answer: " + c.Hosts[1].Name + " (1 of 3 that are asked)"
	if out, code := c.statusCode(h); code != exitOK || !strings.HasPrefix(out, "healthy, 1 notice\n\n  "+want) {
		t.Errorf("exit code %d, want %d:\n%s", code, exitOK, out)
	}
	if status, body, err := c.get(h, "/readyz"); err != nil || status != http.StatusOK || !strings.HasPrefix(body, "ok\nnotice: peers-unreachable: "+want) {
		t.Errorf("/readyz: %d, %v\n%s", status, err, body)
	}
	c.waitFound(h, api.ReasonDaemon, "nobody listens", "systemctl start twill")

	c.stop(daemons[1])
	c.waitProblem(h, api.ProblemPeersUnreachable, true)
	if out, code := c.statusCode(h); code != exitDegraded || !strings.HasPrefix(out, "degraded: 1 problem\n") {
		t.Errorf("exit code %d, want %d:\n%s", code, exitDegraded, out)
	}
	c.waitHealth(h, "/readyz", api.HealthDegraded, api.ProblemPeersUnreachable)
}

// The container bridge goes to another subnet, and somebody removes subnet.env: the one is told, the other put right.
func TestBridgeAndSubnetFileAreWatched(t *testing.T) {
	c := newCluster(t, 1, network(testNetwork))
	h := c.Hosts[0]
	c.start(h, "--iptables-resync", "1")
	c.attach(h)
	before := readEnv(t, h.EnvFile())
	c.must(os.Remove(h.EnvFile()))
	c.waitFor("subnet.env", func() error {
		_, err := os.Stat(h.EnvFile())
		return err
	})
	if after := readEnv(t, h.EnvFile()); after != before {
		t.Errorf("subnet.env says %+v, and said %+v", after, before)
	}

	own := netip.PrefixFrom(before.Subnet.Addr(), before.Subnet.Bits()).String()
	c.ip(h, "address", "replace", "172.17.0.1/16", "dev", "docker0")
	c.ip(h, "address", "delete", own, "dev", "docker0")
	if p := c.waitProblem(h, api.ProblemBridge, true); !strings.Contains(p.Problem, "docker0 is on 172.17.0.0/16") {
		t.Errorf("the problem is told as %q", p.Problem)
	}
	c.ip(h, "address", "add", own, "dev", "docker0")
	c.waitProblem(h, api.ProblemBridge, false)
}

// A lease that twill cannot use stands among the peers, with the reason.
func TestUnusedLeasesAreShown(t *testing.T) {
	c := newCluster(t, 1, network(testNetwork))
	h := c.Hosts[0]
	c.start(h)
	c.put(defaultPrefix+"/subnets/10.5.254.0-24", `{"PublicIP":"198.18.0.77","BackendType":"vxlan","BackendData":{"VNI":1,"VtepMAC":"72:fb:42:a6:1f:00"}}`)
	c.waitFor("the lease", func() error {
		out, err := h.Twill(c.ctx, "peers", "--run-dir", h.RunDir(), "--state", "incompatible")
		if err == nil && (!strings.Contains(out, "10.5.254.0/24") || !strings.Contains(out, "twill carries udp only")) {
			err = fmt.Errorf("it shows\n%s", out)
		}
		return err
	})
	if s, err := c.status(h); err != nil || s.PeerStates[api.StateIncompatible] != 1 || len(s.Problems) != 0 {
		t.Errorf("the status is %+v, %v", s, err)
	}
}
