package tunnel

import (
	"unsafe"

	"golang.org/x/sys/unix"
)

// The TOS byte of the outer packet is that of the inner one on its way in, and the inner one takes what became of it on its way out: the
// DSCP, the first six bits, in the uniform model of RFC 2983 section 3.1, and ECN, the last two, by RFC 6040. So the underlay can treat
// packets as the pods want it, and a congested router's mark reaches the pods instead of a loss.
//
// Flannel's tunnel does neither. Its outer packets say nothing, and what is marked in those to it would be lost: there the outer packet
// is not ECN-capable, the compatibility mode of RFC 6040 section 4.3.

// Values of the ECN field, RFC 3168 section 5.
const (
	ecnMask   = 3
	ecnNotECT = 0 // the transport is not ECN-capable
	ecnECT1   = 1
	ecnECT0   = 2
	ecnCE     = 3 // congestion experienced
)

// outerTOS returns the TOS of the outer packet for an inner packet to peer.
func outerTOS(head []byte, peer *Peer) byte {
	if peer.twill {
		return head[offTOS]
	}
	return head[offTOS] &^ ecnMask
}

// illegalECN stands in ecnOf for a combination for which the packet is dropped.
const illegalECN = 0xff

// ecnOf is the ECN field that leaves the tunnel, by that of the arriving inner and outer packet: RFC 6040 figure 4. The mark of a router
// on a packet whose transport would not heed it counts as the loss that the router would have made of it.
var ecnOf = [4][4]byte{ // [inner][outer]
	ecnNotECT: {ecnNotECT: ecnNotECT, ecnECT1: ecnNotECT, ecnECT0: ecnNotECT, ecnCE: illegalECN},
	ecnECT1:   {ecnNotECT: ecnECT1, ecnECT1: ecnECT1, ecnECT0: ecnECT1, ecnCE: ecnCE},
	ecnECT0:   {ecnNotECT: ecnECT0, ecnECT1: ecnECT1, ecnECT0: ecnECT0, ecnCE: ecnCE},
	ecnCE:     {ecnNotECT: ecnCE, ecnECT1: ecnCE, ecnECT0: ecnCE, ecnCE: ecnCE},
}

// takeTOS gives an inner packet from peer, nil if that is not known, what its outer packet's TOS became on the way.
func takeTOS(head []byte, outer byte, peer *Peer) DropReason {
	inner := head[offTOS]
	if inner == outer && outer&ecnMask != ecnCE {
		return kept
	}
	ecn := ecnOf[inner&ecnMask][outer&ecnMask]
	if ecn == illegalECN {
		return DropECN
	}
	dscp := inner &^ ecnMask
	if peer != nil && peer.twill {
		dscp = outer &^ ecnMask
	}
	if tos := dscp | ecn; tos != inner {
		setByte(head, offTOS, tos)
	}
	return kept
}

// sendControl are the control messages of a send: either, both or none of them.
type sendControl struct {
	tos     tosCmsg
	segment segmentSizeCmsg
}

// tosCmsg is IP_TOS of ip(7).
type tosCmsg struct {
	header unix.Cmsghdr
	tos    int32
	_      [4]byte // CMSG_SPACE
}

// segmentSizeCmsg is the control message of udp(7) that makes a send a group.
type segmentSizeCmsg struct {
	header unix.Cmsghdr
	size   uint16
	_      [6]byte // CMSG_SPACE
}

func (c *sendControl) init() {
	c.tos.header.Level, c.tos.header.Type = unix.IPPROTO_IP, unix.IP_TOS
	c.tos.header.SetLen(unix.CmsgLen(4))
	c.segment.header.Level, c.segment.header.Type = unix.IPPROTO_UDP, unix.UDP_SEGMENT
	c.segment.header.SetLen(unix.CmsgLen(2))
}

// set makes msg a send with the given TOS, and a group of datagrams of size bytes unless size is 0.
func (c *sendControl) set(msg *unix.Msghdr, tos byte, size int) {
	c.tos.tos, c.segment.size = int32(tos), uint16(size)
	const space = int(unsafe.Sizeof(tosCmsg{})) // of either
	switch {
	case tos != 0 && size != 0:
		msg.Control = (*byte)(unsafe.Pointer(c))
		msg.SetControllen(2 * space)
	case tos != 0:
		msg.Control = (*byte)(unsafe.Pointer(&c.tos))
		msg.SetControllen(space)
	case size != 0:
		msg.Control = (*byte)(unsafe.Pointer(&c.segment))
		msg.SetControllen(space)
	default:
		msg.Control = nil
		msg.SetControllen(0)
	}
}

// receiveControl has room for the control messages of a receive: IP_TOS of ip(7), and the size of the datagrams of a group, UDP_GRO of
// udp(7).
type receiveControl [6]uint64

// expect lets the next receive of msg write to c.
func (c *receiveControl) expect(msg *unix.Msghdr) {
	msg.Control = (*byte)(unsafe.Pointer(c))
	msg.SetControllen(int(unsafe.Sizeof(*c)))
}

// read returns what the receive wrote to c; what it did not write is 0.
func (c *receiveControl) read(msg *unix.Msghdr) (tos byte, groupSize int) {
	rest := unsafe.Slice((*byte)(unsafe.Pointer(c)), len(c)*8)[:msg.Controllen]
	for len(rest) >= unix.SizeofCmsghdr {
		header := (*unix.Cmsghdr)(unsafe.Pointer(unsafe.SliceData(rest)))
		length := int(header.Len)
		if length <= unix.SizeofCmsghdr || length > len(rest) {
			break
		}
		data := rest[unix.SizeofCmsghdr:length]
		switch {
		case header.Level == unix.IPPROTO_IP && header.Type == unix.IP_TOS:
			tos = data[0]
		case header.Level == unix.IPPROTO_UDP && header.Type == unix.UDP_GRO && len(data) >= 4:
			groupSize = int(*(*int32)(unsafe.Pointer(unsafe.SliceData(data))))
		}
		rest = rest[min(len(rest), unix.CmsgSpace(len(data))):]
	}
	return tos, groupSize
}
