package routes

import (
	"bytes"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"runtime"
	"strings"
	"testing"

	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netns"
	"golang.org/x/sys/unix"

	"twill/internal/lab"
)

// TestMain runs the tests in namespaces of their own, so that nothing can touch
// the host's. The private /run is where the legacy iptables keeps its lock.
func TestMain(m *testing.M) { lab.Main(equipped{m}) }

// equipped checks for what the tests cannot do without before it runs them.
type equipped struct{ *testing.M }

func (e equipped) Run() int {
	if err := checkEquipment(); err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	return e.M.Run()
}

func checkEquipment() error {
	for _, program := range []string{"iptables", "iptables-nft", "iptables-legacy", "iptables-save"} {
		if _, err := exec.LookPath(program); err != nil {
			return fmt.Errorf("the tests need %s: apt-get install iptables (and /usr/sbin in PATH)", program)
		}
	}
	if _, err := exec.LookPath("ip"); err != nil {
		return errors.New("the tests need ip: apt-get install iproute2")
	}
	return CheckTUN()
}

// newNamespace moves the calling test into a network namespace of its own.
// The thread is never unlocked, so it ends with the test, and with it the
// namespace.
func newNamespace(t *testing.T) {
	t.Helper()
	runtime.LockOSThread()
	if err := unix.Unshare(unix.CLONE_NEWNET); err != nil {
		t.Fatalf("new network namespace: %v", err)
	}
	lo, err := netlink.LinkByName("lo")
	if err != nil {
		t.Fatal(err)
	}
	if err := netlink.LinkSetUp(lo); err != nil {
		t.Fatal(err)
	}
}

// currentNamespace is netns.Get without process ids: /proc is not of our PID
// namespace.
func currentNamespace() (netns.NsHandle, error) {
	return netns.GetFromPath("/proc/thread-self/ns/net")
}

// addBridge makes an interface that is up and has the given addresses. A
// bridge will do for every kind that is not a TUN, and all kernels have it.
func addBridge(t *testing.T, name string, prefixes ...string) netlink.Link {
	t.Helper()
	link := &netlink.Bridge{LinkAttrs: netlink.LinkAttrs{Name: name}}
	if err := netlink.LinkAdd(link); err != nil {
		t.Fatalf("add bridge %s: %v", name, err)
	}
	if err := netlink.LinkSetUp(link); err != nil {
		t.Fatalf("set %s up: %v", name, err)
	}
	for _, p := range prefixes {
		addAddress(t, link, netlink.Addr{IPNet: ipNetOf(netip.MustParsePrefix(p))})
	}
	return link
}

// addTUN makes a persistent device as package tunnel does.
func addTUN(t *testing.T, name string, mode netlink.TuntapMode) netlink.Link {
	t.Helper()
	link := &netlink.Tuntap{LinkAttrs: netlink.LinkAttrs{Name: name}, Mode: mode, Flags: netlink.TUNTAP_NO_PI}
	if err := netlink.LinkAdd(link); err != nil {
		t.Fatalf("add TUN %s: %v", name, err)
	}
	return link
}

func addAddress(t *testing.T, link netlink.Link, addr netlink.Addr) {
	t.Helper()
	if err := netlink.AddrAdd(link, &addr); err != nil {
		t.Fatalf("add address %s to %s: %v", addr, link.Attrs().Name, err)
	}
}

func addRoute(t *testing.T, route netlink.Route) {
	t.Helper()
	if err := netlink.RouteAdd(&route); err != nil {
		t.Fatalf("add route %s: %v", route, err)
	}
}

func ipNet(s string) *net.IPNet { return ipNetOf(netip.MustParsePrefix(s)) }

// run executes a program in the test's namespace and returns what it prints.
func run(t *testing.T, name string, args ...string) string {
	t.Helper()
	var stderr bytes.Buffer
	cmd := exec.Command(name, args...)
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("%s %s: %v\n%s", name, strings.Join(args, " "), err, &stderr)
	}
	return string(out)
}

// wantError checks that err names all of the given things.
func wantError(t *testing.T, err error, names ...string) {
	t.Helper()
	if err == nil {
		t.Fatalf("no error, want one that names %q", names)
	}
	for _, n := range names {
		if !strings.Contains(err.Error(), n) {
			t.Errorf("error %q does not name %q", err, n)
		}
	}
}

func noError(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// discard is for tests that do not look at the log.
var discard = slog.New(slog.DiscardHandler)
