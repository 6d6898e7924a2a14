package subnet

import (
	"fmt"
	"reflect"
	"testing"
)

// A network that is read in pages is the one that is read at once.
func TestSnapshotInPages(t *testing.T) {
	t.Parallel()
	n := newNetwork(t, wideConfig)
	for i := range 7 {
		n.put(fmt.Sprintf("10.5.%d.0-24", i+1), valueOf(host(i+1)), 0)
	}
	r := n.dial(host(100)).registry
	want, err := r.snapshot(n.rpc())
	n.must(err)
	if len(want.Leases) != 7 || want.ConfigRev == 0 {
		t.Fatalf("read %+v, want the config and 7 leases", want)
	}
	for _, size := range []int64{1, 3, 4, 8} {
		r.pages.size.Store(size)
		got, err := r.snapshot(n.rpc())
		n.must(err)
		if !reflect.DeepEqual(got, want) {
			t.Errorf("in pages of %d: %+v, want %+v", size, got, want)
		}
	}
}

// Where a page does not arrive in time, the next try asks for less.
func TestLatePageIsHalved(t *testing.T) {
	t.Parallel()
	n := newNetwork(t, wideConfig)
	wire := newRelay(t, n.store.listen.String())
	r := n.dialAt(EtcdConfig{Endpoints: []string{wire.url()}, Prefix: n.prefix}, host(1)).registry
	_, err := r.snapshot(n.rpc())
	n.must(err)
	if got := r.pages.keys(); got != pageMost {
		t.Fatalf("a page has %d keys, want %d", got, pageMost)
	}
	wire.hush(true)
	if s, err := r.snapshot(t.Context()); err == nil {
		t.Fatalf("read %+v through a silent connection", s)
	}
	if got := r.pages.keys(); got != pageMost/2 {
		t.Errorf("after a late page one has %d keys, want %d", got, pageMost/2)
	}
	wire.hush(false)
	_, err = r.snapshot(n.rpc())
	n.must(err)
	if got := r.pages.keys(); got != pageMost {
		t.Errorf("after a page in time one has %d keys, want %d", got, pageMost)
	}
	for range 100 {
		r.pages.late()
	}
	if got := r.pages.keys(); got != pageLeast {
		t.Errorf("the smallest page has %d keys, want %d", got, pageLeast)
	}
}
