package subnet

import (
	"testing"
	"time"
)

func TestRelease(t *testing.T) {
	t.Parallel()
	n := newNetwork(t, wideConfig)
	n.put("10.5.1.0-24", valueOf(host(1)), time.Hour)
	n.put("10.5.2.0-24", valueOf(host(1)), 0)
	n.put("10.5.3.0-24", valueOf(host(2)), time.Hour)
	n.put("10.5.4.0-24", flannelValue(host(1).PublicIP), time.Hour)
	n.put("10.5.5.0-24", "{", time.Hour)
	r := n.dial(host(1)).registry

	if _, _, err := r.Release(n.rpc(), ""); err == nil || len(n.leases()) != 5 {
		t.Fatalf("without a node id: %v, etcd has %v", err, n.leases())
	}
	released, kept, err := r.Release(n.rpc(), "id-1")
	if err != nil || len(released) != 1 || released[0] != "10.5.1.0-24" || len(kept) != 1 || kept[0] != "10.5.2.0-24" {
		t.Fatalf("released %v, kept %v, %v", released, kept, err)
	}
	if l := n.leases(); len(l) != 4 || l["10.5.1.0-24"].Name != "" {
		t.Errorf("etcd has %v", l)
	}
	if released, _, err := r.Release(n.rpc(), "id-1"); err != nil || len(released) != 0 {
		t.Errorf("a second time: %v, %v; want nothing to do", released, err)
	}
}
