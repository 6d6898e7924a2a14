package subnet

import (
	"maps"
	"slices"
	"sync"
	"testing"
	"time"
)

// Each RPC is told, the keep-alive of the lease among them, and how it ended.
func TestRPCsAreObserved(t *testing.T) {
	t.Parallel()
	n := newNetwork(t, wideConfig)
	r := n.dial(host(1)).registry
	var mu sync.Mutex
	seen := map[string]int{}
	r.Observe = func(method, code string, took time.Duration) {
		mu.Lock()
		defer mu.Unlock()
		seen[method+" "+code]++
		if took <= 0 || took > patience {
			t.Errorf("%s took %v", method, took)
		}
	}
	id := n.put("10.5.1.0-24", valueOf(host(1)), time.Minute)
	if _, err := r.renew(n.rpc(), id); err != nil {
		t.Fatal(err)
	}
	if _, err := r.snapshot(n.rpc()); err != nil {
		t.Fatal(err)
	}
	if err := r.revoke(n.rpc(), 4711); err != nil { // not there
		t.Fatal(err)
	}
	want := []string{"LeaseKeepAlive OK", "LeaseRevoke NotFound", "Range OK"}
	if got := slices.Sorted(maps.Keys(seen)); !slices.Equal(got, want) {
		t.Errorf("observed %q, want %q", got, want)
	}
}
