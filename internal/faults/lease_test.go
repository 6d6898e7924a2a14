package faults

import (
	"testing"

	clientv3 "go.etcd.io/etcd/client/v3"

	"twill/internal/lab"
)

// What happens to the leases, by an operator's hand or by etcd's own fault.
func TestLeases(t *testing.T) {
	t.Parallel()
	applyFaults(t, worldOptions{members: 1, daemons: 3}, []fault{
		{name: "all leases revoked at once", quick: true, apply: allRevoked, after: (*world).wantSameSubnets},
		{name: "own lease revoked", apply: func(w *world) func() {
			_, err := w.etcd.client.Revoke(w.rpc(), w.leaseID(0))
			w.must(err)
			return nil
		}, after: (*world).wantSameSubnets},
		{name: "own lease revoked while cut off", apply: func(w *world) func() {
			lift := filtered(dropSilently)(w)
			_, err := w.etcd.client.Revoke(w.rpc(), w.leaseID(0))
			w.must(err)
			return lift
		}, after: (*world).wantSameSubnets},
		{name: "own key deleted", apply: func(w *world) func() {
			w.delete(leaseKey(w.subnets[0]))
			return nil
		}, after: (*world).wantSameSubnets},
		{name: "own value garbled", apply: func(w *world) func() {
			w.put(leaseKey(w.subnets[0]), "not JSON", clientv3.WithIgnoreLease())
			return nil
		}, after: (*world).wantSameSubnets},
		{name: "own key overwritten by another owner", hurts: true, apply: overwritten, after: fenced},
		{name: "subnet given away while its host is cut off", hurts: true, apply: givenAwayWhileCutOff, after: fenced},
		{name: "peer gone for good", vanishes: true, apply: func(w *world) func() {
			w.put(leaseKey(freshSubnet), leaseValue("passing", anywhere(freshPort)))
			w.waitAgreement()
			w.delete(leaseKey(freshSubnet))
			return nil
		}},
	})
}

func allRevoked(w *world) func() {
	resp, err := w.etcd.client.Leases(w.rpc())
	w.must(err)
	if nodes := w.options.daemons + w.options.crowd; len(resp.Leases) < nodes {
		w.t.Fatalf("%d etcd leases, want one of each of %d nodes", len(resp.Leases), nodes)
	}
	for _, l := range resp.Leases {
		_, err := w.etcd.client.Revoke(w.rpc(), l.ID)
		w.must(err)
	}
	return nil
}

// overwritten gives the last host's subnet to another owner.
func overwritten(w *world) func() {
	w.giveAway(w.lastHost())
	w.wantFenced(w.lastHost())
	return nil
}

// givenAwayWhileCutOff is what a lease that expires unseen looks like: the last
// host goes on, as it cannot know, but its peers do, and want nothing of it.
func givenAwayWhileCutOff(w *world) func() {
	last := w.lastHost()
	etcd := w.etcd.members[0].host
	w.must(filterPackets(etcd, w.hosts[last:], dropSilently))
	_, err := w.etcd.client.Revoke(w.rpc(), w.leaseID(last))
	w.must(err)
	w.ended[last] = true // for its peers
	w.giveAway(last)
	wantFencedByPeers := w.tryFenced(last)
	return func() {
		wantFencedByPeers()
		w.must(removeFilter(etcd))
		w.wantFenced(last)
	}
}

// giveAway gives host i's subnet to another owner, and waits until the daemons that
// run know.
func (w *world) giveAway(i int) {
	w.t.Helper()
	w.put(leaseKey(w.subnets[i]), leaseValue("usurper", anywhere(freshPort)))
	if w.ended[i] {
		w.waitAgreement()
	}
}

// tryFenced sends to and from host i, whose subnet is another's, until the returned
// function is called: it wants that nothing has arrived.
func (w *world) tryFenced(i int) (want func()) {
	w.t.Helper()
	near, far := w.hosts[0].Pods[0], w.hosts[i].Pods[0]
	var both streams
	for _, ends := range [][2]*lab.Namespace{{near, far}, {far, near}} {
		s, err := lab.StartStream(w.ctx, ends[0], ends[1], lab.StreamOptions{Rate: streamRate})
		w.must(err)
		both = append(both, s)
	}
	return func() {
		for _, r := range both.stop() {
			if r.Sent == 0 || r.Received != 0 {
				w.t.Errorf("%d of %d packets passed between %s, whose subnet is another's, and %s", r.Received, r.Sent, w.hosts[i].Name, w.hosts[0].Name)
			}
		}
	}
}

// wantFenced waits for the end of host i's daemon, and wants it to say who won.
func (w *world) wantFenced(i int) {
	w.t.Helper()
	code, err := w.daemons[i].Wait(w.patient())
	w.must(err)
	const exitFenced = 3 // README.md
	if code != exitFenced || !w.said(i, "usurper") {
		w.t.Errorf("exit code %d, want %d and the winner's name; it said:\n%s", code, exitFenced, w.daemons[i].Log())
	}
	w.ended[i] = true
}

// fenced gives the subnet back to its former owner, which starts again.
func fenced(w *world) {
	last := w.lastHost()
	w.delete(leaseKey(w.subnets[last]))
	w.startDaemon(last)
	w.waitTruth()
	w.wantSameSubnets()
}

// leaseID is the etcd lease that host i's key hangs on.
func (w *world) leaseID(i int) clientv3.LeaseID {
	w.t.Helper()
	resp, err := w.etcd.client.Get(w.rpc(), leaseKey(w.subnets[i]))
	w.must(err)
	if len(resp.Kvs) != 1 || resp.Kvs[0].Lease == 0 {
		w.t.Fatalf("key %s of %s: %v, want one with a lease", leaseKey(w.subnets[i]), w.hosts[i].Name, resp.Kvs)
	}
	return clientv3.LeaseID(resp.Kvs[0].Lease)
}

// wantSameSubnets checks that every daemon has the subnet that its pods live in.
func (w *world) wantSameSubnets() {
	w.t.Helper()
	for i, h := range w.hosts {
		if own := forwards(w.ctx, h); own != w.subnets[i] {
			w.t.Errorf("%s forwards %s, want %s as before", h.Name, own, w.subnets[i])
		}
	}
}
