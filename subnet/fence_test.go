package subnet

import (
	"bytes"
	"context"
	"sync/atomic"
	"testing"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
)

// etcd says once that our subnet is another's, and is away from then on: whoever of
// Run hears it, that is enough.
func TestFenceIsHeardEverywhere(t *testing.T) {
	for name, prepare := range map[string]func(*Manager, *clientv3.Client){
		"while it watches": func(*Manager, *clientv3.Client) {},
		"before it watches on": func(_ *Manager, client *clientv3.Client) {
			client.Watcher = &brokenWatcher{Watcher: client.Watcher}
		},
		"before it reads all": func(m *Manager, _ *clientv3.Client) { m.cached, m.due.check = time.Now(), time.Now() },
		"as it reads all":     func(m *Manager, _ *clientv3.Client) { m.cached = time.Now() },
		"between two tries to read all": func(m *Manager, client *clientv3.Client) {
			client.KV = &oneKeyKV{client.KV}
			m.cached, m.due.check = time.Now(), time.Now().Add(2*backoffMin) // after the wait before the first try
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			n := newNetwork(t, wideConfig)
			h := n.dial(host(1), watchOnly)
			own, err := h.acquire()
			n.must(err)
			client := clientOf(t, h.registry)
			client.KV = &lastWordKV{KV: client.KV, last: []byte("host-2")}
			prepare(h.manager, client)
			n.put(own.Name, valueOf(host(2)), time.Hour)
			h.run()
			h.fenced("host-2")
		})
	}
}

// lastWordKV answers no more once it has read a value with last in it.
type lastWordKV struct {
	clientv3.KV
	last []byte
	said atomic.Bool
}

func (kv *lastWordKV) Get(ctx context.Context, key string, opts ...clientv3.OpOption) (*clientv3.GetResponse, error) {
	if kv.said.Load() {
		return nil, context.DeadlineExceeded
	}
	resp, err := kv.KV.Get(ctx, key, opts...)
	if err == nil {
		for _, pair := range resp.Kvs {
			if bytes.Contains(pair.Value, kv.last) {
				kv.said.Store(true)
			}
		}
	}
	return resp, err
}

// oneKeyKV answers no question about more.
type oneKeyKV struct{ clientv3.KV }

func (kv *oneKeyKV) Get(ctx context.Context, key string, opts ...clientv3.OpOption) (*clientv3.GetResponse, error) {
	if clientv3.OpGet(key, opts...).RangeBytes() != nil {
		return nil, context.DeadlineExceeded
	}
	return kv.KV.Get(ctx, key, opts...)
}
