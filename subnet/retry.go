package subnet

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"strings"
	"time"

	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
)

const (
	// rpcTimeout bounds every single RPC; without a deadline the client waits
	// for a connection for ever.
	rpcTimeout = 4 * time.Second
	backoffMin = 250 * time.Millisecond
	backoffMax = 15 * time.Second
)

// backoff is the pause before the next try: it doubles up to backoffMax, half
// of it random so that a fleet does not come back in step.
type backoff struct{ next time.Duration }

func (b *backoff) pause() time.Duration {
	d := max(b.next, backoffMin)
	b.next = min(2*d, backoffMax)
	return d/2 + rand.N(d/2+1)
}

// retry calls f until it succeeds, etcd refuses, or ctx ends. An etcd that is away is said once, and so is its return.
func (r *Registry) retry(ctx context.Context, what string, f func() error) error {
	var wait backoff
	var awaySince time.Time
	for {
		err := f()
		switch {
		case err == nil:
			if !awaySince.IsZero() {
				r.log.Info("etcd answers again", "after", time.Since(awaySince).Round(time.Second))
			}
			return nil
		case ctx.Err() != nil:
			return ctx.Err()
		case !transient(err):
			return fmt.Errorf("%s at %s: %w", what, strings.Join(r.endpoints, ","), err)
		}
		if awaySince.IsZero() {
			awaySince = time.Now()
			r.log.Warn("etcd does not answer; trying on", "task", what, "etcd-endpoints", strings.Join(r.endpoints, ","), "err", explain(err))
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(wait.pause()):
		}
	}
}

// transient reports whether err may go away by itself: no connection, no
// leader, no time, no space. All else is etcd's (or TLS's) considered no.
func transient(err error) bool {
	if strings.Contains(err.Error(), "authentication handshake failed") {
		return false // a certificate that does not verify; gRPC calls it Unavailable
	}
	if errors.Is(err, context.DeadlineExceeded) {
		return true
	}
	code := status.Code(err)
	var e rpctypes.EtcdError
	if errors.As(err, &e) {
		code = e.Code()
	}
	switch code {
	case codes.Unavailable, codes.DeadlineExceeded, codes.Internal, codes.ResourceExhausted:
		return true
	}
	return false
}

// explain turns gRPC's nested descriptions into the one cause that an operator
// can act on.
func explain(err error) string {
	s := err.Error()
	for _, marker := range []string{"transport: Error while dialing: ", "transport: "} {
		if _, cause, found := strings.Cut(s, marker); found {
			return strings.TrimSuffix(cause, "\"")
		}
	}
	if errors.Is(err, context.DeadlineExceeded) {
		return fmt.Sprintf("no answer in %v", rpcTimeout)
	}
	return s
}
