package subnet

import (
	"context"
	"testing"
	"time"
)

func TestVitals(t *testing.T) {
	t.Parallel()
	n := newNetwork(t, wideConfig)
	wire := newRelay(t, n.store.listen.String())
	h := n.dialAt(EtcdConfig{Endpoints: []string{wire.url()}, Prefix: n.prefix}, host(1))
	if left, known := h.manager.LeaseLeft(); known {
		t.Errorf("%v are left of no lease", left)
	}
	h.start()
	left, known := h.manager.LeaseLeft()
	if !known || left > DefaultTTL || left < DefaultTTL-patience {
		t.Errorf("%v are left of a new lease (%v), want nearly %v", left, known, DefaultTTL)
	}

	const slow = 300 * time.Millisecond
	wire.hush(true)
	time.AfterFunc(2*slow, func() { wire.hush(false) })
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	for h.manager.Latency() < slow {
		if sleep(ctx, time.Millisecond) != nil {
			t.Fatalf("etcd answers in %v, want more than %v", h.manager.Latency(), slow)
		}
	}
}

// A reservation does not expire; what is left of a lease ends at 0, and is not known where the clock was set back.
func TestLeaseLeft(t *testing.T) {
	at := now()
	before, after := at, at
	before.SinceBoot -= time.Hour
	after.BootID, after.Wall = "another", after.Wall.Add(time.Hour)
	for _, tt := range []struct {
		name  string
		from  instant
		ttl   time.Duration
		least time.Duration
		known bool
	}{
		{"half", before, 2 * time.Hour, time.Hour - patience, true},
		{"expired", before, time.Minute, 0, true},
		{"reservation", at, 0, 0, false},
		{"clock set back", after, time.Hour, 0, false},
	} {
		m := &Manager{}
		m.vitals.leasedFrom(tt.from, tt.ttl)
		left, known := m.LeaseLeft()
		if known != tt.known || left < tt.least || left > tt.least+patience {
			t.Errorf("%s: %v, %v; want %v, %v", tt.name, left, known, tt.least, tt.known)
		}
	}
}
