package subnet

import (
	"context"
	"fmt"
	"reflect"
	"testing"

	clientv3 "go.etcd.io/etcd/client/v3"
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
		want.Revision = got.Revision // that of the whole store, to which others write
		if !reflect.DeepEqual(got, want) {
			t.Errorf("in pages of %d: %+v, want %+v", size, got, want)
		}
	}
}

// All pages are of one revision, whatever is written meanwhile. Where that is
// compacted away before the last page, all are of a newer one.
func TestWriteBetweenPages(t *testing.T) {
	t.Parallel()
	s := newStore(t)
	for name, compacts := range map[string]bool{"written": false, "written and compacted": true} {
		t.Run(name, func(t *testing.T) {
			n := s.network(t, wideConfig)
			for i := range 4 {
				n.put(fmt.Sprintf("10.5.%d.0-24", i+1), valueOf(host(i+1)), 0)
			}
			r := n.dial(host(100)).registry
			client := clientOf(t, r)
			client.KV = &pagedKV{KV: client.KV, after: func(page int) {
				if page != 3 {
					return
				}
				n.put("10.5.9.0-24", valueOf(host(9)), 0)
				if compacts {
					resp, err := n.client.Get(n.rpc(), n.configKey())
					n.must(err)
					_, err = n.client.Compact(n.rpc(), resp.Header.Revision)
					n.must(err)
				}
			}}
			r.pages.size.Store(1)
			got, err := r.snapshot(n.rpc())
			n.must(err)
			want := 4
			if compacts {
				want = 5
			}
			if len(got.Leases) != want || got.ConfigRev == 0 {
				t.Errorf("read %v, want the config and %d leases", got.Leases, want)
			}
		})
	}
}

// pagedKV calls after with the number of each page that has been read.
type pagedKV struct {
	clientv3.KV
	pages int
	after func(page int)
}

func (kv *pagedKV) Get(ctx context.Context, key string, opts ...clientv3.OpOption) (*clientv3.GetResponse, error) {
	resp, err := kv.KV.Get(ctx, key, opts...)
	kv.pages++
	kv.after(kv.pages)
	return resp, err
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
