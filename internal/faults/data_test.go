package faults

import (
	"path/filepath"
	"testing"

	"go.etcd.io/etcd/api/v3/etcdserverpb"
	clientv3 "go.etcd.io/etcd/client/v3"
)

// What happens to etcd's data.
func TestData(t *testing.T) {
	t.Parallel()
	applyFaults(t, worldOptions{members: 1, daemons: 3}, []fault{
		{name: "compaction past the watch", apply: compactedWhileCutOff},
		{name: "data directory wiped", quick: true, apply: wiped},
		{name: "restored from an older backup", vanishes: true, apply: restored},
		{name: "no space (NOSPACE alarm)", apply: func(w *world) func() {
			w.alarm(etcdserverpb.AlarmRequest_ACTIVATE)
			if _, err := w.etcd.client.Put(w.rpc(), prefix+"/x", "x"); err == nil {
				w.t.Fatal("etcd with a NOSPACE alarm takes a write")
			}
			return func() { w.alarm(etcdserverpb.AlarmRequest_DEACTIVATE) }
		}},
	})
}

// compactedWhileCutOff breaks every connection, changes leases and compacts the
// changes away: the daemons' watches cannot go on from where they were.
func compactedWhileCutOff(w *world) func() {
	lift := filtered(refuse)(w)
	for range 10 {
		w.mark()
	}
	resp, err := w.etcd.client.Get(w.rpc(), prefix+"/config")
	w.must(err)
	_, err = w.etcd.client.Compact(w.rpc(), resp.Header.Revision)
	w.must(err)
	return lift
}

func wiped(w *world) func() {
	m := w.etcd.members[0]
	m.kill()
	w.must(m.wipe())
	return func() {
		w.must(w.etcd.start(w.patient()))
		w.putConfig()
	}
}

// restored puts back what etcd had many revisions ago, when the last daemon had
// another marker and one lease was not there yet.
func restored(w *world) func() {
	m := w.etcd.members[0]
	backup := filepath.Join(m.host.Dir(), "backup")
	w.must(m.backup(backup))
	const since = 50
	for range since {
		w.mark()
	}
	later := leaseKey(freshSubnet)
	w.put(later, leaseValue("later", anywhere(freshPort)))
	w.waitAgreement()
	m.kill()
	w.must(m.restore(backup))
	return func() {
		w.must(w.etcd.start(w.patient()))
		resp, err := w.etcd.client.Get(w.rpc(), later)
		w.must(err)
		if resp.Count != 0 {
			w.t.Errorf("the restored etcd holds %s, which is younger than the backup", later)
		}
	}
}

// alarm raises or clears etcd's alarm of a database that is full.
func (w *world) alarm(action etcdserverpb.AlarmRequest_AlarmAction) {
	w.t.Helper()
	_, err := etcdserverpb.NewMaintenanceClient(w.etcd.client.ActiveConnection()).Alarm(w.rpc(), &etcdserverpb.AlarmRequest{
		Action:   action,
		MemberID: w.memberID(),
		Alarm:    etcdserverpb.AlarmType_NOSPACE,
	})
	w.must(err)
}

func (w *world) memberID() uint64 {
	w.t.Helper()
	resp, err := w.etcd.client.Status(w.rpc(), w.etcd.urls()[0])
	w.must(err)
	return resp.Header.MemberId
}

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
	last := len(w.hosts) - 1
	w.put(leaseKey(w.subnets[last]), leaseValue("usurper", anywhere(freshPort)))
	code, err := w.daemons[last].Wait(w.patient())
	w.must(err)
	const exitFenced = 3 // README.md
	if code != exitFenced || !w.said(last, "usurper") {
		w.t.Errorf("exit code %d, want %d and the winner's name; it said:\n%s", code, exitFenced, w.daemons[last].Log())
	}
	w.ended[last] = true
	return nil
}

// fenced gives the subnet back to its former owner, which starts again.
func fenced(w *world) {
	last := len(w.hosts) - 1
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
