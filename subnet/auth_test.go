package subnet

import (
	"context"
	"fmt"
	"log/slog"
	"net/netip"
	"net/url"
	"strings"
	"testing"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
	"go.etcd.io/etcd/server/v3/embed"
	"go.uber.org/zap"
	"google.golang.org/grpc"
)

// minBcryptCost is bcrypt's lowest; etcd's own cost takes seconds to log in
// under the race detector.
const minBcryptCost = 4

// cheapLogins starts an etcd with minBcryptCost.
func cheapLogins(ctx context.Context, dir string, listen netip.AddrPort) (server, error) {
	return launchEtcd(ctx, dir, url.URL{Scheme: "http", Host: listen.String()}, func(c *embed.Config) { c.BcryptCost = minBcryptCost })
}

// launchEtcd starts an etcd of one member with what embedetcd does not offer.
func launchEtcd(ctx context.Context, dir string, client url.URL, adjust func(*embed.Config)) (server, error) {
	c := embed.NewConfig()
	c.Dir = dir
	peer := url.URL{Scheme: "http", Host: "127.0.0.1:0"}
	c.ListenClientUrls, c.AdvertiseClientUrls = []url.URL{client}, []url.URL{client}
	c.ListenPeerUrls, c.AdvertisePeerUrls = []url.URL{peer}, []url.URL{peer}
	c.InitialCluster = c.InitialClusterFromName(c.Name)
	c.TickMs, c.ElectionMs = 10, 100
	c.UnsafeNoFsync = true
	c.EnableGRPCGateway = false
	c.ZapLoggerBuilder = embed.NewZapLoggerBuilder(zap.NewNop())
	adjust(c)
	s := &ownServer{scheme: client.Scheme}
	c.ServiceRegister = func(rpc *grpc.Server) { s.rpc = rpc }
	var err error
	if s.etcd, err = embed.StartEtcd(c); err != nil {
		return nil, err
	}
	select {
	case <-s.etcd.Server.ReadyNotify():
		return s, nil
	case <-ctx.Done():
		s.etcd.Close()
		return nil, fmt.Errorf("own etcd: %w", ctx.Err())
	}
}

type ownServer struct {
	scheme string
	etcd   *embed.Etcd
	rpc    *grpc.Server
}

func (s *ownServer) Endpoint() string { return s.scheme + "://" + s.etcd.Clients[0].Addr().String() }

// Close cuts the clients off, as etcd would wait for their watches.
func (s *ownServer) Close() {
	s.rpc.Stop()
	s.etcd.Close()
}

// secured is an etcd of its own with users: root, and twill, who may touch the
// network's keys alone.
func secured(t *testing.T) (*network, EtcdConfig) {
	t.Helper()
	s := &store{dir: t.TempDir(), launch: cheapLogins}
	s.mustStart(t)
	t.Cleanup(s.stop)
	n := s.network(t, wideConfig)
	_, err := n.client.RoleAdd(n.rpc(), "twill")
	n.must(err)
	_, err = n.client.RoleGrantPermission(n.rpc(), "twill", n.prefix+"/", clientv3.GetPrefixRangeEnd(n.prefix+"/"), clientv3.PermissionType(clientv3.PermReadWrite))
	n.must(err)
	for _, user := range []string{"root", "twill", "nobody"} {
		_, err = n.client.UserAdd(n.rpc(), user, "secret-"+user)
		n.must(err)
		if user != "nobody" {
			_, err = n.client.UserGrantRole(n.rpc(), user, user)
			n.must(err)
		}
	}
	_, err = n.client.AuthEnable(n.rpc())
	n.must(err)
	c := n.etcd()
	c.Username, c.Password = "twill", "secret-twill"
	return n, c
}

func TestCredentials(t *testing.T) {
	t.Parallel()
	n, c := secured(t)
	h := n.dialAt(c, host(1)).start()
	second := n.dialAt(c, host(2)).start()
	h.waitPeers(second.own.Subnet.String() + " 192.0.2.2:8285")

	for _, tt := range []struct {
		name, user string
		password   Secret
		want       string
	}{
		{"wrong password", "twill", "wrong-password", "authentication failed"},
		{"unknown user", "nosuch", "wrong-password", "authentication failed"},
		{"no permission", "nobody", "secret-nobody", "permission denied"},
		{"no user", "", "", "give etcd-username and etcd-password"},
	} {
		c.Username, c.Password = tt.user, tt.password
		log := &logBuffer{}
		begin := time.Now()
		r, err := Dial(n.rpc(), c, slog.New(slog.NewTextHandler(log, nil)))
		if err == nil {
			_, err = r.Snapshot(n.rpc())
			r.Close()
		}
		if err == nil || !strings.Contains(err.Error(), tt.want) || strings.Contains(err.Error(), "wrong-password") {
			t.Errorf("%s: %v, want %q", tt.name, err, tt.want)
		}
		if d := time.Since(begin); d > rpcTimeout || log.String() != "" {
			t.Errorf("%s: took %v and logged %q, want an error at once", tt.name, d, log)
		}
	}

	// etcd forgets all tokens when it restarts: the node logs in again.
	n.store.restart(t, false)
	h.stop()
	third := n.dialAt(EtcdConfig{Endpoints: n.etcd().Endpoints, Prefix: n.prefix, Username: "twill", Password: "secret-twill"}, host(3)).start()
	second.waitFor("the third host", func(v View) bool {
		for _, p := range v.Peers {
			if p.Name == third.own.Name {
				return v.Etcd.Serves
			}
		}
		return false
	})
}

// Rights that are taken away at run time cost nothing but news.
func TestPermissionLostAtRunTime(t *testing.T) {
	t.Parallel()
	n, c := secured(t)
	h := n.dialAt(c, host(1)).start()
	c.Username, c.Password = "root", "secret-root"
	root := clientOf(t, n.dialAt(c, host(9)).registry)
	_, err := root.UserRevokeRole(n.rpc(), "twill", "twill")
	n.must(err)
	v := h.waitFor("etcd refuses", etcdAway)
	if !strings.Contains(v.Etcd.Err, "permission denied") {
		t.Errorf("because of %q, want permission denied", v.Etcd.Err)
	}
	_, err = root.UserGrantRole(n.rpc(), "twill", "twill")
	n.must(err)
	h.waitFor("etcd serves", etcdThere)
	if w := h.log.lines("level=WARN"); len(w) != 1 {
		t.Errorf("warnings %q, want one", w)
	}
}
