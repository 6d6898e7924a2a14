package subnet

import (
	"strings"
	"testing"
	"time"

	"go.etcd.io/etcd/api/v3/etcdserverpb"
	clientv3 "go.etcd.io/etcd/client/v3"
)

// An etcd without space keeps leases alive and takes no writes: the lease stays,
// the table follows, a write that is due waits.
func TestNoSpace(t *testing.T) {
	t.Parallel()
	s := newStore(t)
	n := s.network(t, wideConfig)
	const ttl = 2 * time.Second
	n.put("10.5.2.0-24", valueOf(host(2)), 0)
	h := n.join(host(1), func(o *Options) { o.TTL = ttl })
	h.waitPeers("10.5.2.0/24 192.0.2.2:8285")

	n.raiseNoSpace()
	h.manager.MoveTo(host(21).PublicIP)
	h.waitFor("the reason", func(v View) bool { return v.Etcd.Refuses && strings.Contains(v.Etcd.Err, "alarm disarm") })
	n.delete("10.5.2.0-24") // etcd allows it, to make room
	h.waitPeers("10.5.2.0/24 192.0.2.2:8285 gone")
	for end := time.Now().Add(2 * ttl); time.Now().Before(end); time.Sleep(50 * time.Millisecond) {
		if l := n.leases()[h.own.Name]; l != h.own {
			t.Fatalf("our lease %+v became %+v", h.own, l)
		}
	}

	_, err := n.client.AlarmDisarm(n.rpc(), &clientv3.AlarmMember{})
	n.must(err)
	h.waitOwn("the new address", at(host(21).PublicIP))
	h.waitFor("etcd back", etcdThere)
}

// raiseNoSpace makes all of etcd refuse what needs space.
func (n *network) raiseNoSpace() {
	n.t.Helper()
	member, err := n.client.MemberList(n.rpc())
	n.must(err)
	_, err = etcdserverpb.NewMaintenanceClient(n.client.ActiveConnection()).Alarm(n.rpc(), &etcdserverpb.AlarmRequest{
		Action: etcdserverpb.AlarmRequest_ACTIVATE, MemberID: member.Members[0].ID, Alarm: etcdserverpb.AlarmType_NOSPACE,
	})
	n.must(err)
}

// A host that cannot write its lease reads all leases once and goes on by the
// watch: a fleet that read them again and again would be etcd's end.
func TestResyncWithoutSpace(t *testing.T) {
	t.Parallel()
	n := newStore(t).network(t, wideConfig)
	h := n.dial(host(1))
	_, err := h.acquire()
	n.must(err)
	n.raiseNoSpace()
	n.delete(h.manager.own.Name)
	for range 3 {
		if err := h.manager.resync(n.rpc()); err != nil {
			t.Fatalf("resync: %v, want nil though the lease cannot be written", err)
		}
	}
	if e := h.manager.View().Etcd; e.Serves || !e.Refuses {
		t.Errorf("etcd %+v, want one that refuses", e)
	}
	if wrote := h.manager.wrote; len(wrote) != 1 {
		t.Errorf("%d values are kept of the same one that could not be written", len(wrote))
	}
	_, err = n.client.AlarmDisarm(n.rpc(), &clientv3.AlarmMember{})
	n.must(err)
	h.run()
	h.waitFor("etcd back", etcdThere)
	if l := n.leases()[h.manager.own.Name]; l.Value != host(1).value() {
		t.Errorf("our lease is %+v", l)
	}
}

// Of three endpoints one answers: the others cost some time at most.
func TestEndpointsDown(t *testing.T) {
	t.Parallel()
	n := newNetwork(t, wideConfig)
	silent := newRelay(t, n.store.listen.String())
	silent.hush(true)
	refusing := newRelay(t, n.store.listen.String())
	refusing.cut()
	c := n.etcd()
	c.Endpoints = append([]string{refusing.url(), silent.url()}, c.Endpoints...)
	h := n.dialAt(c, host(1)).start()
	n.put("10.5.2.0-24", valueOf(host(2)), 0)
	h.waitPeers("10.5.2.0/24 192.0.2.2:8285")
}
