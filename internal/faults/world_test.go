package faults

import (
	"context"
	"fmt"
	"net/netip"
	"strings"
	"testing"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"

	"twill/internal/lab"
)

const (
	prefix  = "/coreos.com/network"
	overlay = "10.5.0.0/16"

	// patience is how long a state may take that is not measured: far above any
	// here, even on a machine that is busy with something else.
	patience = 60 * time.Second
	// rpcTimeout bounds one request of the operator.
	rpcTimeout = 2 * time.Second
)

// world is a lab with an etcd cluster, daemons on some of the hosts, and a pod on
// each of these. Several faults happen to one world, one after the other.
type world struct {
	*lab.Lab
	t   *testing.T // of the fault that happens now
	ctx context.Context

	etcd    *store
	hosts   []*lab.Host    // with a daemon
	daemons []*lab.Service // by host, as systemd runs them
	ended   []bool         // by host: a fault has ended the daemon, as it should
	subnets []netip.Prefix // by host, as its pods were made for
	options worldOptions
	referee *referee
	crowd   *crowd // nil: none
	marks   uint16
}

// worldOptions shape a world.
type worldOptions struct {
	members int // of the etcd cluster
	daemons int
	crowd   int // nodes in this process
	store   storeOptions
	args    []string                        // of every daemon
	program func() (path string, err error) // the daemon; nil: builtTwill
	// prepare is called once etcd serves, before the daemons start.
	prepare func(*world)
}

// newWorld makes a world in which every daemon knows all others. It ends with t.
func newWorld(t *testing.T, o worldOptions) *world {
	t.Helper()
	w := emptyWorld(t, o)
	for i := range w.hosts {
		w.startDaemon(i)
		w.attach(i)
	}
	if o.crowd > 0 {
		w.startCrowd(o.crowd)
	}
	w.waitTruth()
	return w
}

// emptyWorld makes a world in which etcd serves and no daemon runs yet.
func emptyWorld(t *testing.T, o worldOptions) *world {
	t.Helper()
	w := &world{t: t, ctx: t.Context(), options: o}
	if o.program == nil {
		o.program = builtTwill
	}
	program, err := o.program()
	w.must(err)
	l, err := lab.New(lab.Options{Hosts: o.daemons + o.members, Command: []string{program}, Output: t.Output()})
	w.must(err)
	w.Lab = l
	t.Cleanup(func() {
		if err := l.Close(); err != nil {
			t.Error(err)
		}
	})
	w.hosts, w.daemons = l.Hosts[:o.daemons], make([]*lab.Service, o.daemons)
	w.ended, w.subnets = make([]bool, o.daemons), make([]netip.Prefix, o.daemons)
	w.etcd, err = newStore(l.Hosts[o.daemons:], o.store)
	w.must(err)
	t.Cleanup(w.etcd.close)
	w.must(w.etcd.start(w.patient()))
	if o.prepare != nil {
		o.prepare(w)
	}
	w.putConfig()
	w.referee = watchOwners(w.hosts)
	t.Cleanup(w.referee.stop)
	return w
}

func (w *world) must(err error) {
	w.t.Helper()
	if err != nil {
		w.t.Fatal(err)
	}
}

// patient is a context for a state that has to come.
func (w *world) patient() context.Context {
	ctx, cancel := context.WithTimeout(w.ctx, patience)
	w.t.Cleanup(cancel)
	return ctx
}

// rpc is a context for one request of the operator.
func (w *world) rpc() context.Context {
	ctx, cancel := context.WithTimeout(w.ctx, rpcTimeout)
	w.t.Cleanup(cancel)
	return ctx
}

func (w *world) waitFor(what string, reached func() error) {
	w.t.Helper()
	w.must(lab.WaitFor(w.patient(), what, reached))
}

// launchDaemon starts the daemon of host i, for the first time or again, and does
// not wait for it.
func (w *world) launchDaemon(i int) *lab.Service {
	w.t.Helper()
	args := append([]string{
		"--etcd-endpoints", strings.Join(w.etcd.urls(), ","),
		"--lease-grace", grace.String(),
	}, w.options.args...)
	var err error
	if w.daemons[i] == nil {
		w.daemons[i], err = w.hosts[i].StartService(args...)
	} else {
		err = w.daemons[i].Next(args...)
	}
	w.must(err)
	w.ended[i] = false
	return w.daemons[i]
}

// startDaemon starts the daemon of host i and waits until it is ready.
func (w *world) startDaemon(i int) {
	w.t.Helper()
	w.must(w.launchDaemon(i).Ready(w.patient()))
}

// attach gives host i the pod that the streams run to and from.
func (w *world) attach(i int) {
	w.t.Helper()
	_, err := w.hosts[i].Attach()
	w.must(err)
	w.subnets[i] = w.hosts[i].Gateway().Masked()
}

// said reports whether the daemon of host i has printed text.
func (w *world) said(i int, text string) bool { return strings.Contains(w.daemons[i].Log(), text) }

// put writes a key as an operator does, once etcd serves.
func (w *world) put(key, value string, opts ...clientv3.OpOption) {
	w.t.Helper()
	w.waitFor("a write of "+key, func() error {
		_, err := w.etcd.client.Put(w.rpc(), key, value, opts...)
		return err
	})
}

// putConfig writes the network config. The daemons' subnets are below 10.5.100.0;
// the faults play with those above.
func (w *world) putConfig() {
	w.t.Helper()
	w.put(prefix+"/config", fmt.Sprintf(`{"Network":%q,"SubnetMin":"10.5.1.0","SubnetMax":"10.5.99.0"}`, overlay))
}

// deleteAll deletes every key that begins with start.
func (w *world) deleteAll(start string) {
	w.t.Helper()
	_, err := w.etcd.client.Delete(w.rpc(), start, clientv3.WithPrefix())
	w.must(err)
}

func (w *world) delete(key string) {
	w.t.Helper()
	_, err := w.etcd.client.Delete(w.rpc(), key)
	w.must(err)
}

func leaseKey(s netip.Prefix) string {
	return fmt.Sprintf("%s/subnets/%s-%d", prefix, s.Addr(), s.Bits())
}

// leaseValue is the value of a lease that another twill would hold.
func leaseValue(node string, endpoint netip.AddrPort) string {
	return fmt.Sprintf(`{"PublicIP":%q,"PublicIPv6":null,"BackendType":"udp","BackendData":{"Proto":1,"Node":%q,"NodeID":"id-of-%s","Port":%d}}`,
		endpoint.Addr(), node, node, endpoint.Port())
}
