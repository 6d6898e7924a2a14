package subnet

import (
	"testing"
	"time"
)

func TestTimeToLive(t *testing.T) {
	t.Parallel()
	n := newNetwork(t, wideConfig)
	r := n.dial(host(1)).registry
	n.put("10.5.1.0-24", valueOf(host(1)), time.Hour)
	n.put("10.5.2.0-24", valueOf(host(2)), 0)
	expired := n.leases()["10.5.1.0-24"]
	expired.ID++
	for _, tt := range []struct {
		lease Lease
		least time.Duration
		most  time.Duration
	}{
		{n.leases()["10.5.1.0-24"], 59 * time.Minute, time.Hour},
		{n.leases()["10.5.2.0-24"], 0, 0},
		{expired, 0, 0},
	} {
		if got, err := r.TimeToLive(n.rpc(), tt.lease); err != nil || got < tt.least || got > tt.most {
			t.Errorf("%s (%x): %v, %v; want %v to %v", tt.lease.Name, tt.lease.ID, got, err, tt.least, tt.most)
		}
	}
}
