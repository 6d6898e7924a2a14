package subnet

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"time"

	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
)

func TestBackoff(t *testing.T) {
	var b backoff
	want := backoffMin
	for range 12 {
		if d := b.pause(); d < want/2 || d > want {
			t.Fatalf("pause %v, want %v to %v", d, want/2, want)
		}
		want = min(2*want, backoffMax)
	}
	if want != backoffMax {
		t.Fatalf("after 12 pauses %v, want %v", want, backoffMax)
	}
}

func TestTransient(t *testing.T) {
	refused := status.Error(codes.Unavailable, `connection error: desc = "transport: Error while dialing: dial tcp 127.0.0.1:1: connect: connection refused"`)
	for _, tt := range []struct {
		err     error
		want    bool
		refuses bool
		explain string
	}{
		{refused, true, false, "dial tcp 127.0.0.1:1: connect: connection refused"},
		{fmt.Errorf("grant: %w", rpctypes.ErrNoSpace), true, true,
			"etcd is out of space (NOSPACE alarm): it renews leases, writes wait; compact and defragment it, then `etcdctl alarm disarm`"},
		{status.Error(codes.Unavailable, `connection error: desc = "error reading server preface: connection reset by peer"`), true, false, "error reading server preface: connection reset by peer"},
		{rpctypes.ErrNoLeader, true, false, "etcdserver: no leader"},
		{rpctypes.ErrTimeout, true, false, "etcdserver: request timed out"},
		{context.DeadlineExceeded, true, false, "no answer in 4s"},
		{fmt.Errorf("take: %w", context.DeadlineExceeded), true, false, "no answer in 4s"},
		{rpctypes.ErrAuthFailed, false, true, "etcdserver: authentication failed, invalid user ID or password"},
		{rpctypes.ErrPermissionDenied, false, true, "etcdserver: permission denied"},
		{rpctypes.ErrLeaseNotFound, false, false, "etcdserver: requested lease not found"},
		{status.Error(codes.Unavailable, `connection error: desc = "transport: authentication handshake failed: tls: failed to verify certificate: x509: unknown"`), false, true,
			"authentication handshake failed: tls: failed to verify certificate: x509: unknown"},
		{status.Error(codes.Unavailable, `connection error: desc = "transport: authentication handshake failed: remote error: tls: bad certificate"`), false, true,
			"authentication handshake failed: remote error: tls: bad certificate"},
		{status.Error(codes.Unavailable, `connection error: desc = "transport: authentication handshake failed: EOF"`), true, false, "authentication handshake failed: EOF"},
		{errors.New("anything else"), false, false, "anything else"},
		{context.Canceled, false, false, "context canceled"},
	} {
		if got := transient(tt.err); got != tt.want {
			t.Errorf("%v: transient %v, want %v", tt.err, got, tt.want)
		}
		if got := refuses(tt.err); got != tt.refuses {
			t.Errorf("%v: refuses %v, want %v", tt.err, got, tt.refuses)
		}
		if got := explain(tt.err); got != tt.explain {
			t.Errorf("%v: explained as %q, want %q", tt.err, got, tt.explain)
		}
	}
}

func TestSleepEndsWithItsContext(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	begin := time.Now()
	if err := sleep(ctx, time.Hour); err != context.Canceled || time.Since(begin) > time.Second {
		t.Fatalf("%v after %v, want context.Canceled at once", err, time.Since(begin))
	}
}
