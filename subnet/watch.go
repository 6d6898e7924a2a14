package subnet

import (
	"context"
	"errors"

	clientv3 "go.etcd.io/etcd/client/v3"
)

// watch follows config and leases from revision on, until ctx ends or events
// closes. A member that has lost the cluster ends it instead of staying silent
// (WithRequireLeader); a connection that breaks (connection.broke) does not.
func (r *Registry) watch(ctx context.Context, revision int64) (events <-chan clientv3.WatchResponse, err error) {
	from, to := r.span()
	return r.watchKeys(ctx, from, to, clientv3.WithRev(revision))
}

// watchLease follows one lease from now on. Its first response is without events and
// says that it does: what was written before has to be read.
func (r *Registry) watchLease(ctx context.Context, name string) (events <-chan clientv3.WatchResponse, err error) {
	return r.watchKeys(ctx, r.leaseKey(name), clientv3.WithCreatedNotify())
}

func (r *Registry) watchKeys(ctx context.Context, from string, opts ...clientv3.OpOption) (<-chan clientv3.WatchResponse, error) {
	client, err := r.connect(ctx)
	if err != nil {
		return nil, err
	}
	responses := make(chan clientv3.WatchResponse)
	go func() { // Watch itself blocks until etcd has answered
		defer close(responses)
		for resp := range client.Watch(clientv3.WithRequireLeader(ctx), from, opts...) {
			select {
			case responses <- resp:
			case <-ctx.Done():
				return
			}
		}
	}()
	return responses, nil
}

// watchError says why a watch cannot go on, or nil.
func watchError(resp clientv3.WatchResponse, open bool) error {
	if !open {
		return errors.New("the watch was closed")
	}
	return resp.Err() // ErrCompacted where its revision is no longer there
}
