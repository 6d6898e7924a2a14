package subnet

import (
	"context"
	"errors"
	"testing"
	"time"
)

// The watchdog takes a loop that does not turn for dead: each of them counts.
func TestEveryLoopTurns(t *testing.T) {
	t.Parallel()
	n := newNetwork(t, wideConfig)
	h := n.dial(host(1))
	_, err := h.acquire()
	n.must(err)
	for name, loop := range map[string]func(context.Context) error{
		"idle":   func(ctx context.Context) error { return h.manager.idle(ctx, time.Hour) }, // in which resync waits, too
		"follow": h.manager.follow,
	} {
		ctx, cancel := context.WithCancel(t.Context())
		before := h.manager.Turns()
		ended := make(chan error)
		go func() { ended <- loop(ctx) }()
		const turns = 3
		for end := time.Now().Add(patience); h.manager.Turns() < before+turns; time.Sleep(time.Millisecond) {
			if time.Now().After(end) {
				t.Fatalf("%s has not turned %d times", name, turns)
			}
		}
		cancel()
		if err := <-ended; !errors.Is(err, context.Canceled) {
			t.Errorf("%s: %v, want context.Canceled", name, err)
		}
	}
}

// A table that is read in many pages, each of which may take seconds, is no loop that
// stands still.
func TestEachPageIsATurn(t *testing.T) {
	t.Parallel()
	n := newNetwork(t, wideConfig)
	h := n.dial(host(1))
	_, err := h.acquire()
	n.must(err)
	n.put("10.5.2.0-24", valueOf(host(2)), 0)
	h.registry.pages.size.Store(1)
	before := h.manager.Turns()
	n.must(h.manager.reload(n.rpc()))
	const pages = 3 // the config and two leases
	if got := h.manager.Turns() - before; got < pages {
		t.Errorf("%d turns while %d pages were read", got, pages)
	}
}
