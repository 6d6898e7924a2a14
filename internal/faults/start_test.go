package faults

import (
	"errors"
	"fmt"
	"io/fs"
	"net/netip"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"twill/internal/lab"
	"twill/subnet"
)

// What happens while a daemon starts: the last host's, which no stream runs to.
func TestStarts(t *testing.T) {
	t.Parallel()
	applyFaults(t, worldOptions{members: 1, daemons: 3}, []fault{
		{name: "etcd away at start, no cache", hurts: true, apply: awayAtStart, after: (*world).wantSameSubnets},
		{name: "etcd away at restart, with a cache", apply: cachedStart, after: (*world).wantSameSubnets},
		{name: "etcd away at restart, lease revoked before", apply: func(w *world) func() {
			w.waitCached()
			w.stopLast()
			_, err := w.etcd.client.Revoke(w.rpc(), w.leaseID(w.lastHost()))
			w.must(err)
			return cachedStart(w)
		}, after: (*world).wantSameSubnets},
		{name: "etcd away at restart, subnet given away", hurts: true, apply: givenAway, after: fenced},
		{name: "state directory read-only", apply: func(w *world) func() {
			w.mountState()
			w.must(unix.Mount("", w.last().StateDir(), "", unix.MS_REMOUNT|unix.MS_RDONLY, ""))
			w.restartLast()
			return w.unmountState
		}, after: (*world).wantSameSubnets},
		{name: "state directory full", apply: func(w *world) func() {
			w.mountState()
			w.fillState()
			w.restartLast()
			return w.unmountState
		}, after: (*world).wantSameSubnets},
		{name: "daemon killed in each phase of a start", hurts: true, apply: killedWhileStarting},
	})
}

func (w *world) lastHost() int   { return len(w.hosts) - 1 }
func (w *world) last() *lab.Host { return w.hosts[w.lastHost()] }

func (w *world) stopLast() {
	w.t.Helper()
	i := w.lastHost()
	code, err := w.daemons[i].Stop(w.patient())
	w.must(err)
	if code != 0 {
		w.t.Errorf("exit code %d, want 0", code)
	}
	w.ended[i] = true
}

func (w *world) restartLast() {
	w.t.Helper()
	w.stopLast()
	w.startDaemon(w.lastHost())
}

// cachedStart starts a daemon that has a cache, again and without etcd: it must be
// ready all the same.
func cachedStart(w *world) func() {
	i := w.lastHost()
	if !w.ended[i] {
		w.waitCached()
		w.stopLast()
	}
	w.must(w.etcd.members[0].stop(w.patient()))
	w.startDaemon(i)
	if !strings.Contains(w.daemons[i].Status(), "from cache since") {
		w.t.Errorf("STATUS=%q does not tell of the cache", w.daemons[i].Status())
	}
	return func() { w.must(w.etcd.start(w.patient())) }
}

// givenAway is a cachedStart of a daemon whose subnet has another owner, which its
// cache does not know. Its peers know: none of them sends it anything.
func givenAway(w *world) func() {
	w.waitCached()
	w.stopLast()
	w.giveAway(w.lastHost())
	start := cachedStart(w)
	wantFencedByPeers := w.tryFenced(w.lastHost())
	return func() {
		wantFencedByPeers()
		start()
		w.wantFenced(w.lastHost())
	}
}

// waitCached waits until the last daemon's cache has the last marker. It is written
// every few seconds.
func (w *world) waitCached() {
	w.t.Helper()
	w.waitFor("the cache", func() error {
		raw, err := os.ReadFile(subnet.CachePath(w.last().StateDir()))
		if mark := strconv.Itoa(firstMark + int(w.marks)); err == nil && !strings.Contains(string(raw), mark) {
			err = fmt.Errorf("the marker's port %s is not in it", mark)
		}
		return err
	})
}

// awayAtStart starts a daemon that knows nothing but its node id, without etcd.
func awayAtStart(w *world) func() {
	w.stopLast()
	w.forget()
	w.must(w.etcd.members[0].stop(w.patient()))
	p := w.launchDaemon(w.lastHost())
	w.waitFor("word that etcd is away", func() error {
		if !strings.Contains(p.Log(), "etcd does not answer") {
			return errors.New("not a word")
		}
		return nil
	})
	return func() {
		if code := p.ExitCode(); code != -1 {
			w.t.Fatalf("exit code %d while etcd is away, want it to wait; it said:\n%s", code, p.Log())
		}
		w.must(w.etcd.start(w.patient()))
		w.must(p.Ready(w.patient()))
	}
}

// forget removes what the last host's daemon has written, but for its node id and
// the subnet that its container runtime uses.
func (w *world) forget() {
	w.t.Helper()
	dir := w.last().StateDir()
	entries, err := os.ReadDir(dir)
	w.must(err)
	for _, e := range entries {
		if e.Name() != "node-id" {
			w.must(os.RemoveAll(filepath.Join(dir, e.Name())))
		}
	}
}

// stateSize is how large a state directory of its own is, in bytes.
const stateSize = 256 << 10

// mountState moves the last host's state directory to a file system of its own,
// below the running daemon.
func (w *world) mountState() {
	w.t.Helper()
	dir := w.last().StateDir()
	files := os.DirFS(dir)
	saved := filepath.Join(w.last().Dir(), "state-before")
	w.must(os.RemoveAll(saved))
	w.must(os.CopyFS(saved, files))
	w.must(unix.Mount("tmpfs", dir, "tmpfs", 0, "size="+strconv.Itoa(stateSize)))
	w.must(os.CopyFS(dir, os.DirFS(saved)))
}

func (w *world) unmountState() {
	w.t.Helper()
	w.must(unix.Unmount(w.last().StateDir(), unix.MNT_DETACH))
}

// fillState leaves no byte free in the last host's state directory.
func (w *world) fillState() {
	w.t.Helper()
	f, err := os.Create(filepath.Join(w.last().StateDir(), "filler"))
	w.must(err)
	defer f.Close()
	for block := make([]byte, os.Getpagesize()); err == nil; {
		_, err = f.Write(block)
	}
	var full *fs.PathError
	if !errors.As(err, &full) || full.Err != unix.ENOSPC {
		w.t.Fatalf("fill %s: %v, want ENOSPC", f.Name(), err)
	}
}

// freezeStep is by how many bytes each next start gets further: less than a
// request and its acknowledgement.
const freezeStep = 100 // bytes

// killedWhileStarting starts the last daemon without a lease and freezes its talk
// with etcd after more and more bytes, in either direction: so it hangs in each
// phase of acquiring, before a request or before its answer. There it is killed.
// The next start must go through, and leave one lease.
func killedWhileStarting(w *world) func() {
	for _, direction := range []string{"output", "input"} {
		killed := 0
		for w.killFrozen(direction, (1+killed)*freezeStep) {
			killed++
		}
		const requests = 3 // of a start: read, grant, write
		if killed < requests {
			w.t.Errorf("killed in %d phases of %s, want at least %d", killed, direction, requests)
		}
	}
	return nil
}

// killFrozen is one start that is frozen after limit bytes, killed, and made good
// by a second start. frozen is false where it was ready before.
func (w *world) killFrozen(direction string, limit int) (frozen bool) {
	w.t.Helper()
	w.stopLast()
	w.forget()
	i := w.lastHost()
	w.delete(leaseKey(w.subnets[i]))
	w.must(freeze(w.last(), direction, limit))
	p := w.launchDaemon(i)
	ready := make(chan error, 1)
	go func() { ready <- p.Ready(w.patient()) }()
	w.waitFor("a start to freeze or be ready", func() error {
		select {
		case err := <-ready:
			w.must(err)
			return nil
		default:
		}
		n, err := dropped(w.last())
		frozen = n > 0
		if err == nil && !frozen {
			err = errors.New("neither")
		}
		return err
	})
	p.Kill()
	w.must(removeFilter(w.last()))
	w.startDaemon(i)
	w.waitAgreement()
	w.wantOneLease(i)
	return frozen
}

// wantOneLease checks that the node of host i holds its subnet and no other.
func (w *world) wantOneLease(i int) {
	w.t.Helper()
	truth, err := w.truth()
	w.must(err)
	var held []netip.Prefix
	for s, o := range truth {
		if o.node == w.hosts[i].Name {
			held = append(held, s)
		}
	}
	if len(held) != 1 || held[0] != w.subnets[i] {
		w.t.Errorf("%s holds %v, want %s alone", w.hosts[i].Name, held, w.subnets[i])
	}
}
