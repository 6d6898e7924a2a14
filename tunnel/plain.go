package tunnel

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"syscall"

	"github.com/songgao/water"
	"golang.org/x/sys/unix"
)

// openPlain opens a device that is free in the plain mode, in which each read and write moves one packet. The switches say why it does
// not use the offloads.
func openPlain(config OpenConfig, tso, uso *modeSwitch) (Device, error) {
	d := &device{name: config.Name, tso: tso, uso: uso}
	for i := range config.Queues {
		q, err := openPlainQueue(config.Name)
		if err != nil {
			d.Close()
			return nil, fmt.Errorf("open TUN device %s, queue %d: %w", config.Name, i, err)
		}
		d.queues = append(d.queues, q)
	}
	return d, nil
}

func openPlainQueue(name string) (*queue, error) {
	file, err := openWater(name)
	if err != nil {
		return nil, err
	}
	q, err := newPlainQueue(file)
	if err != nil {
		file.Close()
		return nil, err
	}
	return q, nil
}

// newPlainQueue returns the Queue of a file that is attached to the device.
func newPlainQueue(file *os.File) (*queue, error) {
	raw, err := file.SyscallConn()
	if err != nil {
		return nil, err
	}
	return &queue{file: file, reader: newPlainReader(raw), writer: newPlainWriter(raw), own: newPlainWriter(raw)}, nil
}

// openWater attaches a new queue to the device. Always with multi-queue: the kernel refuses to open a device with this flag
// that was made without it, and a persistent device shall take another number of queues at the next start.
func openWater(name string) (*os.File, error) {
	// water opens without O_CLOEXEC. Until the flag is set no other goroutine may fork.
	syscall.ForkLock.RLock()
	defer syscall.ForkLock.RUnlock()
	ifce, err := water.New(water.Config{
		DeviceType:             water.TUN,
		PlatformSpecificParams: water.PlatformSpecificParams{Name: name, Persist: true, MultiQueue: true},
	})
	if err != nil {
		return nil, explainOpen(err)
	}
	file, ok := ifce.ReadWriteCloser.(*os.File)
	if !ok {
		ifce.Close()
		return nil, fmt.Errorf("water returned a %T: want an *os.File", ifce.ReadWriteCloser)
	}
	raw, err := file.SyscallConn()
	if err == nil {
		err = control(raw, setPlain)
	}
	if err != nil {
		file.Close()
		return nil, err
	}
	return file, nil
}

// setPlain does what water leaves out. A device that was there already may have been used with offloads: without taking them
// back the kernel would go on handing over super-packets, now without the header that says so.
func setPlain(fd int) error {
	if _, err := unix.FcntlInt(uintptr(fd), unix.F_SETFD, unix.FD_CLOEXEC); err != nil {
		return fmt.Errorf("set close-on-exec: %w", err)
	}
	return setOffload(fd, 0)
}

// explainOpen adds to an error of water what to do about it. An error of /dev/net/tun itself is a bare errno from open(2),
// one of TUNSETIFF and its fellows is an os.SyscallError.
func explainOpen(err error) error {
	var ioctl *os.SyscallError
	if !errors.As(err, &ioctl) {
		return explainNode(err)
	}
	switch {
	case errors.Is(err, unix.EPERM):
		return fmt.Errorf("%w: this needs CAP_NET_ADMIN in the user namespace that owns the network namespace", err)
	case errors.Is(err, unix.EINVAL):
		return fmt.Errorf("%w: the name belongs to an interface that is not a multi-queue TUN device; choose another name or delete that interface", err)
	case errors.Is(err, unix.EBUSY), errors.Is(err, unix.E2BIG):
		return fmt.Errorf("%w: the device is held by another process", err)
	}
	return err
}

func explainNode(err error) error {
	err = fmt.Errorf("open /dev/net/tun: %w", err)
	switch {
	case errors.Is(err, fs.ErrNotExist), errors.Is(err, unix.ENODEV), errors.Is(err, unix.ENXIO):
		return fmt.Errorf("%w: load the module (modprobe tun), or give the container the device", err)
	case errors.Is(err, fs.ErrPermission):
		return fmt.Errorf("%w: the device's mode or the container's device rules forbid it", err)
	}
	return err
}

// plainReader reads bursts. The callback is made once: a closure made for each call would be allocated.
type plainReader struct {
	raw     syscall.RawConn
	drain   func(fd uintptr) bool
	calls   readerCalls
	buffers [burstSize][]byte
	packets [burstSize]Packet
	n       int
	err     error
}

func newPlainReader(raw syscall.RawConn) *plainReader {
	r := &plainReader{raw: raw, buffers: newBuffers()}
	r.drain = r.drainQueue
	return r
}

func (r *plainReader) read() ([]Packet, error) {
	r.n, r.err = 0, nil
	if err := readTUN(r.raw, r.drain); err != nil {
		return nil, err
	}
	return r.packets[:r.n], r.err
}

// drainQueue reads until the queue or the room for a burst is exhausted. It returns false to be called again when there is
// something to read. An error after some packets is left for the next call, which meets it again.
func (r *plainReader) drainQueue(fd uintptr) bool {
	for r.n < burstSize {
		n, errno := r.calls.read(fd, r.buffers[r.n])
		switch errno {
		case 0:
			r.packets[r.n] = Packet{Head: r.buffers[r.n][:n]}
			r.n++
		case unix.EINTR:
		case unix.EAGAIN:
			return r.n > 0 || r.calls.wait()
		default:
			if r.n == 0 {
				r.err = errno
			}
			return true
		}
	}
	return true
}

// plainWriter writes bursts, likewise.
type plainWriter struct {
	raw     syscall.RawConn
	writeTo func(fd uintptr) bool
	packets []Packet
	n       int
	err     error
}

func newPlainWriter(raw syscall.RawConn) *plainWriter {
	w := &plainWriter{raw: raw}
	w.writeTo = w.writeAll
	return w
}

func (w *plainWriter) write(packets []Packet) (int, error) {
	w.packets, w.n, w.err = packets, 0, nil
	err := w.raw.Write(w.writeTo)
	w.packets = nil
	switch {
	case err != nil:
		return 1, err
	case w.n == 0:
		return 1, w.err
	}
	return w.n, nil // an error after some packets is met again at the next call
}

// writeAll writes packet by packet up to one that the kernel refuses. It never asks to be called again: a TUN device has no
// send buffer whose room one could wait for.
func (w *plainWriter) writeAll(fd uintptr) bool {
	for w.n < len(w.packets) {
		switch errno := write(fd, w.packets[w.n].Head); errno {
		case 0:
			w.n++
		case unix.EINTR:
		default:
			w.err = errno
			return true
		}
	}
	return true
}
