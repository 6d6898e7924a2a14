package daemon

import (
	"errors"
	"log/slog"
	"net/netip"
	"os"
	"testing"

	"twill/internal/embedetcd"
	"twill/subnet"
)

// A failed start leaves no node id that it made itself, but where its lease could
// not be given back: the next start then finds that, instead of taking one more.
func TestFailedStartKeepsNodeIDOfLease(t *testing.T) {
	for name, etcdEnds := range map[string]bool{"etcd answers": false, "etcd is gone": true} {
		t.Run(name, func(t *testing.T) {
			etcd, err := embedetcd.Start(t.Context(), embedetcd.Config{Dir: t.TempDir(), Listen: netip.MustParseAddrPort("127.0.0.1:0"), NoSync: true})
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(etcd.Close)
			d := &daemon{Config: Config{
				Etcd:     subnet.EtcdConfig{Endpoints: []string{etcd.Endpoint()}, Prefix: "/net"},
				PublicIP: netip.MustParseAddr("192.0.2.1"), NodeName: "n",
				StateDir: t.TempDir(), RunDir: t.TempDir(), Log: slog.New(slog.DiscardHandler),
			}}
			if err := d.dialEtcd(t.Context()); err != nil {
				t.Fatal(err)
			}
			network, err := subnet.DefaultConfig(netip.MustParsePrefix("10.5.0.0/16"))
			if err != nil {
				t.Fatal(err)
			}
			if _, err = d.manager.Configure(t.Context(), &network); err == nil {
				_, err = d.manager.Acquire(t.Context())
			}
			if err != nil {
				t.Fatal(err)
			}
			if etcdEnds {
				etcd.Close()
			}
			d.undoAll()
			_, err = os.Stat(subnet.NodeIDPath(d.StateDir))
			if kept := !errors.Is(err, os.ErrNotExist); kept != etcdEnds {
				t.Errorf("node id kept: %t, want %t", kept, etcdEnds)
			}
		})
	}
}
