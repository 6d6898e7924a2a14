package lab

import (
	"errors"
	"fmt"
	"os"
	"strings"

	"golang.org/x/sys/unix"
)

// switches are the kernel settings that forbid ordinary users a user namespace,
// with the value that allows them.
var switches = []struct{ path, bad, remedy string }{
	{"/proc/sys/user/max_user_namespaces", "0", "sysctl user.max_user_namespaces=10000"},
	{"/proc/sys/kernel/unprivileged_userns_clone", "0", "sysctl kernel.unprivileged_userns_clone=1"},
	{"/proc/sys/kernel/apparmor_restrict_unprivileged_userns", "1", "sysctl kernel.apparmor_restrict_unprivileged_userns=0"},
}

// explain turns the kernel's refusal to make namespaces into what to do.
func explain(err error) error {
	switch {
	case errors.Is(err, unix.EINVAL):
		return fmt.Errorf("this kernel has no network or user namespaces: %w", err)
	case !errors.Is(err, unix.EPERM) && !errors.Is(err, unix.ENOSPC) && !errors.Is(err, unix.EACCES):
		return fmt.Errorf("start in new namespaces: %w", err)
	}
	for _, s := range switches {
		value, readErr := os.ReadFile(s.path)
		if readErr == nil && strings.TrimSpace(string(value)) == s.bad {
			return fmt.Errorf("user namespaces are disabled (%s is %s): run as root, or allow them with `%s`: %w", s.path, s.bad, s.remedy, err)
		}
	}
	return fmt.Errorf("namespaces are not permitted (a container's seccomp profile?): run as root, in a container with --privileged: %w", err)
}

// CheckTUN tells whether this process can make TUN devices, and if not what to
// do about it.
func CheckTUN() error {
	const path = "/dev/net/tun"
	fd, err := unix.Open(path, unix.O_RDWR|unix.O_CLOEXEC, 0)
	switch {
	case err == nil:
		unix.Close(fd)
		return nil
	case errors.Is(err, unix.ENOENT), errors.Is(err, unix.ENODEV), errors.Is(err, unix.ENXIO):
		return fmt.Errorf("open %s: %w: load the module with `modprobe tun`; a container needs --device=%s", path, err, path)
	case errors.Is(err, unix.EACCES), errors.Is(err, unix.EPERM):
		return fmt.Errorf("open %s: %w: run as root, or allow everyone to open it with `chmod 0666 %s` (harmless: a device still needs CAP_NET_ADMIN)", path, err, path)
	default:
		return fmt.Errorf("open %s: %w", path, err)
	}
}
