package subnet

import (
	"context"
	"sync"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
)

// EndpointState is what one of etcd's endpoints says of itself.
type EndpointState struct {
	Endpoint  string
	Version   string
	RoundTrip time.Duration // of asking it
	Errors    []string      // alarms, a missing leader
	Err       error         // it gave no answer
}

// endpointTimeout bounds the wait for one endpoint.
const endpointTimeout = 4 * time.Second

// Endpoints asks each of etcd's endpoints by itself how it is.
func (r *Registry) Endpoints(ctx context.Context) []EndpointState {
	states := make([]EndpointState, len(r.config.Endpoints))
	var group sync.WaitGroup
	for i, endpoint := range r.config.Endpoints {
		group.Go(func() { states[i] = r.endpointState(ctx, endpoint) })
	}
	group.Wait()
	return states
}

func (r *Registry) endpointState(ctx context.Context, endpoint string) EndpointState {
	ctx, cancel := context.WithTimeout(ctx, endpointTimeout)
	defer cancel()
	s := EndpointState{Endpoint: endpoint}
	client, err := r.connect(ctx)
	if err != nil {
		s.Err = err
		return s
	}
	var status *clientv3.StatusResponse
	if _, s.Err = client.Status(ctx, endpoint); s.Err == nil { // the first also connects
		begin := time.Now()
		status, s.Err = client.Status(ctx, endpoint)
		s.RoundTrip = time.Since(begin)
	}
	if s.Err == nil {
		s.Version, s.Errors = status.Version, status.Errors
	}
	return s
}
