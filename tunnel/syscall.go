package tunnel

import (
	"syscall"
	"unsafe"

	"golang.org/x/sys/unix"
)

// The system calls of the packet path never wait, so they are made behind the back of Go's scheduler. Of a call that it knows of
// it tells its monitor thread, if that sleeps because everything did, as it does whenever a single packet comes along: a futex(2)
// and the start of an idle CPU, four times in a round trip, which took 213 µs so and takes 163 µs without.
//
// The monitor is needed by a loop that always finds more to do: it takes the processor away from it after 10 ms, and looks after
// the network poller meanwhile. Therefore a reader's calls are not all quick (readerCalls).

// quickCall makes a system call that does not wait, with the arguments fd, p, n and flags.
func quickCall(number, fd uintptr, p unsafe.Pointer, n, flags uintptr) (int, syscall.Errno) {
	got, _, errno := unix.RawSyscall6(number, fd, uintptr(p), n, flags, 0, 0)
	return int(got), errno
}

// quickCalls is how many quick calls a reader makes before one that the scheduler knows of. A loop that never waits makes more
// than one of these each millisecond, and a packet that comes alone needs far fewer.
const quickCalls = 32

// readerCalls makes the system calls of a reader's loop.
type readerCalls struct {
	quick int // calls since the loop waited, or since one that the scheduler knows of
}

// call is quickCall, but now and then for a loop that does not wait.
func (r *readerCalls) call(number, fd uintptr, p unsafe.Pointer, n, flags uintptr) (int, syscall.Errno) {
	if r.quick < quickCalls {
		r.quick++
		return quickCall(number, fd, p, n, flags)
	}
	r.quick = 0
	got, _, errno := unix.Syscall6(number, fd, uintptr(p), n, flags, 0, 0)
	return int(got), errno
}

// wait notes that the loop waits now; it returns false, which tells a syscall.RawConn to do so.
func (r *readerCalls) wait() bool {
	r.quick = 0
	return false
}

// read is read(2).
func (r *readerCalls) read(fd uintptr, b []byte) (int, syscall.Errno) {
	return r.call(unix.SYS_READ, fd, unsafe.Pointer(unsafe.SliceData(b)), uintptr(len(b)), 0)
}

// write is write(2).
func write(fd uintptr, b []byte) syscall.Errno {
	_, errno := quickCall(unix.SYS_WRITE, fd, unsafe.Pointer(unsafe.SliceData(b)), uintptr(len(b)), 0)
	return errno
}
