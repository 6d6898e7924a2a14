package subnet

import (
	"context"
	"errors"
	"net/netip"
	"testing"
	"time"

	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	clientv3 "go.etcd.io/etcd/client/v3"
)

// Only ErrLeaseNotFound means that a lease is lost, so it has to match.
func TestRenew(t *testing.T) {
	t.Parallel()
	n := newNetwork(t, wideConfig)
	r := n.dial(host(1)).registry
	id := n.put("10.5.1.0-24", valueOf(host(1)), time.Minute)
	if ttl, err := r.renew(n.rpc(), id); err != nil || ttl != time.Minute {
		t.Errorf("renewed for %v, %v; want a minute", ttl, err)
	}
	n.revoke(id)
	if ttl, err := r.renew(n.rpc(), id); !errors.Is(err, rpctypes.ErrLeaseNotFound) {
		t.Errorf("a revoked lease: %v, %v; want ErrLeaseNotFound", ttl, err)
	}
}

// An etcd lease without a key would wait for its TTL: a create that lost and a
// lease given back leave none.
func TestNoEtcdLeaseIsLeftBehind(t *testing.T) {
	t.Parallel()
	n := newNetwork(t, wideConfig)
	h := n.dial(host(1))
	calls := countRPCs(t, h.registry)
	n.put("10.5.1.0-24", valueOf(host(2)), time.Hour)
	key := Key{Subnet: netip.MustParsePrefix("10.5.1.0/24")}
	if _, won, err := h.registry.create(n.rpc(), key, host(1).value(), time.Hour); won || err != nil {
		t.Fatalf("create over another's lease: won %v, %v", won, err)
	}
	h.start()
	h.stop()
	again := n.dial(host(1))
	if released, _, err := again.registry.Release(n.rpc(), host(1).NodeID); err != nil || len(released) != 1 {
		t.Fatalf("released %v, %v", released, err)
	}
	if len(calls.granted) != 2 {
		t.Fatalf("%d etcd leases were granted, want 2", len(calls.granted))
	}
	for _, id := range calls.granted {
		if resp, err := n.client.TimeToLive(n.rpc(), id); err != nil || resp.TTL != -1 {
			t.Errorf("etcd lease %x: %+v, %v; want it gone", id, resp, err)
		}
	}
}

func TestTimeToLive(t *testing.T) {
	t.Parallel()
	n := newNetwork(t, wideConfig)
	r := n.dial(host(1)).registry
	n.put("10.5.1.0-24", valueOf(host(1)), time.Hour)
	n.put("10.5.2.0-24", valueOf(host(2)), 0)
	expired := n.leases()["10.5.1.0-24"]
	expired.ID++
	for _, tt := range []struct {
		lease Lease
		least time.Duration
		most  time.Duration
	}{
		{n.leases()["10.5.1.0-24"], 59 * time.Minute, time.Hour},
		{n.leases()["10.5.2.0-24"], 0, 0},
		{expired, 0, 0},
	} {
		if got, err := r.TimeToLive(n.rpc(), tt.lease); err != nil || got < tt.least || got > tt.most {
			t.Errorf("%s (%x): %v, %v; want %v to %v", tt.lease.Name, tt.lease.ID, got, err, tt.least, tt.most)
		}
	}
}

// A grant whose answer is lost leaves an etcd lease: we know its id.
func TestLostAnswerToAGrant(t *testing.T) {
	t.Parallel()
	n := newNetwork(t, wideConfig)
	h, wire := n.dialThroughRelay(host(1))
	_, err := h.registry.snapshot(n.rpc()) // connects
	n.must(err)
	wire.hush(true)
	key := Key{Subnet: usual(host(1))}
	l, won, err := h.registry.create(n.rpc(), key, host(1).value(), time.Hour)
	wire.hush(false)
	if won || err == nil || l.ID == 0 {
		t.Fatalf("create without an answer: %x, %t, %v; want an error and the etcd lease", l.ID, won, err)
	}
	if resp, err := n.client.TimeToLive(n.rpc(), l.ID); err != nil || resp.TTL <= 0 {
		t.Errorf("etcd lease %x: %+v, %v; want it there", l.ID, resp, err)
	}
	client := clientOf(t, h.registry)
	if err := grant(n.rpc(), client, l.ID, time.Hour); err != nil {
		t.Errorf("the same id once more: %v", err)
	}

	m := h.manager
	m.granted = []clientv3.LeaseID{l.ID, randomLeaseID(), 7}
	ended, cancel := context.WithCancel(t.Context())
	cancel()
	tries := &revokes{Lease: client.Lease}
	client.Lease = tries
	m.revokeLost(ended, Lease{ID: 7})
	if tries.made != 1 {
		t.Errorf("an etcd that does not answer was asked %d times, want once", tries.made)
	}
	if len(m.granted) != 3 {
		t.Errorf("etcd leases %x are known after it did not answer, want all", m.granted)
	}
	m.revokeLost(n.rpc(), Lease{ID: 7})
	if resp, err := n.client.TimeToLive(n.rpc(), l.ID); err != nil || resp.TTL != -1 || len(m.granted) != 1 {
		t.Errorf("etcd lease %x: %+v, %v; want it gone, and %x to be ours alone", l.ID, resp, err, m.granted)
	}
}

// revokes counts them.
type revokes struct {
	clientv3.Lease
	made int
}

func (r *revokes) Revoke(ctx context.Context, id clientv3.LeaseID) (*clientv3.LeaseRevokeResponse, error) {
	r.made++
	return r.Lease.Revoke(ctx, id)
}

// An etcd lease that could not be dropped at once is dropped later.
func TestUnusedLeaseIsRemembered(t *testing.T) {
	t.Parallel()
	n := newNetwork(t, wideConfig)
	h := n.dial(host(1))
	n.put("10.5.1.0-24", valueOf(host(2)), time.Hour)
	client := clientOf(t, h.registry)
	lease := client.Lease
	client.Lease = &silentRevokes{lease}
	l, won, err := h.registry.create(n.rpc(), Key{Subnet: netip.MustParsePrefix("10.5.1.0/24")}, host(1).value(), time.Hour)
	if won || err != nil || l.ID == 0 {
		t.Fatalf("create over another's lease: %x, %t, %v; want its etcd lease and nil", l.ID, won, err)
	}
	client.Lease = lease
	h.manager.granted = []clientv3.LeaseID{l.ID}
	h.start()
	if resp, err := n.client.TimeToLive(n.rpc(), l.ID); err != nil || resp.TTL != -1 {
		t.Errorf("etcd lease %x is still there: %+v, %v", l.ID, resp, err)
	}
}

type silentRevokes struct{ clientv3.Lease }

func (*silentRevokes) Revoke(context.Context, clientv3.LeaseID) (*clientv3.LeaseRevokeResponse, error) {
	return nil, context.DeadlineExceeded
}
