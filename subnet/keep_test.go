package subnet

import (
	"errors"
	"strings"
	"testing"
	"time"

	"go.etcd.io/etcd/api/v3/mvccpb"
	clientv3 "go.etcd.io/etcd/client/v3"
)

// watchOnly leaves it to the watch to say what happened to our lease.
func watchOnly(o *Options) { o.CheckEvery = time.Hour }

// sameSubnetAgain waits until h holds its first subnet under a new key.
func sameSubnetAgain(h *node, n *network) Lease {
	h.t.Helper()
	own := h.waitOwn("own lease taken again", func(l Lease) bool { return l.CreateRevision > h.own.CreateRevision })
	if own.Name != h.own.Name {
		h.t.Fatalf("took %s, had %s", own.Name, h.own.Name)
	}
	if l := n.leases()[own.Name]; l != own {
		h.t.Fatalf("etcd has %+v, the node believes %+v", l, own)
	}
	return own
}

func TestRevokedLeaseIsTakenAgain(t *testing.T) {
	t.Parallel()
	n := newNetwork(t, wideConfig)
	h := n.join(host(1), watchOnly)
	n.revoke(h.own.ID)
	own := sameSubnetAgain(h, n)
	if own.ID == h.own.ID || own.Reserved() {
		t.Fatalf("etcd lease %x, had %x; want a new one", own.ID, h.own.ID)
	}
}

func TestDeletedKeyIsTakenAgain(t *testing.T) {
	t.Parallel()
	n := newNetwork(t, wideConfig)
	h := n.join(host(1), watchOnly)
	n.delete(h.own.Name)
	sameSubnetAgain(h, n)
}

// The write may have happened or not when its answer is lost. Both must end
// with our lease, never with a fence.
func TestRetakeWithLostAnswers(t *testing.T) {
	t.Parallel()
	n := newNetwork(t, wideConfig)
	h := n.dial(host(1))
	kv := loseAnswers(t, h.registry, 0)
	h.start()
	kv.lose.Store(2)
	n.revoke(h.own.ID)
	sameSubnetAgain(h, n)
	h.waitFor("etcd reachable", func(v View) bool { return v.Etcd.Serves })
}

func TestRestoreWithLostAnswers(t *testing.T) {
	t.Parallel()
	n := newNetwork(t, wideConfig)
	h := n.dial(host(1))
	kv := loseAnswers(t, h.registry, 0)
	h.start()
	kv.lose.Store(2)
	n.put(h.own.Name, "{", time.Hour)
	own := h.waitOwn("own lease restored", func(l Lease) bool { return l.ModRevision > h.own.ModRevision })
	if l := n.leases()[own.Name]; l != own || l.Value != host(1).value() {
		t.Fatalf("etcd has %+v, the node believes %+v", l, own)
	}
}

func TestExpiredLeaseIsTakenAgain(t *testing.T) {
	t.Parallel()
	n := newNetwork(t, wideConfig)
	h := n.join(host(1))
	h.stop()
	n.revoke(h.own.ID)
	again := n.join(host(1), func(o *Options) { o.Previous = h.own.Subnet })
	if again.own.Subnet != h.own.Subnet {
		t.Fatalf("got %s, had %s", again.own.Subnet, h.own.Subnet)
	}
}

// Nothing else keeps the etcd lease than the node's renewals: it must not miss
// one while the TTL passes several times.
func TestRenewal(t *testing.T) {
	t.Parallel()
	n := newNetwork(t, wideConfig)
	const ttl = time.Second
	h := n.join(host(1), func(o *Options) { o.TTL = ttl })
	for end := time.Now().Add(3 * ttl); time.Now().Before(end); time.Sleep(20 * time.Millisecond) {
		if l := n.leases()[h.own.Name]; l != h.own {
			t.Fatalf("the lease %+v became %+v", h.own, l)
		}
	}
}

func TestOverwrittenByAnotherOwnerIsFenced(t *testing.T) {
	t.Parallel()
	n := newNetwork(t, wideConfig)
	winner := host(2)
	winner.Port = 9000
	h := n.join(host(1), watchOnly)
	n.put(h.own.Name, valueOf(winner), time.Hour)
	h.fenced(h.own.Subnet.String(), `node "host-2"`, "id-2", "192.0.2.2:9000")
	if l := n.leases()[h.own.Name]; l.Value != winner.value() {
		t.Errorf("the loser wrote %+v over the winner's lease", l)
	}
	if v := h.manager.View(); len(v.Peers) > 0 {
		t.Errorf("fenced, and yet peers %v", peersOf(v))
	}
}

// While the node is fenced by what it reads, not by what it is told.
func TestLostWhileAwayIsFenced(t *testing.T) {
	t.Parallel()
	n := newNetwork(t, wideConfig)
	h := n.dial(host(1))
	if _, err := h.acquire(); err != nil {
		t.Fatal(err)
	}
	own := h.manager.View().Own
	n.delete(own.Name)
	n.put(own.Name, flannelValue(host(2).PublicIP), time.Hour)
	h.run()
	h.fenced(own.Subnet.String(), "192.0.2.2:8285")
}

// While there is no watch, as in the wait before all is read again.
func TestFencedWhileIdle(t *testing.T) {
	t.Parallel()
	n := newNetwork(t, wideConfig)
	h := n.dial(host(1))
	own, err := h.acquire()
	n.must(err)
	n.put(own.Name, valueOf(host(2)), time.Hour)
	if err := h.manager.idle(n.rpc(), time.Hour); !errors.Is(err, ErrFenced) {
		t.Errorf("idle ended with %v, want ErrFenced", err)
	}
}

// Long before it would look by itself: for what was written before the wait, and in it.
func TestFencedWhileIdleAtOnce(t *testing.T) {
	t.Parallel()
	n := newNetwork(t, wideConfig)
	h := n.dial(host(1), watchOnly)
	own, err := h.acquire()
	n.must(err)
	n.put(own.Name, "{", time.Hour)
	ended := make(chan error)
	go func() { ended <- h.manager.idle(n.rpc(), time.Hour) }()
	restored := func(l map[string]Lease) bool { return l[own.Name].Value == own.Value }
	n.waitFor("the value again", restored)
	n.delete(own.Name)
	n.waitFor("the key again", restored)
	n.put(own.Name, valueOf(host(2)), time.Hour)
	if err := <-ended; !errors.Is(err, ErrFenced) {
		t.Errorf("idle ended with %v, want ErrFenced", err)
	}
}

// What others do to our key without taking the subnet is put right, under the
// etcd lease that they gave it.
func TestChangedKeyIsRestored(t *testing.T) {
	for _, tt := range []struct {
		name, value string
		ttl         time.Duration
		nodeID      string
	}{
		{"poison", "{", time.Hour, "id-1"},
		{"poison without a TTL", "not JSON", 0, "id-1"},
		{"Flannel's value of our address", flannelValue(host(1).PublicIP), time.Hour, "id-1"},
		{"made a reservation by address", flannelValue(host(1).PublicIP), 0, ""},
		{"made a reservation by node id", `{"PublicIP":"192.0.2.1","BackendData":{"Proto":1,"NodeID":"id-1"}}`, 0, "id-1"},
		{"our own value under another etcd lease", valueOf(host(1)), time.Hour, "id-1"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			n := newNetwork(t, wideConfig)
			h := n.join(host(1))
			id := n.put(h.own.Name, tt.value, tt.ttl)
			want := host(1).value()
			want.NodeID = tt.nodeID
			h.waitOwn("own lease restored", func(l Lease) bool { return l.ID == id && l.Value == want })
			if l := n.leases()[h.own.Name]; l.ID != id || l.Value != want {
				t.Fatalf("etcd has %+v, want %+v with etcd lease %x", l, want, id)
			}
			peer := n.join(host(2))
			peer.waitPeers(h.own.Subnet.String() + " 192.0.2.1:8285")
		})
	}
}

// A reservation by address that was damaged keeps its form.
func TestDamagedReservationByAddress(t *testing.T) {
	t.Parallel()
	n := newNetwork(t, wideConfig)
	n.put("10.5.2.0-24", flannelValue(host(1).PublicIP), 0)
	h := n.join(host(1))
	n.put("10.5.2.0-24", "{", 0)
	h.waitOwn("restored", func(l Lease) bool { return l.ModRevision > h.own.ModRevision })
	if l := n.leases()["10.5.2.0-24"]; l.NodeID != "" || l.Node != "host-1" {
		t.Fatalf("etcd has %+v, want our value without a node id", l)
	}
}

// A lease that became a reservation is not renewed, and one that became a
// lease again is.
func TestReservationIsNotRenewed(t *testing.T) {
	t.Parallel()
	n := newNetwork(t, wideConfig)
	h := n.join(host(1), func(o *Options) { o.TTL = time.Second })
	n.put(h.own.Name, valueOf(host(1)), 0)
	h.waitOwn("reserved", Lease.Reserved)
	h.stop()
	if due := h.manager.due.renew; !due.IsZero() {
		t.Errorf("a reservation is to be renewed at %v", due)
	}

	h = n.join(host(1))
	id := n.put(h.own.Name, valueOf(host(1)), time.Second)
	h.waitOwn("leased", func(l Lease) bool { return l.ID == id })
	for end := time.Now().Add(2500 * time.Millisecond); time.Now().Before(end); time.Sleep(20 * time.Millisecond) {
		if l := n.leases()[h.own.Name]; l.ID != id {
			t.Fatalf("the lease %x became %+v", id, l)
		}
	}
}

func TestRenewAfter(t *testing.T) {
	for _, tt := range []struct{ ttl, margin, least, most time.Duration }{
		{24 * time.Hour, time.Hour, 7 * time.Hour, 8 * time.Hour},
		{24 * time.Hour, 23 * time.Hour, 54 * time.Minute, time.Hour},
		{3 * time.Second, time.Hour, 900 * time.Millisecond, time.Second},
	} {
		m := NewManager(nil, Options{RenewMargin: tt.margin})
		before := time.Now()
		m.renewed(now(), tt.ttl)
		if d := m.due.renew.Sub(before); d < tt.least || d > tt.most+time.Second/10 {
			t.Errorf("TTL %v, margin %v: renewed after %v, want %v to %v", tt.ttl, tt.margin, d, tt.least, tt.most)
		}
	}
}

func TestJitter(t *testing.T) {
	seen := map[time.Duration]bool{}
	for range 100 {
		d := jitter(time.Hour)
		if d < 54*time.Minute || d > time.Hour {
			t.Fatalf("an hour became %v, want 54 to 60 minutes", d)
		}
		seen[d] = true
	}
	if len(seen) < 50 {
		t.Errorf("of 100 hosts many ask at one time: there are %d", len(seen))
	}
}

// The comparison that keeps a stale or foreign state from counting as ours:
// revision, etcd lease and value all have to agree.
func TestJudgeLooksAtTheValue(t *testing.T) {
	m := NewManager(nil, Options{Identity: us})
	m.config = mustConfig(t, tinyConfig)
	m.own = reserved(leaseAt(t, "10.5.1.0-24", valueOf(us)))
	same := m.own
	if err := m.judge(t.Context(), same, true); err != nil {
		t.Fatalf("our own lease: %v", err)
	}
	theirs := m.own // same revision, no etcd lease: as in an etcd that was wiped
	theirs.Value = they.value()
	if err := m.judge(t.Context(), theirs, true); err == nil {
		t.Fatal("another owner's lease of the same revision counts as ours")
	}
}

// What a check finds and the watch did not say shows that the watch is not to
// be relied on: all is read again.
func TestCheckDistrustsTheWatch(t *testing.T) {
	for _, tt := range []struct {
		name   string
		change func(*network, *node)
		want   string
	}{
		{"etcd went back", func(_ *network, h *node) { h.manager.table.revision = 1 << 40 }, "went back from revision 1099511627776"},
		{"another cluster", func(_ *network, h *node) { h.manager.cluster++ }, "another cluster answers"},
		{"own key deleted", func(n *network, h *node) { n.delete(h.own.Name) }, "the watch has not said so"},
		{"own key rewritten", func(n *network, h *node) { n.put(h.own.Name, valueOf(host(1)), time.Hour) }, "the watch has not said so"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			n := newNetwork(t, wideConfig)
			h := n.dial(host(1))
			var err error
			h.own, err = h.acquire()
			n.must(err)
			h.manager.table.put(h.own, time.Now()) // as the watch would
			if err := h.manager.check(n.rpc()); err != nil {
				t.Fatalf("before: %v", err)
			}
			tt.change(n, h)
			if strings.HasPrefix(tt.name, "own key") {
				n.must(h.manager.check(n.rpc())) // it may only be behind
				if wait := time.Until(h.manager.due.check); wait > lookAgain {
					t.Errorf("the next check is in %v", wait)
				}
			}
			if err := h.manager.check(n.rpc()); !errors.Is(err, errResync) || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("check: %v, want %q", err, tt.want)
			}
			if l := n.leases()[h.own.Name]; l != h.manager.own {
				t.Errorf("etcd has %+v, the node believes %+v", l, h.manager.own)
			}
		})
	}
}

// After the connection broke all is read again too, while the watch goes on. An
// answer that was only late makes nobody read anything: under load that would be
// every host.
func TestCheckComparesAllOnceTheConnectionBroke(t *testing.T) {
	t.Parallel()
	n := newNetwork(t, wideConfig)
	h := n.dial(host(1))
	own, err := h.acquire()
	n.must(err)
	m := h.manager
	m.table.put(own, time.Now()) // as the watch would
	for _, broke := range []bool{false, true, false} {
		m.due.full = time.Now().Add(time.Hour)
		m.etcd.Serves, m.broke = false, broke
		n.must(m.check(n.rpc()))
		if !m.etcd.Serves {
			t.Error("etcd has answered and still counts as away")
		}
		if at := time.Until(m.due.full); broke != (at < time.Minute) {
			t.Errorf("connection broke: %t; the table is compared in %v, want at once in a network of one if it did, else in an hour", broke, at)
		}
	}
}

// An answer may come after later events: it says nothing about them.
func TestLateAnswerOnOurLease(t *testing.T) {
	t.Parallel()
	n := newNetwork(t, wideConfig)
	h := n.dial(host(1))
	own, err := h.acquire()
	n.must(err)
	m := h.manager
	m.table.put(own, time.Now()) // as the watch would
	m.ask(n.rpc())
	word := <-m.asked
	m.table.revision += 10
	if err := m.checked(n.rpc(), word); err != nil {
		t.Errorf("the table went on meanwhile: %v", err)
	}
	word.found = false // deleted, then taken again by us
	m.own.ModRevision++
	m.due.check = time.Now().Add(time.Hour)
	if err := m.checked(n.rpc(), word); err != nil || m.due.check.After(time.Now()) {
		t.Errorf("our lease was written meanwhile: %v, next check in %v, want one now", err, time.Until(m.due.check))
	}
}

// An answer that was asked for before a later one came, or by a watch that has ended,
// counts no more: it may be that etcd was away.
func TestAnswerOfThePastIsNotAwaited(t *testing.T) {
	t.Parallel()
	n := newNetwork(t, wideConfig)
	h := n.dial(host(1))
	_, err := h.acquire()
	n.must(err)
	m := h.manager
	m.due.check, m.due.full = time.Now(), time.Now()
	if err := m.follow(n.rpc()); err != errDue || m.asked != nil {
		t.Errorf("the watch ended with %v, its answer awaited: %t; want errDue and false", err, m.asked != nil)
	}
	m.asked = make(chan ownWord)
	if n.must(m.check(n.rpc())); m.asked != nil {
		t.Error("after a check the answer before it is awaited")
	}
}

// The watch tells of another owner with its last breath: nobody can be asked, and
// what it said is enough.
func TestFencedByTheWatchAlone(t *testing.T) {
	t.Parallel()
	n := newNetwork(t, wideConfig)
	h, wire := n.dialThroughRelay(host(1))
	own, err := h.acquire()
	n.must(err)
	wire.cut()
	says := func(v Value) clientv3.WatchResponse {
		kv := mvccpb.KeyValue{Key: []byte(n.key(own.Name)), Value: v.Marshal(), CreateRevision: own.CreateRevision, ModRevision: own.ModRevision + 1}
		return clientv3.WatchResponse{Events: []*clientv3.Event{{Type: clientv3.EventTypePut, Kv: &kv}}}
	}
	if err := h.manager.apply(n.rpc(), says(host(1).value())); err != nil {
		t.Errorf("our own value: %v", err)
	}
	if err := h.manager.apply(n.rpc(), says(host(2).value())); !errors.Is(err, ErrFenced) || !strings.Contains(err.Error(), "host-2") {
		t.Errorf("another's value: %v, want ErrFenced and the winner", err)
	}
	question := host(1).value()
	question.Asks = true
	if err := h.manager.apply(n.rpc(), says(question)); err != nil {
		t.Errorf("a question: %v", err)
	}
	twin := host(1)
	twin.PublicIP = host(77).PublicIP
	if err := h.manager.apply(n.rpc(), says(twin.value())); !errors.Is(err, ErrFenced) || !strings.Contains(err.Error(), "192.0.2.77:8285") {
		t.Errorf("a twin's value: %v, want ErrFenced and its endpoint", err)
	}
}

// A try to take the subnet again whose answer is lost leaves no etcd lease behind.
func TestRetakeLeavesNoLeaseBehind(t *testing.T) {
	t.Parallel()
	n := newNetwork(t, wideConfig)
	h := n.dial(host(1))
	own, err := h.acquire()
	n.must(err)
	m := h.manager
	loseAnswers(t, h.registry, 1)
	n.delete(own.Name)
	n.must(m.check(n.rpc()))
	lost := n.leases()[own.Name].ID
	n.delete(own.Name)
	n.must(m.reload(n.rpc()))
	if l := n.leases()[own.Name]; l.ID == lost || l != m.own {
		t.Errorf("etcd has %+v, we %+v; want a lease taken again", l, m.own)
	}
	if resp, err := n.client.TimeToLive(n.rpc(), lost); err != nil || resp.TTL != -1 {
		t.Errorf("etcd lease %x is still there: %+v, %v", lost, resp, err)
	}
}
