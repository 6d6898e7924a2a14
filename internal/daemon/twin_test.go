package daemon

import (
	"context"
	"errors"
	"log/slog"
	"net/netip"
	"os"
	"testing"

	"twill/internal/embedetcd"
	"twill/subnet"
)

// A start that finds a twin leaves no cache: the next one, if etcd is away then, would
// take the twin's subnet from it.
func TestTwinDiscardsTheCache(t *testing.T) {
	etcd, err := embedetcd.Start(t.Context(), embedetcd.Config{Dir: t.TempDir(), Listen: netip.MustParseAddrPort("127.0.0.1:0"), NoSync: true})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(etcd.Close)
	log := slog.New(slog.DiscardHandler)
	d := &daemon{Config: Config{
		Etcd:     subnet.EtcdConfig{Endpoints: []string{etcd.Endpoint()}, Prefix: "/net"},
		PublicIP: netip.MustParseAddr("192.0.2.2"), NodeName: "n",
		StateDir: t.TempDir(), RunDir: t.TempDir(), Log: log,
	}, troubles: newTroubles(log)}
	if err := d.dialEtcd(t.Context()); err != nil {
		t.Fatal(err)
	}
	defer d.registry.Close()
	runTwin(t, d)
	if err := os.WriteFile(subnet.CachePath(d.StateDir), []byte("{}"), 0o600); err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(t.Context())
	d.registry.Waiting = func(string) { stop() } // instead of the whole pause
	if err := d.takeLease(ctx); !errors.Is(err, subnet.ErrTwin) {
		t.Fatalf("start: %v, want ErrTwin", err)
	}
	if _, err := os.Stat(subnet.CachePath(d.StateDir)); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("the cache is still there: %v", err)
	}
}

// runTwin keeps the lease of d's node id at another address until the test ends.
func runTwin(t *testing.T, d *daemon) {
	t.Helper()
	registry, err := subnet.Dial(t.Context(), d.Etcd, d.Log)
	if err != nil {
		t.Fatal(err)
	}
	id := d.identity
	id.PublicIP = netip.MustParseAddr("192.0.2.1")
	m := subnet.NewManager(registry, subnet.Options{Identity: id, Log: d.Log})
	network, err := subnet.DefaultConfig(netip.MustParsePrefix("10.5.0.0/16"))
	if err == nil {
		_, err = m.Configure(t.Context(), &network)
	}
	if err == nil {
		_, err = m.Acquire(t.Context())
	}
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error)
	go func() { ended <- m.Run(ctx) }()
	t.Cleanup(func() {
		cancel()
		if err := <-ended; err != nil {
			t.Errorf("the twin's Run: %v", err)
		}
		registry.Close()
	})
}
