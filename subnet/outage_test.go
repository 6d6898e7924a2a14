package subnet

import (
	"context"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
)

func etcdAway(v View) bool  { return !v.Etcd.Serves }
func etcdThere(v View) bool { return v.Etcd.Serves }

// etcd stops and serves again with its data: the table stays, what changed
// meanwhile arrives, and each side of the outage is said once.
func TestEtcdAwayAndBack(t *testing.T) {
	t.Parallel()
	s := newStore(t)
	n := s.network(t, wideConfig)
	const short = time.Second
	h := n.join(host(1), previous("10.5.1.0/24"), graceOf(short))
	n.put("10.5.2.0-24", valueOf(host(2)), 0)
	n.put("10.5.3.0-24", valueOf(host(3)), 0)
	n.put("10.5.4.0-24", valueOf(host(4)), 0)
	peers := []string{"10.5.2.0/24 192.0.2.2:8285", "10.5.3.0/24 192.0.2.3:8285", "10.5.4.0/24 192.0.2.4:8285"}
	h.waitPeers(peers...)
	n.delete("10.5.4.0-24")
	h.waitPeers(peers[0], peers[1], peers[2]+" gone")

	s.stop()
	away := h.waitFor("etcd away", etcdAway)
	if !strings.Contains(away.Etcd.Err, "connection refused") || away.Etcd.Since.IsZero() {
		t.Errorf("etcd is away because of %q, want connection refused", away.Etcd.Err)
	}
	// Longer than the grace: what had vanished before stays, as its owner
	// cannot take it again.
	time.Sleep(2 * short)
	h.waitPeers(peers[0], peers[1], peers[2]+" gone")

	s.mustStart(t)
	n.delete("10.5.3.0-24")
	n.put("10.5.2.0-24", valueOf(host(22)), 0)
	back := h.waitFor("etcd back", etcdThere).Etcd.Since
	h.waitFor("the end of the grace", func(v View) bool { return !slices.Contains(peersOf(v), peers[2]+" gone") })
	if d := time.Since(back); d < short {
		t.Errorf("the grace ended %v after etcd was back, want all of its %v", d, short)
	}
	h.waitPeers("10.5.2.0/24 192.0.2.22:8285")
	if own := h.waitOwn("own lease", func(Lease) bool { return true }); own != h.own {
		t.Errorf("own lease %+v became %+v", h.own, own)
	}
	if warnings := h.log.lines("level=WARN"); len(warnings) != 1 || !strings.Contains(warnings[0], "forwarding goes on") {
		t.Errorf("warnings %q, want one", warnings)
	}
	if back := h.log.lines("etcd answers again"); len(back) != 1 {
		t.Errorf("%q, want it said once", back)
	}
}

// etcd comes back empty: the node takes its subnet again, and its peers stay
// for the grace time, in which they do the same.
func TestEtcdWiped(t *testing.T) {
	t.Parallel()
	s := newStore(t)
	n := s.network(t, wideConfig)
	one := n.join(host(1), previous("10.5.1.0/24"), graceOf(2*time.Second))
	two := n.join(host(2), previous("10.5.2.0/24"))
	n.put("10.5.3.0-24", valueOf(host(3)), 0)
	const peer2, peer3 = "10.5.2.0/24 192.0.2.2:8285", "10.5.3.0/24 192.0.2.3:8285"
	one.waitPeers(peer2, peer3)
	two.waitPeers("10.5.1.0/24 192.0.2.1:8285", peer3)

	s.restart(t, true)
	one.waitPeers(peer2, peer3+" gone")
	two.waitPeers("10.5.1.0/24 192.0.2.1:8285", peer3+" gone")
	one.waitPeers(peer2)
	n.waitFor("both leases", func(l map[string]Lease) bool {
		return l["10.5.1.0-24"].NodeID == "id-1" && l["10.5.2.0-24"].NodeID == "id-2"
	})
	// The watch is a new one: it follows the empty etcd's low revisions.
	n.put("10.5.4.0-24", valueOf(host(4)), 0)
	one.waitPeers(peer2, "10.5.4.0/24 192.0.2.4:8285")
	if w := one.log.lines("network config was deleted"); len(w) != 1 {
		t.Errorf("the missing config is said in %q, want once", w)
	}
}

// etcd comes back from a backup: what it had then counts, at a lower revision.
func TestEtcdRestoredToLowerRevision(t *testing.T) {
	t.Parallel()
	s := newStore(t)
	n := s.network(t, wideConfig)
	h := n.join(host(1), previous("10.5.1.0/24"), graceOf(time.Second))
	n.put("10.5.2.0-24", valueOf(host(2)), 0)
	s.stop()
	backup := copyDir(t, s.dir)
	s.mustStart(t)
	moved := host(2)
	for port := range uint16(50) {
		moved.Port = 9000 + port
		n.put("10.5.2.0-24", valueOf(moved), 0)
	}
	n.put("10.5.3.0-24", valueOf(host(3)), 0)
	h.waitPeers("10.5.2.0/24 192.0.2.2:9049", "10.5.3.0/24 192.0.2.3:8285")

	s.stop()
	s.dir = backup
	s.mustStart(t)
	h.waitPeers("10.5.2.0/24 192.0.2.2:8285")
	n.put("10.5.4.0-24", valueOf(host(4)), 0)
	h.waitPeers("10.5.2.0/24 192.0.2.2:8285", "10.5.4.0/24 192.0.2.4:8285")
	if l := n.leases()["10.5.1.0-24"]; l.NodeID != "id-1" {
		t.Errorf("our own lease is %+v", l)
	}
}

// A node that is cut off alone misses events, and etcd compacts them away.
func TestCompactedWhileCutOff(t *testing.T) {
	t.Parallel()
	n := newNetwork(t, wideConfig)
	wire := newRelay(t, n.store.listen.String())
	h := n.dialAt(EtcdConfig{Endpoints: []string{wire.url()}, Prefix: n.prefix}, host(1), previous("10.5.1.0/24"), graceOf(time.Second)).start()
	n.put("10.5.2.0-24", valueOf(host(2)), 0)
	n.put("10.5.3.0-24", valueOf(host(3)), 0)
	h.waitPeers("10.5.2.0/24 192.0.2.2:8285", "10.5.3.0/24 192.0.2.3:8285")

	wire.cut()
	h.waitFor("etcd away", etcdAway)
	n.delete("10.5.3.0-24")
	n.put("10.5.2.0-24", valueOf(host(22)), 0)
	n.put("10.5.4.0-24", valueOf(host(4)), 0)
	resp, err := n.client.Get(n.rpc(), n.configKey())
	n.must(err)
	_, err = n.client.Compact(n.rpc(), resp.Header.Revision)
	n.must(err)
	wire.mend()
	h.waitPeers("10.5.2.0/24 192.0.2.22:8285", "10.5.4.0/24 192.0.2.4:8285")
}

// Answers that never come, on a connection that stands: every RPC has its own
// deadline, and a cancel does not wait for it.
func TestEtcdSilent(t *testing.T) {
	t.Parallel()
	n := newNetwork(t, wideConfig)
	wire := newRelay(t, n.store.listen.String())
	h := n.dialAt(EtcdConfig{Endpoints: []string{wire.url()}, Prefix: n.prefix}, host(1)).start()
	wire.hush(true)
	v := h.waitFor("etcd away", etcdAway)
	if want := "no answer in 4s"; v.Etcd.Err != want {
		t.Errorf("etcd is away because of %q, want %q", v.Etcd.Err, want)
	}
	turns := h.manager.Turns()
	for deadline := time.Now().Add(LongestTurn); h.manager.Turns() == turns; time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatal("Run does not turn while etcd is silent")
		}
	}
	n.put("10.5.2.0-24", valueOf(host(2)), 0)
	wire.hush(false)
	h.waitFor("etcd back", etcdThere)
	h.waitPeers("10.5.2.0/24 192.0.2.2:8285")

	wire.hush(true)
	h.waitFor("etcd away", etcdAway)
	begin := time.Now()
	h.stop()
	if d := time.Since(begin); d > time.Second/10 {
		t.Errorf("Run returned %v after the cancel, want under 100ms", d)
	}
}

// Fenced by another owner while cut off: known at the first answer.
func TestFencedWhileCutOff(t *testing.T) {
	t.Parallel()
	n := newNetwork(t, wideConfig)
	wire := newRelay(t, n.store.listen.String())
	h := n.dialAt(EtcdConfig{Endpoints: []string{wire.url()}, Prefix: n.prefix}, host(1)).start()
	wire.cut()
	h.waitFor("etcd away", etcdAway)
	n.revoke(h.own.ID)
	n.put(h.own.Name, valueOf(host(2)), 0)
	wire.mend()
	h.fenced(`node "host-2"`)
}

// In an outage a node asks as often as it checks, and no more.
func TestOutageIsQuiet(t *testing.T) {
	t.Parallel()
	s := newStore(t)
	n := s.network(t, wideConfig)
	h := n.dial(host(1), func(o *Options) { o.CheckEvery = time.Second / 2 })
	rpcs := countRPCs(t, h.registry)
	h.start()
	s.stop()
	h.waitFor("etcd away", etcdAway)
	before := rpcs.Load()
	time.Sleep(3 * time.Second)
	if got := rpcs.Load() - before; got < 2 || got > 8 {
		t.Errorf("%d RPCs in three seconds of an outage, want 2 to 8", got)
	}
	if lines := strings.Count(h.log.String(), "\n"); lines > 3 {
		t.Errorf("%d log lines, want at most 3:\n%s", lines, h.log)
	}
}

// A host that reads all leases again says that it cannot, long before the next check.
func TestOutageWhileAllIsRead(t *testing.T) {
	t.Parallel()
	n := newNetwork(t, wideConfig)
	wire := newRelay(t, n.store.listen.String())
	h := n.dialAt(EtcdConfig{Endpoints: []string{wire.url()}, Prefix: n.prefix}, host(1), watchOnly)
	_, err := h.acquire()
	n.must(err)
	wire.cut()
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error)
	go func() { ended <- h.manager.resync(ctx) }()
	h.waitFor("etcd away", func(v View) bool { return v.Etcd.Err != "" })
	cancel()
	if err := <-ended; err != context.Canceled {
		t.Errorf("resync: %v, want context.Canceled", err)
	}
}

// A watch that fails at once, again and again, is opened at a slowing pace. The
// full comparisons in between still bring what changed.
func TestWatchThatFails(t *testing.T) {
	t.Parallel()
	n := newNetwork(t, wideConfig)
	h := n.dial(host(1))
	client := clientOf(t, h.registry)
	w := &brokenWatcher{Watcher: client.Watcher}
	client.Watcher = w
	h.start()
	n.put("10.5.2.0-24", valueOf(host(2)), 0)
	h.waitFor("the peer", func(v View) bool { return len(v.Peers) == 1 })
	time.Sleep(3 * time.Second)
	if got := w.opened.Load(); got < 3 || got > 12 {
		t.Errorf("the watch was opened %d times in three seconds, want 3 to 12", got)
	}
}

type brokenWatcher struct {
	clientv3.Watcher
	opened atomic.Int32
}

func (w *brokenWatcher) Watch(context.Context, string, ...clientv3.OpOption) clientv3.WatchChan {
	w.opened.Add(1)
	c := make(chan clientv3.WatchResponse)
	close(c)
	return c
}

func TestUnreachableEtcd(t *testing.T) {
	t.Parallel()
	closed := newRelay(t, "127.0.0.1:1")
	closed.cut()
	n := &network{t: t, prefix: "/x"}
	h := n.dialAt(EtcdConfig{Endpoints: []string{closed.url()}, Prefix: "/x"}, host(1))
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error)
	go func() {
		_, err := h.manager.Configure(ctx, nil)
		ended <- err
	}()
	h.logged("level=WARN", 1)
	time.Sleep(2 * time.Second) // some more tries
	begin := time.Now()
	cancel()
	if err := <-ended; err != context.Canceled {
		t.Errorf("Configure: %v, want context.Canceled", err)
	}
	if d := time.Since(begin); d > time.Second/10 {
		t.Errorf("returned %v after the cancel, want under 100ms", d)
	}
	if w := h.log.lines("level=WARN"); len(w) != 1 || !strings.Contains(w[0], "connection refused") || !strings.Contains(w[0], closed.url()) {
		t.Errorf("warnings %q, want one that names the endpoint and the cause", w)
	}
}

// An etcd that is away at the start is waited for.
func TestEtcdComesLater(t *testing.T) {
	t.Parallel()
	n := newNetwork(t, wideConfig)
	wire := newRelay(t, n.store.listen.String())
	wire.cut()
	h := n.dialAt(EtcdConfig{Endpoints: []string{wire.url()}, Prefix: n.prefix}, host(1))
	acquired := make(chan error)
	go func() {
		_, err := h.acquire()
		acquired <- err
	}()
	h.logged("level=WARN", 1)
	wire.mend()
	if err := <-acquired; err != nil {
		t.Fatal(err)
	}
	if back := h.log.lines("etcd answers again"); len(back) != 1 {
		t.Errorf("%q, want it said once", back)
	}
}
