package lab

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"runtime"
	"slices"
	"syscall"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// insideEnv marks the environment of the process that Enter started.
const insideEnv = "TWILL_LAB"

// Enter moves the program into a lab of its own. Outside of one it runs this
// same program again, with the same arguments, as process 1 of new network,
// mount and PID namespaces (and of a user namespace, unless it may do without)
// and returns entered=false with that process's exit code when it has ended. In
// there, Enter returns entered=true at once and the program goes on.
//
// Everything the inner process makes — links, namespaces, processes, the files
// below /run — ends with it, and it is killed when the outer one dies, however
// that happens. Signals sent to the outer one are passed on.
//
// The error says why the machine does not allow namespaces and what to do.
func Enter() (entered bool, exitCode int, err error) {
	if os.Getenv(insideEnv) != "" {
		return true, 0, furnish()
	}
	code, err := runInside()
	return false, code, err
}

// Main is TestMain for a package whose tests build labs: it runs m, a *testing.M,
// in one. The program under test does not import testing for it.
func Main(m interface{ Run() int }) {
	if os.Getenv("GORACE") == "" {
		// The race detector lets each process sleep for a second at its end,
		// which would count as a daemon's own slowness.
		os.Setenv("GORACE", "atexit_sleep_ms=10")
	}
	if slices.Contains(os.Args, "-test.fuzzworker") { // a child of the tests, and so in the lab
		os.Exit(m.Run())
	}
	entered, code, err := Enter()
	switch {
	case err != nil:
		fmt.Fprintln(os.Stderr, "FAIL: tests need network namespaces:", err)
		os.Exit(1)
	case entered:
		os.Exit(m.Run())
	default:
		os.Exit(code)
	}
}

// runInside is the outer half of Enter. The kernel sends the death signal when
// the thread that forked ends, so the goroutine keeps its thread until the end.
func runInside() (exitCode int, err error) {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()

	signals := make(chan os.Signal, 8)
	signal.Notify(signals, unix.SIGINT, unix.SIGTERM, unix.SIGHUP, unix.SIGQUIT)
	defer signal.Stop(signals)

	cmd := exec.Command("/proc/self/exe", os.Args[1:]...)
	cmd.Args[0] = os.Args[0]
	cmd.Env = append(os.Environ(), insideEnv+"=1")
	cmd.Stdout, cmd.Stderr = os.Stdout, os.Stderr
	cmd.SysProcAttr = namespaces()
	if err := cmd.Start(); err != nil {
		return 1, explain(err)
	}

	ended := make(chan struct{})
	go func() {
		for {
			select {
			case s := <-signals:
				cmd.Process.Signal(s)
			case <-ended:
				return
			}
		}
	}()
	err = cmd.Wait()
	close(ended)
	return exitCodeOf(cmd.ProcessState, err)
}

// namespaces says how the inner process is started. It gets a process group of
// its own, so that Ctrl-C reaches it once, by way of the outer process, and the
// daemons in it not at all.
func namespaces() *syscall.SysProcAttr {
	attr := &syscall.SysProcAttr{
		Cloneflags: unix.CLONE_NEWNET | unix.CLONE_NEWNS | unix.CLONE_NEWPID,
		Pdeathsig:  unix.SIGKILL,
		Setpgid:    true,
	}
	if !mayMakeNamespaces() {
		attr.Cloneflags |= unix.CLONE_NEWUSER
		attr.UidMappings = []syscall.SysProcIDMap{{ContainerID: 0, HostID: os.Geteuid(), Size: 1}}
		attr.GidMappings = []syscall.SysProcIDMap{{ContainerID: 0, HostID: os.Getegid(), Size: 1}}
	}
	return attr
}

// mayMakeNamespaces tells whether this process holds CAP_SYS_ADMIN and
// CAP_NET_ADMIN, without which namespaces need a user namespace around them.
func mayMakeNamespaces() bool {
	header := unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}
	var data [2]unix.CapUserData // 64 capabilities in two words
	if err := unix.Capget(&header, &data[0]); err != nil {
		return false
	}
	const need = 1<<unix.CAP_SYS_ADMIN | 1<<unix.CAP_NET_ADMIN
	return data[0].Effective&need == need
}

// exitCodeOf follows the shell: a process that a signal ended has 128+signal.
func exitCodeOf(state *os.ProcessState, err error) (int, error) {
	var exit *exec.ExitError
	if err != nil && !errors.As(err, &exit) {
		return 1, err
	}
	if ws, ok := state.Sys().(syscall.WaitStatus); ok && ws.Signaled() {
		return 128 + int(ws.Signal()), nil
	}
	return state.ExitCode(), nil
}

// furnish is the inner half of Enter: a private /run for what the lab and the
// programs in it write (iptables keeps its lock there), and loopback.
//
// /proc stays the outer one, because containers do not let it be mounted anew:
// only /proc/self and /proc/thread-self may be used, never /proc/<getpid()>.
func furnish() error {
	if err := checkFresh(); err != nil {
		return err
	}
	if err := unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, ""); err != nil {
		return fmt.Errorf("make mounts private: %w", err)
	}
	if err := unix.Mount("tmpfs", "/run", "tmpfs", unix.MS_NOSUID|unix.MS_NODEV, "mode=0755"); err != nil {
		return fmt.Errorf("mount a private /run: %w", err)
	}
	lo, err := netlink.LinkByName("lo")
	if err != nil {
		return fmt.Errorf("find lo: %w", err)
	}
	if err := netlink.LinkSetUp(lo); err != nil {
		return fmt.Errorf("set lo up: %w", err)
	}
	return nil
}

// checkFresh protects a machine on which someone has set insideEnv by hand: a
// lab is built only by process 1 of a network in which nothing is up.
func checkFresh() error {
	if os.Getpid() != 1 {
		return fmt.Errorf("%s is set, but this is not the first process of a lab; unset it", insideEnv)
	}
	links, err := netlink.LinkList()
	if err != nil {
		return fmt.Errorf("list links: %w", err)
	}
	for _, l := range links {
		if l.Attrs().OperState == netlink.OperUp {
			return fmt.Errorf("%s is set, but link %s is up: this is not a lab; unset it", insideEnv, l.Attrs().Name)
		}
	}
	return nil
}

// EnterCommand is a shell command (util-linux's nsenter) that another terminal,
// of the same user, can enter the namespace with. It enters the lab's mounts
// too, so that the files below /run are there.
func (n *Namespace) EnterCommand() string {
	pid, err := os.Readlink("/proc/self") // as the outer /proc knows it
	if err != nil {
		pid = "PID"
	}
	user := ""
	if inUserNamespace() {
		user = " --user --preserve-credentials"
	}
	return fmt.Sprintf("nsenter --target %s%s --mount --net=/proc/%s/fd/%d", pid, user, pid, n.FD())
}

// inUserNamespace tells whether Enter needed a user namespace: its mapping is a
// single user.
func inUserNamespace() bool {
	var inside, outside, count uint32
	m, err := os.ReadFile("/proc/self/uid_map")
	if err != nil {
		return false
	}
	n, _ := fmt.Sscan(string(m), &inside, &outside, &count)
	return n == 3 && count == 1
}
