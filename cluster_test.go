package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/netip"
	"os/exec"
	"strings"
	"testing"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
	"go.uber.org/zap"

	"twill/internal/api"
	"twill/internal/lab"
)

const (
	testNetwork = "10.5.0.0/16"
	// patience is how long a state may take: far above any here, even on a
	// machine that is busy with something else.
	patience = 30 * time.Second
)

// cluster is a lab with an etcd and a network config, for one test.
type cluster struct {
	*lab.Lab
	t    *testing.T
	ctx  context.Context
	etcd *clientv3.Client
}

// newCluster makes hosts without daemons. config is the network config's JSON,
// or "" for none.
func newCluster(t *testing.T, hosts int, config string) *cluster {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 4*patience)
	t.Cleanup(cancel)
	l, err := lab.New(lab.Options{Hosts: hosts, Env: []string{asTwill + "=1"}, Output: t.Output()})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := l.Close(); err != nil {
			t.Error(err)
		}
	})
	c := &cluster{Lab: l, t: t, ctx: ctx}
	c.must(l.StartEtcd(ctx))
	c.etcd, err = clientv3.New(clientv3.Config{Endpoints: []string{l.EtcdEndpoint()}, Logger: zap.NewNop()})
	c.must(err)
	t.Cleanup(func() { c.etcd.Close() })
	if config != "" {
		c.put(defaultPrefix+"/config", config)
	}
	return c
}

// network is the config of a Network with every default.
func network(cidr string) string { return fmt.Sprintf(`{"Network":%q}`, cidr) }

func (c *cluster) must(err error) {
	c.t.Helper()
	if err != nil {
		c.t.Fatal(err)
	}
}

func (c *cluster) put(key, value string, opts ...clientv3.OpOption) {
	c.t.Helper()
	_, err := c.etcd.Put(c.ctx, key, value, opts...)
	c.must(err)
}

func (c *cluster) patient() context.Context {
	ctx, cancel := context.WithTimeout(c.ctx, patience)
	c.t.Cleanup(cancel)
	return ctx
}

func (c *cluster) waitFor(what string, reached func() error) {
	c.t.Helper()
	c.must(lab.WaitFor(c.patient(), what, reached))
}

// start starts a daemon on h and waits until it is ready.
func (c *cluster) start(h *lab.Host, args ...string) *lab.Process {
	c.t.Helper()
	p, err := h.StartDaemon(args...)
	c.must(err)
	c.must(p.Ready(c.patient()))
	return p
}

// startAll starts a daemon on each host, attaches a pod to each, and waits until
// every daemon knows all others.
func (c *cluster) startAll(args ...string) (daemons []*lab.Process) {
	c.t.Helper()
	for _, h := range c.Hosts {
		daemons = append(daemons, c.start(h, args...))
		c.attach(h)
	}
	for _, h := range c.Hosts {
		c.waitPeers(h, len(c.Hosts)-1)
	}
	return daemons
}

func (c *cluster) attach(h *lab.Host) *lab.Namespace {
	c.t.Helper()
	pod, err := h.Attach()
	c.must(err)
	return pod
}

func (c *cluster) stop(p *lab.Process) {
	c.t.Helper()
	code, err := p.Stop(c.patient())
	c.must(err)
	if code != exitOK {
		c.t.Fatalf("%s: exit code %d, want %d; it said:\n%s", p, code, exitOK, p.Log())
	}
}

// pods are the first pods of all hosts that have one.
func (c *cluster) pods() (pods []*lab.Namespace) {
	for _, h := range c.Hosts {
		if len(h.Pods) > 0 {
			pods = append(pods, h.Pods[0])
		}
	}
	return pods
}

func (c *cluster) pingAll() {
	c.t.Helper()
	_, err := lab.PingAll(c.ctx, c.pods(), lab.PingOptions{})
	c.must(err)
}

// twillJSON runs a twill command on h and decodes what it prints.
func (c *cluster) twillJSON(h *lab.Host, out any, args ...string) error {
	text, err := h.Twill(c.ctx, args...)
	if err != nil {
		return err
	}
	return json.Unmarshal([]byte(text), out)
}

func (c *cluster) peers(h *lab.Host) ([]api.Peer, error) {
	var out api.Peers
	err := c.twillJSON(h, &out, "peers", "--run-dir", h.RunDir(), "--json")
	return out.Peers, err
}

func (c *cluster) waitPeers(h *lab.Host, n int) {
	c.t.Helper()
	c.waitFor(fmt.Sprintf("%d peers on %s", n, h.Name), func() error {
		peers, err := c.peers(h)
		if err == nil && len(peers) != n {
			err = fmt.Errorf("sees %d: %+v", len(peers), peers)
		}
		return err
	})
}

func (c *cluster) leases() []api.Lease {
	c.t.Helper()
	var out api.Leases
	c.must(c.twillJSON(c.Hosts[0], &out, "leases", "--etcd-endpoints", c.EtcdEndpoint(), "--json"))
	return out.Leases
}

// subnetOf is the subnet in a host's subnet.env, masked.
func (c *cluster) subnetOf(h *lab.Host) netip.Prefix {
	c.t.Helper()
	return readEnv(c.t, h.EnvFile()).Subnet.Masked()
}

// fails runs a twill command on h to its end and checks exit code and message.
func (c *cluster) fails(h *lab.Host, wantCode int, wantMessage string, args ...string) {
	c.t.Helper()
	_, err := h.Twill(c.patient(), args...)
	checkFailure(c.t, err, wantCode, wantMessage)
}

// checkFailure checks the error of a twill that was to fail with one clear line.
func checkFailure(t *testing.T, err error, wantCode int, wantMessage string) {
	t.Helper()
	var exit *exec.ExitError
	if !errors.As(err, &exit) {
		t.Fatalf("got %v, want exit code %d", err, wantCode)
	}
	if exit.ExitCode() != wantCode || !strings.Contains(err.Error(), wantMessage) {
		t.Errorf("exit code %d: %v\nwant exit code %d and a message with %q", exit.ExitCode(), err, wantCode, wantMessage)
	}
}
