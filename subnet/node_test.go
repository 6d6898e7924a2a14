package subnet

import (
	"bytes"
	"context"
	"errors"
	"io"
	"log/slog"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
)

// checkEvery is how soon a node of these tests notices what the watch does not
// tell it.
const checkEvery = 100 * time.Millisecond

// node is one host's Manager, as the daemon runs it.
type node struct {
	t        *testing.T
	registry *Registry
	manager  *Manager
	own      Lease // as Acquire gave it
	log      *logBuffer

	cancel context.CancelFunc
	ended  chan struct{} // closed once Run has returned err
	err    error

	mu      sync.Mutex
	view    View
	changed chan struct{} // closed at each new view
}

// dial makes a node that has not yet asked for a lease.
func (n *network) dial(id Identity, adjust ...func(*Options)) *node {
	n.t.Helper()
	return n.dialAt(n.etcd(), id, adjust...)
}

// dialThroughRelay is dial by way of a relay of its own.
func (n *network) dialThroughRelay(id Identity) (*node, *relay) {
	n.t.Helper()
	wire := newRelay(n.t, n.store.listen.String())
	etcd := n.etcd()
	etcd.Endpoints = []string{wire.url()}
	return n.dialAt(etcd, id), wire
}

func (n *network) dialAt(etcd EtcdConfig, id Identity, adjust ...func(*Options)) *node {
	n.t.Helper()
	h := &node{t: n.t, log: &logBuffer{}, changed: make(chan struct{}), ended: make(chan struct{})}
	ctx, cancel := context.WithCancel(context.Background())
	h.cancel = cancel
	log := newLog(h.log)
	var err error
	h.registry, err = Dial(ctx, etcd, log)
	n.must(err)
	o := Options{Identity: id, Previous: usual(id), CheckEvery: checkEvery, Grace: grace, Log: log, Publish: h.publish}
	for _, f := range adjust {
		f(&o)
	}
	h.manager = NewManager(h.registry, o)
	n.t.Cleanup(func() {
		cancel()
		h.registry.Close()
		if n.t.Failed() {
			n.t.Logf("log of %s:\n%s", id.Node, h.log)
		}
	})
	return h
}

// clientOf connects r, for a test that puts something between it and etcd.
func clientOf(t *testing.T, r *Registry) *clientv3.Client {
	t.Helper()
	client, err := r.connect(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	return client
}

// usual is the subnet that a host of these tests gets unless the test says
// otherwise: no random one that the test has uses for itself.
func usual(id Identity) netip.Prefix {
	last := id.PublicIP.As4()[3]
	return netip.PrefixFrom(netip.AddrFrom4([4]byte{10, 5, 100 + last, 0}), 24)
}

// acquire takes the node's lease, and gives up after patience.
func (h *node) acquire() (Lease, error) {
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	if _, err := h.manager.Configure(ctx, nil); err != nil {
		return Lease{}, err
	}
	return h.manager.Acquire(ctx)
}

// join is dial, acquire and run.
func (n *network) join(id Identity, adjust ...func(*Options)) *node {
	n.t.Helper()
	return n.dial(id, adjust...).start()
}

func (h *node) start() *node {
	h.t.Helper()
	l, err := h.acquire()
	if err != nil {
		h.t.Fatalf("acquire: %v", err)
	}
	h.own = l
	h.run()
	return h
}

func (h *node) run() {
	ctx, cancel := context.WithCancel(context.Background())
	stop := h.cancel
	h.cancel = func() { cancel(); stop() }
	h.publish(h.manager.View())
	go func() {
		h.err = h.manager.Run(ctx)
		close(h.ended)
	}()
	h.t.Cleanup(func() {
		cancel()
		<-h.ended
	})
}

// stop ends Run and the connection, as at the end of the process: the lease stays.
func (h *node) stop() {
	h.t.Helper()
	h.cancel()
	if err := h.end(); err != nil {
		h.t.Fatalf("Run after cancel: %v, want nil", err)
	}
	h.registry.Close()
}

// end waits for Run's end and returns its error.
func (h *node) end() error {
	h.t.Helper()
	select {
	case <-h.ended:
		return h.err
	case <-time.After(patience):
		h.t.Fatal("Run did not end")
		return nil
	}
}

// fenced waits for Run to end with ErrFenced, and with all of says in it.
func (h *node) fenced(says ...string) {
	h.t.Helper()
	err := h.end()
	if !errors.Is(err, ErrFenced) {
		h.t.Fatalf("Run ended with %v, want ErrFenced", err)
	}
	for _, s := range says {
		if !strings.Contains(err.Error(), s) {
			h.t.Errorf("error %q does not say %q", err, s)
		}
	}
}

func (h *node) publish(v View) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.view = v
	close(h.changed)
	h.changed = make(chan struct{})
}

// waitFor waits for a view of which ok is true; what says what for.
func (h *node) waitFor(what string, ok func(View) bool) View {
	h.t.Helper()
	timeout := time.After(patience)
	for {
		h.mu.Lock()
		v, changed := h.view, h.changed
		h.mu.Unlock()
		if ok(v) {
			return v
		}
		select {
		case <-changed:
		case <-h.ended:
			h.t.Fatalf("Run ended (%v) before: %s", h.err, what)
		case <-timeout:
			h.t.Fatalf("never saw: %s; have peers %q, skipped %+v, own %+v, etcd %+v", what, peersOf(v), v.Skipped, v.Own, v.Etcd)
		}
	}
}

// waitPeers waits until the peers are exactly want, written as by peersOf.
func (h *node) waitPeers(want ...string) View {
	h.t.Helper()
	return h.waitFor("peers "+strings.Join(want, ", "), func(v View) bool { return slices.Equal(peersOf(v), want) })
}

// waitOwn waits until ok of our own lease.
func (h *node) waitOwn(what string, ok func(Lease) bool) Lease {
	h.t.Helper()
	return h.waitFor(what, func(v View) bool { return ok(v.Own) }).Own
}

// logged waits until the log has n lines with text.
func (h *node) logged(text string, n int) {
	h.t.Helper()
	for end := time.Now().Add(patience); ; time.Sleep(5 * time.Millisecond) {
		lines := h.log.lines(text)
		switch {
		case len(lines) == n:
			return
		case len(lines) > n || time.Now().After(end):
			h.t.Fatalf("the log has %d lines with %q, want %d:\n%s", len(lines), text, n, h.log)
		}
	}
}

// logBuffer collects a log that several goroutines write.
type logBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (l *logBuffer) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

func (l *logBuffer) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}

func newLog(to io.Writer) *slog.Logger {
	return slog.New(slog.NewTextHandler(to, &slog.HandlerOptions{Level: slog.LevelDebug}))
}

// lines are the log lines that contain s.
func (l *logBuffer) lines(s string) []string {
	var found []string
	for line := range strings.Lines(l.String()) {
		if strings.Contains(line, s) {
			found = append(found, line)
		}
	}
	return found
}
