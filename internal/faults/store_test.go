package faults

import (
	"context"
	"encoding/json"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
	"go.uber.org/zap"
	"golang.org/x/sys/unix"
	"google.golang.org/grpc"
	grpcbackoff "google.golang.org/grpc/backoff"

	"twill/internal/lab"
)

const (
	clientPort = 2379 // etcd's registered ports
	peerPort   = 2380
)

// store is an etcd cluster: each member is a process on a lab host of its own.
type store struct {
	members []*member
	client  *clientv3.Client // the operator's, from the lab's own namespace
	opts    storeOptions
}

// storeOptions shape the members.
type storeOptions struct {
	pki       *pki          // nil: no TLS
	tokenLife time.Duration // of a login, whole seconds; 0: etcd's own
}

type member struct {
	config  memberConfig
	host    *lab.Host
	process *lab.Process // nil: not running
}

// newStore prepares a cluster of one member a host; nothing runs yet.
func newStore(hosts []*lab.Host, o storeOptions) (*store, error) {
	s := &store{opts: o}
	var cluster []string
	for _, h := range hosts {
		c := memberConfig{
			Name:         h.Name,
			Dir:          filepath.Join(h.Dir(), "etcd"),
			Client:       "http://" + netip.AddrPortFrom(h.Addr(), clientPort).String(),
			Peer:         "http://" + netip.AddrPortFrom(h.Addr(), peerPort).String(),
			TokenSeconds: uint(o.tokenLife / time.Second),
		}
		if o.pki != nil {
			c.Client = strings.Replace(c.Client, "http", "https", 1)
			c.CertFile, c.KeyFile, c.CAFile = o.pki.file(etcdCert+".crt"), o.pki.file(etcdCert+".key"), o.pki.caFile()
		}
		cluster = append(cluster, c.Name+"="+c.Peer)
		s.members = append(s.members, &member{config: c, host: h})
	}
	for _, m := range s.members {
		m.config.Cluster = strings.Join(cluster, ",")
	}
	if o.pki != nil {
		if err := s.issue(valid); err != nil {
			return nil, err
		}
	}
	var err error
	s.client, err = s.connect("", "")
	return s, err
}

// issue makes the members' certificate anew.
func (s *store) issue(life time.Duration) error {
	addrs := []netip.Addr{}
	for _, m := range s.members {
		addrs = append(addrs, m.host.Addr())
	}
	return s.opts.pki.issue(etcdCert, life, addrs...)
}

// operatorBackoff makes the operator's client find an etcd that is back within a
// moment, so that it does not count as the daemons' slowness.
var operatorBackoff = grpcbackoff.Config{BaseDelay: 50 * time.Millisecond, Multiplier: 1, MaxDelay: 50 * time.Millisecond}

// connect makes a client of the operator; user "" does not log in.
func (s *store) connect(user, password string) (*clientv3.Client, error) {
	c := clientv3.Config{
		Endpoints:   s.urls(),
		Username:    user,
		Password:    password,
		DialTimeout: patience,
		DialOptions: []grpc.DialOption{grpc.WithConnectParams(grpc.ConnectParams{Backoff: operatorBackoff, MinConnectTimeout: rpcTimeout})},
		Logger:      zap.NewNop(),
	}
	if s.opts.pki != nil {
		c.TLS = s.opts.pki.operatorTLS()
	}
	return clientv3.New(c)
}

func (s *store) urls() (urls []string) {
	for _, m := range s.members {
		urls = append(urls, m.config.Client)
	}
	return urls
}

// start starts the members that do not run and waits until they serve.
func (s *store) start(ctx context.Context) error {
	var started []*member
	for _, m := range s.members {
		if m.process == nil {
			if err := m.launch(); err != nil {
				return err
			}
			started = append(started, m)
		}
	}
	for _, m := range started {
		if err := m.process.Ready(ctx); err != nil {
			return err
		}
	}
	return nil
}

func (m *member) launch() error {
	raw, err := json.Marshal(m.config)
	if err != nil {
		return err
	}
	m.process, err = m.host.StartProgram("/proc/self/exe", memberCommand, string(raw))
	return err
}

// stop ends the member as its service manager would.
func (m *member) stop(ctx context.Context) error {
	code, err := m.process.Stop(ctx)
	if err == nil && code != 0 {
		err = fmt.Errorf("%s: exit code %d", m.process, code)
	}
	m.process = nil
	return err
}

func (m *member) kill() {
	m.process.Kill()
	m.process = nil
}

// pause stops the member's processor time, and resume gives it back.
func (m *member) pause() error  { return m.process.Signal(unix.SIGSTOP) }
func (m *member) resume() error { return m.process.Signal(unix.SIGCONT) }

// wipe removes the data of a member that does not run.
func (m *member) wipe() error { return os.RemoveAll(m.config.Dir) }

// backup copies the member's data while it is paused for a moment: what a crash
// at that moment would leave.
func (m *member) backup(to string) error {
	if err := m.pause(); err != nil {
		return err
	}
	copied := os.CopyFS(to, os.DirFS(m.config.Dir))
	if err := m.resume(); err != nil {
		return err
	}
	return copied
}

// restore puts a backup in the place of the data of a member that does not run.
func (m *member) restore(from string) error {
	if err := m.wipe(); err != nil {
		return err
	}
	return os.CopyFS(m.config.Dir, os.DirFS(from))
}

func (s *store) close() { s.client.Close() }
