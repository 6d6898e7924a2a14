package tunnel

import (
	"fmt"
	"syscall"

	"golang.org/x/sys/unix"
)

// The options of the sockets, socket(7), ip(7) and udp(7).

// socketBuffer is the size asked for the send and the receive buffer of each socket, in bytes; the kernel doubles it for its
// own bookkeeping. It holds what a 10 Gb/s link delivers in 3 ms, in which a busy machine gives us the CPU.
const socketBuffer = 4 << 20

// setOptions sets the options that a socket has before it is bound.
func setOptions(fd int, reusePort bool, modes *udpModes) error {
	if reusePort {
		if err := setReusePort(fd); err != nil {
			return err
		}
	}
	if err := setBuffer(fd, unix.SO_RCVBUFFORCE, unix.SO_RCVBUF); err != nil {
		return fmt.Errorf("set SO_RCVBUF: %w", err)
	}
	probeSegment(fd, modes.segment)
	enableGRO(fd, modes.gro)
	if err := unix.SetsockoptInt(fd, unix.IPPROTO_IP, unix.IP_RECVTOS, 1); err != nil {
		return fmt.Errorf("set IP_RECVTOS: %w", err)
	}
	return setSending(fd)
}

// setSendOptions sets the options of a socket that only sends. Its filter lets nothing in, so that what others send to its port does
// not lie in memory.
func setSendOptions(fd int) error {
	refuse := unix.SockFilter{Code: unix.BPF_RET | unix.BPF_K, K: 0}
	if err := unix.SetsockoptSockFprog(fd, unix.SOL_SOCKET, unix.SO_ATTACH_FILTER, &unix.SockFprog{Len: 1, Filter: &refuse}); err != nil {
		return fmt.Errorf("set SO_ATTACH_FILTER: %w", err)
	}
	return setSending(fd)
}

func setSending(fd int) error {
	// Every outer packet carries DF and is as large as its inner packet asks, or is refused with EMSGSIZE if the
	// interface cannot take it:
	//  - DONT, and WANT once a smaller path MTU is known, would fragment. One lost fragment loses the packet, and
	//    fragments of one host pair share an ID space of 16 bits, which a fast tunnel wraps within their lifetime
	//    (RFC 4963).
	//  - DO follows the path MTU that ICMP messages set in the route cache of the host. Anyone who knows two addresses
	//    can forge these, and stop all larger packets of the tunnel for ten minutes.
	//  - PROBE sets DF and looks at the interface's MTU alone, as a tunnel that finds its path MTU itself has to.
	if err := unix.SetsockoptInt(fd, unix.IPPROTO_IP, unix.IP_MTU_DISCOVER, unix.IP_PMTUDISC_PROBE); err != nil {
		return fmt.Errorf("set IP_MTU_DISCOVER: %w", err)
	}
	if err := setBuffer(fd, unix.SO_SNDBUFFORCE, unix.SO_SNDBUF); err != nil {
		return fmt.Errorf("set SO_SNDBUF: %w", err)
	}
	return nil
}

// probeSegment switches UDP_SEGMENT off if the kernel does not have it. A size of 0, the default, leaves it to each send.
func probeSegment(fd int, segment *modeSwitch) {
	if segment.on() && unix.SetsockoptInt(fd, unix.IPPROTO_UDP, unix.UDP_SEGMENT, 0) != nil {
		segment.turnOff(offByKernel)
	}
}

// enableGRO switches UDP_GRO on for the socket, or off if the kernel does not have it. Reading it back came after the option,
// and with it the last repairs to what it does.
func enableGRO(fd int, gro *modeSwitch) {
	if !gro.on() {
		return
	}
	err := unix.SetsockoptInt(fd, unix.IPPROTO_UDP, unix.UDP_GRO, 1)
	if on, e := unix.GetsockoptInt(fd, unix.IPPROTO_UDP, unix.UDP_GRO); err != nil || e != nil || on == 0 {
		gro.turnOff(offByKernel)
	}
}

// setBuffer sets a buffer's size past the system's limit where we may (CAP_NET_ADMIN in the initial user namespace), else up
// to it (net.core.rmem_max, wmem_max).
func setBuffer(fd, force, limited int) error {
	if unix.SetsockoptInt(fd, unix.SOL_SOCKET, force, socketBuffer) == nil {
		return nil
	}
	return unix.SetsockoptInt(fd, unix.SOL_SOCKET, limited, socketBuffer)
}

func setReusePort(fd int) error {
	if err := unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_REUSEPORT, 1); err != nil {
		return fmt.Errorf("set SO_REUSEPORT: %w", err)
	}
	return nil
}

// control calls set with the socket's descriptor.
func control(raw syscall.RawConn, set func(fd int) error) error {
	var err error
	if e := raw.Control(func(fd uintptr) { err = set(int(fd)) }); e != nil {
		return e
	}
	return err
}
