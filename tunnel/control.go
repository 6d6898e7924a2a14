package tunnel

import (
	"encoding/binary"
	"net/netip"
)

// A control datagram is what two tunnels say to each other beside the packets, on the same sockets. The first nibble tells them apart:
// 0, which no IP packet has as its version. A probe is answered by a reply. All numbers are in network order; docs/wire.md has
// the format, too.
//
//	 0  1  0 and the version, a nibble each
//	 1  1  type
//	 2  1  flags
//	 3  1  length of the sender's subnet in bits
//	 4  4  address of the sender's subnet
//	 8  8  ID of the probe, which its reply repeats
//	16  8  when it was sent, by the sender's clock, ns since the Unix epoch
//	24  8  in a reply, the time between receiving the probe and sending the reply, ns
//	32  8  session of the sender's counters: another session, other counters
//	40  8  packets, and probes and replies, that the sender has sent to the receiver in this session
//	48  8  those that it has received from the receiver
//	56  4  in a reply, the length of the probe as it arrived
//	60  4  zero
//	64     padding, zeros, in a probe that is to be as large as a packet
const (
	controlNibble  = 0
	controlVersion = 1
	// controlLen is the length of a control datagram without padding. A reply has none, so it is never larger than its probe.
	controlLen = 64
)

// Types of control datagrams.
const (
	controlProbe = 1
	controlReply = 2
)

// controlUncounted is the flag of a probe that asks what the path takes, and of the reply to it: that it is lost says nothing about the
// path's loss, so the counters leave it out.
const controlUncounted = 1

// A controlDatagram is a control datagram without its padding.
type controlDatagram struct {
	typ, flags byte
	subnet     netip.Prefix // the sender's
	id         uint64
	time       int64
	hold       int64
	session    uint64
	tx, rx     uint64
	size       uint32 // of the probe
}

func (c *controlDatagram) counted() bool { return c.flags&controlUncounted == 0 }

// isControl says whether a datagram is a control datagram, of whatever version.
func isControl(data []byte) bool { return len(data) > 0 && data[0]>>4 == controlNibble }

// parseControl reads a control datagram, or returns false if it is none that this version understands. What the padding holds does not
// matter.
func parseControl(data []byte) (c controlDatagram, ok bool) {
	if len(data) < controlLen || data[0] != controlNibble<<4|controlVersion {
		return controlDatagram{}, false
	}
	c = controlDatagram{
		typ:     data[1],
		flags:   data[2],
		subnet:  netip.PrefixFrom(netip.AddrFrom4([4]byte(data[4:])), int(data[3])),
		id:      binary.BigEndian.Uint64(data[8:]),
		time:    int64(binary.BigEndian.Uint64(data[16:])),
		hold:    int64(binary.BigEndian.Uint64(data[24:])),
		session: binary.BigEndian.Uint64(data[32:]),
		tx:      binary.BigEndian.Uint64(data[40:]),
		rx:      binary.BigEndian.Uint64(data[48:]),
		size:    binary.BigEndian.Uint32(data[56:]),
	}
	if c.typ != controlProbe && c.typ != controlReply || !c.subnet.IsValid() || c.subnet != c.subnet.Masked() || c.hold < 0 {
		return controlDatagram{}, false
	}
	return c, true
}

// put writes the datagram to b, of which what lies behind it is the padding.
func (c *controlDatagram) put(b []byte) {
	clear(b)
	b[0], b[1], b[2], b[3] = controlNibble<<4|controlVersion, c.typ, c.flags, byte(c.subnet.Bits())
	addr := c.subnet.Addr().As4()
	copy(b[4:], addr[:])
	binary.BigEndian.PutUint64(b[8:], c.id)
	binary.BigEndian.PutUint64(b[16:], uint64(c.time))
	binary.BigEndian.PutUint64(b[24:], uint64(c.hold))
	binary.BigEndian.PutUint64(b[32:], c.session)
	binary.BigEndian.PutUint64(b[40:], c.tx)
	binary.BigEndian.PutUint64(b[48:], c.rx)
	binary.BigEndian.PutUint32(b[56:], c.size)
}
