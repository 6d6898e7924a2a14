package tunnel

import (
	"errors"
	"fmt"
	"unsafe"

	"golang.org/x/sys/unix"
)

// checkFree returns an error if name is an interface of another kind or a TUN device that a process holds. The kernel itself
// would let a second process attach to a multi-queue device, and divide the packets between the two.
func checkFree(name string) error {
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return fmt.Errorf("socket for ethtool: %w", err)
	}
	defer unix.Close(fd)

	info, err := unix.IoctlGetEthtoolDrvinfo(fd, name)
	if errors.Is(err, unix.ENODEV) {
		return nil
	}
	driver, bus := "", ""
	if err == nil {
		driver = unix.ByteSliceToString(info.Driver[:])
		bus = unix.ByteSliceToString(info.Bus_info[:])
	}
	// Both kinds of device have the driver tun; the bus tells them apart.
	if driver != "tun" || bus != "tun" {
		return fmt.Errorf("the name belongs to an interface that is not a TUN device (driver %q); choose another name or delete that interface", driver)
	}
	if n := attachedQueues(fd, name); n > 0 {
		return fmt.Errorf("another process holds the device (%d queues); stop it or choose another name", n)
	}
	return nil
}

// attachedQueues returns how many queues of the TUN device processes hold, and 0 also where the kernel does not tell.
func attachedQueues(fd int, name string) int {
	// struct ethtool_channels and struct ifreq of the kernel's uapi headers.
	channels := struct {
		cmd                                         uint32
		maxRx, maxTx, maxOther, maxCombined         uint32
		rxCount, txCount, otherCount, combinedCount uint32
	}{cmd: unix.ETHTOOL_GCHANNELS}
	request := struct {
		name [unix.IFNAMSIZ]byte
		data unsafe.Pointer
		_    [16]byte // the rest of the union, on any architecture
	}{data: unsafe.Pointer(&channels)}
	copy(request.name[:], name)
	_, _, errno := unix.Syscall(unix.SYS_IOCTL, uintptr(fd), unix.SIOCETHTOOL, uintptr(unsafe.Pointer(&request)))
	if errno != 0 {
		return 0
	}
	return int(channels.combinedCount)
}
