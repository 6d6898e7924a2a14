package routes

import (
	"os"
	"testing"

	"golang.org/x/sys/unix"
)

func TestForwarding(t *testing.T) {
	newNamespace(t)
	noError(t, os.WriteFile(ipForward, []byte("0"), 0)) // a new namespace inherits the host's

	wantForwarding(t, false)
	readOnlySysctls(t, func() { wantError(t, EnableForwarding(), "net.ipv4.ip_forward", "read-only") })
	noError(t, EnableForwarding())
	wantForwarding(t, true)
	readOnlySysctls(t, func() { noError(t, EnableForwarding()) })
}

func wantForwarding(t *testing.T, want bool) {
	t.Helper()
	got, err := ForwardingEnabled()
	noError(t, err)
	if got != want {
		t.Errorf("ForwardingEnabled is %t, want %t", got, want)
	}
}

// readOnlySysctls runs f while /proc/sys is as a container sees it.
func readOnlySysctls(t *testing.T, f func()) {
	t.Helper()
	noError(t, unix.Mount("/proc/sys", "/proc/sys", "", unix.MS_BIND, ""))
	defer func() { noError(t, unix.Unmount("/proc/sys", unix.MNT_DETACH)) }()
	noError(t, unix.Mount("", "/proc/sys", "", unix.MS_BIND|unix.MS_REMOUNT|unix.MS_RDONLY, ""))
	f()
}
