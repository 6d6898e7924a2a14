package faults

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"maps"
	"net/netip"
	"sync"
	"testing"

	"golang.org/x/sync/errgroup"

	"twill/subnet"
)

// crowdSize is how many nodes there are in this process: nearly as many as the
// network has subnets.
const crowdSize = 80

// What happens to many nodes at once. They have no pods: instead of packets the
// tables are counted that they publish, and as lost those that lack a live peer.
func TestCrowd(t *testing.T) {
	t.Parallel()
	applyFaults(t, worldOptions{members: 1, crowd: crowdSize}, []fault{
		{name: "80 nodes: etcd killed (kill -9)", apply: func(w *world) func() {
			w.etcd.members[0].kill()
			return func() { w.must(w.etcd.start(w.patient())) }
		}},
		{name: "80 nodes: data directory wiped", apply: wiped},
		{name: "80 nodes: all leases revoked at once", apply: allRevoked},
		{name: "80 nodes: all keys deleted at once", apply: func(w *world) func() {
			w.deleteAll(prefix + "/subnets/")
			return nil
		}},
	})
}

// crowd are nodes without a data path. It sees every table that any of them
// publishes, at the moment when it does.
type crowd struct {
	stop  context.CancelFunc
	nodes errgroup.Group

	mu      sync.Mutex
	views   []subnet.View           // the latest, by node
	owners  map[netip.Prefix]int    // by what the nodes say of themselves
	fouls   map[netip.Prefix]string // as of referee
	tables  int                     // published
	lacking int                     // of these, without some live peer
	grown   bool                    // every node knows all others: none may go from now on
}

// startCrowd starts n nodes and waits until each knows all others.
func (w *world) startCrowd(n int) {
	w.t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	w.crowd = &crowd{stop: cancel, views: make([]subnet.View, n), owners: map[netip.Prefix]int{}, fouls: map[netip.Prefix]string{}}
	w.t.Cleanup(func() {
		cancel()
		w.crowd.nodes.Wait()
	})
	var joined errgroup.Group
	for i := range n {
		joined.Go(func() error { return w.join(ctx, i) })
	}
	w.must(joined.Wait())
	w.waitTruth()
	w.crowd.mu.Lock()
	w.crowd.grown = true
	w.crowd.mu.Unlock()
}

// join starts node i once it has its lease.
func (w *world) join(ctx context.Context, i int) error {
	log := slog.New(slog.NewTextHandler(io.Discard, nil))
	registry, err := subnet.Dial(ctx, subnet.EtcdConfig{Endpoints: w.etcd.urls(), Prefix: prefix}, log)
	if err != nil {
		return err
	}
	m := subnet.NewManager(registry, subnet.Options{
		Identity: subnet.Identity{
			NodeID:   fmt.Sprintf("id-%d", i),
			Node:     fmt.Sprintf("node%d", i),
			PublicIP: netip.AddrFrom4([4]byte{198, 51, 100, byte(i)}), // RFC 5737 TEST-NET-2
			Port:     8285,
		},
		Grace:   grace,
		Log:     log,
		Publish: func(v subnet.View) { w.crowd.published(i, v) },
	})
	if _, err := m.Configure(ctx, nil); err != nil {
		return err
	}
	if _, err := m.Acquire(ctx); err != nil {
		return err
	}
	w.crowd.published(i, m.View())
	w.crowd.nodes.Go(func() error {
		defer registry.Close()
		err := m.Run(ctx)
		w.crowd.left(i)
		return err
	})
	return nil
}

// published takes node i's new table.
func (c *crowd) published(i int, v subnet.View) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if other, held := c.owners[v.Own.Subnet]; held && other != i {
		c.fouls[v.Own.Subnet] = fmt.Sprintf("node%d and node%d", other, i)
	}
	if before := c.views[i].Own.Subnet; before != v.Own.Subnet {
		delete(c.owners, before)
	}
	c.owners[v.Own.Subnet] = i
	c.views[i] = v
	c.tables++
	if c.grown && !c.complete(i, v) {
		c.lacking++
	}
}

// left takes back what node i forwarded.
func (c *crowd) left(i int) {
	c.mu.Lock()
	defer c.mu.Unlock()
	delete(c.owners, c.views[i].Own.Subnet)
}

// complete reports whether a table has every other node, also one whose lease has
// vanished for the moment.
func (c *crowd) complete(i int, v subnet.View) bool {
	endpoints := make(map[netip.Prefix]netip.AddrPort, len(v.Peers))
	for _, p := range v.Peers {
		endpoints[p.Subnet] = p.Endpoint
	}
	for j, other := range c.views {
		if j != i && endpoints[other.Own.Subnet] != netip.AddrPortFrom(other.Own.PublicIP, other.Own.Port) {
			return false
		}
	}
	return true
}

// agrees compares every node's table with the truth, as agrees does a daemon's.
func (c *crowd) agrees(truth map[netip.Prefix]owner) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	for i, v := range c.views {
		peers := map[netip.Prefix]owner{v.Own.Subnet: {netip.AddrPortFrom(v.Own.PublicIP, v.Own.Port), v.Own.Node}}
		for _, p := range v.Peers {
			if !p.Vanished.IsZero() {
				return fmt.Errorf("node%d: the lease %s has vanished", i, p.Name)
			}
			peers[p.Subnet] = owner{p.Endpoint, p.Node}
		}
		if !maps.Equal(peers, truth) || !v.Etcd.Serves {
			return fmt.Errorf("node%d has %d of %d leases; etcd serves: %t", i, len(peers), len(truth), v.Etcd.Serves)
		}
	}
	return nil
}

// count adds to r what was seen since the last count.
func (c *crowd) count(r *result) {
	c.mu.Lock()
	defer c.mu.Unlock()
	r.sent += c.tables
	r.lost += c.lacking
	r.rounds += c.tables
	maps.Copy(r.fouls, c.fouls)
	c.tables, c.lacking, c.fouls = 0, 0, map[netip.Prefix]string{}
}
