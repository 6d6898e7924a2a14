package tunnel

import (
	"errors"
	"fmt"
	"log/slog"
	"os"
	"strings"

	"golang.org/x/sys/unix"
)

// What the interface of a TUN device should be set to, beside its address and MTU.
const (
	// TxQueueLen is the length of each queue in packets (txqueuelen). The device drops what finds it full, at once, so that a queueing
	// discipline above it never fills. Bulk TCP is the same at 500, 2,000 and 8,000, and so is a round trip beside it: a receive window
	// holds some hundred super-packets. What needs the room are small packets while the daemon restarts, 1,000 a second for 4 s, and
	// what bounds it is UDP that is faster than the tunnel and keeps the queue full: all others wait 40 ms at 100,000 packets/s.
	TxQueueLen = 4000
	// GSOMaxSize is the size in bytes of super-packets that the device takes (IFLA_GSO_MAX_SIZE and
	// IFLA_GSO_IPV4_MAX_SIZE), the kernel's default. With a smaller one each would fit, together with its segments'
	// headers, into one send of 65,507 bytes. But the interfaces of the pods know nothing of it, and the kernel cuts
	// what they send into single packets before the device: TCP fell from 5.3 to 2.6 Gb/s.
	GSOMaxSize = 65536
)

// maxQueues is MAX_TAP_QUEUES of the kernel's TUN driver.
const maxQueues = 256

// OpenConfig says which TUN device to open, and how.
type OpenConfig struct {
	// Name is the interface's name, 1 to 15 characters.
	Name string
	// Queues is the number of queues, 1 to 256.
	Queues int
	// Offloads are those that may be used; only TSO and USO concern the device.
	Offloads Offloads
	// Log is told when an offload is switched off while the device is in use; nil discards that.
	Log *slog.Logger
}

// Open opens the TUN device Name with the offloads that are asked for and that the kernel has, and in the plain mode if there are
// none; Device.Modes tells. It makes the device if it does not exist. The device stays when it is closed or its process ends, with its
// addresses and routes, so that a daemon that restarts finds everything as it was.
func Open(config OpenConfig) (Device, error) {
	if err := config.validate(); err != nil {
		return nil, err
	}
	if err := checkFree(config.Name); err != nil {
		return nil, fmt.Errorf("open TUN device %s: %w", config.Name, err)
	}
	d := newOffloadDevice(config)
	for i := 0; i < config.Queues && d.anyOffload(); i++ {
		q, err := d.openQueue()
		if err != nil {
			d.Close()
			return nil, fmt.Errorf("open TUN device %s, queue %d: %w", config.Name, i, err)
		}
		if q != nil {
			d.queues = append(d.queues, q)
		}
	}
	if !d.anyOffload() {
		d.Close()
		return openPlain(config, d.tso, d.uso)
	}
	return d, nil
}

func (c OpenConfig) validate() error {
	if c.Name == "" || len(c.Name) >= unix.IFNAMSIZ {
		return fmt.Errorf("TUN device name %q: want 1 to %d characters", c.Name, unix.IFNAMSIZ-1)
	}
	// The kernel's dev_valid_name, and % with which it would make up a name.
	if c.Name == "." || c.Name == ".." || strings.ContainsAny(c.Name, "/:% \t\n\v\f\r") {
		return fmt.Errorf("TUN device name %q: must not be . or .. nor contain / : %% or white space", c.Name)
	}
	if c.Queues < 1 || c.Queues > maxQueues {
		return fmt.Errorf("TUN device %s with %d queues: want 1 to %d", c.Name, c.Queues, maxQueues)
	}
	return nil
}

// offloadDevice is a Device in the offload mode.
type offloadDevice struct {
	device
	writev func(fd uintptr, iovecs []unix.Iovec) error // for the probe; writev(2), but in tests
}

// newOffloadDevice returns a device without queues.
func newOffloadDevice(config OpenConfig) *offloadDevice {
	if config.Log == nil {
		config.Log = slog.New(slog.DiscardHandler)
	}
	return &offloadDevice{
		device: device{
			name: config.Name,
			tso:  newModeSwitch(nameTSO, config.Offloads.TSO, config.Log),
			uso:  newModeSwitch(nameUSO, config.Offloads.USO, config.Log),
		},
		writev: writev,
	}
}

func (d *offloadDevice) anyOffload() bool { return d.tso.on() || d.uso.on() }

// openQueue attaches a new queue to the device. It switches off the offloads that the kernel does not have, and returns nil if
// then none is left.
func (d *offloadDevice) openQueue() (*queue, error) {
	fd, err := unix.Open("/dev/net/tun", unix.O_RDWR|unix.O_CLOEXEC|unix.O_NONBLOCK, 0)
	if err != nil {
		return nil, explainOpen(err)
	}
	if err := d.setUp(fd); err != nil || !d.anyOffload() {
		unix.Close(fd)
		return nil, err
	}
	return newOffloadQueue(os.NewFile(uintptr(fd), "/dev/net/tun"), d.tso, d.uso)
}

// setUp makes fd a queue of the device. The file may be given to Go's poller only after that: before, it cannot be polled.
func (d *offloadDevice) setUp(fd int) error {
	request, err := unix.NewIfreq(d.name)
	if err != nil {
		return err
	}
	const flags = unix.IFF_TUN | unix.IFF_NO_PI | unix.IFF_MULTI_QUEUE | unix.IFF_VNET_HDR
	request.SetUint16(flags)
	if err := unix.IoctlIfreq(fd, unix.TUNSETIFF, request); err != nil {
		return explainOpen(os.NewSyscallError("TUNSETIFF", err))
	}
	if err := unix.IoctlSetInt(fd, unix.TUNSETPERSIST, 1); err != nil {
		return os.NewSyscallError("TUNSETPERSIST", err)
	}
	return d.configure(fd)
}

// configure makes the settings of a queue that is attached to the device.
func (d *offloadDevice) configure(fd int) error {
	// The size belongs to the device, and may be what an earlier user of it has set.
	if err := unix.IoctlSetPointerInt(fd, unix.TUNSETVNETHDRSZ, vnetHeaderLen); err != nil {
		return os.NewSyscallError("TUNSETVNETHDRSZ", err)
	}
	// A kernel that does not know a flag ignores it, and the packets would not have the headers that we read.
	request, err := unix.NewIfreq(d.name)
	if err != nil {
		return err
	}
	if err := unix.IoctlIfreq(fd, unix.TUNGETIFF, request); err != nil {
		return os.NewSyscallError("TUNGETIFF", err)
	}
	if request.Uint16()&unix.IFF_VNET_HDR == 0 {
		d.tso.turnOff(offByKernel)
		d.uso.turnOff(offByKernel)
		return nil
	}
	if err := d.setOffloads(fd); err != nil {
		return err
	}
	d.probeWrites(fd)
	return d.setOffloads(fd) // with those that are left
}

// setOffloads asks the kernel for super-packets, and for the most that it has.
func (d *offloadDevice) setOffloads(fd int) error {
	for d.anyOffload() {
		flags := unix.TUN_F_CSUM
		if d.tso.on() {
			flags |= unix.TUN_F_TSO4 | unix.TUN_F_TSO6 | unix.TUN_F_TSO_ECN
		}
		if d.uso.on() {
			flags |= unix.TUN_F_USO4 | unix.TUN_F_USO6
		}
		err := setOffload(fd, flags)
		switch {
		case err == nil:
			return nil
		case !errors.Is(err, unix.EINVAL):
			return err
		case d.uso.on(): // the newer one
			d.uso.turnOff(offByKernel)
		default:
			d.tso.turnOff(offByKernel)
		}
	}
	return nil
}

// setOffload says which offloads, unix.TUN_F_ flags, a reader of the device understands.
func setOffload(fd, flags int) error {
	return os.NewSyscallError("TUNSETOFFLOAD", unix.IoctlSetInt(fd, unix.TUNSETOFFLOAD, flags))
}
