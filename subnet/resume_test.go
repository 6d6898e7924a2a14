package subnet

import (
	"context"
	"errors"
	"sync/atomic"
	"testing"
	"time"

	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	clientv3 "go.etcd.io/etcd/client/v3"
)

// A watch that ends goes on where it was, and brings what was missed: not a key is read
// again but our own. A comparison that is planned comes in its time.
func TestWatchIsResumed(t *testing.T) {
	for name, planned := range map[string]bool{"without a comparison": false, "with one": true} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			n := newNetwork(t, wideConfig)
			n.put("10.5.2.0-24", valueOf(host(2)), 0)
			n.put("10.5.3.0-24", valueOf(host(3)), 0)
			h := n.dial(host(1), previous("10.5.1.0/24"), graceOf(0))
			client := clientOf(t, h.registry)
			w := &endingWatcher{Watcher: client.Watcher, end: make(chan struct{})}
			client.Watcher = w
			_, err := h.acquire()
			n.must(err)
			ranges := &rangeCounter{KV: client.KV}
			client.KV = ranges
			if planned {
				h.manager.due.full = time.Now().Add(time.Second)
			}
			h.run()
			h.waitPeers("10.5.2.0/24 192.0.2.2:8285", "10.5.3.0/24 192.0.2.3:8285")

			w.end <- struct{}{}
			n.delete("10.5.2.0-24")
			n.put("10.5.3.0-24", valueOf(host(33)), 0)
			h.waitPeers("10.5.3.0/24 192.0.2.33:8285")
			if got := ranges.Load(); got != 0 && !planned {
				t.Errorf("all leases were read %d times", got)
			}
			for end := time.Now().Add(patience); planned && ranges.Load() == 0; time.Sleep(time.Millisecond) {
				if time.Now().After(end) {
					t.Fatal("the table was never compared")
				}
			}
			time.Sleep(time.Second)
			if got := ranges.Load(); got > 1 {
				t.Errorf("all leases were read %d times", got)
			}
			if got := w.opened.Load(); got < 2 {
				t.Errorf("the watch was opened %d times", got)
			}
		})
	}
}

// endingWatcher's first watch ends once end is sent to.
type endingWatcher struct {
	clientv3.Watcher
	opened atomic.Int32
	end    chan struct{}
}

func (w *endingWatcher) Watch(ctx context.Context, key string, opts ...clientv3.OpOption) clientv3.WatchChan {
	if w.opened.Add(1) > 1 {
		return w.Watcher.Watch(ctx, key, opts...)
	}
	ctx, cancel := context.WithCancel(ctx)
	go func() {
		defer cancel()
		select {
		case <-w.end:
		case <-ctx.Done():
		}
	}()
	return w.Watcher.Watch(ctx, key, opts...)
}

// rangeCounter counts the reads of more than one key.
type rangeCounter struct {
	clientv3.KV
	atomic.Int32
}

func (kv *rangeCounter) Get(ctx context.Context, key string, opts ...clientv3.OpOption) (*clientv3.GetResponse, error) {
	if op := clientv3.OpGet(key, opts...); op.RangeBytes() != nil {
		kv.Add(1)
	}
	return kv.KV.Get(ctx, key, opts...)
}

func TestWhatResumesAWatch(t *testing.T) {
	for _, tt := range []struct {
		err  error
		want bool
	}{
		{rpctypes.ErrNoLeader, true},
		{errors.New("the watch was closed"), true},
		{rpctypes.ErrCompacted, false}, // what was missed is not there any more
		{rpctypes.ErrFutureRev, false},
		{errDue, false},
		{errFromCache, false},
	} {
		if got := resumes(tt.err); got != tt.want {
			t.Errorf("%v: %t, want %t", tt.err, got, tt.want)
		}
	}
}

// A watch that ends at once, again and again, is not trusted for long. Nor is all read
// where etcd is away: the whole fleet would.
func TestWatchThatEndsAgainAndAgain(t *testing.T) {
	ended := errors.New("the watch was closed")
	for _, tt := range []struct {
		name   string
		after  time.Duration
		serves bool
		want   int // times of 10 that it is resumed
	}{
		{"at once", 0, true, resumesMost},
		{"after a while", backoffMax + time.Second, true, 10},
		{"while etcd is away", 0, false, 10},
	} {
		var r restarts
		got := 0
		for range 10 {
			if r.resume(ended, tt.after, tt.serves) {
				got++
			}
			r.wait.pause()
		}
		if got != tt.want {
			t.Errorf("%s: resumed %d times of 10, want %d", tt.name, got, tt.want)
		}
		if tt.after > backoffMax && r.wait.next > 2*backoffMin {
			t.Errorf("%s: the next pause is of %v", tt.name, r.wait.next)
		}
	}
}

// A connection that broke while there was no watch is known to the next one. Reading
// all makes up for it.
func TestBreakIsRemembered(t *testing.T) {
	t.Parallel()
	s := newStore(t)
	n := s.network(t, wideConfig)
	h := n.dial(host(1))
	_, err := h.acquire()
	n.must(err)
	s.restart(t, false)
	select {
	case <-h.registry.broke:
	case <-time.After(patience):
		t.Fatal("nobody has noticed")
	}
	h.registry.broke <- struct{}{}
	h.manager.broke, h.manager.behind = true, true
	for h.manager.reload(n.rpc()) != nil {
		time.Sleep(time.Millisecond)
	}
	if len(h.registry.broke) != 0 || h.manager.broke {
		t.Error("after all was read the connection still counts as broken")
	}
	if h.manager.behind {
		t.Error("after all was read the watch still counts as behind")
	}
}

// After a break another etcd may answer: the whole table is compared, though the watch
// goes on.
func TestBrokenConnectionMakesRunCompare(t *testing.T) {
	t.Parallel()
	n := newNetwork(t, wideConfig)
	h, wire := n.dialThroughRelay(host(1))
	_, err := h.acquire()
	n.must(err)
	client := clientOf(t, h.registry)
	ranges := &rangeCounter{KV: client.KV}
	client.KV = ranges
	h.run()
	n.put("10.5.2.0-24", valueOf(host(2)), 0)
	h.waitPeers("10.5.2.0/24 192.0.2.2:8285") // there is a watch
	wire.cut()
	wire.mend()
	for end := time.Now().Add(patience); ranges.Load() == 0; time.Sleep(time.Millisecond) {
		if time.Now().After(end) {
			t.Fatal("the table was never compared")
		}
	}
}

// What the watch had not said before it ended it may say once it goes on.
func TestResumedWatchIsNotBehind(t *testing.T) {
	t.Parallel()
	n := newNetwork(t, wideConfig)
	h := n.dial(host(1))
	own, err := h.acquire()
	n.must(err)
	h.manager.behind = true
	n.put(own.Name, valueOf(host(1)), time.Hour)
	if err := h.manager.resume(n.rpc(), 0); err != nil {
		t.Errorf("resume: %v, want nil", err)
	}
}
