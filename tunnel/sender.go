package tunnel

import (
	"syscall"
	"unsafe"

	"golang.org/x/sys/unix"
)

// maxUDPPayload is the most that one send takes, with UDP_SEGMENT too: an IPv4 packet less its header and the UDP header.
const maxUDPPayload = maxPacket - minHeaderLen - udpHeaderLen

// A sender sends batches with sendmmsg(2). With UDP_SEGMENT each message is a group: packets to one peer, of the same TOS and size but for
// a last one that may be shorter. The kernel carries a group as one unit down to the network card.
type sender struct {
	ports    []syscall.RawConn     // the sockets, by Packet.SourcePort
	sendmmsg func(fd uintptr) bool // made once: a closure made for each call would be allocated
	segment  *modeSwitch

	messages [2 * burstSize]mmsghdr
	counts   [2 * burstSize]int            // packets in each message
	iovecs   [2 * 2 * burstSize]unix.Iovec // head and tail of each packet
	controls [2 * burstSize]sendControl
	pending  []mmsghdr // for sendmmsg
	sent     int
	err      error
}

// mmsghdr is struct mmsghdr of recvmmsg(2).
type mmsghdr struct {
	msg    unix.Msghdr
	length uint32
}

func (s *sender) init(ports []syscall.RawConn, segment *modeSwitch) {
	s.ports, s.segment = ports, segment
	s.sendmmsg = s.sendPending
	for i := range s.controls {
		s.controls[i].init()
	}
}

func (s *sender) send(packets []Packet) (int, error) {
	packets = onePort(packets[:min(len(packets), len(s.messages))])
	n, err := s.sendGroups(packets, s.segment.on())
	if err == nil || s.counts[0] == 1 || !refusesGroup(err) {
		return n, err
	}
	if _, single := s.sendGroups(packets[:1], false); single != nil {
		// Not the group is at fault but its packets, and those of the same size will not fare better.
		return equalLen(packets[:n]), single
	}
	if err != unix.EMSGSIZE { // which is gone now, with the limit that it was about
		s.segment.turnOff(brokenWhy(err))
	}
	return 1, nil // the others follow
}

// onePort returns the packets at the start of packets that have the same source port.
func onePort(packets []Packet) []Packet {
	for i := range packets {
		if packets[i].SourcePort != packets[0].SourcePort {
			return packets[:i]
		}
	}
	return packets
}

// refusesGroup says whether err may mean that the kernel cannot send groups, or not on the way to this peer: EINVAL and EMSGSIZE
// are about sizes and numbers, EMSGSIZE perhaps about an MTU that changes meanwhile, EIO about a network card that computes no
// checksums or a way through IPsec.
func refusesGroup(err error) bool {
	return err == unix.EIO || err == unix.EINVAL || err == unix.EMSGSIZE
}

// sendGroups sends packets of one source port, with grouping or one by one, and returns the fate of the first n as Conn.Send does.
func (s *sender) sendGroups(packets []Packet, grouping bool) (int, error) {
	groups := 0
	for rest := packets; len(rest) > 0; groups++ {
		n := 1
		if grouping {
			n = groupLen(rest)
		}
		s.setMessage(groups, len(packets)-len(rest), rest[:n])
		rest = rest[n:]
	}
	s.pending, s.sent, s.err = s.messages[:groups], 0, nil
	if err := s.ports[packets[0].SourcePort].Write(s.sendmmsg); err != nil {
		return 1, err
	}
	if s.err != nil {
		return s.counts[0], s.err
	}
	n := 0
	for _, count := range s.counts[:s.sent] {
		n += count
	}
	return n, nil
}

// groupLen returns how many packets at the start of packets can be sent as a group.
func groupLen(packets []Packet) int {
	peer, size := packets[0].Peer, packets[0].Len()
	limit := min(len(packets), maxSegments)
	if size*limit > maxUDPPayload {
		limit = max(1, maxUDPPayload/size)
	}
	for n := 1; n < limit; n++ {
		p := &packets[n]
		if p.Peer != peer || p.TOS != packets[0].TOS || p.Len() > size {
			return n
		}
		if p.Len() < size {
			return n + 1
		}
	}
	return limit
}

// equalLen returns how many packets at the start of a group have the same size: all but perhaps the last.
func equalLen(group []Packet) int {
	if n := len(group); group[n-1].Len() < group[0].Len() {
		return n - 1
	}
	return len(group)
}

// setMessage makes message i of a group; its packets are those from packet first of the batch on.
func (s *sender) setMessage(i, first int, group []Packet) {
	iovecs := s.iovecs[2*first : 2*first]
	for p := range group {
		iovecs = appendIovec(iovecs, group[p].Head)
		if len(group[p].Tail) > 0 {
			iovecs = appendIovec(iovecs, group[p].Tail)
		}
	}
	msg := &s.messages[i].msg
	msg.Name = (*byte)(unsafe.Pointer(&group[0].Peer.sockaddr))
	msg.Namelen = unix.SizeofSockaddrInet4
	msg.Iov = unsafe.SliceData(iovecs)
	msg.SetIovlen(len(iovecs))
	size := 0
	if len(group) > 1 {
		size = group[0].Len()
	}
	s.controls[i].set(msg, group[0].TOS, size)
	s.counts[i] = len(group)
}

func appendIovec(iovecs []unix.Iovec, b []byte) []unix.Iovec {
	iovecs = append(iovecs, unix.Iovec{Base: unsafe.SliceData(b)})
	iovecs[len(iovecs)-1].SetLen(len(b))
	return iovecs
}

// sendPending sends what is pending up to a message that the kernel refuses, which only counts if it is the first. It returns
// false to be called again when there is room in the send buffer.
func (s *sender) sendPending(fd uintptr) bool {
	for {
		n, errno := quickCall(unix.SYS_SENDMMSG, fd, unsafe.Pointer(unsafe.SliceData(s.pending)), uintptr(len(s.pending)), 0)
		switch errno {
		case 0:
			s.sent = n
			return true
		case unix.EAGAIN:
			return false
		case unix.EINTR:
		default:
			s.err = errno
			return true
		}
	}
}
