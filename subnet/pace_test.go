package subnet

import (
	"fmt"
	"slices"
	"sync/atomic"
	"testing"
	"time"
)

// Where it takes long to put a table in force, changes share tables; the last one
// is never forgotten.
func TestChangesShareSlowTables(t *testing.T) {
	t.Parallel()
	const (
		changes = 200
		slow    = 20 * time.Millisecond
	)
	n := newNetwork(t, wideConfig)
	var tables atomic.Int64
	h := n.join(host(1), previous("10.5.1.0/24"), func(o *Options) {
		publish := o.Publish
		o.Publish = func(v View) {
			time.Sleep(slow) // the work of a daemon
			tables.Add(1)
			publish(v)
		}
	})
	before := tables.Load()
	var want []string
	for i := range changes {
		value := flannelValue(host(2).PublicIP)
		n.put(fmt.Sprintf("10.5.%d.0-24", i+2), value, 0)
		want = append(want, fmt.Sprintf("10.5.%d.0/24 192.0.2.2:8285", i+2))
	}
	h.waitFor("all peers", func(v View) bool { return slices.Equal(peersOf(v), want) })
	if made := tables.Load() - before; made > changes/2 {
		t.Errorf("%d tables for %d changes, want a fraction", made, changes)
	}
}

func TestPace(t *testing.T) {
	for _, tt := range []struct{ took, wait time.Duration }{
		{time.Microsecond, publishSoonest},
		{8 * time.Millisecond, 80 * time.Millisecond},
		{time.Minute, publishLatest},
	} {
		var p pace
		if p.published(epoch, epoch.Add(tt.took)); p.next != epoch.Add(tt.took+tt.wait) {
			t.Errorf("after %v: next after %v, want %v", tt.took, p.next.Sub(epoch.Add(tt.took)), tt.wait)
		}
	}
}

// What a whole fleet reads stays within its bounds, and small networks do not wait.
func TestReadingAllIsSpread(t *testing.T) {
	for _, n := range []int{0, 10, 1000, 10_000, 100_000} {
		every := fullAfter(n)
		if rate := float64(n) * float64(n) / every.Seconds(); every < compareEvery || rate > compareRate*1.001 {
			t.Errorf("%d hosts compare every %v: %.0f leases a second, want at most %d", n, every, rate, compareRate)
		}
		var sum time.Duration
		const tries = 1000
		for range tries {
			sum += herd(n)
		}
		mean, want := sum/tries, squareAt(n, herdRate)/2
		if mean < want*8/10 || mean > want*12/10+time.Nanosecond {
			t.Errorf("%d hosts wait %v on average, want about %v", n, mean, want)
		}
	}
	if most := squareAt(30, herdRate); most > 10*time.Millisecond {
		t.Errorf("a network of 30 waits up to %v", most)
	}
}

// A comparison that is due ends the watch: it must not then wait for others.
func TestDueComparisonIsNotSpread(t *testing.T) {
	m := NewManager(nil, Options{})
	for i := range 1000 {
		m.table.leases[fmt.Sprint(i)] = Lease{}
	}
	var compacted time.Duration
	for range 100 {
		if wait := m.spread(errDue); wait != 0 {
			t.Fatalf("the comparison waits another %v", wait)
		}
		compacted = max(compacted, m.spread(errResync))
	}
	if compacted < time.Second {
		t.Errorf("1,000 hosts wait at most %v before all of them read all", compacted)
	}
}
