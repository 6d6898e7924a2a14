package subnet

import (
	"context"
	"net/netip"
	"testing"
	"time"
)

// An etcd that takes requests and never answers: every RPC ends by itself, not only
// those whose caller has a deadline.
func TestEveryRPCHasADeadline(t *testing.T) {
	t.Parallel()
	n := newNetwork(t, wideConfig)
	h, wire := n.dialThroughRelay(host(1))
	own, err := h.acquire()
	n.must(err)
	wire.hush(true)
	r, ctx := h.registry, context.Background()
	_, to := r.span()
	free := Key{Subnet: netip.MustParsePrefix("10.5.1.0/24")}
	rpcs := map[string]func() error{
		"lease":      func() error { _, _, _, err := r.lease(ctx, own.Name); return err },
		"page":       func() error { _, err := r.readPage(ctx, r.configKey(), to, 0); return err },
		"create":     func() error { _, _, err := r.create(ctx, free, own.Value, time.Hour); return err },
		"update":     func() error { _, _, err := r.update(ctx, own, own.Value); return err },
		"remove":     func() error { _, err := r.remove(ctx, own); return err },
		"renew":      func() error { _, err := r.renew(ctx, own.ID); return err },
		"revoke":     func() error { return r.revoke(ctx, own.ID) },
		"TimeToLive": func() error { _, err := r.TimeToLive(ctx, own); return err },
	}
	type result struct {
		name string
		err  error
	}
	results := make(chan result, len(rpcs))
	for name, rpc := range rpcs {
		go func() { results <- result{name, rpc()} }()
	}
	late := time.After(keepaliveTime + keepaliveTimeout/2) // after both the connection ends, and the RPCs with it
	for range len(rpcs) {
		select {
		case r := <-results:
			if r.err == nil || !transient(r.err) {
				t.Errorf("%s: %v, want an error that lets it be tried again", r.name, r.err)
			}
			delete(rpcs, r.name)
		case <-late:
			for name := range rpcs {
				t.Errorf("%s waits for etcd for ever", name)
			}
			wire.hush(false)
			return
		}
	}
}
