package routes

import (
	"errors"
	"fmt"

	"golang.org/x/sys/unix"
)

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

// CheckCapability tells whether this process may change links, routes and
// rules.
func CheckCapability() error {
	header := unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}
	var data [2]unix.CapUserData // 64 capabilities in two words
	if err := unix.Capget(&header, &data[0]); err != nil {
		return fmt.Errorf("read our capabilities: %w", err)
	}
	if data[0].Effective&(1<<unix.CAP_NET_ADMIN) == 0 {
		return errors.New("no CAP_NET_ADMIN, which links, routes and rules need: run as root, or give the capability")
	}
	return nil
}
