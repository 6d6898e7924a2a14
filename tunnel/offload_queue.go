package tunnel

import (
	"os"
	"syscall"
	"unsafe"

	"golang.org/x/sys/unix"
)

// newOffloadQueue returns a queue in the offload mode: each read and write moves a packet or a super-packet.
func newOffloadQueue(file *os.File, tso, uso *modeSwitch) (*queue, error) {
	raw, err := file.SyscallConn()
	if err != nil {
		file.Close()
		return nil, err
	}
	return &queue{
		file:   file,
		reader: newOffloadReader(raw),
		writer: newOffloadWriter(raw, tso, uso),
		own:    newOffloadWriter(raw, tso, uso),
	}, nil
}

// An offloadReader reads bursts. The packets lie one behind the other in one buffer, so that many small ones touch little memory.
type offloadReader struct {
	raw     syscall.RawConn
	drain   func(fd uintptr) bool
	calls   readerCalls
	buffer  []byte
	used    int
	packets [burstSize]Packet
	n       int
	err     error
}

const (
	// burstBytes is the amount of data after which nothing more is added to a burst: one super-packet.
	burstBytes = 64 << 10
	// cacheLine is the alignment of packets in a buffer, for faster copies.
	cacheLine = 64
)

func newOffloadReader(raw syscall.RawConn) *offloadReader {
	r := &offloadReader{raw: raw, buffer: make([]byte, burstBytes+cacheLine+maxPacket+1)}
	r.drain = r.drainQueue
	return r
}

func (r *offloadReader) read() ([]Packet, error) {
	r.n, r.err, r.used = 0, nil, 0
	if err := readTUN(r.raw, r.drain); err != nil {
		return nil, err
	}
	return r.packets[:r.n], r.err
}

// drainQueue reads until the queue or the room for a burst is exhausted. It returns false to be called again when there is
// something to read. An error after some packets is left for the next call, which meets it again.
func (r *offloadReader) drainQueue(fd uintptr) bool {
	for r.n < burstSize && r.used < burstBytes {
		start := (r.used+vnetHeaderLen+cacheLine-1)/cacheLine*cacheLine - vnetHeaderLen
		n, errno := r.calls.read(fd, r.buffer[start:])
		switch errno {
		case 0:
			r.take(r.buffer[start : start+n])
			r.used = start + n
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

// take adds what was read to the burst.
func (r *offloadReader) take(data []byte) {
	p := &r.packets[r.n]
	r.n++
	if len(data) < vnetHeaderLen { // which the kernel never does
		*p = Packet{}
		return
	}
	*p = Packet{Head: data[vnetHeaderLen:], Offload: parseVnetHeader(data)}
}

// An offloadWriter writes bursts, a run of packets that can be one as one.
type offloadWriter struct {
	raw      syscall.RawConn
	writeTo  func(fd uintptr) bool
	writev   func(fd uintptr, iovecs []unix.Iovec) error // writev(2), but in tests
	tso, uso *modeSwitch
	packets  []Packet
	n        int
	err      error

	merger merger
	vnet   [vnetHeaderLen]byte
	iovecs [2 + maxSegments]unix.Iovec
}

func newOffloadWriter(raw syscall.RawConn, tso, uso *modeSwitch) *offloadWriter {
	w := &offloadWriter{raw: raw, writev: writev, tso: tso, uso: uso}
	w.writeTo = w.writeAll
	return w
}

func (w *offloadWriter) write(packets []Packet) (int, error) {
	w.packets, w.n, w.err = packets, 0, nil
	err := w.raw.Write(w.writeTo)
	w.packets = nil
	if err != nil {
		return 1, err
	}
	return w.n, w.err
}

// writeAll writes run by run up to one that the kernel refuses, which only counts if it is the first: else the next call meets it
// again. It never asks to be called again: a TUN device has no send buffer whose room one could wait for.
func (w *offloadWriter) writeAll(fd uintptr) bool {
	for w.n < len(w.packets) {
		n, err := w.writeRun(fd, w.packets[w.n:])
		if err != nil {
			if w.n == 0 {
				w.n, w.err = n, err
			}
			return true
		}
		w.n += n
	}
	return true
}

// writeRun writes the packets at the start of packets that can be one, and returns how many there are. If the kernel refuses the
// super-packet but not a packet of it, it does not do the offload; the others then follow one by one.
func (w *offloadWriter) writeRun(fd uintptr, packets []Packet) (int, error) {
	n := w.merger.run(packets, w.tso.on(), w.uso.on())
	if n == 1 {
		return 1, w.writeOne(fd, packets[0].Head)
	}
	refused := w.writeMerged(fd, packets[:n])
	if refused != unix.EINVAL {
		return n, refused
	}
	if err := w.writeOne(fd, packets[0].Head); err != nil {
		return 1, err
	}
	w.modeOf(packets[0].Head).turnOff(brokenWhy(refused))
	return 1, nil
}

// modeOf returns the switch of the offload that a super-packet of packet's protocol needs.
func (w *offloadWriter) modeOf(packet []byte) *modeSwitch {
	if packet[offProtocol] == protocolTCP {
		return w.tso
	}
	return w.uso
}

func (w *offloadWriter) writeOne(fd uintptr, packet []byte) error {
	(&vnetHeader{}).put(w.vnet[:], 0)
	setIovec(&w.iovecs[0], w.vnet[:])
	setIovec(&w.iovecs[1], packet)
	return w.writev(fd, w.iovecs[:2])
}

func (w *offloadWriter) writeMerged(fd uintptr, packets []Packet) error {
	m := &w.merger
	m.vnet.put(w.vnet[:], m.headersLen)
	setIovec(&w.iovecs[0], w.vnet[:])
	setIovec(&w.iovecs[1], m.headers[:m.headersLen])
	for i := range packets {
		setIovec(&w.iovecs[2+i], packets[i].Head[m.headersLen:])
	}
	return w.writev(fd, w.iovecs[:2+len(packets)])
}

func setIovec(v *unix.Iovec, b []byte) {
	v.Base = unsafe.SliceData(b)
	v.SetLen(len(b))
}

// writev is writev(2) without the allocations of unix.Writev. It returns nil or an errno.
func writev(fd uintptr, iovecs []unix.Iovec) error {
	for {
		_, errno := quickCall(unix.SYS_WRITEV, fd, unsafe.Pointer(unsafe.SliceData(iovecs)), uintptr(len(iovecs)), 0)
		switch errno {
		case 0:
			return nil
		case unix.EINTR:
		default:
			return errno
		}
	}
}
