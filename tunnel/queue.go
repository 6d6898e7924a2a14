package tunnel

import (
	"errors"
	"os"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// device is a Device in either mode.
type device struct {
	name     string
	queues   []Queue
	tso, uso *modeSwitch // both off in the plain mode; they say why
}

func (d *device) Name() string    { return d.name }
func (d *device) Queues() []Queue { return d.queues }
func (d *device) Modes() []Mode   { return []Mode{d.tso.mode(), d.uso.mode()} }

func (d *device) Close() error {
	var errs []error
	for _, q := range d.queues {
		errs = append(errs, q.(*queue).file.Close())
	}
	return errors.Join(errs...)
}

// queue is a Queue in either mode, which its reader and writers make the difference between.
type queue struct {
	file   *os.File
	reader interface{ read() ([]Packet, error) }
	writer burstWriter // for Write
	own    burstWriter // for Inject, which may run beside Write
	single [1]Packet   // the burst of Inject
}

type burstWriter interface {
	write(packets []Packet) (int, error)
}

func (q *queue) Read() ([]Packet, error) { return q.reader.read() }

func (q *queue) Write(packets []Packet) (int, error) { return q.writer.write(packets) }

func (q *queue) Inject(packet []byte) error {
	q.single[0].Head = packet
	_, err := q.own.write(q.single[:])
	return err
}

func (q *queue) SetReadDeadline(t time.Time) error { return q.file.SetReadDeadline(t) }

// SyscallConn gives the descriptor of the queue away.
func (q *queue) SyscallConn() (syscall.RawConn, error) { return q.file.SyscallConn() }

// readTUN is raw.Read for a TUN device.
func readTUN(raw syscall.RawConn, drain func(fd uintptr) bool) error {
	err := raw.Read(drain)
	if err == nil || errors.Is(err, os.ErrDeadlineExceeded) || errors.Is(err, os.ErrClosed) {
		return err
	}
	// Go's poller gives up a descriptor for which epoll reports an error alone. For a TUN device that means that it was
	// deleted; a read that comes to the kernel afterwards gets EBADFD.
	return unix.EBADFD
}
