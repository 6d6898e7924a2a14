package forge

import (
	"encoding/binary"
	"fmt"
	"net"

	"golang.org/x/sys/unix"
)

// A Wire is a packet socket (packet(7)) on one device. A sender sends frames as
// they are, a recorder sees every frame that passes in either direction.
type Wire struct {
	device *net.Interface
	fd     int
	header int // bytes of link-layer header before each packet
	buffer []byte
}

// A Frame is one recorded packet, without its link-layer header.
type Frame struct {
	Outgoing bool // the kernel sent it through the device; else it came from there
	Packets  [][]byte
}

// wireBuffer is the socket's receive buffer in bytes, for a burst of thousands.
const wireBuffer = 64 << 20

// networkOrder swaps the bytes of a protocol number, as packet(7) wants it.
func networkOrder(protocol uint16) uint16 { return protocol<<8 | protocol>>8 }

// OpenSender and OpenRecorder open a device of the calling thread's network
// namespace.
func OpenSender(device string) (*Wire, error) { return openWire(device, 0) }

func OpenRecorder(device string) (*Wire, error) { return openWire(device, unix.ETH_P_ALL) }

// openWire opens a wire that hears a protocol; 0 is none.
func openWire(device string, protocol uint16) (*Wire, error) {
	w := &Wire{fd: -1, buffer: make([]byte, vnetHeaderLen+ethernetHeaderLen+maxPacket)}
	if err := w.open(device, protocol); err != nil {
		w.Close()
		return nil, fmt.Errorf("packet socket on %s: %w", device, err)
	}
	return w, nil
}

func (w *Wire) open(device string, protocol uint16) (err error) {
	if w.device, err = net.InterfaceByName(device); err != nil {
		return err
	}
	if len(w.device.HardwareAddr) > 0 {
		w.header = ethernetHeaderLen
	}
	// It hears nothing until bind chooses device and protocol at once.
	if w.fd, err = unix.Socket(unix.AF_PACKET, unix.SOCK_RAW|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, 0); err != nil {
		return err
	}
	if unix.SetsockoptInt(w.fd, unix.SOL_SOCKET, unix.SO_RCVBUFFORCE, wireBuffer) != nil { // in a user namespace
		if err := unix.SetsockoptInt(w.fd, unix.SOL_SOCKET, unix.SO_RCVBUF, wireBuffer); err != nil {
			return err
		}
	}
	// A virtio_net_hdr before each packet tells of super-packets.
	if err := unix.SetsockoptInt(w.fd, unix.SOL_PACKET, unix.PACKET_VNET_HDR, 1); err != nil {
		return err
	}
	return unix.Bind(w.fd, &unix.SockaddrLinklayer{Protocol: networkOrder(protocol), Ifindex: w.device.Index})
}

// Address is the device's hardware address.
func (w *Wire) Address() net.HardwareAddr { return w.device.HardwareAddr }

// Send sends a frame, on a TUN device a bare packet of any content.
func (w *Wire) Send(frame []byte) error {
	to := &unix.SockaddrLinklayer{Protocol: networkOrder(unix.ETH_P_IP), Ifindex: w.device.Index}
	message := append(make([]byte, vnetHeaderLen, vnetHeaderLen+len(frame)), frame...)
	for {
		err := unix.Sendto(w.fd, message, 0, to)
		switch err {
		case nil:
			return nil
		case unix.ENOBUFS, unix.EAGAIN: // the device's queue is full for a moment
			if err := w.wait(unix.POLLOUT); err != nil {
				return err
			}
		default:
			return fmt.Errorf("send %d bytes through %s: %w", len(frame), w.device.Name, err)
		}
	}
}

// waitMillis bounds one wait for the socket.
const waitMillis = 10

func (w *Wire) wait(events int16) error {
	_, err := unix.Poll([]unix.PollFd{{Fd: int32(w.fd), Events: events}}, waitMillis)
	if err == unix.EINTR {
		return nil
	}
	return err
}

// Record returns what has passed since the last call: IPv4 on Ethernet, anything
// on a TUN device.
func (w *Wire) Record() (frames []Frame, err error) {
	for {
		n, from, err := unix.Recvfrom(w.fd, w.buffer, 0)
		switch err {
		case nil:
			if !w.isIPv4(w.buffer[:n]) {
				continue
			}
			packets, err := segments(w.buffer[:n], w.header)
			if err != nil {
				return nil, fmt.Errorf("recorded on %s: %w", w.device.Name, err)
			}
			outgoing := from.(*unix.SockaddrLinklayer).Pkttype == unix.PACKET_OUTGOING
			frames = append(frames, Frame{Outgoing: outgoing, Packets: packets})
		case unix.EINTR:
		case unix.EAGAIN:
			return frames, w.lost()
		case unix.ENETDOWN: // said once when the device goes down
		default:
			return nil, fmt.Errorf("record on %s: %w", w.device.Name, err)
		}
	}
}

// isIPv4 tells whether a message is worth recording: not ARP and the like. What
// passes a TUN device, which has no link-layer header, always is.
func (w *Wire) isIPv4(message []byte) bool {
	frame := message[vnetHeaderLen:]
	return w.header == 0 || len(frame) >= w.header && binary.BigEndian.Uint16(frame[w.header-2:]) == ethertypeIPv4
}

// lost is an error if the kernel had no room for a frame since the last call.
func (w *Wire) lost() error {
	stats, err := unix.GetsockoptTpacketStats(w.fd, unix.SOL_PACKET, unix.PACKET_STATISTICS)
	if err != nil {
		return fmt.Errorf("statistics of %s: %w", w.device.Name, err)
	}
	if stats.Drops > 0 {
		return fmt.Errorf("%d of %d frames on %s were not recorded: the socket's buffer is too small (run as root for a larger one)",
			stats.Drops, stats.Packets, w.device.Name)
	}
	return nil
}

// Close closes the socket.
func (w *Wire) Close() {
	if w.fd >= 0 {
		unix.Close(w.fd)
		w.fd = -1
	}
}

// The struct virtio_net_hdr of linux/virtio_net.h, in the machine's byte order.
const vnetHeaderLen = 10

type vnetHeader struct {
	flags, gsoType                            byte
	headerLen, gsoSize, csumStart, csumOffset uint16
}

func parseVnet(b []byte) vnetHeader {
	u16 := binary.NativeEndian.Uint16
	return vnetHeader{b[0], b[1], u16(b[2:]), u16(b[4:]), u16(b[6:]), u16(b[8:])}
}
