package lab

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"os/exec"
	"runtime"
	"strings"
	"time"

	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netns"
	"golang.org/x/sys/unix"
)

// Namespace is a network namespace with one address that others use to reach
// it: a host or a pod. It lives as long as its file descriptor.
type Namespace struct {
	Name string

	addr netip.Addr
	fd   netns.NsHandle
	link *netlink.Handle // speaks to the kernel about this namespace
}

// newNamespace makes a namespace with loopback up.
func newNamespace(name string) (*Namespace, error) {
	n := &Namespace{Name: name, fd: netns.None()}
	err := onOwnThread(func() (err error) {
		if err := unix.Unshare(unix.CLONE_NEWNET); err != nil {
			return err
		}
		// Not netns.Get: it goes by process id, and /proc is the outer one.
		if n.fd, err = netns.GetFromPath("/proc/thread-self/ns/net"); err != nil {
			return err
		}
		n.link, err = netlink.NewHandle(unix.NETLINK_ROUTE)
		return err
	})
	if err == nil {
		err = n.setUp("lo")
	}
	if err != nil {
		n.close()
		return nil, fmt.Errorf("make namespace %s: %w", name, err)
	}
	return n, nil
}

// OpenNamespace returns a namespace that others made, by a path to it, for the
// traffic of this package. addr is the address that others reach it at. The
// caller closes it.
func OpenNamespace(name, path string, addr netip.Addr) (*Namespace, error) {
	n := &Namespace{Name: name, addr: addr, fd: netns.None()}
	var err error
	if n.fd, err = netns.GetFromPath(path); err == nil {
		n.link, err = netlink.NewHandleAt(n.fd, unix.NETLINK_ROUTE)
	}
	if err != nil {
		n.close()
		return nil, fmt.Errorf("open namespace %s: %w", name, err)
	}
	return n, nil
}

// Close lets go of a namespace that OpenNamespace returned.
func (n *Namespace) Close() { n.close() }

// Addr is the address others use to reach the namespace.
func (n *Namespace) Addr() netip.Addr { return n.addr }

// At is the same namespace as others reach it at another of its addresses.
func (n *Namespace) At(a netip.Addr) *Namespace {
	at := *n
	at.addr = a
	return &at
}

// Link is a netlink handle for the namespace, usable from any goroutine.
func (n *Namespace) Link() *netlink.Handle { return n.link }

// FD is the namespace's file descriptor: /proc/<lab>/fd/<FD> is a path to it.
func (n *Namespace) FD() int { return int(n.fd) }

// Do calls fn on a thread in the namespace and returns its error. Sockets that
// fn opens and processes that it starts belong to the namespace; goroutines that
// it starts do not.
func (n *Namespace) Do(fn func() error) error {
	return onOwnThread(func() error {
		if err := netns.Set(n.fd); err != nil {
			return fmt.Errorf("enter namespace %s: %w", n.Name, err)
		}
		return fn()
	})
}

// Exec runs any other program in the namespace to its end. The error has what it
// printed.
func (n *Namespace) Exec(ctx context.Context, line ...string) error {
	cmd := exec.CommandContext(ctx, line[0], line[1:]...)
	var out []byte
	err := n.Do(func() (err error) {
		out, err = cmd.CombinedOutput()
		return err
	})
	if err != nil {
		return fmt.Errorf("%s in %s: %w: %s", strings.Join(line, " "), n.Name, err, out)
	}
	return nil
}

// onOwnThread calls fn on a thread that nothing else uses, before or after: the
// goroutine never unlocks it, so that it ends with fn.
func onOwnThread(fn func() error) error {
	err := errors.New("ended without a result (runtime.Goexit)")
	done := make(chan struct{})
	go func() {
		defer close(done)
		runtime.LockOSThread()
		err = fn()
	}()
	<-done
	return err
}

// Sysctl writes a setting below /proc/sys that belongs to the namespace, given
// as a path: net/ipv4/ip_forward.
func (n *Namespace) Sysctl(path, value string) error {
	return n.Do(func() error {
		if err := os.WriteFile("/proc/sys/"+path, []byte(value), 0); err != nil {
			return fmt.Errorf("set %s=%s in %s: %w", path, value, n.Name, err)
		}
		return nil
	})
}

// setUp sets links up.
func (n *Namespace) setUp(names ...string) error {
	for _, name := range names {
		l, err := n.find(name)
		if err != nil {
			return err
		}
		if err := n.link.LinkSetUp(l); err != nil {
			return fmt.Errorf("set %s of %s up: %w", name, n.Name, err)
		}
	}
	return nil
}

// upTimeout is how long a link may take to come up, on a machine that is busy.
const upTimeout = 10 * time.Second

// waitUp waits until links that were set up are. The kernel notices a carrier some time
// after it is there, and until then throws away what is sent: an ARP request, say, that
// is sent again after a second.
func (n *Namespace) waitUp(names ...string) error {
	ctx, cancel := context.WithTimeout(context.Background(), upTimeout)
	defer cancel()
	for _, name := range names {
		if err := WaitFor(ctx, fmt.Sprintf("%s of %s to come up", name, n.Name), func() error {
			l, err := n.find(name)
			if err == nil && l.Attrs().OperState != netlink.OperUp {
				err = fmt.Errorf("it is %v", l.Attrs().OperState)
			}
			return err
		}); err != nil {
			return err
		}
	}
	return nil
}

func (n *Namespace) find(name string) (netlink.Link, error) {
	l, err := n.link.LinkByName(name)
	if err != nil {
		return nil, fmt.Errorf("find link %s of %s: %w", name, n.Name, err)
	}
	return l, nil
}

// addAddr adds an address with its prefix length to a link.
func (n *Namespace) addAddr(name string, p netip.Prefix) error {
	l, err := n.find(name)
	if err != nil {
		return err
	}
	if err := n.link.AddrAdd(l, &netlink.Addr{IPNet: ipNet(p)}); err != nil {
		return fmt.Errorf("add %s to %s of %s: %w", p, name, n.Name, err)
	}
	return nil
}

// AddRoute adds a route by a gateway.
func (n *Namespace) AddRoute(dst netip.Prefix, via netip.Addr) error {
	err := n.link.RouteAdd(&netlink.Route{Dst: ipNet(dst), Gw: via.AsSlice()})
	if err != nil {
		return fmt.Errorf("add route %s via %s to %s: %w", dst, via, n.Name, err)
	}
	return nil
}

// DeleteRoute deletes the route that AddRoute added.
func (n *Namespace) DeleteRoute(dst netip.Prefix, via netip.Addr) error {
	err := n.link.RouteDel(&netlink.Route{Dst: ipNet(dst), Gw: via.AsSlice()})
	if err != nil {
		return fmt.Errorf("delete route %s via %s of %s: %w", dst, via, n.Name, err)
	}
	return nil
}

// defaultRoute is the destination of a default route.
var defaultRoute = netip.MustParsePrefix("0.0.0.0/0")

// close lets go of the namespace; the kernel removes it with all its links when
// no process and no socket is left in it.
func (n *Namespace) close() {
	if n.link != nil {
		n.link.Close()
	}
	if n.fd.IsOpen() {
		n.fd.Close()
	}
}
