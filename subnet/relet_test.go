package subnet

import (
	"context"
	"errors"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"go.etcd.io/bbolt"
	clientv3 "go.etcd.io/etcd/client/v3"
)

// dropLeases makes etcd forget every lease but keep the keys that were on them, as a
// damaged store does. Such a key never expires.
func (s *store) dropLeases(t *testing.T) {
	t.Helper()
	s.stop()
	db, err := bbolt.Open(filepath.Join(s.dir, "member", "snap", "db"), 0o600, nil)
	if err != nil {
		t.Fatal(err)
	}
	err = db.Update(func(tx *bbolt.Tx) error {
		bucket := []byte("lease")
		if err := tx.DeleteBucket(bucket); err != nil {
			return err
		}
		_, err := tx.CreateBucket(bucket)
		return err
	})
	if err := errors.Join(err, db.Close()); err != nil {
		t.Fatal(err)
	}
	s.mustStart(t)
}

// onALease fails unless the key of a lease hangs on an etcd lease that exists.
func (n *network) onALease(l Lease) {
	n.t.Helper()
	resp, err := n.client.TimeToLive(n.rpc(), l.ID)
	n.must(err)
	if got := n.leases()[l.Name]; resp.TTL <= 0 || got != l {
		n.t.Errorf("etcd has %+v with a TTL of %d s, the node believes %+v", got, resp.TTL, l)
	}
}

func TestKeyWithoutItsLease(t *testing.T) {
	t.Parallel()
	s := newStore(t)
	n := s.network(t, wideConfig)
	t.Run("at a start", func(t *testing.T) {
		first := n.join(host(1))
		first.stop()
		s.dropLeases(t)
		again := n.join(host(1))
		if again.own.Name != first.own.Name || again.own.CreateRevision != first.own.CreateRevision {
			t.Errorf("got %+v, had %+v", again.own, first.own)
		}
		n.onALease(again.own)
		again.stop()
	})
	t.Run("at run time", func(t *testing.T) {
		h := n.dial(host(1))
		own, err := h.acquire()
		n.must(err)
		s.dropLeases(t)
		for h.manager.own.ID == own.ID {
			n.must(h.manager.keep(n.rpc())) // its first ones find no etcd
		}
		if h.manager.own.CreateRevision != own.CreateRevision {
			t.Errorf("the key was made anew: %+v, before %+v", h.manager.own, own)
		}
		n.onALease(h.manager.own)
	})
}

// A write that etcd refuses leaves no etcd lease behind. One that ends with its
// context may have been made: its lease is known.
func TestOutcomeOfACreate(t *testing.T) {
	t.Parallel()
	n := newNetwork(t, wideConfig)
	h := n.dial(host(1))
	calls := countRPCs(t, h.registry)
	large := host(1).value()
	large.Node = strings.Repeat("x", 1_600_000) // etcd takes 1.5 MiB
	key := Key{Subnet: usual(host(1))}
	l, won, err := h.registry.create(n.rpc(), key, large, time.Hour)
	if won || err == nil || l.ID != 0 {
		t.Fatalf("create of too much: %x, %t, %v; want an error and no lease", l.ID, won, err)
	}
	if resp, err := n.client.TimeToLive(n.rpc(), calls.granted[0]); err != nil || resp.TTL != -1 {
		t.Errorf("etcd lease %x is still there: %v, %v", calls.granted[0], resp, err)
	}

	ctx, cancel := context.WithCancel(n.rpc())
	client := clientOf(t, h.registry)
	client.KV = &endingKV{client.KV, cancel}
	l, won, err = h.registry.create(ctx, key, host(1).value(), time.Hour)
	if won || !errors.Is(err, context.Canceled) || l.ID != n.leases()[key.String()].ID {
		t.Errorf("create whose context ends: %x, %t, %v; want etcd's lease and context.Canceled", l.ID, won, err)
	}
}

// endingKV ends a context once a transaction is committed, before its answer.
type endingKV struct {
	clientv3.KV
	end context.CancelFunc
}

func (kv *endingKV) Txn(ctx context.Context) clientv3.Txn {
	return &endingTxn{kv.KV.Txn(ctx), kv.end}
}

type endingTxn struct {
	clientv3.Txn
	end context.CancelFunc
}

func (t *endingTxn) If(cs ...clientv3.Cmp) clientv3.Txn { t.Txn = t.Txn.If(cs...); return t }
func (t *endingTxn) Then(o ...clientv3.Op) clientv3.Txn { t.Txn = t.Txn.Then(o...); return t }
func (t *endingTxn) Commit() (*clientv3.TxnResponse, error) {
	if _, err := t.Txn.Commit(); err != nil {
		return nil, err
	}
	t.end()
	return nil, context.Canceled
}

// A key that changed since it was read is another's by now.
func TestReletCompares(t *testing.T) {
	t.Parallel()
	n := newNetwork(t, wideConfig)
	r := n.dial(host(1)).registry
	n.put("10.5.1.0-24", valueOf(host(1)), time.Hour)
	read := n.leases()["10.5.1.0-24"]
	n.put("10.5.1.0-24", valueOf(host(2)), time.Hour)
	if _, won, err := r.relet(n.rpc(), read, host(1).value(), time.Hour); won || err != nil {
		t.Errorf("put over another's value: won %t, %v", won, err)
	}
	if l := n.leases()["10.5.1.0-24"]; l.Value != host(2).value() {
		t.Errorf("etcd has %+v, want the other host's", l)
	}
}
