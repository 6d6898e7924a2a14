package tunnel

import (
	"encoding/binary"
	"errors"
	"fmt"

	"golang.org/x/sys/unix"
)

// probeWrites writes one super-packet for each offload in use to a queue, and switches off what the kernel refuses. Some stable
// kernels (6.1.103, 6.6.44, 6.10.3) refuse super-packets of some lengths: without the probe each flow would meet that, and the
// offload would stay on until then.
//
// The packets reach nobody: while the link is down the kernel drops them, with EIO, after it has read their header, and else for
// their wrong IP checksum.
func (d *offloadDevice) probeWrites(fd int) {
	for _, probe := range []struct {
		offload  *modeSwitch
		protocol byte
	}{{d.tso, protocolTCP}, {d.uso, protocolUDP}} {
		if !probe.offload.on() {
			continue
		}
		// Any other error is not about the offload.
		if err := d.writev(uintptr(fd), probeIovecs(probe.protocol)); errors.Is(err, unix.EINVAL) {
			probe.offload.turnOff(probeWhy(err))
		}
	}
}

// probeWhy is the reason of an offload that the kernel refused before the first packet.
func probeWhy(err error) string {
	return fmt.Sprintf("the kernel refused a super-packet at the start (%v)", err)
}

// probeIovecs returns a super-packet as writev takes it: two segments and one more byte. A segment's payload is as long as the
// headers, so the length of the whole is a multiple of it and one more, the relation that those kernels refuse.
func probeIovecs(protocol byte) []unix.Iovec {
	vnet := vnetHeader{flags: unix.VIRTIO_NET_HDR_F_NEEDS_CSUM, csumStart: minHeaderLen}
	headersLen := minHeaderLen
	if protocol == protocolTCP {
		vnet.gsoType, vnet.csumOffset = unix.VIRTIO_NET_HDR_GSO_TCPV4, offTCPChecksum
		headersLen += minTCPHeaderLen
	} else {
		vnet.gsoType, vnet.csumOffset = unix.VIRTIO_NET_HDR_GSO_UDP_L4, offUDPChecksum
		headersLen += udpHeaderLen
	}
	vnet.gsoSize = uint16(headersLen)
	header := make([]byte, vnetHeaderLen)
	vnet.put(header, headersLen)

	packet := make([]byte, headersLen+2*headersLen+1)
	packet[0] = 0x45 // version 4, header of 5 words
	binary.BigEndian.PutUint16(packet[offTotalLength:], uint16(len(packet)))
	packet[offTTL], packet[offProtocol] = 1, protocol
	copy(packet[offSource:], []byte{192, 0, 2, 1, 192, 0, 2, 2}) // for examples, RFC 5737; the destination follows the source
	binary.BigEndian.PutUint16(packet[offChecksum:], checksum(packet[:minHeaderLen])^1)

	transport := packet[minHeaderLen:]
	if protocol == protocolTCP {
		transport[offTCPData] = minTCPHeaderLen / 4 << 4
		transport[offTCPFlags] = tcpACK
	} else {
		binary.BigEndian.PutUint16(transport[offUDPLength:], uint16(len(transport)))
	}
	iovecs := make([]unix.Iovec, 2)
	setIovec(&iovecs[0], header)
	setIovec(&iovecs[1], packet)
	return iovecs
}
