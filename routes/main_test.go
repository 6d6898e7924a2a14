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
	"syscall"
	"testing"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// insideVar tells the test binary that it runs in namespaces of its own.
const insideVar = "TWILL_ROUTES_TEST_INSIDE"

// TestMain runs the tests in a new network and mount namespace, and a new
// user namespace if need be, so that nothing can touch the host's.
func TestMain(m *testing.M) {
	if os.Getenv(insideVar) == "" {
		os.Exit(runInside())
	}
	if err := prepareInside(); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	os.Exit(m.Run())
}

// runInside executes this test binary once more and returns its exit code.
func runInside() int {
	cmd := exec.Command("/proc/self/exe", os.Args[1:]...)
	cmd.Env = append(os.Environ(), insideVar+"=1")
	cmd.Stdin, cmd.Stdout, cmd.Stderr = os.Stdin, os.Stdout, os.Stderr
	cmd.SysProcAttr = &syscall.SysProcAttr{Cloneflags: syscall.CLONE_NEWNET | syscall.CLONE_NEWNS, Pdeathsig: syscall.SIGKILL}
	if os.Getuid() != 0 {
		cmd.SysProcAttr.Cloneflags |= syscall.CLONE_NEWUSER
		cmd.SysProcAttr.UidMappings = []syscall.SysProcIDMap{{ContainerID: 0, HostID: os.Getuid(), Size: 1}}
		cmd.SysProcAttr.GidMappings = []syscall.SysProcIDMap{{ContainerID: 0, HostID: os.Getgid(), Size: 1}}
	}
	err := cmd.Run()
	if exit, ok := errors.AsType[*exec.ExitError](err); ok {
		return exit.ExitCode()
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "new namespaces for the tests (run as root, or allow unprivileged user namespaces):", err)
		return 1
	}
	return 0
}

// prepareInside gives the legacy iptables a place for its lock, and checks
// for what the tests cannot do without.
func prepareInside() error {
	if err := unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, ""); err != nil {
		return fmt.Errorf("make mounts private: %w", err)
	}
	if err := unix.Mount("tmpfs", "/run", "tmpfs", 0, ""); err != nil {
		return fmt.Errorf("mount a private /run: %w", err)
	}
	for _, program := range []string{"iptables", "iptables-nft", "iptables-legacy", "iptables-save"} {
		if _, err := exec.LookPath(program); err != nil {
			return fmt.Errorf("the tests need %s: apt-get install iptables (and /usr/sbin in PATH)", program)
		}
	}
	if _, err := exec.LookPath("ip"); err != nil {
		return errors.New("the tests need ip: apt-get install iproute2")
	}
	tun, err := os.OpenFile("/dev/net/tun", os.O_RDWR, 0)
	if err != nil {
		return fmt.Errorf("the tests need TUN devices (modprobe tun; chmod 666 /dev/net/tun for users other than root): %w", err)
	}
	return tun.Close()
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
