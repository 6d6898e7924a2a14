package forge

import (
	"encoding/binary"
	"fmt"

	"golang.org/x/sys/unix"
)

// segments returns the packets of one recorded message (a virtio_net_hdr, a
// link-layer header of the given length, a packet), as they would be on a wire:
// a super-packet is cut, a checksum that was left to the hardware is finished.
func segments(message []byte, linkHeader int) ([][]byte, error) {
	h := parseVnet(message)
	packet := append([]byte(nil), message[vnetHeaderLen+linkHeader:]...)
	transport := 0
	if len(packet) >= headerLen {
		transport = int(packet[0]&0xf) * 4
	}
	// The kernel adds ECN to the type where a flow has CWR.
	switch h.gsoType &^ unix.VIRTIO_NET_HDR_GSO_ECN {
	case unix.VIRTIO_NET_HDR_GSO_NONE:
		if h.flags&unix.VIRTIO_NET_HDR_F_NEEDS_CSUM != 0 {
			start := int(h.csumStart) - linkHeader
			finish(packet, start, start+int(h.csumOffset))
		}
		return [][]byte{packet}, nil
	case unix.VIRTIO_NET_HDR_GSO_TCPV4:
		return cut(packet, transport, transport+int(packet[transport+12]>>4)*4, int(h.gsoSize)), nil
	case unix.VIRTIO_NET_HDR_GSO_UDP_L4:
		return cut(packet, transport, transport+udpHeaderLen, int(h.gsoSize)), nil
	default:
		return nil, fmt.Errorf("super-packet of type %d", h.gsoType)
	}
}

// finish completes a checksum whose field holds the pseudo header's sum.
func finish(packet []byte, start, field int) {
	c := ^sum(packet[start:])
	if c == 0 && packet[offProtocol] == protoUDP {
		c = 0xffff
	}
	binary.BigEndian.PutUint16(packet[field:], c)
}

// cut makes the segments of a super-packet whose transport header begins at
// transport and whose payload at payload.
func cut(packet []byte, transport, payload, size int) (out [][]byte) {
	for at := payload; at < len(packet); at += size {
		end := min(at+size, len(packet))
		s := append(append([]byte(nil), packet[:payload]...), packet[at:end]...)
		binary.BigEndian.PutUint16(s[offLength:], uint16(len(s)))
		binary.BigEndian.PutUint16(s[offID:], binary.BigEndian.Uint16(s[offID:])+uint16(len(out)))
		fixHeaderChecksum(s)
		if s[offProtocol] == protoTCP {
			numberTCP(s[transport:], at-payload, at > payload, end < len(packet))
		} else {
			binary.BigEndian.PutUint16(s[transport+4:], uint16(len(s)-transport))
		}
		fixTransportChecksum(s, transport)
		out = append(out, s)
	}
	return out
}

// Flags of TCP, RFC 9293 section 3.1, that only one segment of a super-packet has.
const (
	tcpFIN = 0x01
	tcpPSH = 0x08
	tcpCWR = 0x80
)

// numberTCP sets what differs between segments; offset is that of the payload.
func numberTCP(header []byte, offset int, notFirst, notLast bool) {
	binary.BigEndian.PutUint32(header[4:], binary.BigEndian.Uint32(header[4:])+uint32(offset))
	if notFirst {
		header[13] &^= tcpCWR
	}
	if notLast {
		header[13] &^= tcpFIN | tcpPSH
	}
}

func fixTransportChecksum(packet []byte, transport int) {
	field := transport + 16 // of TCP
	if packet[offProtocol] == protoUDP {
		field = transport + 6
	}
	binary.BigEndian.PutUint16(packet[field:], 0)
	src, dst := addresses(packet)
	binary.BigEndian.PutUint16(packet[field:], transportChecksum(src, dst, packet[offProtocol], packet[transport:]))
}
