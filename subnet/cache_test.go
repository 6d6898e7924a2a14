package subnet

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// withCache gives a node a cache in dir, and runs it.
func (n *network) withCache(dir string, log *logBuffer) func(*Options) {
	c := NewCache(dir, newLog(log))
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error)
	go func() { ended <- c.Run(ctx) }()
	n.t.Cleanup(func() {
		cancel()
		if err := <-ended; err != nil {
			n.t.Error(err)
		}
	})
	return func(o *Options) { o.Cache = c }
}

// waitCached waits until the file in dir can be loaded by id, and says what ok
// wants.
func (n *network) waitCached(dir string, id Identity, ok func(Cached) bool) Cached {
	n.t.Helper()
	var err error
	for end := time.Now().Add(patience); time.Now().Before(end); time.Sleep(10 * time.Millisecond) {
		var c Cached
		if c, err = NewCache(dir, newLog(&logBuffer{})).Load(id, n.etcd()); err == nil && ok(c) {
			return c
		}
	}
	n.t.Fatalf("the cache never was as wanted: %v", err)
	return Cached{}
}

var errAway = errors.New("etcd is away")

// restore starts a node from the cache in dir.
func (n *network) restore(dir string, id Identity, adjust ...func(*Options)) *node {
	n.t.Helper()
	h := n.dial(id, adjust...)
	c, err := NewCache(dir, h.manager.log).Load(id, n.etcd())
	n.must(err)
	_, h.own = h.manager.Restore(c, errAway)
	h.run()
	return h
}

// A node starts without etcd, knows its lease and peers, and follows etcd once
// that is back.
func TestStartFromCache(t *testing.T) {
	t.Parallel()
	s := newStore(t)
	n := s.network(t, wideConfig)
	dir := t.TempDir()
	n.put("10.5.2.0-24", valueOf(host(2)), 0)
	n.put("10.5.3.0-24", valueOf(host(3)), 0)
	first := n.join(host(1), n.withCache(dir, &logBuffer{}))
	n.waitCached(dir, host(1), func(c Cached) bool { return len(c.Peers) == 2 })
	first.stop()
	etcd := n.etcd()
	s.stop()

	h := n.restore(dir, host(1), func(o *Options) { o.Grace = time.Second })
	v := h.waitPeers("10.5.2.0/24 192.0.2.2:8285", "10.5.3.0/24 192.0.2.3:8285")
	if v.Own.Subnet != first.own.Subnet || v.Own.ID != first.own.ID || v.Etcd.Serves || v.Cached.IsZero() {
		t.Errorf("view %+v, want the lease %+v, from the cache", v, first.own)
	}
	s.mustStart(t)
	if s.server.Endpoint() != etcd.Endpoints[0] {
		t.Fatalf("etcd is at %s now", s.server.Endpoint())
	}
	n.delete("10.5.3.0-24")
	v = h.waitPeers("10.5.2.0/24 192.0.2.2:8285")
	if v.Own != first.own || !v.Etcd.Serves || !v.Cached.IsZero() {
		t.Errorf("after etcd was back: %+v, want the lease %+v as it was", v, first.own)
	}
	n.put("10.5.4.0-24", valueOf(host(4)), 0)
	h.waitPeers("10.5.2.0/24 192.0.2.2:8285", "10.5.4.0/24 192.0.2.4:8285")
	if h.stop(); h.manager.provisional {
		t.Error("etcd has answered and the lease still counts as the cache's alone")
	}
}

// What happened to the lease while nobody looked.
func TestCachedLeaseIsReconciled(t *testing.T) {
	t.Parallel()
	for name, tt := range map[string]struct {
		meanwhile func(*network, Lease)
		want      func(*node)
	}{
		"lost and free": {
			func(n *network, l Lease) { n.revoke(l.ID) },
			func(h *node) {
				h.waitOwn("the same subnet again", func(l Lease) bool { return l.Name == h.own.Name && l.ID != h.own.ID })
			},
		},
		"another's": {
			func(n *network, l Lease) { n.revoke(l.ID); n.put(l.Name, valueOf(host(2)), 0) },
			func(h *node) { h.fenced(`node "host-2"`) },
		},
		"rewritten by a run that could not write its cache": {
			func(n *network, l Lease) {
				moved := host(1)
				moved.PublicIP = host(77).PublicIP
				n.put(l.Name, valueOf(moved), time.Hour)
			},
			func(h *node) {
				h.waitOwn("our value", func(l Lease) bool { return l.Value == host(1).value() && l.ModRevision > h.own.ModRevision })
			},
		},
		"under another config": {
			func(n *network, l Lease) { n.putConfig(`{"Network":"10.6.0.0/16"}`) },
			func(h *node) { h.logged("restart twill", 1) },
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			n := newNetwork(t, wideConfig)
			dir := t.TempDir()
			first := n.join(host(1), n.withCache(dir, &logBuffer{}))
			n.waitCached(dir, host(1), func(Cached) bool { return true })
			first.stop()
			tt.meanwhile(n, first.own)
			tt.want(n.restore(dir, host(1)))
		})
	}
}

func sampleCached(t testing.TB) Cached {
	t.Helper()
	own := leaseAt(t, "10.5.1.0-24", valueOf(host(1)))
	own.ID, own.CreateRevision, own.ModRevision = 77, 5, 6
	return Cached{
		Saved: time.Unix(1_700_000_000, 0).UTC(), NodeID: "id-1", Prefix: "/p", Endpoints: []string{"http://a:1", "http://b:1"},
		Revision: 9, Config: mustConfig(t, wideConfig), Own: own, TTL: 24 * time.Hour,
		confirmed: instant{Wall: time.Unix(1_700_000_000, 0).UTC(), BootID: "boot", SinceBoot: time.Hour},
		Peers:     []Lease{leaseAt(t, "10.5.2.0-24", valueOf(host(2)))},
	}
}

func TestCacheIsUsedOnlyWhereItIsSafe(t *testing.T) {
	const day = 24 * time.Hour
	etcd := EtcdConfig{Prefix: "/p/", Endpoints: []string{"http://b:1"}}
	later := func(d time.Duration) instant {
		return instant{Wall: time.Unix(1_700_000_000, 0).Add(d), BootID: "next boot"}
	}
	for _, tt := range []struct {
		name   string
		change func(*Cached, *Identity, *EtcdConfig)
		at     instant
		want   string // "": used
	}{
		{name: "soon after", at: later(time.Minute)},
		{name: "just in time", at: later(day - day/driftShare - time.Second)},
		{name: "too late", at: later(day - day/driftShare), want: "was last confirmed 23h45m36s ago"},
		{name: "clock set back", at: later(-time.Second), want: "it was set back"},
		{name: "clock set back within one boot", at: instant{Wall: time.Unix(0, 0), BootID: "boot", SinceBoot: 2 * time.Hour}},
		{name: "clock set back to hide that it is too late", at: instant{Wall: time.Unix(1_700_000_000, 0), BootID: "boot", SinceBoot: 25 * time.Hour}, want: "was last confirmed 24h0m0s ago"},
		{name: "clock jumped ahead within one boot", at: instant{Wall: time.Unix(1_800_000_000, 0), BootID: "boot", SinceBoot: 2 * time.Hour}},
		{name: "a reservation", at: later(365 * day), change: func(c *Cached, _ *Identity, _ *EtcdConfig) { c.Own.ID = 0 }},
		{name: "another node", at: later(0), want: "this host has", change: func(_ *Cached, id *Identity, _ *EtcdConfig) { id.NodeID = "id-2" }},
		{name: "another prefix", at: later(0), want: "etcd-prefix", change: func(_ *Cached, _ *Identity, e *EtcdConfig) { e.Prefix = "/q" }},
		{name: "another etcd", at: later(0), want: "no endpoint in common", change: func(_ *Cached, _ *Identity, e *EtcdConfig) { e.Endpoints = []string{"http://c:1"} }},
		{name: "another address", at: later(0), want: "peers would refuse", change: func(_ *Cached, id *Identity, _ *EtcdConfig) { id.PublicIP = host(2).PublicIP }},
		{name: "another port", at: later(0), want: "names port 8285, now it is 9", change: func(_ *Cached, id *Identity, _ *EtcdConfig) { id.Port = 9 }},
		{name: "no port asked for", at: later(0), change: func(_ *Cached, id *Identity, _ *EtcdConfig) { id.Port = 0 }},
		{name: "another's lease", at: later(0), want: `belongs to node id "id-2"`, change: func(c *Cached, _ *Identity, _ *EtcdConfig) { c.Own.NodeID = "id-2" }},
	} {
		t.Run(tt.name, func(t *testing.T) {
			c, id, e := sampleCached(t), host(1), etcd
			if tt.change != nil {
				tt.change(&c, &id, &e)
			}
			cache := NewCache(t.TempDir(), newLog(&logBuffer{}))
			if err := cache.write(c); err != nil {
				t.Fatal(err)
			}
			_, err := cache.load(id, e, tt.at)
			if tt.want == "" && err != nil || tt.want != "" && (err == nil || !strings.Contains(err.Error(), tt.want)) {
				t.Errorf("%v, want %q", err, tt.want)
			}
		})
	}
}

func TestBadCacheIsAnError(t *testing.T) {
	dir := t.TempDir()
	cache := NewCache(dir, newLog(&logBuffer{}))
	if _, err := cache.Load(host(1), EtcdConfig{}); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("without a file: %v", err)
	}
	good, err := json.Marshal(sampleCached(t).raw())
	if err != nil {
		t.Fatal(err)
	}
	for _, tt := range []struct{ name, old, new, want string }{
		{"empty", string(good), "", "invalid JSON"},
		{"cut off", string(good), string(good[:len(good)/2]), "invalid JSON"},
		{"of a later version", `"Version":1`, `"Version":2`, "Version 2: this twill reads 1"},
		{"without a lease", `"Name":"10.5.1.0-24"`, `"Name":""`, `Own: lease key ""`},
		{"lease outside the network", `"Name":"10.5.1.0-24"`, `"Name":"10.6.1.0-24"`, "outside Network"},
		{"lease of all", `"Name":"10.5.1.0-24"`, `"Name":"0.0.0.0-0"`, "lease key"},
		{"bad config", `"Network":"10.5.0.0/16"`, `"Network":"127.0.0.0/8"`, "overlaps 127.0.0.0/8"},
		{"no config", `"Config":`, `"Other":`, "Config: required"},
		{"overlay address", `"PublicIP":"192.0.2.1"`, `"PublicIP":"10.5.9.9"`, "inside the overlay"},
		{"bad revision", `"Revision":9`, `"Revision":-9`, "Revision -9"},
		{"endless", `"TTL":86400`, `"TTL":99999999999`, "TTL 99999999999"},
	} {
		raw := strings.Replace(string(good), tt.old, tt.new, 1)
		if raw == string(good) {
			t.Fatalf("%s: %q is not in %s", tt.name, tt.old, good)
		}
		writeSecret(t, filepath.Join(dir, "cache.json"), raw)
		_, err := cache.Load(host(1), EtcdConfig{Prefix: "/p", Endpoints: []string{"http://a:1"}})
		if err == nil || !strings.Contains(err.Error(), tt.want) {
			t.Errorf("%s: %v, want %q", tt.name, err, tt.want)
		}
	}
}

// Nothing happens in a network at rest, and yet what a start without etcd needs is in
// the cache: all there is once Run begins, the age of the lease after each renewal.
func TestCacheAtRest(t *testing.T) {
	t.Parallel()
	n := newNetwork(t, wideConfig)
	n.join(host(1)).stop() // so that the next one writes nothing
	cache := NewCache(t.TempDir(), newLog(&logBuffer{}))
	h := n.dial(host(1), func(o *Options) { o.Cache = cache })
	own, err := h.acquire()
	n.must(err)
	ended, cancel := context.WithCancel(t.Context())
	cancel()
	n.must(h.manager.Run(ended))
	state := cache.latest(t)
	if state.Own != own {
		t.Errorf("the cache has %+v, we %+v", state.Own, own)
	}
	n.must(h.manager.keep(n.rpc()))
	if renewed := cache.latest(t).confirmed; renewed.SinceBoot <= state.confirmed.SinceBoot {
		t.Errorf("the cache has a lease of %v, before the renewal of %v", renewed.SinceBoot, state.confirmed.SinceBoot)
	}
}

// latest is what was put last and not yet written.
func (c *Cache) latest(t *testing.T) Cached {
	t.Helper()
	select {
	case state := <-c.next:
		return state()
	default:
		t.Fatal("nothing was put into the cache")
		return Cached{}
	}
}

// A disk that takes nothing is said once, and its recovery too.
func TestCacheThatCannotBeWritten(t *testing.T) {
	t.Parallel()
	n := newNetwork(t, wideConfig)
	dir := filepath.Join(t.TempDir(), "missing")
	log := &logBuffer{}
	h := n.join(host(1), n.withCache(dir, log))
	for i := 2; i < 5; i++ {
		n.put(usual(host(i)).Addr().String()+"-24", valueOf(host(i)), 0)
		h.waitFor("the peer", func(v View) bool { return len(v.Peers) == i-1 })
	}
	waitLines(t, log, "cannot be written", 1)
	if err := os.Mkdir(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	waitLines(t, log, "is written again", 1)
	n.waitCached(dir, host(1), func(c Cached) bool { return len(c.Peers) == 3 })
}

func waitLines(t *testing.T, log *logBuffer, text string, want int) {
	t.Helper()
	for end := time.Now().Add(patience); len(log.lines(text)) != want; time.Sleep(10 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("want %d lines with %q in\n%s", want, text, log)
		}
	}
}

// After Discard nothing brings the lease back, not even what was put before.
func TestDiscardedCache(t *testing.T) {
	cache := NewCache(t.TempDir(), newLog(&logBuffer{}))
	if err := cache.write(sampleCached(t)); err != nil {
		t.Fatal(err)
	}
	cache.put(func() Cached { return sampleCached(t) })
	for range 2 {
		if err := cache.Discard(); err != nil {
			t.Fatal(err)
		}
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := cache.Run(ctx); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(cache.path); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("the file: %v", err)
	}
}

// Whatever lies in the file: no panic, and what is accepted comes out the same
// when it is written again.
func FuzzCache(f *testing.F) {
	good, err := json.Marshal(sampleCached(f).raw())
	if err != nil {
		f.Fatal(err)
	}
	f.Add(good)
	f.Add([]byte(`{"Version":1}`))
	f.Add([]byte(`{"Version":1,"Config":{"Network":"10.5.0.0/16"},"Own":{"Name":"10.5.1.0-24","Value":{"PublicIP":"192.0.2.1"}},"Revision":1}`))
	f.Fuzz(func(t *testing.T, raw []byte) {
		c, err := parseCached(raw)
		if err != nil {
			return
		}
		for i := range c.Peers {
			if c.Peers[i].Err != nil { // never written
				return
			}
		}
		written, err := json.Marshal(c.raw())
		if err != nil {
			t.Fatal(err)
		}
		again, err := parseCached(written)
		if err != nil {
			t.Fatalf("%v in what was written for %s:\n%s", err, raw, written)
		}
		rewritten, err := json.Marshal(again.raw())
		if err != nil || !bytes.Equal(written, rewritten) {
			t.Fatalf("%v: written\n%s\nand then\n%s", err, written, rewritten)
		}
		m := NewManager(&Registry{}, Options{Identity: host(1)})
		m.Restore(c, errAway)
		m.View()
	})
}
