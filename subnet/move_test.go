package subnet

import (
	"net/netip"
	"testing"
	"time"
)

func at(ip netip.Addr) func(Lease) bool { return func(l Lease) bool { return l.PublicIP == ip } }

// The host's address changes: the lease follows by a compare, with and without
// etcd at that moment, and the peers see it.
func TestMoveTo(t *testing.T) {
	t.Parallel()
	n := newNetwork(t, wideConfig)
	wire := newRelay(t, n.store.listen.String())
	h := n.dialAt(EtcdConfig{Endpoints: []string{wire.url()}, Prefix: n.prefix}, host(1)).start()
	peer := n.join(host(2))
	second, third, fourth := host(21).PublicIP, host(31).PublicIP, host(41).PublicIP

	h.manager.MoveTo(second)
	l := h.waitOwn("the new address", at(second))
	if l.ID != h.own.ID || l.CreateRevision != h.own.CreateRevision || l.NodeID != h.own.NodeID {
		t.Errorf("lease %+v became %+v, want another address alone", h.own, l)
	}
	peer.waitPeers(h.own.Subnet.String() + " 192.0.2.21:8285")

	wire.cut()
	h.waitFor("etcd away", etcdAway)
	h.manager.MoveTo(third)
	h.manager.MoveTo(fourth)
	wire.mend()
	h.waitOwn("the newest address", at(fourth))
	peer.waitPeers(h.own.Subnet.String() + " 192.0.2.41:8285")

	h.manager.MoveTo(h.own.Subnet.Addr())
	h.logged("where peers cannot reach it", 1)
	h.waitOwn("the address before", at(fourth))
}

// The answer to a write is lost, and the host moves once more: what it finds is
// its own.
func TestMoveAfterLostAnswer(t *testing.T) {
	t.Parallel()
	n := newNetwork(t, wideConfig)
	h := n.dial(host(1))
	if _, err := h.acquire(); err != nil {
		t.Fatal(err)
	}
	loseAnswers(t, h.registry, 1)
	m := h.manager
	m.move(host(21).PublicIP)
	if err := m.check(t.Context()); err != nil || m.etcd.Serves {
		t.Fatalf("check: %v, etcd %+v; want a lost answer", err, m.etcd)
	}
	m.move(host(31).PublicIP)
	n.must(m.check(t.Context()))
	if l := n.leases()[m.own.Name]; l.PublicIP != host(31).PublicIP || l != m.own {
		t.Errorf("etcd has %+v, we %+v", l, m.own)
	}
}

// A host that has just moved is asked for its lease, or finds an older address of its
// own there after a restore: nobody has taken the lease from it.
func TestMoveIsNotATwin(t *testing.T) {
	for name, change := range map[string]func(n *network, m *Manager){
		"asked": func(n *network, m *Manager) {
			question := m.own.Value
			question.Asks = true
			_, won, err := m.registry.update(n.rpc(), m.own, question)
			if n.must(err); !won {
				n.t.Fatal("could not ask")
			}
		},
		"restored": func(n *network, m *Manager) {
			n.put(m.own.Name, valueOf(Identity{NodeID: "id-1", Node: "host-1", PublicIP: host(11).PublicIP, Port: 8285}), time.Hour)
			m.own.ModRevision = 1 << 40 // of the etcd that was
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			n := newNetwork(t, wideConfig)
			h := n.dial(host(1))
			_, err := h.acquire()
			n.must(err)
			m := h.manager
			change(n, m)
			m.move(host(21).PublicIP)
			n.must(m.check(n.rpc()))
			if l := n.leases()[m.own.Name]; l.PublicIP != host(21).PublicIP || l != m.own {
				t.Errorf("etcd has %+v, we %+v", l, m.own)
			}
		})
	}
}

// Three hosts behind one NAT address, each with its port: none takes another's
// lease, nor one of Flannel's that may be any of them.
func TestHostsBehindOneAddress(t *testing.T) {
	t.Parallel()
	n := newNetwork(t, wideConfig)
	behind := func(i int, port uint16) Identity {
		id := host(i)
		id.PublicIP, id.Port, id.SharedIP = host(9).PublicIP, port, true
		return id
	}
	n.put("10.5.9.0-24", flannelValue(host(9).PublicIP), time.Hour)
	n.put("10.5.8.0-24", `{"PublicIP":"192.0.2.9","BackendType":"udp","BackendData":{"Proto":1,"Port":9003}}`, 0)
	one := n.join(behind(1, 9001), previous("10.5.101.0/24"))
	two := n.join(behind(2, 9002), previous("10.5.102.0/24"))
	three := n.join(behind(3, 9003))
	one.waitPeers("10.5.8.0/24 192.0.2.9:9003", "10.5.9.0/24 192.0.2.9:8285", "10.5.102.0/24 192.0.2.9:9002")
	two.waitPeers("10.5.8.0/24 192.0.2.9:9003", "10.5.9.0/24 192.0.2.9:8285", "10.5.101.0/24 192.0.2.9:9001")
	if three.own.Name != "10.5.8.0-24" || !three.own.Reserved() {
		t.Errorf("the third holds %s, want the reservation by address and port", three.own.Name)
	}
	// A host that has the address to itself, or so it thinks, takes Flannel's.
	if l := n.join(Identity{NodeID: "id-9", Node: "host-9", PublicIP: host(9).PublicIP, Port: 8285}); l.own.Name != "10.5.9.0-24" {
		t.Errorf("holds %s, want Flannel's", l.own.Name)
	}
}
