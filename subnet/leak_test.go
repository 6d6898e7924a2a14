package subnet

import (
	"runtime"
	"strings"
	"testing"
	"time"
)

// goroutinesIn counts those with a frame of the named function.
func goroutinesIn(function string) int {
	buf := make([]byte, 4<<20)
	all := string(buf[:runtime.Stack(buf, true)])
	count := 0
	for stack := range strings.SplitSeq(all, "\n\n") {
		if strings.Contains(stack, function) {
			count++
		}
	}
	return count
}

func wantGoroutines(t *testing.T, function string, want int) {
	t.Helper()
	for end := time.Now().Add(patience); ; time.Sleep(5 * time.Millisecond) {
		got := goroutinesIn(function)
		if got == want {
			return
		}
		if time.Now().After(end) {
			t.Fatalf("%d goroutines in %s, want %d", got, function, want)
		}
	}
}

// A Manager has one watch at a time, however often it was cut off, and leaves
// nothing behind. Not parallel: it counts the goroutines of the whole process.
func TestNothingIsLeftRunning(t *testing.T) {
	const (
		watch      = "subnet.(*Registry).watch"
		connection = "subnet.(*connection).observeBreaks"
		run        = "subnet.(*Manager).Run"
		client     = "clientv3.(*watch"
	)
	n := newNetwork(t, wideConfig)
	wire := newRelay(t, n.store.listen.String())
	h := n.dialAt(EtcdConfig{Endpoints: []string{wire.url()}, Prefix: n.prefix}, host(1)).start()
	for range 3 {
		wire.cut()
		h.waitFor("etcd away", etcdAway)
		wire.mend()
		h.waitFor("etcd back", etcdThere)
	}
	h.waitOwn("the subnet of the start", func(l Lease) bool { return l == h.own })
	for _, function := range []string{watch, connection, run} {
		wantGoroutines(t, function, 1)
	}
	h.stop()
	for _, function := range []string{watch, connection, run, client} {
		wantGoroutines(t, function, 0)
	}
}
