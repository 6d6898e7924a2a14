package routes

import (
	"bytes"
	"context"
	"fmt"
	"log/slog"
	"runtime"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/vishvananda/netns"
)

// logBuffer keeps what a logger writes while others read it.
type logBuffer struct {
	mu  sync.Mutex
	buf bytes.Buffer
}

func (b *logBuffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.buf.Write(p)
}

// levels returns the levels of the messages so far.
func (b *logBuffer) levels() (levels []string) {
	b.mu.Lock()
	defer b.mu.Unlock()
	for line := range strings.Lines(b.buf.String()) {
		levels = append(levels, strings.TrimPrefix(strings.Fields(line)[1], "level="))
	}
	return levels
}

// waitFor waits until the condition holds, for ten seconds at most.
func waitFor(t *testing.T, what string, condition func() bool) {
	t.Helper()
	deadline := time.Now().Add(10 * time.Second)
	for !condition() {
		if time.Now().After(deadline) {
			t.Fatalf("gave up waiting for %s", what)
		}
		runtime.Gosched()
	}
}

// inNamespaceOf runs f on a thread of its own in the namespace of the caller.
func inNamespaceOf(t *testing.T, f func() error) (result chan error) {
	t.Helper()
	ns, err := currentNamespace()
	noError(t, err)
	result = make(chan error, 1)
	go func() {
		defer ns.Close()
		runtime.LockOSThread() // and never unlocked
		if err := netns.Set(ns); err != nil {
			result <- fmt.Errorf("enter the namespace: %w", err)
			return
		}
		result <- f()
	}()
	return result
}

func TestFirewallRun(t *testing.T) {
	withIptables(t, func(t *testing.T, ipt tool) {
		var log logBuffer
		cfg := testFirewall
		cfg.Log = slog.New(slog.NewTextHandler(&log, nil))
		f := mustApply(t, ipt, cfg)
		good := ipt.dump(t)
		ctx, cancel := context.WithCancel(context.Background())
		defer cancel()
		result := inNamespaceOf(t, func() error { return f.Run(ctx, time.Millisecond) })

		// rounds waits until everything that is now the case has been seen.
		rounds := func(n int) {
			t.Helper()
			calls := len(ipt.calls(t))
			waitFor(t, "rounds of Run", func() bool { return len(ipt.calls(t)) >= calls+5*n })
		}
		wantLevels := func(want ...string) {
			t.Helper()
			if got := log.levels(); !slices.Equal(got, want) {
				t.Fatalf("logged %q, want %q", got, want)
			}
		}
		rounds(2)
		wantLevels()

		ipt.do(t, "-D FORWARD -j TWILL-FWD-twill0")
		waitFor(t, "the jump", func() bool { return ipt.dump(t) == good })
		rounds(3)
		wantLevels("INFO")

		ipt.script(t, "echo broken >&2; exit 4")
		waitFor(t, "the error", func() bool { return len(log.levels()) == 2 })
		rounds(3)
		wantLevels("INFO", "ERROR")

		ipt.do(t, "-D FORWARD -j TWILL-FWD-twill0")
		ipt.script(t, fmt.Sprintf(`exec %s "$@"`, ipt.program))
		waitFor(t, "the jump", func() bool { return ipt.dump(t) == good })
		rounds(3)
		wantLevels("INFO", "ERROR", "INFO")

		cancel()
		select {
		case err := <-result:
			noError(t, err)
		case <-time.After(10 * time.Second):
			t.Fatal("Run did not return after cancel")
		}
		noError(t, f.Apply()) // nothing is left half done
		if got := ipt.dump(t); got != good {
			t.Errorf("after Run:\n%s\nwant:\n%s", got, good)
		}
	})
}

// Somebody who changes the rules before every round gets one message.
func TestFirewallReport(t *testing.T) {
	var log logBuffer
	f := Firewall{log: slog.New(slog.NewTextHandler(&log, nil))}
	tests := []struct {
		now  condition
		want int // messages so far
	}{
		{intact, 0}, {repaired, 1}, {repaired, 1}, {repaired, 1}, {intact, 1}, {repaired, 2},
		{failing, 3}, {failing, 3}, {repaired, 4}, {failing, 5}, {intact, 6}, {intact, 6},
	}
	last := intact
	for i, tt := range tests {
		f.report(last, tt.now, nil)
		last = tt.now
		if got := len(log.levels()); got != tt.want {
			t.Errorf("step %d: %d messages, want %d", i, got, tt.want)
		}
	}
}

func TestFirewallRunInterval(t *testing.T) {
	f := Firewall{log: discard}
	wantError(t, f.Run(context.Background(), 0), "interval 0s", "more than 0")
	wantError(t, f.Run(context.Background(), -time.Second), "interval -1s")
}
