package main

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"

	"twill/internal/lab"
)

func (c *cluster) leaseKey(h *lab.Host) string {
	s := c.subnetOf(h)
	return fmt.Sprintf("%s/subnets/%s-%d", defaultPrefix, s.Addr(), s.Bits())
}

// leaseID is the etcd lease of a host's key; 0 where there is no such key.
func (c *cluster) leaseID(h *lab.Host) clientv3.LeaseID {
	resp, err := c.etcd.Get(c.ctx, c.leaseKey(h))
	c.must(err)
	if len(resp.Kvs) == 0 {
		return 0
	}
	return clientv3.LeaseID(resp.Kvs[0].Lease)
}

// Somebody revokes our lease: the same subnet is taken again, and no packet is
// lost meanwhile.
func TestRevokedLeaseIsTakenAgain(t *testing.T) {
	c := newCluster(t, 2, network(testNetwork))
	c.startAll()
	pods := c.pods()
	stream, err := lab.StartStream(c.ctx, pods[0], pods[1], lab.StreamOptions{})
	c.must(err)
	for _, h := range c.Hosts {
		old := c.leaseID(h)
		_, err := c.etcd.Revoke(c.ctx, old)
		c.must(err)
		c.waitFor("a new lease of "+h.Name, func() error {
			if id := c.leaseID(h); id == 0 || id == old {
				return fmt.Errorf("the key's lease is %x, the revoked one was %x", id, old)
			}
			return nil
		})
	}
	if r := stream.Stop(); r.Lost() != 0 {
		t.Errorf("%d of %d packets lost", r.Lost(), r.Sent)
	}
}

// Two owners never forward at once: the loser stops and says who won.
func TestFencedByAnotherOwner(t *testing.T) {
	c := newCluster(t, 2, network(testNetwork))
	daemons := c.startAll()
	c.put(c.leaseKey(c.Hosts[0]), `{"PublicIP":"198.18.0.99","PublicIPv6":null,"BackendType":"udp","BackendData":{"Proto":1,"Node":"usurper","NodeID":"0f","Port":8285}}`)
	code, err := daemons[0].Wait(c.patient())
	c.must(err)
	if code != exitFenced || !strings.Contains(daemons[0].Log(), "usurper") {
		t.Errorf("exit code %d, want %d and the winner's name; it said:\n%s", code, exitFenced, daemons[0].Log())
	}
}

// A copied disk: the second host has the first one's node id. It says who holds the
// lease and what to do, and ends; the first one goes on. Once that is gone, as after
// a move to another machine, the second gets the subnet.
func TestTwinDoesNotStart(t *testing.T) {
	c := newCluster(t, 2, network(testNetwork))
	first := c.start(c.Hosts[0])
	subnet := c.subnetOf(c.Hosts[0])
	id, err := os.ReadFile(filepath.Join(c.Hosts[0].StateDir(), "node-id"))
	c.must(err)
	c.must(os.MkdirAll(c.Hosts[1].StateDir(), 0o755))
	c.must(os.WriteFile(filepath.Join(c.Hosts[1].StateDir(), "node-id"), id, 0o644))
	twin, err := c.Hosts[1].StartDaemon()
	c.must(err)
	code, err := twin.Wait(c.patient())
	c.must(err)
	for _, want := range []string{"host1", "same node id", "remove the file node-id"} {
		if code != exitFenced || !strings.Contains(twin.Log(), want) || !strings.Contains(twin.Status(), want) {
			t.Errorf("exit code %d, want %d and %q; its status is %q, it said:\n%s", code, exitFenced, want, twin.Status(), twin.Log())
		}
	}
	select {
	case <-first.Done():
		t.Fatalf("the first host's daemon has ended:\n%s", first.Log())
	default:
	}
	first.Kill()
	c.start(c.Hosts[1])
	if got := c.subnetOf(c.Hosts[1]); got != subnet {
		t.Errorf("alone the twin holds %s, want the lease %s that its node id names", got, subnet)
	}
}

// What hangs at the end, here an iptables that waits for its lock, must not hide
// why the daemon ends.
func TestFencedWhileIptablesHangs(t *testing.T) {
	c := newCluster(t, 1, network(testNetwork))
	h := c.Hosts[0]
	programs := t.TempDir()
	real, err := exec.LookPath("iptables")
	c.must(err)
	slow := fmt.Sprintf("#!/bin/sh\n[ -e %[1]s/hang ] && { touch %[1]s/hangs; sleep 5; }\nexec %[2]s \"$@\"\n", programs, real)
	c.must(os.WriteFile(programs+"/iptables", []byte(slow), 0o755))
	t.Setenv("PATH", programs+":"+os.Getenv("PATH"))
	p := c.start(h, "--iptables-forward-rules", "--iptables-resync", "1")
	c.must(os.WriteFile(programs+"/hang", nil, 0o644))
	c.waitFor("iptables to hang", func() error {
		_, err := os.Stat(programs + "/hangs")
		return err
	})
	c.put(c.leaseKey(h), `{"PublicIP":"198.18.0.99","BackendType":"udp","BackendData":{"Proto":1,"Node":"usurper","NodeID":"0f","Port":8285}}`)
	code, err := p.Wait(c.patient())
	c.must(err)
	if code != exitFenced {
		t.Errorf("exit code %d, want %d; it said:\n%s", code, exitFenced, p.Log())
	}
}

func TestRaceForLastSubnet(t *testing.T) {
	c := newCluster(t, 3, `{"Network":"10.5.0.0/16","SubnetMin":"10.5.7.0","SubnetMax":"10.5.8.0"}`)
	var racers []*lab.Process
	for _, h := range c.Hosts {
		p, err := h.StartDaemon()
		c.must(err)
		racers = append(racers, p)
	}
	won, lost := 0, 0
	for _, p := range racers {
		ready := p.Ready(c.patient())
		if ready == nil {
			won++
			continue
		}
		lost++
		code, err := p.Wait(c.patient())
		c.must(err)
		if code != exitFailed || !strings.Contains(p.Log(), "no free subnet") {
			t.Errorf("%s: exit code %d, want %d and `no free subnet`; it said:\n%s", p, code, exitFailed, p.Log())
		}
	}
	if won != 2 || lost != 1 {
		t.Errorf("%d daemons got one of two subnets, %d none; want 2 and 1", won, lost)
	}
	if leases := c.leases(); len(leases) != 2 {
		t.Errorf("leases are %+v, want two", leases)
	}
}

// A reservation is a key without a TTL, put by an operator: its host gets it,
// and it stays without one.
func TestReservation(t *testing.T) {
	c := newCluster(t, 2, network(testNetwork))
	key := defaultPrefix + "/subnets/10.5.200.0-24"
	c.put(key, fmt.Sprintf(`{"PublicIP":%q}`, c.Hosts[1].Addr()))
	c.startAll()
	if got := c.subnetOf(c.Hosts[1]).String(); got != "10.5.200.0/24" {
		t.Errorf("host2 holds %s, want the reserved 10.5.200.0/24", got)
	}
	for _, l := range c.leases() {
		if l.Subnet == "10.5.200.0/24" && (!l.Reserved || l.Node != "host2") {
			t.Errorf("the reservation became %+v", l)
		}
	}
	c.pingAll()
}

// One value that does not parse costs that one key.
func TestPoisonLeases(t *testing.T) {
	c := newCluster(t, 2, network(testNetwork))
	c.startAll()
	for name, value := range map[string]string{
		"10.5.250.0-24":  `not json`,
		"10.5.251.0-24":  `{"PublicIP":"127.0.0.1"}`,
		"10.5.252.0-24":  `{"PublicIP":"10.5.3.3"}`,
		"0.0.0.0-0":      `{"PublicIP":"198.18.0.77"}`,
		"192.0.2.0-24":   `{"PublicIP":"198.18.0.77"}`,
		"10.5.253.00-24": `{"PublicIP":"198.18.0.77"}`,
		"10.5.254.0-24":  `{"PublicIP":"198.18.0.77","BackendType":"vxlan","BackendData":{"VNI":1,"VtepMAC":"72:fb:42:a6:1f:00"}}`,
	} {
		c.put(defaultPrefix+"/subnets/"+name, value)
	}
	good := 0
	for _, l := range c.leases() {
		if l.Problem == "" {
			good++
		}
	}
	if good != 2 {
		t.Errorf("%d leases without a problem, want the two daemons':\n%+v", good, c.leases())
	}
	c.waitFor("all of them to be seen", func() error {
		s, err := c.status(c.Hosts[0])
		if err == nil && (s.Peers != 1 || s.Skipped != 7) {
			err = fmt.Errorf("%d peers, %d skipped; want 1 and 7", s.Peers, s.Skipped)
		}
		return err
	})
	c.pingAll()
}

// What others write into etcd must not steer the terminal, and is shown to be
// wrong whatever the config says.
func TestHostileLeasesOnTerminal(t *testing.T) {
	c := newCluster(t, 1, "")
	c.put(defaultPrefix+"/subnets/\x1b[2Jevil\tx\ny", "{}")
	c.put(defaultPrefix+"/subnets/10.5.9.0-24", `{"PublicIP":"fe80::1%\u001b[31mEVIL\nx"}`)
	out, err := c.Hosts[0].Twill(c.ctx, "leases", "--etcd-endpoints", c.EtcdEndpoint())
	c.must(err)
	if lines := strings.Count(out, "\n"); lines != 1+2*(1+3) || strings.Contains(out, "\x1b") {
		t.Errorf("want a header, for each lease its line, a blank one, problem and remedy, and no escape sequence, got %q", out)
	}
	for _, l := range c.leases() {
		if l.Problem == "" {
			t.Errorf("no problem is shown of %+v", l)
		}
	}
}

// Flannel's own lease is a peer at the network config's port.
func TestFlannelPeer(t *testing.T) {
	c := newCluster(t, 2, `{"Network":"10.5.0.0/16","Backend":{"Type":"udp","Port":8999}}`)
	c.start(c.Hosts[0])
	grant, err := c.etcd.Grant(c.ctx, int64(time.Hour/time.Second))
	c.must(err)
	c.put(defaultPrefix+"/subnets/10.5.9.0-24", `{"PublicIP":"198.18.0.9","PublicIPv6":null}`, clientv3.WithLease(grant.ID))
	c.waitPeers(c.Hosts[0], 1)
	peers, err := c.peers(c.Hosts[0])
	c.must(err)
	if got := peers[0].Endpoint.String(); got != "198.18.0.9:8999" {
		t.Errorf("Flannel's endpoint is %s, want 198.18.0.9:8999", got)
	}
}
