package tunnel

import (
	"fmt"
	"runtime"
	"testing"

	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netns"
	"golang.org/x/sys/unix"
)

// A namespace is a network namespace that the test made. It goes, with all that is in it, at the end of the test.
type namespace struct {
	*netlink.Handle
	ns netns.NsHandle
}

func newNamespace(t *testing.T) *namespace {
	t.Helper()
	n := &namespace{}
	err := onOwnThread(func() (err error) {
		if err := unix.Unshare(unix.CLONE_NEWNET); err != nil {
			return fmt.Errorf("unshare: %w", err)
		}
		if n.ns, err = netns.Get(); err != nil {
			return err
		}
		return loopbackUp()
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { n.ns.Close() })
	if n.Handle, err = netlink.NewHandleAt(n.ns); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(n.Handle.Close)
	return n
}

// do calls f in the namespace. Sockets and devices that it opens stay there, wherever they are used.
func (n *namespace) do(t *testing.T, f func() error) {
	t.Helper()
	err := onOwnThread(func() error {
		if err := netns.Set(n.ns); err != nil {
			return err
		}
		return f()
	})
	if err != nil {
		t.Fatal(err)
	}
}

// onOwnThread calls f on a thread that never runs anything else.
func onOwnThread(f func() error) error {
	done := make(chan error)
	go func() {
		runtime.LockOSThread() // and never unlock: the thread ends with the goroutine
		done <- f()
	}()
	return <-done
}
