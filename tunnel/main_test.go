package tunnel

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"runtime"
	"syscall"
	"testing"

	"github.com/vishvananda/netlink"
)

// inNamespaceEnv is set in the process that runs the tests, inside a network namespace of its own.
const inNamespaceEnv = "TWILL_TEST_IN_NAMESPACE"

// TestMain runs the tests in a child process with a new network namespace, so that nothing touches the host's. Without root
// it is given a new user namespace as well, in which it may do the same.
func TestMain(m *testing.M) {
	if os.Getenv(inNamespaceEnv) == "" {
		os.Exit(runInNamespace())
	}
	if err := loopbackUp(); err != nil {
		fmt.Fprintln(os.Stderr, "set the loopback interface up:", err)
		os.Exit(1)
	}
	os.Exit(m.Run())
}

func runInNamespace() int {
	runtime.LockOSThread() // Pdeathsig follows the thread
	cmd := exec.Command("/proc/self/exe", os.Args[1:]...)
	cmd.Args[0] = os.Args[0]
	cmd.Env = append(os.Environ(), inNamespaceEnv+"=1")
	cmd.Stdin, cmd.Stdout, cmd.Stderr = os.Stdin, os.Stdout, os.Stderr
	cmd.SysProcAttr = &syscall.SysProcAttr{Cloneflags: syscall.CLONE_NEWNET, Pdeathsig: syscall.SIGKILL}
	if os.Geteuid() != 0 {
		cmd.SysProcAttr.Cloneflags |= syscall.CLONE_NEWUSER
		cmd.SysProcAttr.UidMappings = []syscall.SysProcIDMap{{ContainerID: 0, HostID: os.Getuid(), Size: 1}}
		cmd.SysProcAttr.GidMappings = []syscall.SysProcIDMap{{ContainerID: 0, HostID: os.Getgid(), Size: 1}}
	}
	interrupts := make(chan os.Signal, 1)
	signal.Notify(interrupts, os.Interrupt) // which ends fuzzing, in the child
	err := cmd.Start()
	if err == nil {
		go func() {
			for s := range interrupts {
				_ = cmd.Process.Signal(s) // a child that has ended needs none
			}
		}()
		err = cmd.Wait()
	}
	if exit := (*exec.ExitError)(nil); errors.As(err, &exit) {
		return exit.ExitCode()
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "run the tests in a new network namespace (as root, or with kernel.unprivileged_userns_clone=1):", err)
		return 1
	}
	return 0
}

func loopbackUp() error {
	lo, err := netlink.LinkByName("lo")
	if err != nil {
		return err
	}
	return netlink.LinkSetUp(lo)
}
