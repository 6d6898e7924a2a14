// Package embedetcd runs a real, single-member etcd inside the process: the
// store of `twill run --embed-etcd`, of the demo and of the tests.
//
// The flow: [Start] claims the data directory, starts etcd and returns once it
// answers clients. [Server.Err] reports that it died. [Server.Close] ends it in
// well under a second, whatever its clients have open. The data directory is
// all its state; it may be started again on it with another listen address.
//
// The member has no peers, so its peer listener is only there because etcd
// insists on one: an ephemeral port on loopback that no one is told.
package embedetcd

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"net/url"
	"os"
	"time"

	"go.etcd.io/etcd/server/v3/embed"
	"google.golang.org/grpc"
)

const (
	// memberName names the only member. It is written into the data at the
	// first start and must stay the same for ever.
	memberName = "twill"

	// quotaBytes bounds the database. A lease is some 300 bytes and history
	// is compacted, so a table of thousands of hosts stays below a tenth.
	quotaBytes = 256 << 20

	// compactionRetention is how much history watchers may resume from, in
	// etcd's notation; older revisions are compacted away.
	compactionRetention = "1h"

	// heartbeat and election are raft's timers, in milliseconds, a tenth of
	// etcd's defaults: with one member they only delay the first election.
	heartbeat = 10
	election  = 100

	// closeTimeout bounds Close. etcd needs some 20 ms; what has not ended by
	// then is stuck and would not end later.
	closeTimeout = 800 * time.Millisecond
)

// Config says where an etcd keeps its data and where it listens.
type Config struct {
	// Dir is the data directory, made if missing (mode 0700).
	Dir string
	// Listen is the client address, plain HTTP/gRPC without authentication.
	// Port 0 takes a free port; see [Server.Endpoint].
	Listen netip.AddrPort
	// NoSync leaves out fsync: for labs, where a crash may lose everything.
	NoSync bool
	// Log gets etcd's warnings and errors. Nil discards them.
	Log *slog.Logger
}

// Server is a running etcd.
type Server struct {
	etcd *embed.Etcd
	lock *os.File
	logs *logBridge

	rpc  chan *grpc.Server // etcd's own, kept to cut its clients off; capacity 1
	err  chan error        // capacity 1
	quit chan struct{}     // closed by Close: errors from now on are its doing
	done chan struct{}     // closed when etcd has ended after Close
}

// Start starts etcd and returns when it serves clients. Cancelling ctx gives up
// the start; it has no effect on a server that has started.
//
// The error says which address or directory is at fault: the address is in use,
// the directory cannot be written, is damaged, or belongs to a running etcd.
func Start(ctx context.Context, c Config) (*Server, error) {
	if !c.Listen.IsValid() {
		return nil, fmt.Errorf("embedded etcd: listen address %q: want ADDRESS:PORT", c.Listen)
	}
	lock, err := claimDir(c.Dir)
	if err != nil {
		return nil, fmt.Errorf("embedded etcd: %w", err)
	}
	s := &Server{
		lock: lock,
		rpc:  make(chan *grpc.Server, 1),
		err:  make(chan error, 1),
		quit: make(chan struct{}),
		done: make(chan struct{}),
	}
	s.logs = newLogBridge(c.Log, s.fail)
	if err := s.start(ctx, c); err != nil {
		s.Close()
		return nil, fmt.Errorf("embedded etcd: %w", err)
	}
	s.logs.announce()
	go s.watch()
	return s, nil
}

// start starts etcd and waits until it has elected itself.
func (s *Server) start(ctx context.Context, c Config) error {
	if err := s.launch(ctx, c); err != nil {
		return fmt.Errorf("start on %s with data in %s: %w", c.Listen, c.Dir, err)
	}
	select {
	case <-s.etcd.Server.ReadyNotify():
		return nil
	case err := <-s.etcd.Err():
		return fmt.Errorf("serve on %s: %w", c.Listen, err)
	case err := <-s.err:
		return fmt.Errorf("serve on %s: %w", c.Listen, err)
	case <-ctx.Done():
		return fmt.Errorf("serve on %s: %w", c.Listen, ctx.Err())
	}
}

// launched is what etcd's own start returns.
type launched struct {
	etcd *embed.Etcd
	err  error
}

// launch calls etcd's own start, which knows no context and on some faults would
// end the process: in a goroutine that ctx abandons or [logBridge] ends.
func (s *Server) launch(ctx context.Context, c Config) error {
	result := make(chan launched, 1)
	go func() {
		etcd, err := embed.StartEtcd(s.embedConfig(c))
		result <- launched{etcd, err}
	}()
	select {
	case r := <-result:
		s.etcd = r.etcd
		return r.err
	case err := <-s.err:
		return err
	case <-ctx.Done():
		s.abandon(result)
		return ctx.Err()
	}
}

// abandon leaves what comes of a start to Close. etcd goes on writing until its
// start is through, which is waited for, if it does not take long.
func (s *Server) abandon(result <-chan launched) {
	select {
	case r := <-result:
		s.etcd = r.etcd
	case <-time.After(closeTimeout):
		go func() {
			if r := <-result; r.etcd != nil {
				r.etcd.Close()
			}
		}()
	}
}

// embedConfig is etcd's configuration for one member without peers.
func (s *Server) embedConfig(c Config) *embed.Config {
	client := url.URL{Scheme: "http", Host: c.Listen.String()}
	peer := url.URL{Scheme: "http", Host: "127.0.0.1:0"}

	e := embed.NewConfig()
	e.Name = memberName
	e.Dir = c.Dir
	e.ListenClientUrls = []url.URL{client}
	e.AdvertiseClientUrls = []url.URL{client}
	e.ListenPeerUrls = []url.URL{peer}
	e.AdvertisePeerUrls = []url.URL{peer}
	e.InitialCluster = e.InitialClusterFromName(memberName)
	e.TickMs = heartbeat
	e.ElectionMs = election
	e.QuotaBackendBytes = quotaBytes
	e.AutoCompactionMode = embed.CompactorModePeriodic
	e.AutoCompactionRetention = compactionRetention
	e.UnsafeNoFsync = c.NoSync
	e.EnableGRPCGateway = false // JSON over HTTP: it would need to know the port before it is chosen
	e.ServiceRegister = func(rpc *grpc.Server) { s.rpc <- rpc }
	e.ZapLoggerBuilder = embed.NewZapLoggerBuilder(s.logs.zap())
	return e
}

// Endpoint is the URL clients connect to: http://host:port.
func (s *Server) Endpoint() string {
	return "http://" + s.etcd.Clients[0].Addr().String()
}

// Err gives at most one error: why the server died while it was running. It
// gives none because of Close.
func (s *Server) Err() <-chan error { return s.err }

// watch hands on the error that ends etcd's listeners.
func (s *Server) watch() {
	select {
	case <-s.quit:
	case err := <-s.etcd.Err():
		if err == nil {
			err = errors.New("stopped serving")
		}
		s.fail(fmt.Errorf("embedded etcd: %w", err))
	}
}

// fail reports the first error of a server that is not being closed.
func (s *Server) fail(err error) {
	select {
	case <-s.quit:
		return
	default:
	}
	select {
	case s.err <- err:
	default:
	}
}

// Close ends the server and returns within [closeTimeout]. Clients are cut off.
// Closing twice is closing once; it must not be called from two goroutines.
func (s *Server) Close() {
	select {
	case <-s.quit:
		return
	default:
	}
	close(s.quit)
	s.logs.hush()
	go func() {
		defer close(s.done)
		defer s.lock.Close()
		if s.etcd == nil {
			return
		}
		// etcd lets clients finish, and a watch never does: cut them off.
		select {
		case rpc := <-s.rpc:
			rpc.Stop()
		default: // never got that far
		}
		s.etcd.Close()
	}()
	select {
	case <-s.done:
	case <-time.After(closeTimeout):
	}
}
