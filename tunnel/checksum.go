package tunnel

import (
	"encoding/binary"
	"math/bits"
)

// checksum returns the Internet checksum of b, RFC 1071.
func checksum(b []byte) uint16 { return ^onesSum(b) }

// onesSum returns the one's complement sum of the 16-bit big-endian words of b; an odd last byte counts as a word with a zero
// behind it. A sum is zero only if all of b is.
//
// The sum does not depend on the order of the bytes in a word, but for being swapped itself (RFC 1071 section 2 B), nor on the
// width of the words that are added. So b is added in the machine's own way, 8 bytes at a time with the carry handed on, and
// the result folded and put in order at the end.
func onesSum(b []byte) uint16 {
	sum, b := sumWide(b)
	var carry uint64
	for len(b) >= 64 {
		sum, carry = bits.Add64(sum, binary.LittleEndian.Uint64(b), carry)
		sum, carry = bits.Add64(sum, binary.LittleEndian.Uint64(b[8:]), carry)
		sum, carry = bits.Add64(sum, binary.LittleEndian.Uint64(b[16:]), carry)
		sum, carry = bits.Add64(sum, binary.LittleEndian.Uint64(b[24:]), carry)
		sum, carry = bits.Add64(sum, binary.LittleEndian.Uint64(b[32:]), carry)
		sum, carry = bits.Add64(sum, binary.LittleEndian.Uint64(b[40:]), carry)
		sum, carry = bits.Add64(sum, binary.LittleEndian.Uint64(b[48:]), carry)
		sum, carry = bits.Add64(sum, binary.LittleEndian.Uint64(b[56:]), carry)
		b = b[64:]
	}
	for len(b) >= 8 {
		sum, carry = bits.Add64(sum, binary.LittleEndian.Uint64(b), carry)
		b = b[8:]
	}
	var tail uint64
	for i, c := range b {
		tail |= uint64(c) << (8 * i)
	}
	sum, carry = bits.Add64(sum, tail, carry)
	sum, carry = bits.Add64(sum, 0, carry)
	sum += carry

	sum = sum>>32 + sum&0xffffffff
	sum = sum>>32 + sum&0xffffffff
	return bits.ReverseBytes16(fold(uint32(sum>>16) + uint32(sum&0xffff)))
}

// fold adds the carries of a sum of 16-bit words back into it.
func fold(sum uint32) uint16 {
	sum = sum&0xffff + sum>>16
	sum = sum&0xffff + sum>>16
	return uint16(sum)
}

// pseudoSum returns the sum over the pseudo header of TCP (RFC 9293 section 3.1) and UDP (RFC 768): the addresses of the IPv4
// header head, the protocol, and the length of transport header and payload.
func pseudoSum(head []byte, protocol byte, length int) uint32 {
	return uint32(onesSum(head[offSource:offSource+8])) + uint32(protocol) + uint32(length)
}
