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
