package subnet

import (
	"context"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
	"go.uber.org/zap"

	"twill/internal/embedetcd"
)

// patience bounds every wait for a state that the code under test should reach.
const patience = 20 * time.Second

// store is a real etcd. Most tests share one and take a prefix of their own;
// those that stop or wipe it have their own.
type store struct {
	dir    string
	listen netip.AddrPort // the zero AddrPort before the first start, whose port it then keeps
	server server
	launch launcher // nil: embedetcd
}

type server interface {
	Endpoint() string
	Close()
}

type launcher func(ctx context.Context, dir string, listen netip.AddrPort) (server, error)

func launchEmbedded(ctx context.Context, dir string, listen netip.AddrPort) (server, error) {
	return embedetcd.Start(ctx, embedetcd.Config{Dir: dir, Listen: listen, NoSync: true})
}

// start serves on the same address as before, with the data that is there.
func (s *store) start() error {
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	listen := s.listen
	if !listen.IsValid() {
		listen = netip.MustParseAddrPort("127.0.0.1:0")
	}
	launch := s.launch
	if launch == nil {
		launch = launchEmbedded
	}
	server, err := launch(ctx, s.dir, listen)
	if err != nil {
		return err
	}
	s.server = server
	_, address, _ := strings.Cut(server.Endpoint(), "://")
	s.listen = netip.MustParseAddrPort(address)
	return nil
}

func (s *store) stop() { s.server.Close() }

func newStore(t *testing.T) *store {
	t.Helper()
	s := &store{dir: t.TempDir()}
	s.mustStart(t)
	t.Cleanup(s.stop)
	return s
}

func (s *store) mustStart(t *testing.T) {
	t.Helper()
	if err := s.start(); err != nil {
		t.Fatal(err)
	}
}

// restart serves again; wipe gives it an empty directory instead of its data.
func (s *store) restart(t *testing.T, wipe bool) {
	t.Helper()
	s.stop()
	if wipe {
		s.dir = t.TempDir()
	}
	s.mustStart(t)
}

// sharedStore is started by the first test that needs it and ends with the
// test binary.
type sharedStore struct {
	once sync.Once
	store
	err error
}

var shared sharedStore

func (s *sharedStore) close() {
	if s.server != nil {
		s.stop()
		os.RemoveAll(s.dir)
	}
}

func (s *sharedStore) get(t *testing.T) *store {
	t.Helper()
	s.once.Do(func() {
		if s.dir, s.err = os.MkdirTemp("", "twill-subnet-test-"); s.err == nil {
			s.err = s.start()
		}
	})
	if s.err != nil {
		t.Fatal(s.err)
	}
	return &s.store
}

// network is one overlay's keys in a store, as an operator sees them.
type network struct {
	t      *testing.T
	store  *store
	prefix string
	client *clientv3.Client
}

// newNetwork is a network in the shared store, with a config unless it is "".
func newNetwork(t *testing.T, config string) *network {
	t.Helper()
	return shared.get(t).network(t, config)
}

// networks numbers the prefixes, as a test may run several times.
var networks atomic.Int64

func (s *store) network(t *testing.T, config string) *network {
	t.Helper()
	client, err := clientv3.New(clientv3.Config{Endpoints: []string{s.server.Endpoint()}, Logger: zap.NewNop()})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { client.Close() })
	prefix := fmt.Sprintf("/%s-%d", strings.ReplaceAll(t.Name(), "/", "-"), networks.Add(1))
	n := &network{t: t, store: s, prefix: prefix, client: client}
	if config != "" {
		n.putConfig(config)
	}
	return n
}

// rpc is a context with the deadline of one request.
func (n *network) rpc() context.Context {
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	n.t.Cleanup(cancel)
	return ctx
}

func (n *network) must(err error) {
	n.t.Helper()
	if err != nil {
		n.t.Fatal(err)
	}
}

func (n *network) configKey() string       { return n.prefix + "/config" }
func (n *network) key(lease string) string { return n.prefix + "/subnets/" + lease }

func (n *network) putConfig(raw string) {
	n.t.Helper()
	_, err := n.client.Put(n.rpc(), n.configKey(), raw)
	n.must(err)
}

// put writes a lease that some other program keeps for ttl; 0: no TTL.
func (n *network) put(lease, value string, ttl time.Duration) clientv3.LeaseID {
	n.t.Helper()
	var id clientv3.LeaseID
	if ttl > 0 {
		grant, err := n.client.Grant(n.rpc(), int64(ttl/time.Second))
		n.must(err)
		id = grant.ID
	}
	_, err := n.client.Put(n.rpc(), n.key(lease), value, clientv3.WithLease(id))
	n.must(err)
	return id
}

func (n *network) delete(lease string) {
	n.t.Helper()
	_, err := n.client.Delete(n.rpc(), n.key(lease))
	n.must(err)
}

func (n *network) revoke(id clientv3.LeaseID) {
	n.t.Helper()
	_, err := n.client.Revoke(n.rpc(), id)
	n.must(err)
}

// leases are all keys under subnets/ by their last part.
func (n *network) leases() map[string]Lease {
	n.t.Helper()
	r := Registry{prefix: n.prefix}
	resp, err := n.client.Get(n.rpc(), r.subnetsKey(), clientv3.WithPrefix())
	n.must(err)
	leases := map[string]Lease{}
	for _, kv := range resp.Kvs {
		if l, ok := r.leaseOf(kv); ok {
			leases[l.Name] = l
		}
	}
	return leases
}

// waitFor polls etcd until ok; what says what for.
func (n *network) waitFor(what string, ok func(map[string]Lease) bool) {
	n.t.Helper()
	var leases map[string]Lease
	for end := time.Now().Add(patience); time.Now().Before(end); time.Sleep(10 * time.Millisecond) {
		if leases = n.leases(); ok(leases) {
			return
		}
	}
	n.t.Fatalf("etcd never had: %s; it has %+v", what, leases)
}

func (n *network) etcd() EtcdConfig {
	return EtcdConfig{Endpoints: []string{n.store.server.Endpoint()}, Prefix: n.prefix}
}

// host is the i-th host's identity.
func host(i int) Identity {
	return Identity{
		NodeID:   fmt.Sprintf("id-%d", i),
		Node:     fmt.Sprintf("host-%d", i),
		PublicIP: netip.AddrFrom4([4]byte{192, 0, 2, byte(i)}),
		Port:     8285,
	}
}

// copyDir copies a stopped etcd's data.
func copyDir(t *testing.T, dir string) string {
	t.Helper()
	to := filepath.Join(t.TempDir(), "copy")
	if err := os.CopyFS(to, os.DirFS(dir)); err != nil {
		t.Fatal(err)
	}
	return to
}
