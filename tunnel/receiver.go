package tunnel

import (
	"net/netip"
	"syscall"
	"unsafe"

	"golang.org/x/sys/unix"
)

// A receiver receives bursts with recvmmsg(2). golang.org/x/net's ReadBatch allocates each source address.
type receiver struct {
	raw       syscall.RawConn
	recvmmsg  func(fd uintptr) bool // made once: a closure made for each call would be allocated
	calls     readerCalls
	buffers   [burstSize][]byte
	iovecs    [burstSize]unix.Iovec
	sources   [burstSize]unix.RawSockaddrInet4
	controls  [burstSize]receiveControl
	headers   [burstSize]mmsghdr
	datagrams [burstSize]Datagram
	n         int
	err       error
}

func newReceiver(raw syscall.RawConn) *receiver {
	r := &receiver{raw: raw}
	r.recvmmsg = r.receiveBurst
	r.buffers = newBuffers()
	for i, buffer := range r.buffers {
		r.iovecs[i].Base = &buffer[0]
		r.iovecs[i].SetLen(len(buffer))
		msg := &r.headers[i].msg
		msg.Name = (*byte)(unsafe.Pointer(&r.sources[i]))
		msg.Namelen = unix.SizeofSockaddrInet4
		msg.Iov = &r.iovecs[i]
		msg.SetIovlen(1)
		r.controls[i].expect(msg)
	}
	return r
}

func (r *receiver) receive() ([]Datagram, error) {
	r.n, r.err = 0, nil
	if err := r.raw.Read(r.recvmmsg); err != nil {
		return nil, err
	}
	for i := range r.n {
		header := &r.headers[i]
		tos, _ := r.controls[i].read(&header.msg)
		r.datagrams[i] = Datagram{
			TOS:       tos,
			Data:      r.buffers[i][:header.length],
			From:      addrPort(&r.sources[i]),
			Truncated: header.msg.Flags&unix.MSG_TRUNC != 0,
		}
		header.msg.Namelen = unix.SizeofSockaddrInet4 // the kernel has written to both
		r.controls[i].expect(&header.msg)
	}
	return r.datagrams[:r.n], r.err
}

// receiveBurst takes what is there, up to a burst. It returns false to be called again when there is something to receive.
func (r *receiver) receiveBurst(fd uintptr) bool {
	for {
		n, errno := r.calls.call(unix.SYS_RECVMMSG, fd, unsafe.Pointer(&r.headers), burstSize, unix.MSG_DONTWAIT)
		switch errno {
		case 0:
			r.n = n
			return true
		case unix.EAGAIN:
			return r.calls.wait()
		case unix.EINTR:
		default:
			r.err = errno
			return true
		}
	}
}

// addrPort returns a socket address that the kernel has written.
func addrPort(sa *unix.RawSockaddrInet4) netip.AddrPort {
	port := (*[2]byte)(unsafe.Pointer(&sa.Port)) // in network order
	return netip.AddrPortFrom(netip.AddrFrom4(sa.Addr), uint16(port[0])<<8|uint16(port[1]))
}
