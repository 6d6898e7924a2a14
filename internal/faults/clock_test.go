package faults

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// What happens when the wall clock jumps, of all daemons or of one.
func TestClocks(t *testing.T) {
	t.Parallel()
	applyFaults(t, worldOptions{members: 1, daemons: 3, program: clockedTwill}, []fault{
		{name: "wall clock an hour ahead and back", apply: func(w *world) func() {
			w.jump(hourAhead)
			return func() { w.jump(hourBack) }
		}},
		{name: "wall clock an hour back and ahead", apply: func(w *world) func() {
			w.jump(hourBack)
			return func() { w.jump(hourAhead) }
		}},
		{name: "wall clock jumps while etcd is away", apply: func(w *world) func() {
			w.must(w.etcd.members[0].stop(w.patient()))
			for _, d := range w.daemons {
				w.must(d.Signal(hourAhead))
			}
			return func() { w.must(w.etcd.start(w.patient())) }
		}, after: func(w *world) { w.jump(hourBack) }},
		{name: "wall clock set back before a restart", apply: func(w *world) func() {
			w.jump(hourAhead)
			w.restartLast() // which has the machine's clock again
			return nil
		}, after: (*world).wantSameSubnets},
	})
}

// The signals that move the wall clock of a clockedTwill.
const (
	hourAhead = unix.SIGUSR1
	hourBack  = unix.SIGUSR2
)

// jump moves every daemon's wall clock, and sees in the log that it has moved.
func (w *world) jump(s unix.Signal) {
	w.t.Helper()
	before := make([]time.Duration, len(w.daemons))
	w.waitTruth() // the marker makes every daemon log a line
	for i := range w.daemons {
		before[i] = w.clockOffset(i)
		w.must(w.daemons[i].Signal(s))
	}
	want := time.Hour
	if s == hourBack {
		want = -time.Hour
	}
	w.waitFor("the clocks to move", func() error {
		w.waitTruth()
		for i := range w.daemons {
			if moved := w.clockOffset(i) - before[i]; (moved - want).Abs() > 10*time.Minute {
				return fmt.Errorf("the clock of %s moved by %v, want %v", w.hosts[i].Name, moved, want)
			}
		}
		return nil
	})
}

// clockOffset is how far daemon i's latest log line is ahead of our clock.
func (w *world) clockOffset(i int) time.Duration {
	w.t.Helper()
	_, line, found := strings.Cut(w.daemons[i].Tail(1), "time=")
	stamp, _, _ := strings.Cut(line, " ")
	at, err := time.Parse(time.RFC3339Nano, stamp)
	if err != nil || !found {
		w.t.Fatalf("no time in the log line %q", w.daemons[i].Tail(1))
	}
	return time.Until(at)
}

// clockedTwill builds a twill with a wall clock of its own, since the machine's is
// not for a test to set: package time has a Now that adds an offset, and the
// signals above change it.
var clockedTwill = sync.OnceValues(func() (path string, err error) {
	const timeFile, mainFile = "/run/overlay-time.go", "/run/overlay-main.go"
	goroot, err := exec.Command("go", "env", "GOROOT").Output()
	if err != nil {
		return "", fmt.Errorf("go env GOROOT: %w", err)
	}
	original := filepath.Join(strings.TrimSpace(string(goroot)), "src/time/time.go")
	source, err := os.ReadFile(original)
	if err != nil {
		return "", err
	}
	const now = "sec, nsec, mono := runtimeNow()\n"
	if strings.Count(string(source), now) == 0 {
		return "", errors.New("time.Now is not as it was in Go 1.26; see what " + original + " does now")
	}
	clocked := strings.Replace(string(source), now, now+"\tsec += WallOffset.Load()\n", 1)
	clocked = strings.Replace(clocked, `"math/bits"`, "\"math/bits\"\n\t\"sync/atomic\"", 1)
	clocked += "\n// WallOffset is added to the wall clock, in seconds.\nvar WallOffset atomic.Int64\n"
	main := fmt.Sprintf(`package main

import (
	"os"
	"os/signal"
	"syscall"
	"time"
)

func init() {
	signals := make(chan os.Signal, 8)
	signal.Notify(signals, syscall.Signal(%d), syscall.Signal(%d))
	go func() {
		for s := range signals {
			if s == syscall.Signal(%[1]d) {
				time.WallOffset.Add(3600)
			} else {
				time.WallOffset.Add(-3600)
			}
		}
	}()
}
`, hourAhead, hourBack)
	root, err := filepath.Abs("../..")
	if err != nil {
		return "", err
	}
	overlay, err := json.Marshal(map[string]any{"Replace": map[string]string{
		original:                            timeFile,
		filepath.Join(root, "wallclock.go"): mainFile,
	}})
	if err != nil {
		return "", err
	}
	const overlayFile = "/run/overlay.json"
	for path, content := range map[string]string{timeFile: clocked, mainFile: main, overlayFile: string(overlay)} {
		if err := os.WriteFile(path, []byte(content), 0o644); err != nil {
			return "", err
		}
	}
	return build("/run/twill-clocked", "-overlay", overlayFile)
})
