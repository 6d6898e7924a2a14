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

	member, err := n.client.MemberList(n.rpc())
	n.must(err)
	_, err = etcdserverpb.NewMaintenanceClient(n.client.ActiveConnection()).Alarm(n.rpc(), &etcdserverpb.AlarmRequest{
		Action: etcdserverpb.AlarmRequest_ACTIVATE, MemberID: member.Members[0].ID, Alarm: etcdserverpb.AlarmType_NOSPACE,
	})
	n.must(err)
	h.manager.MoveTo(host(21).PublicIP)
	h.waitFor("the reason", func(v View) bool { return v.Etcd.Refuses && strings.Contains(v.Etcd.Err, "alarm disarm") })
	n.delete("10.5.2.0-24") // etcd allows it, to make room
	h.waitPeers("10.5.2.0/24 192.0.2.2:8285 gone")
	for end := time.Now().Add(2 * ttl); time.Now().Before(end); time.Sleep(50 * time.Millisecond) {
		if l := n.leases()[h.own.Name]; l != h.own {
			t.Fatalf("our lease %+v became %+v", h.own, l)
		}
	}

	_, err = n.client.AlarmDisarm(n.rpc(), &clientv3.AlarmMember{})
	n.must(err)
	h.waitOwn("the new address", at(host(21).PublicIP))
	h.waitFor("etcd back", etcdThere)
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
