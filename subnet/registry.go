package subnet

import (
	"context"
	"errors"
	"fmt"
	"math"
	"math/rand/v2"
	"strings"
	"time"

	"go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.etcd.io/etcd/api/v3/mvccpb"
	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	clientv3 "go.etcd.io/etcd/client/v3"
)

// Registry reads and writes the keys of one network: <prefix>/config and
// <prefix>/subnets/*. A method is one RPC or a few, each with a
// deadline; each write of a key is a transaction that compares.
type Registry struct {
	connection
	prefix     string
	pages      pages
	newLeaseID func() clientv3.LeaseID
	// Waiting, if set, is told at each try for what the Registry waits. It is for
	// Configure and Acquire; set it before they are called.
	Waiting func(state string)
}

func (r *Registry) configKey() string                 { return r.prefix + "/config" }
func (r *Registry) subnetsKey() string                { return r.prefix + "/subnets/" }
func (r *Registry) leaseKey(name string) string       { return r.subnetsKey() + name }
func (r *Registry) isConfig(kv *mvccpb.KeyValue) bool { return string(kv.Key) == r.configKey() }

// span is the one key range that holds both the config and all leases, so that
// one RPC reads them at one revision and one watch follows them.
func (r *Registry) span() (from string, to clientv3.OpOption) {
	return r.configKey(), clientv3.WithRange(clientv3.GetPrefixRangeEnd(r.subnetsKey()))
}

// Close ends the connection and all RPCs under way.
func (r *Registry) Close() error { return r.close() }

// Lease is one key under <prefix>/subnets/ as etcd holds it.
type Lease struct {
	Name string // the key's last part: 10.5.52.0-24
	Key
	Value
	ID             clientv3.LeaseID // 0: no TTL, a reservation
	CreateRevision int64
	ModRevision    int64
	Err            error // key or value does not parse
}

// Reserved reports whether the key has no TTL: it stays its owner's for ever.
func (l Lease) Reserved() bool { return l.ID == 0 }

// leaseOf parses kv; a key of something else under the span is not a lease.
func (r *Registry) leaseOf(kv *mvccpb.KeyValue) (Lease, bool) {
	name, ok := strings.CutPrefix(string(kv.Key), r.subnetsKey())
	if !ok {
		return Lease{}, false
	}
	l := Lease{
		Name:           name,
		ID:             clientv3.LeaseID(kv.Lease),
		CreateRevision: kv.CreateRevision,
		ModRevision:    kv.ModRevision,
	}
	l.parse(kv.Value)
	return l, true
}

// parse fills in what l's name and value say.
func (l *Lease) parse(value []byte) {
	var keyErr, valueErr error
	l.Key, keyErr = ParseKey(l.Name)
	l.Value, valueErr = ParseValue(value)
	l.Err = joinLine(keyErr, valueErr)
}

// answer is etcd's word on one key: at which revision, of which cluster.
type answer struct {
	revision int64
	cluster  uint64
}

// lease reads one lease; found is false where its key is free.
func (r *Registry) lease(ctx context.Context, name string) (l Lease, found bool, a answer, err error) {
	ctx, cancel := context.WithTimeout(ctx, rpcTimeout)
	defer cancel()
	client, err := r.connect(ctx)
	if err != nil {
		return Lease{}, false, answer{}, err
	}
	resp, err := client.Get(ctx, r.leaseKey(name))
	if err != nil {
		return Lease{}, false, answer{}, err
	}
	a = answer{revision: resp.Header.Revision, cluster: resp.Header.ClusterId}
	if len(resp.Kvs) == 0 {
		return Lease{}, false, a, nil
	}
	l, _ = r.leaseOf(resp.Kvs[0])
	return l, true, a, nil
}

// create takes a free subnet for ttl. won is false where somebody else was
// faster. After an error the outcome is unknown: read again and compare. Unless won,
// an l.ID that is not 0 is an etcd lease to be revoked, on which the key may hang.
func (r *Registry) create(ctx context.Context, key Key, v Value, ttl time.Duration) (l Lease, won bool, err error) {
	l = Lease{Name: key.String(), Key: key}
	l, won, err = r.putOnNew(ctx, l, v, ttl, clientv3.Compare(clientv3.CreateRevision(r.leaseKey(l.Name)), "=", 0))
	if won {
		l.CreateRevision = l.ModRevision
	}
	return l, won, err
}

// relet puts the key, as long as it is as l says, on a new etcd lease: the one that
// l names is gone, though it should have taken the key with it. Results are as
// those of create.
func (r *Registry) relet(ctx context.Context, l Lease, v Value, ttl time.Duration) (relet Lease, won bool, err error) {
	return r.putOnNew(ctx, l, v, ttl, clientv3.Compare(clientv3.ModRevision(r.leaseKey(l.Name)), "=", l.ModRevision))
}

// putOnNew writes v to l's key, under the condition, with a new etcd lease.
func (r *Registry) putOnNew(ctx context.Context, l Lease, v Value, ttl time.Duration, condition clientv3.Cmp) (put Lease, won bool, err error) {
	ctx, cancel := context.WithTimeout(ctx, rpcTimeout)
	defer cancel()
	client, err := r.connect(ctx)
	if err != nil {
		return Lease{}, false, err
	}
	id := r.newLeaseID()
	if err := grant(ctx, client, id, ttl); err != nil {
		err = fmt.Errorf("grant a lease of %v: %w", ttl, err)
		if refused(err) {
			return Lease{}, false, err
		}
		return Lease{ID: id}, false, err
	}
	resp, err := client.Txn(ctx).
		If(condition).
		Then(clientv3.OpPut(r.leaseKey(l.Name), string(v.Marshal()), clientv3.WithLease(id))).
		Commit()
	if err != nil && !refused(err) {
		return Lease{ID: id}, false, err
	}
	if err != nil || !resp.Succeeded {
		if r.revokeUnused(ctx, id) != nil {
			return Lease{ID: id}, false, err
		}
		return Lease{}, false, err
	}
	l.Value, l.ID, l.ModRevision, l.Err = v, id, resp.Header.Revision, nil
	return l, true, nil
}

// grant makes an etcd lease of an id that we choose: one whose answer is lost can
// then be revoked.
func grant(ctx context.Context, client *clientv3.Client, id clientv3.LeaseID, ttl time.Duration) error {
	request := &etcdserverpb.LeaseGrantRequest{ID: int64(id), TTL: int64(ttl / time.Second)}
	_, err := clientv3.RetryLeaseClient(client).LeaseGrant(ctx, request)
	err = clientv3.ContextError(ctx, err)
	if errors.Is(err, rpctypes.ErrLeaseExist) {
		return nil // by the client's own first try
	}
	return err
}

// randomLeaseID is one that nobody else has.
func randomLeaseID() clientv3.LeaseID { return clientv3.LeaseID(1 + rand.Int64N(math.MaxInt64)) }

// update writes a new value under the same etcd lease (or none: a reservation
// stays one). won is false where the key is no longer as l says.
func (r *Registry) update(ctx context.Context, l Lease, v Value) (updated Lease, won bool, err error) {
	resp, err := r.compareMod(ctx, l, clientv3.OpPut(r.leaseKey(l.Name), string(v.Marshal()), clientv3.WithIgnoreLease()))
	if err != nil || !resp.Succeeded {
		return Lease{}, false, err
	}
	l.Value, l.ModRevision = v, resp.Header.Revision
	return l, true, nil
}

// remove deletes the key while it is as l says, and its etcd lease with it.
func (r *Registry) remove(ctx context.Context, l Lease) (won bool, err error) {
	resp, err := r.compareMod(ctx, l, clientv3.OpDelete(r.leaseKey(l.Name)))
	if err != nil || !resp.Succeeded {
		return false, err
	}
	if !l.Reserved() {
		r.revokeUnused(ctx, l.ID)
	}
	return true, nil
}

// revokeUnused drops an etcd lease that holds no key any more: left alone it
// would only take memory there for the rest of its TTL.
func (r *Registry) revokeUnused(ctx context.Context, id clientv3.LeaseID) error {
	err := r.revoke(ctx, id)
	if err != nil {
		r.log.Debug("could not revoke an unused etcd lease", "err", explain(err))
	}
	return err
}

// revoke drops an etcd lease and the key on it, if there is one. One that is
// gone already is no error.
func (r *Registry) revoke(ctx context.Context, id clientv3.LeaseID) error {
	ctx, cancel := context.WithTimeout(ctx, rpcTimeout)
	defer cancel()
	client, err := r.connect(ctx)
	if err != nil {
		return err
	}
	if _, err := client.Revoke(ctx, id); err != nil && !errors.Is(err, rpctypes.ErrLeaseNotFound) {
		return err
	}
	return nil
}

func (r *Registry) compareMod(ctx context.Context, l Lease, op clientv3.Op) (*clientv3.TxnResponse, error) {
	ctx, cancel := context.WithTimeout(ctx, rpcTimeout)
	defer cancel()
	client, err := r.connect(ctx)
	if err != nil {
		return nil, err
	}
	return client.Txn(ctx).
		If(clientv3.Compare(clientv3.ModRevision(r.leaseKey(l.Name)), "=", l.ModRevision)).
		Then(op).
		Commit()
}

// renew extends the etcd lease by its granted TTL, which it returns.
// rpctypes.ErrLeaseNotFound means that it is gone, and the key with it.
func (r *Registry) renew(ctx context.Context, id clientv3.LeaseID) (time.Duration, error) {
	ctx, cancel := context.WithTimeout(ctx, rpcTimeout)
	defer cancel()
	began := time.Now()
	resp, err := r.keepAlive(ctx, id)
	r.observe("LeaseKeepAlive", began, err)
	if err != nil {
		return 0, clientv3.ContextError(ctx, err)
	}
	if resp.TTL <= 0 {
		return 0, rpctypes.ErrLeaseNotFound
	}
	return time.Duration(resp.TTL) * time.Second, nil
}

// keepAlive is one exchange on etcd's keep-alive stream. The client's own
// KeepAliveOnce repeats a failed one at once, again and again.
func (r *Registry) keepAlive(ctx context.Context, id clientv3.LeaseID) (*etcdserverpb.LeaseKeepAliveResponse, error) {
	client, err := r.connect(ctx)
	if err != nil {
		return nil, err
	}
	stream, err := clientv3.RetryLeaseClient(client).LeaseKeepAlive(ctx)
	if err != nil {
		return nil, err
	}
	if err := stream.Send(&etcdserverpb.LeaseKeepAliveRequest{ID: int64(id)}); err != nil {
		return nil, err
	}
	return stream.Recv()
}

// TimeToLive returns how long l's etcd lease still runs; 0 for a reservation
// or an expired one.
func (r *Registry) TimeToLive(ctx context.Context, l Lease) (time.Duration, error) {
	if l.Reserved() {
		return 0, nil
	}
	ctx, cancel := context.WithTimeout(ctx, rpcTimeout)
	defer cancel()
	client, err := r.connect(ctx)
	if err != nil {
		return 0, err
	}
	resp, err := client.TimeToLive(ctx, l.ID)
	if err != nil {
		return 0, err
	}
	return max(0, time.Duration(resp.TTL)*time.Second), nil
}
