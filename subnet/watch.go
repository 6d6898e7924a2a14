package subnet

import (
	"context"
	"errors"

	clientv3 "go.etcd.io/etcd/client/v3"
	"google.golang.org/grpc"
	"google.golang.org/grpc/connectivity"
)

// watch follows config and leases from revision on, until ctx ends or events
// closes. A member that has lost the cluster ends it instead of staying silent
// (WithRequireLeader). lost signals each time when the connection to etcd
// breaks: events itself would only be silent.
func (r *Registry) watch(ctx context.Context, revision int64) (events <-chan clientv3.WatchResponse, lost <-chan struct{}, err error) {
	client, err := r.connect(ctx)
	if err != nil {
		return nil, nil, err
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
	return responses, connectionLost(ctx, client.ActiveConnection()), nil
}

func connectionLost(ctx context.Context, conn *grpc.ClientConn) <-chan struct{} {
	lost := make(chan struct{}, 1)
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
	if !open {
		return errors.New("the watch was closed")
	}
	return resp.Err() // ErrCompacted where its revision is no longer there
}
