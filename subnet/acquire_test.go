package subnet

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
)

const wideConfig = `{"Network":"10.5.0.0/16"}`

func previous(subnet string) func(*Options) {
	return func(o *Options) { o.Previous = netip.MustParsePrefix(subnet) }
}

func TestFirstJoin(t *testing.T) {
	t.Parallel()
	n := newNetwork(t, wideConfig)
	h := n.dial(host(1))
	rpcs := countRPCs(t, h.registry)
	h.start()
	if got := rpcs.Load(); got > 3 {
		t.Errorf("joining took %d RPCs, want at most 3: read, grant, write", got)
	}
	l, ok := n.leases()[h.own.Name]
	if !ok || l.Value != host(1).value() || l.Reserved() || l.ModRevision != h.own.ModRevision || l.ID != h.own.ID {
		t.Fatalf("etcd has %+v, Acquire gave %+v", l, h.own)
	}
	ttl, err := h.registry.TimeToLive(n.rpc(), l)
	if err != nil || ttl < DefaultTTL-time.Minute || ttl > DefaultTTL {
		t.Errorf("time to live %v, %v; want %v", ttl, err, DefaultTTL)
	}
	if v := h.manager.View(); v.Own != h.own || len(v.Peers) != 0 || !v.Etcd.Serves {
		t.Errorf("view %+v, want our own lease alone", v)
	}
}

// rpcCounter counts requests on their way to the real etcd.
type rpcCounter struct {
	clientv3.KV
	clientv3.Lease
	atomic.Int32
	granted []clientv3.LeaseID // by the one goroutine that acquires
}

func countRPCs(t *testing.T, r *Registry) *rpcCounter {
	t.Helper()
	client := clientOf(t, r)
	c := &rpcCounter{KV: client.KV, Lease: client.Lease}
	client.KV, client.Lease = c, c
	newID := r.newLeaseID
	r.newLeaseID = func() clientv3.LeaseID {
		id := newID()
		c.Add(1)
		c.granted = append(c.granted, id)
		return id
	}
	return c
}

func (c *rpcCounter) Get(ctx context.Context, key string, opts ...clientv3.OpOption) (*clientv3.GetResponse, error) {
	c.Add(1)
	return c.KV.Get(ctx, key, opts...)
}

func (c *rpcCounter) Txn(ctx context.Context) clientv3.Txn {
	c.Add(1)
	return c.KV.Txn(ctx)
}

func (c *rpcCounter) Revoke(ctx context.Context, id clientv3.LeaseID) (*clientv3.LeaseRevokeResponse, error) {
	c.Add(1)
	return c.Lease.Revoke(ctx, id)
}

func TestRestartKeepsSubnet(t *testing.T) {
	t.Parallel()
	n := newNetwork(t, wideConfig)
	first := n.join(host(1))
	first.stop()
	moved := host(1)
	moved.PublicIP, moved.Port = netip.MustParseAddr("198.51.100.1"), 9000
	second := n.join(moved)
	if second.own.Name != first.own.Name || second.own.ID != first.own.ID {
		t.Fatalf("after a restart %s (etcd lease %x), before %s (%x)", second.own.Name, second.own.ID, first.own.Name, first.own.ID)
	}
	if l := n.leases()[first.own.Name]; l.Value != moved.value() {
		t.Errorf("value %+v, want that of the new address %+v", l.Value, moved.value())
	}
}

// Two restarts in a row write once: what is right stays untouched.
func TestRestartWithoutChangeWritesNothing(t *testing.T) {
	t.Parallel()
	n := newNetwork(t, wideConfig)
	first := n.join(host(1))
	first.stop()
	second := n.join(host(1))
	if second.own.ModRevision != first.own.ModRevision {
		t.Fatalf("revision %d became %d", first.own.ModRevision, second.own.ModRevision)
	}
}

func TestPreviousSubnetAfterEtcdLostEverything(t *testing.T) {
	t.Parallel()
	n := newNetwork(t, wideConfig)
	h := n.join(host(1), previous("10.5.77.0/24"))
	if h.own.Subnet != netip.MustParsePrefix("10.5.77.0/24") {
		t.Fatalf("got %s, want the previous subnet", h.own.Subnet)
	}
}

func TestTakesOverFlannelsLease(t *testing.T) {
	t.Parallel()
	n := newNetwork(t, wideConfig)
	id := n.put("10.5.42.0-24", flannelValue(host(1).PublicIP), time.Hour)
	h := n.join(host(1))
	l := n.leases()["10.5.42.0-24"]
	if h.own.Name != "10.5.42.0-24" || l.ID != id || l.Value != host(1).value() {
		t.Fatalf("holds %s; etcd has %+v, want our value under Flannel's etcd lease %x", h.own.Name, l, id)
	}
	if got := len(n.leases()); got != 1 {
		t.Errorf("%d leases, want 1", got)
	}
}

func TestReservation(t *testing.T) {
	for _, tt := range []struct {
		name, value string
		nodeID      string // in the value after it was taken
	}{
		{"by address", flannelValue(host(1).PublicIP), ""},
		{"by node id", `{"PublicIP":"192.0.2.200","BackendType":"udp","BackendData":{"Proto":1,"NodeID":"id-1"}}`, "id-1"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			n := newNetwork(t, tinyConfig)
			n.put("10.5.2.0-24", tt.value, 0)
			other := n.join(host(2), previous("10.5.2.0/24"))
			if other.own.Name == "10.5.2.0-24" {
				t.Fatal("the reservation went to another node")
			}
			h := n.join(host(1), previous("10.5.3.0/24"))
			want := host(1).value()
			want.NodeID = tt.nodeID
			l := n.leases()["10.5.2.0-24"]
			if h.own.Name != "10.5.2.0-24" || !l.Reserved() || l.Value != want {
				t.Fatalf("holds %s; etcd has %+v, want %+v without a TTL", h.own.Name, l, want)
			}
			h.stop()
			again := n.join(host(1))
			if l := n.leases()["10.5.2.0-24"]; again.own.Name != l.Name || !l.Reserved() {
				t.Fatalf("after a restart holds %s; etcd has %+v", again.own.Name, l)
			}
		})
	}
}

// Two hosts behind one NAT share an address: a reservation by address is the
// first one's alone.
func TestReservationByAddressBehindNAT(t *testing.T) {
	t.Parallel()
	n := newNetwork(t, tinyConfig)
	n.put("10.5.2.0-24", flannelValue(host(1).PublicIP), 0)
	first, second := host(1), host(2)
	second.PublicIP, second.Port = first.PublicIP, 9000
	a, b := n.join(first), n.join(second)
	if a.own.Name != "10.5.2.0-24" || b.own.Name == "10.5.2.0-24" {
		t.Fatalf("first holds %s, second %s; want the reservation for the first alone", a.own.Name, b.own.Name)
	}
	a.waitPeers(b.own.Subnet.String() + " 192.0.2.1:9000")
	b.waitPeers("10.5.2.0/24 192.0.2.1:8285")
}

// race lets hosts 1 to k acquire at once and sorts out who got what.
func race(t *testing.T, n *network, k int, adjust ...func(*Options)) (owners map[string]int, losers []error) {
	t.Helper()
	nodes := make([]*node, k)
	for i := range nodes {
		nodes[i] = n.dial(host(i+1), adjust...)
		_, err := nodes[i].manager.Configure(n.rpc(), nil) // so that all know the same
		n.must(err)
	}
	owners = map[string]int{}
	var mu sync.Mutex
	var all sync.WaitGroup
	begin := make(chan struct{})
	for i, h := range nodes {
		all.Go(func() {
			<-begin
			l, err := h.manager.Acquire(n.rpc())
			mu.Lock()
			defer mu.Unlock()
			if err != nil {
				losers = append(losers, err)
			} else if who, taken := owners[l.Name]; taken {
				t.Errorf("%s went to host %d and to host %d", l.Name, who, i+1)
			} else {
				owners[l.Name] = i + 1
			}
		})
	}
	close(begin)
	all.Wait()
	leases := n.leases()
	for name, i := range owners {
		if leases[name].NodeID != host(i).NodeID {
			t.Errorf("host %d believes to hold %s; etcd has %+v", i, name, leases[name])
		}
	}
	return owners, losers
}

func TestRaceForTheLastSubnets(t *testing.T) {
	for _, tt := range []struct{ hosts, taken int }{{2, 2}, {10, 0}, {10, 2}} {
		t.Run(fmt.Sprintf("%d hosts for %d", tt.hosts, 3-tt.taken), func(t *testing.T) {
			t.Parallel()
			n := newNetwork(t, tinyConfig)
			for i := range tt.taken {
				n.put(fmt.Sprintf("10.5.%d.0-24", i+1), valueOf(host(200+i)), time.Hour)
			}
			owners, losers := race(t, n, tt.hosts)
			if len(owners) != 3-tt.taken || len(losers) != tt.hosts-len(owners) {
				t.Fatalf("owners %v, %d losers", owners, len(losers))
			}
			for _, err := range losers {
				if !strings.Contains(err.Error(), "no free subnet: all 3 of 10.5.0.0/22") {
					t.Errorf("a loser says %q", err)
				}
			}
		})
	}
}

func TestRaceForTheSamePreviousSubnet(t *testing.T) {
	t.Parallel()
	n := newNetwork(t, wideConfig)
	owners, losers := race(t, n, 2, previous("10.5.77.0/24"))
	if len(owners) != 2 || len(losers) != 0 || owners["10.5.77.0-24"] == 0 {
		t.Fatalf("owners %v, losers %v; want one of two with 10.5.77.0-24", owners, losers)
	}
}

// Two hosts that Flannel's lease could belong to: one takes it over.
func TestRaceForFlannelsLease(t *testing.T) {
	t.Parallel()
	n := newNetwork(t, wideConfig)
	n.put("10.5.42.0-24", flannelValue(host(1).PublicIP), time.Hour)
	behindNAT := func(o *Options) { o.Identity.PublicIP = host(1).PublicIP }
	owners, losers := race(t, n, 2, behindNAT)
	if len(owners) != 2 || len(losers) != 0 || owners["10.5.42.0-24"] == 0 {
		t.Fatalf("owners %v, losers %v; want one of two with 10.5.42.0-24", owners, losers)
	}
}

func TestFormerLeaseThatDoesNotFitIsRemoved(t *testing.T) {
	t.Parallel()
	n := newNetwork(t, wideConfig)
	n.put("10.9.1.0-24", valueOf(host(1)), time.Hour)
	n.put("10.9.2.0-24", valueOf(host(1)), 0)
	n.put("10.9.3.0-24", valueOf(host(2)), time.Hour)
	h := n.join(host(1), previous("10.9.1.0/24"))
	leases := n.leases()
	if _, there := leases["10.9.1.0-24"]; there || len(leases) != 3 {
		t.Fatalf("etcd has %v, want %s, the reservation and the other host's", leases, h.own.Name)
	}
}

// A write whose answer is lost may have happened: the next look finds it.
func TestAcquireWithLostAnswers(t *testing.T) {
	t.Parallel()
	n := newNetwork(t, wideConfig)
	n.put("10.5.42.0-24", flannelValue(host(2).PublicIP), time.Hour)
	for i, want := range []int{2, 2} { // a created one and Flannel's; then one taken over
		h := n.dial(host(i + 1))
		loseAnswers(t, h.registry, 1)
		h.start()
		leases := n.leases()
		if l := leases[h.own.Name]; len(leases) != want || l.Value != host(i+1).value() || l.ModRevision != h.own.ModRevision || l.ID != h.own.ID {
			t.Fatalf("etcd has %+v, Acquire gave %+v", leases, h.own)
		}
		if w := h.log.lines("level=WARN"); len(w) != 1 {
			t.Errorf("warnings %q, want one", w)
		}
	}
}

// lossyKV carries transactions to the real etcd and loses the answers of the
// first few.
type lossyKV struct {
	clientv3.KV
	lose atomic.Int32
}

func loseAnswers(t *testing.T, r *Registry, n int32) *lossyKV {
	t.Helper()
	client := clientOf(t, r)
	kv := &lossyKV{KV: client.KV}
	kv.lose.Store(n)
	client.KV = kv
	return kv
}

func (kv *lossyKV) Txn(ctx context.Context) clientv3.Txn { return &lossyTxn{kv.KV.Txn(ctx), kv} }

type lossyTxn struct {
	clientv3.Txn
	kv *lossyKV
}

func (t *lossyTxn) If(cs ...clientv3.Cmp) clientv3.Txn { t.Txn = t.Txn.If(cs...); return t }
func (t *lossyTxn) Then(o ...clientv3.Op) clientv3.Txn { t.Txn = t.Txn.Then(o...); return t }
func (t *lossyTxn) Else(o ...clientv3.Op) clientv3.Txn { t.Txn = t.Txn.Else(o...); return t }
func (t *lossyTxn) Commit() (*clientv3.TxnResponse, error) {
	resp, err := t.Txn.Commit()
	if t.kv.lose.Add(-1) >= 0 {
		return nil, context.DeadlineExceeded
	}
	return resp, err
}

func TestAbandon(t *testing.T) {
	t.Parallel()
	n := newNetwork(t, wideConfig)
	h := n.dial(host(1))
	if _, err := h.acquire(); err != nil {
		t.Fatal(err)
	}
	n.must(h.manager.Abandon(n.rpc()))
	if leases := n.leases(); len(leases) != 0 {
		t.Fatalf("after Abandon etcd has %v", leases)
	}
	n.join(host(1)).stop()
	again := n.dial(host(1))
	if _, err := again.acquire(); err != nil {
		t.Fatal(err)
	}
	n.must(again.manager.Abandon(n.rpc()))
	if leases := n.leases(); len(leases) != 1 {
		t.Fatalf("Abandon gave back a lease that was there before: etcd has %v", leases)
	}
}

// An unknown outcome is given back too, whether the write was made or not.
func TestAbandonAfterLostAnswer(t *testing.T) {
	t.Parallel()
	n := newNetwork(t, wideConfig)
	h := n.dial(host(1))
	loseAnswers(t, h.registry, 1000)
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error)
	go func() {
		_, err := h.manager.Configure(ctx, nil)
		if err == nil {
			_, err = h.manager.Acquire(ctx)
		}
		ended <- err
	}()
	n.waitFor("the key", func(l map[string]Lease) bool { return len(l) == 1 })
	cancel()
	if err := <-ended; !errors.Is(err, context.Canceled) {
		t.Fatalf("Acquire: %v, want context.Canceled", err)
	}
	id := h.manager.granted[0]
	n.must(h.manager.Abandon(n.rpc()))
	if leases := n.leases(); len(leases) != 0 {
		t.Errorf("after Abandon etcd has %v", leases)
	}
	if resp, err := n.client.TimeToLive(n.rpc(), id); err != nil || resp.TTL != -1 {
		t.Errorf("etcd lease %x is still there: %v, %v", id, resp, err)
	}
}
