package subnet

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync/atomic"

	"go.etcd.io/etcd/api/v3/mvccpb"
	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	clientv3 "go.etcd.io/etcd/client/v3"
)

// Snapshot is the network at one revision of etcd.
type Snapshot struct {
	Revision    int64
	ClusterID   uint64
	Config      []byte
	ConfigRev   int64 // ModRevision of the config; 0: there is none
	Leases      []Lease
	configKey   string
	endpointsIn string
}

// ErrNoConfig is returned where the network has no config in etcd yet.
var ErrNoConfig = errors.New("no network config")

// ParseConfig validates the config of the snapshot.
func (s Snapshot) ParseConfig() (Config, error) {
	if s.ConfigRev == 0 {
		return Config{}, fmt.Errorf("%w at etcd key %s (%s); write one with `twill config set`, or start with --network CIDR", ErrNoConfig, s.configKey, s.endpointsIn)
	}
	c, err := ParseConfig(s.Config)
	if err != nil {
		return Config{}, fmt.Errorf("network config at etcd key %s: %w", s.configKey, err)
	}
	return c, nil
}

// Snapshot reads config and leases at one revision, which is etcd's latest: one
// RPC for up to 16,000 leases. An etcd that is away
// is waited for, and said; one that refuses is an error.
func (r *Registry) Snapshot(ctx context.Context) (Snapshot, error) {
	var s Snapshot
	err := r.retry(ctx, "read the leases", func() (err error) {
		s, err = r.snapshot(ctx)
		return err
	})
	return s, err
}

func (r *Registry) snapshot(ctx context.Context) (Snapshot, error) {
	for {
		s, err := r.readAll(ctx)
		if !errors.Is(err, rpctypes.ErrCompacted) { // after the first page: at a newer revision then
			return s, err
		}
	}
}

func (r *Registry) readAll(ctx context.Context) (Snapshot, error) {
	s := Snapshot{configKey: r.configKey(), endpointsIn: strings.Join(r.config.Endpoints, ",")}
	from, to := r.span()
	for more := true; more; {
		resp, err := r.readPage(ctx, from, to, s.Revision)
		if err != nil {
			return Snapshot{}, err
		}
		if s.Revision == 0 {
			s.Revision, s.ClusterID = resp.Header.Revision, resp.Header.ClusterId
		}
		r.add(&s, resp.Kvs)
		if more = resp.More; more {
			from = string(resp.Kvs[len(resp.Kvs)-1].Key) + "\x00" // the next key there can be
		}
	}
	r.pages.passed()
	return s, nil
}

// readPage reads the keys from one on, as many as a page has; revision 0 is the
// latest.
func (r *Registry) readPage(ctx context.Context, from string, to clientv3.OpOption, revision int64) (*clientv3.GetResponse, error) {
	pageCtx, cancel := context.WithTimeout(ctx, rpcTimeout)
	defer cancel()
	client, err := r.connect(pageCtx)
	if err != nil {
		return nil, err
	}
	resp, err := client.Get(pageCtx, from, to, clientv3.WithLimit(r.pages.keys()), clientv3.WithRev(revision))
	switch {
	case err == nil:
		r.pages.read.Add(1)
	case errors.Is(err, context.DeadlineExceeded) && ctx.Err() == nil:
		r.pages.late()
	}
	return resp, err
}

func (r *Registry) add(s *Snapshot, kvs []*mvccpb.KeyValue) {
	for _, kv := range kvs {
		if r.isConfig(kv) {
			s.Config, s.ConfigRev = kv.Value, kv.ModRevision
		} else if l, ok := r.leaseOf(kv); ok {
			s.Leases = append(s.Leases, l)
		}
	}
}

const (
	// pageMost is how many keys are read at a time: some 4 MB.
	pageMost = 1 << 14
	// pageLeast still arrives within rpcTimeout where a link has 256 kbit/s.
	pageLeast = 1 << 9
)

// pages says how many keys a page has: half as many after one that did not
// arrive in time, so that a large network is read over a slow link too, sooner or
// later; more again after all did.
type pages struct {
	size atomic.Int64  // 0: pageMost
	read atomic.Uint64 // so far
}

func (p *pages) keys() int64 {
	if n := p.size.Load(); n != 0 {
		return n
	}
	return pageMost
}

func (p *pages) late()   { p.size.Store(max(p.keys()/2, pageLeast)) }
func (p *pages) passed() { p.size.Store(min(p.keys()*2, pageMost)) }
