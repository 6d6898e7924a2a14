package subnet

import (
	"context"
	"errors"
	"net/netip"
	"strings"
	"testing"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
)

// twins are hosts of one identity each: a copied disk, and a wrong public IP.
var twins = map[string]struct {
	change func(*Identity)
	says   []string // to the twin
	fenced string   // is said to the first
}{
	"at another address":                 {func(id *Identity) { id.PublicIP = netip.MustParseAddr("192.0.2.77") }, []string{"same node id", "192.0.2.1:8285", "remove the file node-id"}, "remove the file node-id"},
	"at another port":                    {func(id *Identity) { id.Port = 9000 }, []string{"same node id", "192.0.2.1:8285"}, "192.0.2.1:9000, which has the same node id"},
	"on another host behind one NAT":     {func(id *Identity) { id.Node = "clone" }, []string{"same node id", `node "host-1"`}, "same node id"},
	"with the endpoint of a reservation": {func(id *Identity) { id.NodeID, id.Node = "id-2", "clone" }, []string{"public IP and port of this host", "192.0.2.1:8285"}, "same endpoint 192.0.2.1:8285"},
}

// A second host with the identity of one that runs takes nothing from it, however
// often it is started; once the first has ended, it starts.
func TestTwinOfARunningHostDoesNotStart(t *testing.T) {
	for name, tt := range twins {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			n := newNetwork(t, wideConfig)
			n.put("10.5.2.0-24", flannelValue(host(1).PublicIP), reservedIf(strings.Contains(name, "reservation")))
			first := n.join(host(1))
			twin := host(1)
			tt.change(&twin)
			for range 2 {
				_, err := n.dial(twin).acquire()
				if !errors.Is(err, ErrTwin) || !errors.Is(err, ErrFenced) {
					t.Fatalf("the twin's start: %v, want ErrTwin", err)
				}
				for _, s := range append(tt.says, first.own.Subnet.String()) {
					if !strings.Contains(err.Error(), s) {
						t.Errorf("error %q does not say %q", err, s)
					}
				}
			}
			first.waitOwn("answers", func(l Lease) bool { return l.ModRevision >= first.own.ModRevision+4 })
			first.logged("another host asked for our lease", 2)
			if l := n.leases()[first.own.Name]; l.Value != first.own.Value || l.ID != first.own.ID {
				t.Errorf("etcd has %+v, the first host took %+v", l, first.own)
			}
			first.stop()
			if second := n.join(twin); second.own.Name != first.own.Name {
				t.Errorf("alone the twin got %s, want %s", second.own.Name, first.own.Name)
			}
		})
	}
}

// reservedIf is the TTL of a lease.
func reservedIf(reserved bool) time.Duration {
	if reserved {
		return 0
	}
	return time.Hour
}

// Nor while that host has no watch, as in its wait before it reads all leases again.
func TestTwinOfAHostThatWaits(t *testing.T) {
	t.Parallel()
	n := newNetwork(t, wideConfig)
	first := n.dial(host(1), watchOnly)
	own, err := first.acquire()
	n.must(err)
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error)
	go func() { ended <- first.manager.idle(ctx, time.Hour) }()
	twin := host(1)
	twin.PublicIP = host(77).PublicIP
	if _, err := n.dial(twin).acquire(); !errors.Is(err, ErrTwin) {
		t.Errorf("the twin's start: %v, want ErrTwin", err)
	}
	cancel()
	if err := <-ended; err != context.Canceled {
		t.Errorf("idle ended with %v, want context.Canceled", err)
	}
	if l := n.leases()[own.Name]; l.Value != own.Value {
		t.Errorf("etcd has %+v, the first host took %+v", l, own)
	}
}

// A twin that starts while the first host is cut off from etcd gets the lease. The
// first one ends once it sees that, and does not take the lease back.
func TestTwinThatWonIsLeftAlone(t *testing.T) {
	for name, tt := range twins {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			n := newNetwork(t, wideConfig)
			n.put("10.5.2.0-24", flannelValue(host(1).PublicIP), reservedIf(strings.Contains(name, "reservation")))
			wire := newRelay(t, n.store.listen.String())
			c := n.etcd()
			c.Endpoints = []string{wire.url()}
			first := n.dialAt(c, host(1)).start()
			twin := host(1)
			tt.change(&twin)
			wire.cut()
			second := n.join(twin)
			wire.mend()
			first.fenced("taken by node", tt.fenced, twin.Node)

			_, err := n.dial(host(1)).acquire()
			if !errors.Is(err, ErrTwin) || !strings.Contains(err.Error(), endpoint(second.own, Config{}).String()) {
				t.Fatalf("the first host's next start: %v, want ErrTwin and the twin's endpoint", err)
			}
			if l := n.leases()[second.own.Name]; second.own.Name != first.own.Name || l.Value != second.own.Value {
				t.Errorf("etcd has %+v, want the twin's lease", l)
			}
		})
	}
}

// The same after a start from the cache, which asked nobody.
func TestCachedLeaseOfATwin(t *testing.T) {
	t.Parallel()
	n := newNetwork(t, wideConfig)
	dir := t.TempDir()
	first := n.join(host(1), n.withCache(dir, &logBuffer{}))
	n.waitCached(dir, host(1), func(Cached) bool { return true })
	first.stop()
	twin := host(1)
	twin.PublicIP = netip.MustParseAddr("192.0.2.77")
	n.join(twin)
	n.restore(dir, host(1)).fenced("same node id", "192.0.2.77:8285")
}

// Of many copies that start at once none takes the lease, each gets its answer.
func TestManyTwinsAtOnce(t *testing.T) {
	t.Parallel()
	n := newNetwork(t, wideConfig)
	first := n.join(host(1))
	const twins = 20
	ended := n.startTwins(twins)
	for range twins {
		if err := <-ended; !errors.Is(err, ErrTwin) {
			t.Errorf("a twin's start: %v, want ErrTwin", err)
		}
	}
	first.stop() // it was not fenced
	if l := n.leases()[first.own.Name]; l.Value != first.own.Value {
		t.Errorf("etcd has %+v, the first host took %+v", l, first.own)
	}
}

// startTwins starts so many copies of the first host, each at an address of its own.
// What comes of each start is sent.
func (n *network) startTwins(count int) (ended <-chan error) {
	n.t.Helper()
	errs := make(chan error, count)
	for i := range count {
		twin := host(1)
		twin.PublicIP = host(50 + i).PublicIP
		h := n.dial(twin)
		go func() {
			_, err := h.acquire()
			errs <- err
		}()
	}
	return errs
}

// moved is a host that has stopped and not yet started again, at another address.
func (n *network) moved() *node {
	n.t.Helper()
	n.join(host(1)).stop()
	id := host(1)
	id.PublicIP = host(21).PublicIP
	return n.dial(id)
}

// Another start's question is not the answer to our own, nor is one left behind by a
// start that was killed.
func TestQuestionIsNoAnswer(t *testing.T) {
	t.Parallel()
	n := newNetwork(t, wideConfig)
	h := n.moved()
	acquired := make(chan error)
	go func() {
		_, err := h.acquire()
		acquired <- err
	}()
	name := ""
	n.waitFor("a question", func(leases map[string]Lease) bool {
		for name = range leases {
			return leases[name].Asks
		}
		return false
	})
	other := n.leases()[name]
	_, err := n.client.Put(n.rpc(), n.key(name), string(other.Marshal()), clientv3.WithIgnoreLease())
	n.must(err)
	if err := <-acquired; err != nil {
		t.Fatal(err)
	}
	if l := n.leases()[name]; l.Value != h.manager.opt.Identity.value() {
		t.Errorf("etcd has %+v, want our own value without a question", l)
	}
}

// Two starts that ask at once, where nobody runs, do not keep each other waiting.
func TestTwoStartsAskAtOnce(t *testing.T) {
	t.Parallel()
	n := newNetwork(t, wideConfig)
	n.join(host(1)).stop()
	ended := n.startTwins(2)
	if err := <-ended; err != nil {
		t.Errorf("the first to come up: %v", err)
	}
	if err := <-ended; err != nil { // the other one is not there yet to answer
		t.Errorf("the second: %v", err)
	}
}

// Two hosts that differ in nothing do not answer each other's answers.
func TestTwinsToTheLetterComeToRest(t *testing.T) {
	t.Parallel()
	n := newNetwork(t, wideConfig)
	first := n.join(host(1))
	n.join(host(1))
	question := host(1).value()
	question.Asks = true
	_, err := n.client.Put(n.rpc(), n.key(first.own.Name), string(question.Marshal()), clientv3.WithIgnoreLease())
	n.must(err)
	n.waitFor("an answer", func(l map[string]Lease) bool { return !l[first.own.Name].Asks })
	time.Sleep(2 * time.Second)
	resp, err := n.client.Get(n.rpc(), n.key(first.own.Name))
	n.must(err)
	const written = 3 // by the first, with the question, with the answer
	if got := resp.Kvs[0].Version; got != written {
		t.Errorf("the key was written %d times, want %d", got, written)
	}
}

// A host that has moved reads little while it waits for an answer.
func TestQuestionIsCheap(t *testing.T) {
	t.Parallel()
	n := newNetwork(t, wideConfig)
	h := n.moved()
	rpcs := countRPCs(t, h.registry)
	if _, err := h.acquire(); err != nil {
		t.Fatal(err)
	}
	if got := rpcs.Load(); got > 10 {
		t.Errorf("the start took %d RPCs, want at most 10", got)
	}
}
