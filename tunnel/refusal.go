package tunnel

import (
	"encoding/binary"
	"errors"
	"fmt"
	"net/netip"
	"time"

	"golang.org/x/sys/unix"
)

// A Refusal is what the network said of a datagram that did not reach a peer. Anybody who guesses a port may have said so: it explains
// a peer that does not answer, and decides nothing.
type Refusal struct {
	// Err is what the kernel makes of it: unix.ECONNREFUSED where nobody listens at the port, unix.EHOSTUNREACH where the host is not
	// found or a rule refuses it, unix.ENETUNREACH without a route, unix.EPERM for a rule of this host.
	Err error
	// Type and Code are those of the ICMP message that said so; 0 if there was none.
	Type, Code uint8
	// From is who sent it: the peer, a router, or this host itself, which also speaks for a neighbour that does not answer ARP. It is
	// invalid without an ICMP message.
	From netip.Addr
	// At is when; the zero Refusal is none.
	At time.Time
}

// Prohibited says whether a rule on the way refused the datagram, and tells so (RFC 1812 section 5.2.7.1).
func (r Refusal) Prohibited() bool {
	return r.Type == icmpUnreachable && (r.Code == icmpNetProhibited || r.Code == icmpHostProhibited || r.Code == icmpProhibited)
}

// Codes of ICMP unreachable, RFC 1122 section 3.2.2.1.
const (
	icmpNetProhibited  = 9
	icmpHostProhibited = 10
)

// errorMessage is room for one message of a socket's error queue, ip(7): the datagram's first bytes and sock_extended_err with the
// address behind it.
type errorMessage struct {
	data    [controlLen]byte
	control [256]byte
}

// readRefusal takes one message from the error queue of a socket with IP_RECVERR, and returns where its datagram was to go. ok is false
// where there is none, or none that is understood.
func (m *errorMessage) readRefusal(fd int, now time.Time) (to netip.AddrPort, r Refusal, ok bool, err error) {
	_, n, _, from, err := unix.Recvmsg(fd, m.data[:], m.control[:], unix.MSG_ERRQUEUE|unix.MSG_DONTWAIT)
	if err != nil {
		return to, r, false, err
	}
	dst, isIPv4 := from.(*unix.SockaddrInet4)
	messages, err := unix.ParseSocketControlMessage(m.control[:n])
	if err != nil || !isIPv4 {
		return to, r, false, err
	}
	to = netip.AddrPortFrom(netip.AddrFrom4(dst.Addr), uint16(dst.Port))
	for _, c := range messages {
		if c.Header.Level == unix.IPPROTO_IP && c.Header.Type == unix.IP_RECVERR {
			r, ok = parseExtendedErr(c.Data)
			r.At = now
		}
	}
	return to, r, ok, nil
}

// parseExtendedErr reads a sock_extended_err (linux/errqueue.h) and the sockaddr_in behind it.
func parseExtendedErr(b []byte) (Refusal, bool) {
	const (
		extendedErrLen = 16
		offOrigin      = 4
		offAddr        = extendedErrLen + 4 // behind family and port
	)
	if len(b) < extendedErrLen {
		return Refusal{}, false
	}
	r := Refusal{Err: unix.Errno(binary.NativeEndian.Uint32(b))}
	if b[offOrigin] == unix.SO_EE_ORIGIN_ICMP {
		r.Type, r.Code = b[offOrigin+1], b[offOrigin+2]
		if len(b) >= offAddr+4 {
			r.From = netip.AddrFrom4([4]byte(b[offAddr:]))
		}
	}
	return r, r.Err != unix.EMSGSIZE // of the path MTU, not of the peer
}

// openInquiring opens a socket at addr whose error queue tells what became of what it sends.
func openInquiring(addr netip.Addr) (socket, error) {
	s, err := openSocket(netip.AddrPortFrom(addr, 0), func(fd int) error {
		if err := unix.SetsockoptInt(fd, unix.IPPROTO_IP, unix.IP_RECVERR, 1); err != nil {
			return fmt.Errorf("set IP_RECVERR: %w", err)
		}
		return setSendOptions(fd)
	})
	if err != nil {
		return socket{}, fmt.Errorf("socket for what the network says: %w", err)
	}
	return s, nil
}

// maxRefusals is how many messages of an error queue are read at a time, about as many as one holds. Who forges ICMP without end would
// else keep the reader there.
const maxRefusals = 256

// refusals calls take for the messages in the error queue, and returns how many it has read.
func (s socket) refusals(now time.Time, take func(to netip.AddrPort, r Refusal)) (n int) {
	var m errorMessage
	_ = control(s.raw, func(fd int) error {
		for n < maxRefusals {
			to, r, ok, err := m.readRefusal(fd, now)
			switch {
			case errors.Is(err, unix.EINTR):
				continue
			case err != nil:
				return err // EAGAIN: that was all
			case ok:
				take(to, r)
			}
			n++
		}
		return nil
	})
	return n
}
