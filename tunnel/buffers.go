package tunnel

const (
	// burstSize is how many packets one wake-up moves at most, a super-packet being one. It bounds how long a packet
	// waits for the burst it is in.
	burstSize = maxSegments
	// maxSegments is how many packets go into one send with UDP_SEGMENT or one write of a UDP super-packet. The kernel's
	// limit, UDP_MAX_SEGMENTS, was 64 before Linux 6.9, and before 5.16 the UDP header took part of the last.
	maxSegments = 63
	// maxPacket is the largest IP packet, the limit of the total length field.
	maxPacket = 65535
	// bufferStride keeps the headers of a burst out of one another's way: at a stride of 64 KB all would fall into the
	// same set of the CPU's first cache. One cache line more, and none do.
	bufferStride = 64<<10 + 64
)

// newBuffers returns the buffers of one burst, each for any IP packet and one byte more, so that a longer one can be told from
// one that fits. They lie in one piece of memory, of which only the pages that packets really reach are ever used.
func newBuffers() [burstSize][]byte {
	memory := make([]byte, burstSize*bufferStride)
	var buffers [burstSize][]byte
	for i := range buffers {
		start := i * bufferStride
		buffers[i] = memory[start : start+maxPacket+1 : start+maxPacket+1]
	}
	return buffers
}
