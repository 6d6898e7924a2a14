package routes

import (
	"errors"
	"fmt"
	"strings"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// maxDeviceName is the longest interface name in bytes; IFNAMSIZ counts the
// terminating zero.
const maxDeviceName = unix.IFNAMSIZ - 1

// CheckDeviceName returns an error that says what a device may be called. A
// percent sign would make the kernel choose a number.
func CheckDeviceName(name string) error {
	if name == "" || len(name) > maxDeviceName || name == "." || name == ".." || strings.ContainsAny(name, "/:% \t\n\v\f\r") {
		return fmt.Errorf("device name %q: want 1 to %d bytes without slash, colon, percent sign or white space", name, maxDeviceName)
	}
	return nil
}

// errNoDevice is wrapped by tunDevice's error when there is no such device.
var errNoDevice = errors.New("no such device")

// tunDevice finds the TUN device called name. Anything else of that name is
// not ours, whatever the name, and an error.
func tunDevice(name string) (netlink.Link, error) {
	if err := CheckDeviceName(name); err != nil {
		return nil, err
	}
	link, err := netlink.LinkByName(name)
	if _, absent := errors.AsType[netlink.LinkNotFoundError](err); absent {
		return nil, fmt.Errorf("device %s: %w", name, errNoDevice)
	}
	if err != nil {
		return nil, fmt.Errorf("device %s: %w", name, err)
	}
	// A TAP device is of the same kind but has an Ethernet header.
	if link.Type() != "tuntap" || link.Attrs().EncapType != "none" {
		return nil, fmt.Errorf("device %s is not a TUN device but of kind %s (%s)", name, link.Type(), link.Attrs().EncapType)
	}
	return link, nil
}

// DeleteDevice deletes the TUN device called name, and with it its addresses
// and routes. A device that is not there is fine; one that is not a TUN
// device is left alone and is an error.
func DeleteDevice(name string) error {
	link, err := tunDevice(name)
	if errors.Is(err, errNoDevice) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("delete: %w", err)
	}
	// ENODEV: somebody else was faster.
	if err := netlink.LinkDel(link); err != nil && !errors.Is(err, unix.ENODEV) {
		return fmt.Errorf("delete device %s: %w", name, err)
	}
	return nil
}
