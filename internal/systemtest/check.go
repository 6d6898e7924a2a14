package systemtest

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// Check returns an error that says why no machine can run here, before [Prepare] takes its minutes.
func Check() error {
	if os.Geteuid() != 0 {
		return errors.New("machines with systemd need root")
	}
	var errs []error
	for program, from := range map[string]string{"systemd-nspawn": "systemd-container", "debootstrap": "debootstrap"} {
		if _, err := exec.LookPath(program); err != nil {
			errs = append(errs, fmt.Errorf("%w: install the package %s", err, from))
		}
	}
	if _, err := os.Stat("/dev/net/tun"); err != nil {
		errs = append(errs, fmt.Errorf("%w: load the kernel module tun, or give this container the device", err))
	}
	groups, err := makeCgroups("check-" + strconv.Itoa(os.Getpid()))
	if err != nil {
		errs = append(errs, fmt.Errorf("%w: systemd-nspawn needs control groups that can be written to, which a container has only when it is privileged", err))
	}
	for _, dir := range groups {
		os.Remove(dir)
	}
	return errors.Join(append(errs, checkOverlay())...)
}

// checkOverlay proves that views of the tree can be mounted.
func checkOverlay() error {
	dir, err := os.MkdirTemp("/run", "twill-system-test")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	var options []string
	for _, name := range []string{"lowerdir", "upperdir", "workdir"} {
		if err := os.Mkdir(filepath.Join(dir, name), 0o755); err != nil {
			return err
		}
		options = append(options, name+"="+filepath.Join(dir, name))
	}
	if err := unix.Mount("overlay", filepath.Join(dir, "lowerdir"), "overlay", 0, strings.Join(options, ",")); err != nil {
		return fmt.Errorf("mount an overlay: %w: the machines need CAP_SYS_ADMIN and the kernel's overlayfs", err)
	}
	return unix.Unmount(filepath.Join(dir, "lowerdir"), 0)
}
