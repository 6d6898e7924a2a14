package subnet

import (
	"context"
	"errors"
	"fmt"

	clientv3 "go.etcd.io/etcd/client/v3"
	"google.golang.org/grpc/connectivity"
)

// watch follows config and leases from revision on, until ctx ends or the
// channel closes. A member that has lost the cluster ends it instead of staying
// silent (WithRequireLeader).
func (r *Registry) watch(ctx context.Context, revision int64) <-chan clientv3.WatchResponse {
	from, to := r.span()
	responses := make(chan clientv3.WatchResponse)
	go func() { // Watch itself blocks until etcd has answered
		defer close(responses)
		for resp := range r.client.Watch(clientv3.WithRequireLeader(ctx), from, to, clientv3.WithRev(revision)) {
			select {
			case responses <- resp:
			case <-ctx.Done():
				return
			}
		}
	}()
	return responses
}

// connectionLost signals each time when the connection to etcd breaks: the
// watch itself would only be silent. It ends with ctx.
func (r *Registry) connectionLost(ctx context.Context) <-chan struct{} {
	lost := make(chan struct{}, 1)
	conn := r.client.ActiveConnection()
	go func() {
		for state := conn.GetState(); conn.WaitForStateChange(ctx, state); state = conn.GetState() {
			if state == connectivity.Ready {
				select {
				case lost <- struct{}{}:
				default:
				}
			}
		}
	}()
	return lost
}

// watchError says why a watch cannot go on, or nil.
func watchError(resp clientv3.WatchResponse, open bool) error {
	switch {
	case !open:
		return errors.New("the watch was closed")
	case resp.CompactRevision != 0:
		return fmt.Errorf("the watch's revision was compacted, etcd starts at %d", resp.CompactRevision)
	}
	return resp.Err()
}
