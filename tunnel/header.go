package tunnel

import (
	"encoding/binary"
	"net/netip"
)

// The IPv4 header, RFC 791 section 3.1.
const (
	minHeaderLen   = 20 // without options
	offTOS         = 1
	offTotalLength = 2
	offID          = 4
	offFragment    = 6 // three flags, then 13 bits of fragment offset
	offTTL         = 8
	offProtocol    = 9
	offChecksum    = 10
	offSource      = 12
	offDestination = 16

	flagDF             = 0x4000 // don't fragment
	fragmentOffsetMask = 0x1fff
)

// checkHeader checks the IPv4 header at the start of head against the size of the whole packet. It returns the packet's
// length as the header gives it, at most size, or the reason to drop the packet. A header that passes is whole in head.
func checkHeader(head []byte, size int) (length int, reason DropReason) {
	if len(head) == 0 {
		return 0, DropBadHeader
	}
	switch head[0] >> 4 {
	case 4:
	case 6:
		return 0, DropIPv6
	default:
		return 0, DropBadHeader
	}
	if len(head) < minHeaderLen {
		return 0, DropBadHeader
	}
	headerLen := headerLength(head)
	length = int(binary.BigEndian.Uint16(head[offTotalLength:]))
	if headerLen < minHeaderLen || headerLen > len(head) || length < headerLen || length > size {
		return 0, DropBadHeader
	}
	return length, kept
}

// headerLength returns the length of the header with its options, from the IHL field.
func headerLength(head []byte) int { return int(head[0]&0xf) * 4 }

func source(head []byte) netip.Addr { return netip.AddrFrom4([4]byte(head[offSource:])) }

func destination(head []byte) netip.Addr { return netip.AddrFrom4([4]byte(head[offDestination:])) }

// setByte sets the byte at offset of a header and corrects the checksum for it, without a look at the rest: one that was wrong stays
// wrong, for the receiver to see.
func setByte(head []byte, offset int, value byte) {
	// RFC 1624 equation 3, HC' = ~(~HC + ~m + m'), where m is the 16-bit word that the byte is in.
	word := head[offset&^1:]
	before := binary.BigEndian.Uint16(word)
	head[offset] = value
	after := binary.BigEndian.Uint16(word)
	sum := uint32(^binary.BigEndian.Uint16(head[offChecksum:])) + uint32(^before) + uint32(after)
	binary.BigEndian.PutUint16(head[offChecksum:], ^fold(sum))
}
