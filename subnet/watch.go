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
	client, err := r.connect(ctx)
	if err != nil {
		return nil, err
	}
	from, to := r.span()
	responses := make(chan clientv3.WatchResponse)
	go func() { // Watch itself blocks until etcd has answered
		defer close(responses)
		for resp := range client.Watch(clientv3.WithRequireLeader(ctx), from, to, clientv3.WithRev(revision)) {
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
