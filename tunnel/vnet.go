package tunnel

import (
	"encoding/binary"

	"golang.org/x/sys/unix"
)

// vnetHeaderLen is the size of struct virtio_net_hdr, linux/virtio_net.h, which stands before each packet of a TUN device with
// IFF_VNET_HDR.
const vnetHeaderLen = 10

// A vnetHeader is a struct virtio_net_hdr without its hdr_len, which a reader cannot trust. Zero stands for a complete packet.
type vnetHeader struct {
	// flags has VIRTIO_NET_HDR_F_NEEDS_CSUM where the checksum field holds the sum of the pseudo header only.
	flags uint8
	// gsoType is VIRTIO_NET_HDR_GSO_TCPV4 or UDP_L4 for a super-packet, perhaps with GSO_ECN, which means that the
	// first segment alone has the CWR flag.
	gsoType uint8
	// gsoSize is the payload of each segment of a super-packet but the last.
	gsoSize uint16
	// csumStart is the offset of the transport header, csumOffset that of the checksum in it.
	csumStart, csumOffset uint16
}

func (h *vnetHeader) needsChecksum() bool { return h.flags&unix.VIRTIO_NET_HDR_F_NEEDS_CSUM != 0 }

// checksumValid says that the checksum was right, of a super-packet those of the packets that it was merged from: the kernel had
// it from a network card, or a virtual machine.
func (h *vnetHeader) checksumValid() bool { return h.flags&unix.VIRTIO_NET_HDR_F_DATA_VALID != 0 }

func (h *vnetHeader) isSuper() bool { return h.gsoType != unix.VIRTIO_NET_HDR_GSO_NONE }

// parseVnetHeader reads the header at the start of b.
func parseVnetHeader(b []byte) vnetHeader {
	return vnetHeader{
		flags:      b[0],
		gsoType:    b[1],
		gsoSize:    binary.NativeEndian.Uint16(b[4:]),
		csumStart:  binary.NativeEndian.Uint16(b[6:]),
		csumOffset: binary.NativeEndian.Uint16(b[8:]),
	}
}

// put writes the header to the start of b; headersLen is the length of the packet's own headers.
func (h *vnetHeader) put(b []byte, headersLen int) {
	b[0], b[1] = h.flags, h.gsoType
	binary.NativeEndian.PutUint16(b[2:], uint16(headersLen))
	binary.NativeEndian.PutUint16(b[4:], h.gsoSize)
	binary.NativeEndian.PutUint16(b[6:], h.csumStart)
	binary.NativeEndian.PutUint16(b[8:], h.csumOffset)
}
