package faults

import (
	"context"
	"crypto/tls"
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

// storeOptions shape the members; TLS files are the client listener's.
type storeOptions struct {
	certFile, keyFile, caFile string
	quotaBytes                int64
	tokenSeconds              uint

	clientTLS *tls.Config // the operator's
}

type member struct {
	config  memberConfig
	host    *lab.Host
	process *lab.Process // nil: not running
}

// newStore prepares a cluster of one member a host; nothing runs yet.
func newStore(hosts []*lab.Host, o storeOptions) (*store, error) {
	s := &store{opts: o}
	scheme := "http"
	if o.certFile != "" {
		scheme = "https"
	}
	var cluster []string
	for _, h := range hosts {
		c := memberConfig{
			Name:         h.Name,
			Dir:          filepath.Join(h.Dir(), "etcd"),
			Client:       scheme + "://" + netip.AddrPortFrom(h.Addr(), clientPort).String(),
			Peer:         "http://" + netip.AddrPortFrom(h.Addr(), peerPort).String(),
			CertFile:     o.certFile,
			KeyFile:      o.keyFile,
			CAFile:       o.caFile,
			QuotaBytes:   o.quotaBytes,
			TokenSeconds: o.tokenSeconds,
		}
		cluster = append(cluster, c.Name+"="+c.Peer)
		s.members = append(s.members, &member{config: c, host: h})
	}
	for _, m := range s.members {
		m.config.Cluster = strings.Join(cluster, ",")
	}
	var err error
	s.client, err = s.connect("", "")
	return s, err
}

// operatorBackoff makes the operator's client find an etcd that is back within a
// moment, so that it does not count as the daemons' slowness.
var operatorBackoff = grpcbackoff.Config{BaseDelay: 50 * time.Millisecond, Multiplier: 1, MaxDelay: 50 * time.Millisecond}

// connect makes a client of the operator; user "" does not log in.
func (s *store) connect(user, password string) (*clientv3.Client, error) {
	return clientv3.New(clientv3.Config{
		Endpoints:   s.urls(),
		TLS:         s.opts.clientTLS,
		Username:    user,
		Password:    password,
		DialTimeout: patience,
		DialOptions: []grpc.DialOption{grpc.WithConnectParams(grpc.ConnectParams{Backoff: operatorBackoff, MinConnectTimeout: rpcTimeout})},
		Logger:      zap.NewNop(),
	})
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
