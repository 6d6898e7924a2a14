package tunnel

import (
	"encoding/binary"
	"net/netip"
	"time"
)

// ICMP, RFC 792.
const (
	protocolICMP = 1

	icmpUnreachable  = 3
	icmpSourceQuench = 4
	icmpRedirect     = 5
	icmpTimeExceeded = 11
	icmpParameter    = 12

	icmpHeaderLen = 8
)

// Codes of icmpUnreachable, RFC 792 and RFC 1812 section 5.2.7.1.
const (
	icmpNetUnreachable  = 0
	icmpHostUnreachable = 1
	icmpFragNeeded      = 4 // and DF set
	icmpProhibited      = 13
)

// icmpTTLExceeded is the code of icmpTimeExceeded for a TTL that is used up in transit.
const icmpTTLExceeded = 0

// Fields of the ICMP errors that we send.
const (
	// maxICMPError is the length up to which an error quotes the packet it is about, RFC 1812 section 4.3.2.3.
	maxICMPError = 576
	// icmpTOS is precedence 6, internetwork control, RFC 1812 section 4.3.2.5; today's DSCP CS6.
	icmpTOS = 6 << 5
	// icmpTTL is the default TTL of RFC 1700.
	icmpTTL = 64
)

// Each queue sends to one receiver at most icmpBurst errors at once and one more each icmpInterval, and to all together icmpAllBurst
// and one more each icmpAllInterval (RFC 1812 section 4.3.2.8 asks for a limit and leaves the number open). A traceroute or a handful
// of failing connections never notices, and a pod that causes errors without end takes none from the others.
const (
	icmpInterval    = 10 * time.Millisecond
	icmpBurst       = 50
	icmpAllInterval = time.Millisecond
	icmpAllBurst    = 1000
	// icmpBuckets is into how many sets the receivers are divided, by a hash of their address. Those in one set share a limit.
	icmpBuckets = 256
)

// An icmpMessage is the type and code of an ICMP error, and for icmpFragNeeded the next hop's MTU, RFC 1191 section 4.
type icmpMessage struct {
	typ, code byte
	mtu       uint16
}

// icmpAnswer returns how a packet that is dropped for reason is answered. Most reasons are not the sender's business, and to a source
// that is not ours the answer would be the attack.
func icmpAnswer(reason DropReason) (message icmpMessage, ok bool) {
	switch reason {
	case DropNoPeer, DropLoop:
		return icmpMessage{typ: icmpUnreachable, code: icmpNetUnreachable}, true
	case DropSendUnreachable:
		return icmpMessage{typ: icmpUnreachable, code: icmpHostUnreachable}, true
	case DropSendForbidden:
		return icmpMessage{typ: icmpUnreachable, code: icmpProhibited}, true
	case DropTooBig:
		return icmpMessage{typ: icmpUnreachable, code: icmpFragNeeded}, true
	case DropTTLExpired:
		return icmpMessage{typ: icmpTimeExceeded, code: icmpTTLExceeded}, true
	}
	return icmpMessage{}, false
}

// An icmpErrors makes the ICMP errors of one queue.
type icmpErrors struct {
	source  [4]byte
	limit   rateLimit              // over all receivers
	limits  [icmpBuckets]rateLimit // by receiver
	headers [maxHeadersLen]byte    // of the first segment of a super-packet
	buf     [maxICMPError]byte
}

func newICMPErrors(source netip.Addr) *icmpErrors {
	e := &icmpErrors{source: source.As4(), limit: rateLimit{interval: icmpAllInterval, burst: icmpAllBurst}}
	for i := range e.limits {
		e.limits[i] = rateLimit{interval: icmpInterval, burst: icmpBurst}
	}
	return e
}

// limitOf returns the limit of the receiver at addr.
func (e *icmpErrors) limitOf(addr []byte) *rateLimit {
	hash := binary.NativeEndian.Uint32(addr) * 0x9e3779b1 // 2^32 / golden ratio, Knuth's multiplicative hash
	return &e.limits[hash>>24]
}

// about returns the ICMP error about p, or nil if none may be sent. The packet is valid until the next call. The header of p has
// been checked; p is no longer fit to be sent.
func (e *icmpErrors) about(p *Packet, m icmpMessage, now time.Time) []byte {
	if !mayAnswer(p) || !e.limitOf(p.Head[offSource:]).allow(now) || !e.limit.allow(now) {
		return nil
	}
	if !e.complete(p) {
		return nil
	}

	quote := copy(e.buf[minHeaderLen+icmpHeaderLen:], p.Head)
	quote += copy(e.buf[minHeaderLen+icmpHeaderLen+quote:], p.Tail)

	message := e.buf[minHeaderLen : minHeaderLen+icmpHeaderLen+quote]
	clear(message[:icmpHeaderLen])
	message[0], message[1] = m.typ, m.code
	binary.BigEndian.PutUint16(message[6:], m.mtu)
	binary.BigEndian.PutUint16(message[2:], checksum(message))

	packet := e.buf[:minHeaderLen+len(message)]
	clear(packet[:minHeaderLen])
	packet[0] = 4<<4 | minHeaderLen/4
	packet[offTOS] = icmpTOS
	binary.BigEndian.PutUint16(packet[offTotalLength:], uint16(len(packet)))
	// An ID of 0 with DF: RFC 6864, the ID of a packet that is never fragmented means nothing.
	binary.BigEndian.PutUint16(packet[offFragment:], flagDF)
	packet[offTTL] = icmpTTL
	packet[offProtocol] = protocolICMP
	copy(packet[offSource:], e.source[:])
	copy(packet[offDestination:], p.Head[offSource:offSource+4])
	binary.BigEndian.PutUint16(packet[offChecksum:], checksum(packet[:minHeaderLen]))
	return packet
}

// complete makes p what the receiver of an error knows: the first packet of those that p stands for, with its checksum.
func (e *icmpErrors) complete(p *Packet) bool {
	if !p.Offload.isSuper() {
		return finishChecksum(p)
	}
	c, ok := newCut(p)
	if ok {
		*p = c.next(e.headers[:])
	}
	return ok
}

// mayAnswer says whether an ICMP error about p may be sent, RFC 1812 section 4.3.2.7.
func mayAnswer(p *Packet) bool {
	head := p.Head
	if onesSum(head[:headerLength(head)]) != 0xffff {
		return false // damaged, perhaps where it says from whom it is
	}
	if binary.BigEndian.Uint16(head[offFragment:])&fragmentOffsetMask != 0 {
		return false // a fragment other than the first
	}
	if head[offDestination] >= 224 || p.Peer != nil && destination(head) == p.Peer.broadcast {
		return false // multicast, reserved, broadcast
	}
	if !namesOneHost(head[offSource]) {
		return false
	}
	if head[offProtocol] != protocolICMP {
		return true
	}
	message := head[headerLength(head):]
	return len(message) > 0 && !isICMPError(message[0])
}

func isICMPError(typ byte) bool {
	switch typ {
	case icmpUnreachable, icmpSourceQuench, icmpRedirect, icmpTimeExceeded, icmpParameter:
		return true
	}
	return false
}

// A rateLimit is a token bucket that holds at most burst tokens and gains one each interval.
type rateLimit struct {
	interval time.Duration
	burst    int
	spent    time.Time // all tokens gained up to then are spent
}

// allow takes a token, if there is one.
func (l *rateLimit) allow(now time.Time) bool { return l.allowAll(now, 1) }

// allowAll takes n tokens, at most burst, if there are so many.
func (l *rateLimit) allowAll(now time.Time, n int) bool {
	full := now.Add(-l.interval * time.Duration(l.burst))
	if l.spent.Before(full) {
		l.spent = full
	}
	next := l.spent.Add(l.interval * time.Duration(n))
	if next.After(now) {
		return false
	}
	l.spent = next
	return true
}
