package tunnel

import (
	"syscall"
	"unsafe"

	"golang.org/x/sys/unix"
)

// A groReceiver receives from a socket with UDP_GRO: each recvmsg(2) returns a group of datagrams of one sender, in one piece and
// of the same size but for the last. The groups lie one behind the other in one buffer, so that single small datagrams touch
// little memory.
type groReceiver struct {
	raw     syscall.RawConn
	recvmsg func(fd uintptr) bool // made once: a closure made for each call would be allocated
	calls   readerCalls
	buffer  []byte
	used    int
	rest    group // what did not fit into the last burst

	msg     unix.Msghdr
	iovec   unix.Iovec
	source  unix.RawSockaddrInet4
	control receiveControl

	datagrams [2 * burstSize]Datagram
	n         int
	err       error
}

// A group is what one recvmsg returned: datagrams of size bytes each.
type group struct {
	Datagram
	size int
}

func newGROReceiver(raw syscall.RawConn) *groReceiver {
	r := &groReceiver{raw: raw, buffer: make([]byte, burstBytes+cacheLine+maxPacket+1)}
	r.recvmsg = r.receiveBurst
	r.msg.Name = (*byte)(unsafe.Pointer(&r.source))
	r.msg.Iov = &r.iovec
	r.msg.SetIovlen(1)
	return r
}

func (r *groReceiver) receive() ([]Datagram, error) {
	r.n, r.err = 0, nil
	if r.cut(); r.n > 0 {
		return r.datagrams[:r.n], nil
	}
	r.used = 0
	if err := r.raw.Read(r.recvmsg); err != nil {
		return nil, err
	}
	return r.datagrams[:r.n], r.err
}

// receiveBurst receives until nothing is there or the room for a burst is exhausted. It returns false to be called again when
// there is something to receive. An error after some datagrams is left for the next call.
func (r *groReceiver) receiveBurst(fd uintptr) bool {
	for r.n < burstSize && r.used < burstBytes && len(r.rest.Data) == 0 {
		start := (r.used + cacheLine - 1) / cacheLine * cacheLine
		n, errno := r.receiveGroup(fd, r.buffer[start:start+maxPacket+1])
		switch errno {
		case 0:
			r.used = start + n
			r.take(r.buffer[start:r.used])
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

func (r *groReceiver) receiveGroup(fd uintptr, buffer []byte) (int, syscall.Errno) {
	setIovec(&r.iovec, buffer)
	r.msg.Namelen = unix.SizeofSockaddrInet4
	r.control.expect(&r.msg)
	return r.calls.call(unix.SYS_RECVMSG, fd, unsafe.Pointer(&r.msg), unix.MSG_DONTWAIT, 0)
}

// take adds what was received to the burst.
func (r *groReceiver) take(data []byte) {
	tos, size := r.control.read(&r.msg)
	r.rest = group{
		Datagram: Datagram{Data: data, From: addrPort(&r.source), TOS: tos, Truncated: r.msg.Flags&unix.MSG_TRUNC != 0},
		size:     len(data),
	}
	if size > 0 && !r.rest.Truncated {
		r.rest.size = size
	}
	if len(data) == 0 { // an empty datagram is one, too
		r.datagrams[r.n] = r.rest.Datagram
		r.n++
		return
	}
	r.cut()
}

// cut moves datagrams from the rest to the burst while there is room.
func (r *groReceiver) cut() {
	for len(r.rest.Data) > 0 && r.n < len(r.datagrams) {
		d := r.rest.Datagram
		d.Data = d.Data[:min(r.rest.size, len(d.Data))]
		r.rest.Data = r.rest.Data[len(d.Data):]
		r.datagrams[r.n] = d
		r.n++
	}
}
